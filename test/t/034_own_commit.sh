#!/bin/bash
# A session sees what it has just committed, whatever else runs.
. "$(dirname "$0")/../lib/tap.sh"

# nobody else makes versions
node server "s3am.compaction = off" "s3am.checkpoint_interval = 0" "s3am.collect_interval = 0" "autovacuum = off"
sql -c 'CREATE EXTENSION s3am' -c 'CREATE TABLE t (i int) USING s3am' -c 'INSERT INTO t SELECT generate_series(1, 3)' \
	-c 'CREATE TABLE h (i int) USING heap' || exit 1

# An older transaction goes on, ours has an xid, a younger one comes and ends: so our snapshots before and after our COMMIT have the
# same bounds and list the same running transaction, since none lists our own.
sql -c 'BEGIN' -c 'INSERT INTO h VALUES (1)' -c 'SELECT pg_sleep(20)' > /dev/null &
holder=$!
eventually 10 test "$(sql -c "SELECT count(*) FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND query LIKE '%pg_sleep%'")" != 0
sleep 1
said=$(cluster_psql "$dir" -At -d test <<SQL
BEGIN;
INSERT INTO h VALUES (2);
\! "$cluster_bin/psql" -XqAt -d test -c "INSERT INTO h VALUES (3)"
SELECT count(*) FROM t;
DELETE FROM t WHERE i = 1;
COMMIT;
SELECT count(*) FROM t;
BEGIN ISOLATION LEVEL REPEATABLE READ;
UPDATE t SET i = 0 WHERE i = 1;
SELECT count(*) FROM t;
COMMIT;
SQL
)
is "$(tr '\n' ' ' <<< "$said")" "3 2 2 " "after COMMIT"
sql -c "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'" > /dev/null
wait "$holder" 2> /dev/null

# who commits changes of heap tables as well is told so by himself, a moment before the publisher knows
said=$(for i in $(seq 300); do
	echo "BEGIN; INSERT INTO h VALUES ($i); INSERT INTO t VALUES ($i); COMMIT; SELECT version >= head FROM s3am.node();"
done | sql | sort | uniq -c | tr -s ' ')
is "$said" " 300 t" "node().version has what was committed"
done_testing
