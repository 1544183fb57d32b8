#!/bin/bash
# Sessions that hold locks which another server's schema change needs are ended in time, and nothing deadlocks unseen.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/session.sh"

elsewhere() { (on "$1"; shift; sql -c "$@"); }

node one
sql -c 'CREATE EXTENSION s3am' || exit 1
node two 's3am.max_apply_delay = 1s' 's3am.commit_timeout = 20s'
sql -c 'CREATE EXTENSION s3am' || exit 1
on one
sql <<'SQL' || exit 1
SET default_table_access_method = s3am;
CREATE TABLE t (a int);
CREATE TABLE u (a int);
CREATE TABLE p (a int) PARTITION BY LIST (a);
CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
CREATE VIEW v AS SELECT a FROM t;
INSERT INTO t VALUES (1);
SQL
follow one two

session reader
echo "BEGIN; SELECT 'looked', a FROM t;" >&"$reader"
eventually 5 said reader looked
elsewhere one 'ALTER TABLE t ADD COLUMN b int'
follow one two 5
ok $? "a session that is idle in a transaction is ended"
exec {reader}>&-
wait "$reader_pid"
like "$(cat "$work/reader.out")" 'looked' "it had looked"

session sleeper
echo "BEGIN; SELECT 'looked', a FROM t; SELECT pg_sleep(60);" >&"$sleeper"
eventually 5 said sleeper looked
elsewhere one 'ALTER TABLE t ADD COLUMN c int'
follow one two 5
ok $? "a statement that holds up others is cancelled"
echo "ROLLBACK; SELECT 'alive';" >&"$sleeper"
eventually 5 said sleeper alive
ok $? "the session goes on"
like "$(cat "$work/sleeper.out")" '57014' "with the usual error"
exec {sleeper}>&-

# who relies on a definition that another server changes fails at once, rather than wait for what waits for it
for what in "SELECT FROM v|CREATE OR REPLACE VIEW v AS SELECT a, 1 AS one FROM t|a view" \
	"INSERT INTO p VALUES (1)|ALTER TABLE ONLY p ALTER COLUMN a SET DEFAULT 1|a partitioned table" \
	"SELECT FROM t|ALTER TABLE t DROP COLUMN b|a table"; do
	IFS='|' read -r uses changes name <<< "$what"
	start=$SECONDS
	said=$(sql -v VERBOSITY=verbose 2>&1 <<SQL
BEGIN;
$uses;
INSERT INTO u VALUES (1);
\! $cluster_bin/psql -XAtq -h $work/one -p $(cat "$work/one/port") -U postgres -d test -c "$changes"
COMMIT;
SQL
)
	matches=1
	[[ $said == *40001* && $((SECONDS - start)) -lt 5 ]] && matches=0
	ok "$matches" "$name that changed meanwhile" || diag "$said" "$((SECONDS - start)) s"
	follow one two || ok 1 "two follows"
done

# LOCK TABLE alone relies on nothing
said=$(sql -v VERBOSITY=verbose 2>&1 <<SQL
BEGIN;
LOCK TABLE t IN ACCESS SHARE MODE;
INSERT INTO u VALUES (2);
\! $cluster_bin/psql -XAtq -h $work/one -p $(cat "$work/one/port") -U postgres -d test -c "ALTER TABLE t ADD COLUMN e int"
COMMIT;
SQL
)
status=$?
[ $status = 0 ] || [[ $said == *40001* || $said == *08007* || $said == *57P01* ]]
ok $? "a lock that the repository does not know of ends in time" || diag "$said"
follow one two 5
ok $? "and holds nobody up"
done_testing
