#!/bin/bash
# Statements that core's own test suite has, and another server once could not replay.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../ddl/schema.sh"

# run on the first server, followed by the second, and the same on both
same() {
	local wanted
	on one
	sql -c "$2" > /dev/null 2> "$work/said" || { ok 1 "$1"; diag "$(cat "$work/said")"; return; }
	schema_dump > "$work/one.dump"
	wanted=$(version)
	on two
	eventually 5 reached "$wanted" || diag "$(sql -c 'SELECT object, reason FROM s3am.attach_status')"
	schema_dump > "$work/two.dump"
	same_file "$work/two.dump" "$work/one.dump" "$1"
}

node one
cluster_psql "$dir" -d postgres -c 'CREATE ROLE owner SUPERUSER'
sql -c 'CREATE EXTENSION s3am' || exit 1
node two
cluster_psql "$dir" -d postgres -c 'CREATE ROLE owner'
sql -c 'CREATE EXTENSION s3am' || exit 1

same "EXPLAIN ANALYZE CREATE MATERIALIZED VIEW" "
CREATE TABLE t (a int, b text) USING s3am;
SET default_table_access_method = s3am;
EXPLAIN ANALYZE CREATE MATERIALIZED VIEW m (x, \"Y\") AS SELECT a, b FROM t;
EXPLAIN ANALYZE CREATE MATERIALIZED VIEW n AS SELECT a FROM t WITH NO DATA;
REFRESH MATERIALIZED VIEW m;
REFRESH MATERIALIZED VIEW n"
is "$(sql -c 'SELECT count(*) FROM m')" 0 "which can be read there"

same "an event trigger's owner, who is a superuser at the origin alone" "
CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE EVENT TRIGGER e ON ddl_command_start EXECUTE FUNCTION e();
ALTER EVENT TRIGGER e OWNER TO owner;
CREATE FOREIGN DATA WRAPPER w;
ALTER FOREIGN DATA WRAPPER w OWNER TO owner"
is "$(sql -c "SELECT rolsuper FROM pg_roles WHERE rolname = 'owner'")" f "who does not become one"
same "and it changes hands with all that a role owns" "
CREATE ROLE other SUPERUSER;
REASSIGN OWNED BY owner TO postgres;
ALTER EVENT TRIGGER e OWNER TO owner;
DROP ROLE other;
DROP OWNED BY owner"

on one
sql -c 'CREATE UNLOGGED TABLE u (a serial)' -c 'CREATE SEQUENCE s' || exit 1
fails_like 0A000 'cannot leave' 'ALTER SEQUENCE s SET UNLOGGED' "a sequence does not leave the repository"
sql -c 'CREATE UNLOGGED SEQUENCE l' || exit 1
fails_like 0A000 'stays on this server' 'ALTER SEQUENCE l SET LOGGED' "and none comes to it by SET LOGGED"
sql -c 'ALTER TABLE u SET LOGGED' -c 'ALTER TABLE u SET UNLOGGED'
ok $? "those of local tables change with them"
sql -c 'DROP TABLE u' -c 'DROP SEQUENCE l'
same "nothing of that travels" 'COMMENT ON SEQUENCE s IS $$here$$'

same "a partitioned table LIKE one that stays here" "
CREATE TABLE heap (a int DEFAULT 7) USING heap;
CREATE TABLE p (LIKE heap INCLUDING ALL) PARTITION BY LIST (a);
CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1) USING s3am;
DROP TABLE heap"
on one
sql -c 'CREATE TABLE heap (a int) USING heap' -c 'CREATE TYPE c AS (a int)' -c 'CREATE DOMAIN d AS int' \
	-c 'CREATE FUNCTION h() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT count(*)::int FROM heap; END'
fails_like 0A000 'would need an object that stays' 'ALTER TYPE c ADD ATTRIBUTE h heap' "a type that travels gets no attribute of a local type"
fails_like 0A000 'would need an object that stays' 'ALTER DOMAIN d ADD CHECK (VALUE < h())' "nor a domain a check that calls a local function"
sql -c 'CREATE DOMAIN here AS int CHECK (VALUE < h())'
fails_like 0A000 'which stays on this server' 'CREATE TABLE bad (a here) USING s3am' "a domain with one is local"
# ---------------------------------------------------------------- what one server alone has is not dropped by another

on one
sql -c 'CREATE SCHEMA shared' -c 'CREATE TABLE shared.t (a int) USING s3am' -c "CREATE TYPE kind AS ENUM ('x')" || exit 1
wanted=$(version)
on two
eventually 5 reached "$wanted"
sql -c 'CREATE TABLE shared.mine USING heap AS SELECT 1 AS a' -c "CREATE TABLE own (k kind, a int) USING heap" \
	-c "INSERT INTO own VALUES ('x', 1)" || exit 1
on one
sql -c 'SET client_min_messages = warning' -c 'DROP SCHEMA shared CASCADE' || exit 1
on two
said_so() { like_quietly "$(sql -c 'SELECT reason FROM s3am.attach_status')" "$1"; }
like_quietly() { [[ $1 =~ $2 ]]; }
eventually 10 said_so 'table shared.mine of this server alone would be dropped'
ok $? "DROP SCHEMA CASCADE stops where it would drop another server's own table, and says why"
is "$(sql -c 'SELECT a FROM shared.mine')" 1 "whose rows are there"
sql -c 'ALTER TABLE shared.mine SET SCHEMA public'
eventually 10 eval '[ "$(sql -c "SELECT count(*) FROM pg_namespace WHERE nspname = '"'shared'"'")" = 0 ]'
ok $? "and it goes on once the table was moved"
on one
sql -c 'SET client_min_messages = warning' -c 'DROP TYPE kind CASCADE' || exit 1
wanted=$(version)
on two
eventually 10 said_so 'a column of table public.own of this server alone'
ok $? "DROP TYPE CASCADE stops where it would drop a column of another server's own table"
sql -c 'ALTER TABLE own ALTER k TYPE text'
eventually 10 reached "$wanted"
ok $? "and goes on once the column has another type"
is "$(sql -c 'SELECT k, a FROM own')" 'x|1' "with its values"

# ---- sessions of one server that change the schema at once do not fail each other: each view has a rule of the same name

on one
sql -c 'CREATE TABLE viewed (a int) USING s3am' || exit 1
for session in 1 2 3 4; do
	for n in 1 2 3 4 5; do echo "CREATE VIEW view_${session}_$n AS SELECT * FROM viewed;"; done | sql -f - > "$work/views.$session" 2>&1 &
	views[session]=$!
done
wait "${views[@]}"
is "$(cat "$work"/views.?)" '' "views are made at once"
is "$(sql -c "SELECT count(*) FROM pg_views WHERE viewname LIKE 'view\__\__'")" 20 "all of them"
for session in 1 2 3 4; do
	for n in 1 2 3 4 5; do echo "DROP VIEW view_${session}_$n;"; done | sql -f - > "$work/views.$session" 2>&1 &
	views[session]=$!
done
wait "${views[@]}"
is "$(cat "$work"/views.?)" '' "and dropped at once"

# ---- a statistics object's name is its schema's, whatever table it is of

sql -c 'CREATE TABLE measured (a int, b int) USING s3am' -c 'CREATE TABLE weighed (a int, b int) USING s3am' || exit 1
follow one two 5
on one
(sql -c 'BEGIN' -c 'CREATE STATISTICS st_both ON a, b FROM measured' -c 'SELECT pg_sleep(2)' -c 'COMMIT') > "$work/slow" 2>&1 &
sleep 0.7
on two
sql -c 'CREATE STATISTICS st_both ON a, b FROM weighed'
wait $!
like "$(cat "$work/slow")" 'could not serialize' "of two servers that give one name to statistics of two tables one is told"
on one
follow two one 5
ok $? "and follows"

# ---- indexes of a tree are attached one at a time: the top one becomes valid, whichever comes last

sql -c 'CREATE TABLE tree (a int) PARTITION BY LIST (a)' -c 'CREATE TABLE bough PARTITION OF tree FOR VALUES IN (1) PARTITION BY LIST (a)' \
	-c 'CREATE TABLE twig PARTITION OF bough FOR VALUES IN (1) PARTITION BY LIST (a)' -c 'CREATE TABLE leaf PARTITION OF twig FOR VALUES IN (1) USING s3am' \
	-c 'CREATE INDEX i_tree ON ONLY tree (a)' -c 'CREATE INDEX i_bough ON ONLY bough (a)' -c 'CREATE INDEX i_twig ON ONLY twig (a)' -c 'CREATE INDEX i_leaf ON leaf (a)' \
	-c 'ALTER INDEX i_bough ATTACH PARTITION i_twig'
committer=$(worker committer)
kill -STOP "$committer"
sql -c 'ALTER INDEX i_twig ATTACH PARTITION i_leaf' &
lower=$!
eventually 10 test "$(sql -c "SELECT count(*) FROM pg_locks WHERE relation = 'i_leaf'::regclass AND mode = 'AccessExclusiveLock' AND granted")" = 1
sql -c 'ALTER INDEX i_tree ATTACH PARTITION i_bough' &
upper=$!
waits() { [ "$(sql -c "SELECT count(*) FROM pg_locks WHERE relation = 'tree'::regclass AND NOT granted")" = 1 ]; }
eventually 10 waits
ok $? "who attaches the index above waits until the one below is attached"
kill -CONT "$committer"
wait "$lower" "$upper"
is "$(sql -c "SELECT string_agg(indexrelid::regclass || ' ' || indisvalid, ', ' ORDER BY indexrelid) FROM pg_index WHERE indexrelid::regclass::text LIKE 'i\\_%'")" \
	"i_tree true, i_bough true, i_twig true, i_leaf true" "and all are valid"
# when the last one is attached core locks all tables above, which is in nobody's way who has no lock on them
sql -c 'CREATE TABLE pine (a int NOT NULL) PARTITION BY LIST (a)' -c 'CREATE TABLE branch PARTITION OF pine FOR VALUES IN (1, 2) PARTITION BY LIST (a)' \
	-c 'CREATE TABLE cone PARTITION OF branch FOR VALUES IN (1) PARTITION BY LIST (a)' -c 'CREATE TABLE seed PARTITION OF cone FOR VALUES IN (1) USING s3am' \
	-c 'CREATE TABLE needle PARTITION OF branch FOR VALUES IN (2) USING s3am' -c 'CREATE INDEX j_pine ON ONLY pine (a)' -c 'CREATE INDEX j_branch ON ONLY branch (a)' \
	-c 'CREATE INDEX j_cone ON ONLY cone (a)' -c 'CREATE INDEX j_seed ON seed (a)' -c 'CREATE INDEX j_needle ON needle (a)' -c 'ALTER INDEX j_pine ATTACH PARTITION j_branch' \
	-c 'ALTER INDEX j_branch ATTACH PARTITION j_cone' -c 'ALTER INDEX j_branch ATTACH PARTITION j_needle'
kill -STOP "$committer"
sql -c 'ALTER INDEX j_cone ATTACH PARTITION j_seed' > "$work/attach" 2>&1 &
attach=$!
eventually 10 test "$(sql -c "SELECT count(*) FROM pg_locks WHERE relation = 'branch'::regclass AND mode = 'AccessExclusiveLock' AND granted")" = 1
sql -c 'ALTER TABLE ONLY needle ADD PRIMARY KEY (a)' > "$work/key" 2>&1 &
key=$!
at_commit() { [ "$(sql -c "SELECT count(*) FROM pg_locks WHERE relation = 'needle'::regclass AND mode = 'AccessExclusiveLock' AND granted")" = 1 ]; }
eventually 10 at_commit
sleep 0.3
kill -CONT "$committer"
wait "$attach" "$key"
is "$(cat "$work/attach" "$work/key")" "" "while the last index of a tree is attached, a partition gets a key"
is "$(sql -c "SELECT indisvalid FROM pg_index WHERE indexrelid = 'j_pine'::regclass")" t "and the tree has its index"

# ---- what describes a new table to other servers is not compiled, whatever the session has set

loaded="SELECT count(*) > 0 FROM regexp_split_to_table(pg_read_file('/proc/self/maps'), E'\\n') line WHERE line LIKE '%llvmjit.so%'"
is "$(sql -c 'SET jit = on' -c 'SET jit_above_cost = 0.1' -c 'CREATE TABLE compiled USING s3am AS SELECT 1 AS i' -c "SET jit = off" -c "$loaded")" f \
	"CREATE TABLE AS compiles nothing of s3am's"
if [ "$(sql -c 'SELECT pg_jit_available()')" = t ]; then
	is "$(sql -c 'SET jit = on' -c 'SET jit_above_cost = 0' -c 'SELECT sum(i + 1) FROM compiled' -c "SET jit = off" -c "$loaded")" $'2\nt' \
		"and what is compiled would be seen"
else
	skip "and what is compiled would be seen" "there is no JIT"
fi
done_testing
