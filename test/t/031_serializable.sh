#!/bin/bash
# What a SERIALIZABLE transaction read is claimed: single rows exactly, scans with their table, and savepoints forget nothing.
. "$(dirname "$0")/../lib/tap.sh"

node server
sql -c 'CREATE EXTENSION s3am' -c 'SET default_table_access_method = s3am' -c 'CREATE TABLE t (i int)' \
	-c 'INSERT INTO t SELECT generate_series(1, 1000)' -c 'CREATE TABLE u (i int)' || exit 1

# outcome READ WRITE: the transaction reads, somebody else writes and commits, then the transaction writes elsewhere and commits
outcome() {
	cluster_psql "$dir" -At -d test -v VERBOSITY=terse 2>&1 <<SQL | tail -n 1 | sed 's/^psql:.*: //'
BEGIN ISOLATION LEVEL SERIALIZABLE;
$1;
\! "$cluster_bin/psql" -XqAt -d test -c "$2"
INSERT INTO u VALUES (1);
COMMIT;
SELECT 'committed';
SQL
}
refused="ERROR:  could not serialize access due to read/write dependencies among transactions"

is "$(outcome "SELECT FROM t WHERE ctid = '(0,3)'" "UPDATE t SET i = 0 WHERE ctid = '(0,5)'")" committed "another row was changed"
is "$(outcome "SELECT FROM t WHERE ctid = '(0,3)'" "UPDATE t SET i = 0 WHERE ctid = '(0,3)'")" "$refused" "the same row"
is "$(outcome "SELECT FROM t WHERE ctid = ANY('{\"(0,6)\",\"(0,7)\"}')" "DELETE FROM t WHERE ctid = '(0,7)'")" "$refused" "one of several"
is "$(outcome "SELECT FROM t WHERE ctid = '(0,8)' FOR KEY SHARE" "UPDATE t SET i = 0 WHERE ctid = '(0,8)'")" "$refused" "a locked one"
is "$(outcome "SELECT FROM t WHERE i = 9" "UPDATE t SET i = 0 WHERE ctid = '(0,10)'")" "$refused" "a scan claims the table"
is "$(outcome "SELECT FROM t WHERE ctid < '(0,5)'" "INSERT INTO t VALUES (5)")" "$refused" "so does a range"
is "$(outcome "SELECT FROM t WHERE ctid = '(0,200)'; SELECT FROM t WHERE ctid = '(99,1)'" "INSERT INTO t VALUES (5)")" "$refused" \
	"and a row that is not there yet"
is "$(outcome "SAVEPOINT a; SELECT FROM t WHERE ctid = '(0,11)'; ROLLBACK TO a" "UPDATE t SET i = 0 WHERE ctid = '(0,11)'")" \
	"$refused" "what a rolled back savepoint read is claimed"
is "$(outcome "SELECT FROM t WHERE i = 9" "INSERT INTO u VALUES (2)")" committed "another table was changed"
is "$(outcome "SET LOCAL force_parallel_mode = on; SELECT count(*) FROM t" "INSERT INTO t VALUES (6)")" "$refused" \
	"a plan for parallel workers"
is "$(outcome "SELECT" "INSERT INTO t VALUES (7)")" committed "nothing was read"
done_testing
