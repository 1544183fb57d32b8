#!/bin/bash
# Schema changes and crashes: what was acknowledged is there once, on this server and on others; what was not is there as a whole
# or not at all.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../ddl/schema.sh"

node one
sql -c 'CREATE EXTENSION s3am' || exit 1
sql -c 'CREATE TABLE here (a int) USING heap' -c 'CREATE TABLE t (a int) USING s3am' || exit 1
node two
sql -c 'CREATE EXTENSION s3am' || exit 1
sql -c 'SELECT 1' > /dev/null
on one

# the local half fails when the repository has the other: the server takes the change from there
publisher=$(sql -c "SELECT pid FROM pg_stat_activity WHERE backend_type = 's3am publisher'")
kill -STOP "$publisher"
sql -v VERBOSITY=verbose > "$work/said" 2>&1 <<'SQL' &
BEGIN;
CREATE TABLE adopted (a int, s serial) USING s3am;
INSERT INTO adopted VALUES (7);
ALTER TABLE t ADD COLUMN b int DEFAULT 5;
INSERT INTO t VALUES (1, 2);
INSERT INTO here VALUES (1);
COMMIT;
SQL
client=$!
in_commit() { [ "$(cluster_psql "$dir" -At -d postgres -c "SELECT count(*) FROM pg_stat_activity WHERE query = 'COMMIT;' AND wait_event = 'Extension'")" = 1 ]; }
eventually 5 in_commit
sleep 0.5
cluster_psql "$dir" -At -d postgres -c "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'COMMIT;'" > /dev/null
wait "$client"
kill -CONT "$publisher"
like "$(cat "$work/said")" '08007' "the client hears that the outcome is not known"
follow two one 5
adopted() { [ "$(sql -c 'SELECT a, s FROM adopted' 2> /dev/null)" = '7|1' ]; }
eventually 5 adopted
ok $? "what the repository has is there"
is "$(sql -c 'SELECT a, b FROM t' -c 'SELECT count(*) FROM here' | tr '\n' ' ')" "1|2 0 " "rows and columns, but not the heap table's"
sql -c 'INSERT INTO adopted (a) VALUES (8)'
[ "$(sql -c 'SELECT max(s) FROM adopted')" -gt 1 ]
ok $? "the sequence goes on"
cluster_kill "$dir"
cluster_start "$dir"
is "$(sql -c 'SELECT count(*) FROM adopted')" 2 "after a crash as well"
follow one two 5
is "$(sql -c 'SELECT a, b FROM t')" "1|2" "and on the other server"

# kill -9 at any moment of schema changes
on one
changer() {
	local i=0
	while :; do
		i=$((i + 1))
		cat <<SQL || break
BEGIN;
CREATE TABLE made_$1_$i (a int DEFAULT $i, s serial) USING s3am;
INSERT INTO made_$1_$i DEFAULT VALUES;
INSERT INTO here VALUES ($i);
CREATE VIEW view_$1_$i AS SELECT a FROM made_$1_$i;
COMMIT;
SELECT 'made_$1_$i';
ALTER TABLE made_$1_$i ADD COLUMN c int DEFAULT 3;
INSERT INTO made_$1_$i VALUES (1, 2, 3);
SELECT 'altered_$1_$i';
DROP VIEW view_$1_$i;
SELECT 'dropped_$1_$i';
SQL
	done | sql >> "$work/acknowledged" 2> /dev/null
}
for round in 1 2 3 4 5 6; do
	changer "${round}a" &
	first=$!
	changer "${round}b" &
	second=$!
	sleep 0.$((RANDOM % 6 + 3))
	cluster_kill "$dir"
	wait "$first" "$second" 2> /dev/null
	cluster_start "$dir"
done
sql -c 'SELECT 1' > /dev/null
diag "$(wc -l < "$work/acknowledged") changes were acknowledged"
sql -c "SELECT 'made' || substr(relname, 5) FROM pg_class WHERE relname LIKE 'made\_%' AND relkind = 'r'" | sort > "$work/there"
is "$(grep '^made' "$work/acknowledged" | sort | comm -23 - "$work/there")" "" "tables that were acknowledged are there"
sql -c "SELECT 'altered' || substr(attrelid::regclass::text, 5) FROM pg_attribute WHERE attrelid::regclass::text LIKE 'made\_%' AND attname = 'c'" | sort > "$work/there"
is "$(grep '^altered' "$work/acknowledged" | sort | comm -23 - "$work/there")" "" "so are columns"
sql -c "SELECT 'dropped' || substr(relname, 5) FROM pg_class WHERE relname LIKE 'view\_%'" | sort > "$work/there"
is "$(grep '^dropped' "$work/acknowledged" | sort | comm -12 - "$work/there")" "" "what was dropped is not"
is "$(sql -c "SELECT count(*) FROM pg_class c WHERE relname LIKE 'made\_%' AND relkind = 'r' AND NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.oid AND attname = 's')")" \
	0 "nothing is there by half"
sql <<'SQL' > "$work/counts"
SELECT format('SELECT count(*) FROM %s WHERE a <> 1', oid::regclass) FROM pg_class WHERE relname ~ '^made_.*_' AND relkind = 'r'
	AND relname !~ '_1$' \gexec
SQL
is "$(sort "$work/counts" | uniq -c | awk '{ print $2 }' | tr '\n' ' ')" "1 " "each with its row"
sql -c 'DROP TABLE here'
schema_keep one
follow one two 5
ok $? "the other server follows"
schema_keep two
schema_same two one "after the crashes"
node three
sql -c 'CREATE EXTENSION s3am' || exit 1
schema_keep three
schema_same three one "on a fresh server"
done_testing
