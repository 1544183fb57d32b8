#!/bin/bash
# An UPDATE in no order: up to some number of rows everybody can follow them to where they went; above it the record stays small, and who needs
# to follow one is told to try again.
. "$(dirname "$0")/../lib/tap.sh"

node server "max_parallel_workers_per_gather = 0" "jit = off"
sql -c 'CREATE EXTENSION s3am' -c 'ALTER DATABASE test SET default_table_access_method = s3am' || exit 1
sql -c 'CREATE TABLE w (i int, v text)' -c "INSERT INTO w SELECT i, 'v' FROM generate_series(1, 80000) i"
# manifest FROM TO: bytes of the newest that removes so many rows
manifest() { sql -c "SELECT bytes FROM s3am.manifests WHERE rows_removed BETWEEN $1 AND $2 ORDER BY version DESC LIMIT 1"; }
# in_no_order ROWS MORE: while a session waits for one of the rows, and one holds another only so that its key stays
in_no_order() {
	local session
	mkfifo "$work/holder" "$work/writer"
	chmod 666 "$work/holder" "$work/writer"
	for session in holder writer; do
		sql -v ON_ERROR_STOP=0 -v VERBOSITY=verbose -f "$work/$session" > "$work/$session.out" 2>&1 &
	done
	exec 5> "$work/holder" 6> "$work/writer"
	echo "BEGIN; SELECT i FROM w WHERE i = 7 FOR KEY SHARE; INSERT INTO w VALUES (-$1, 'holder');" >&5
	eventually 20 grep -qx 'INSERT 0 1\|7' "$work/holder.out"
	cat >&6 <<-SQL
		SET s3am.transaction_memory = '64kB'; SET s3am.segment_size = '256kB';
		SET enable_hashjoin = off; SET enable_mergejoin = off;
		BEGIN;
		UPDATE w SET v = w.v || '+' FROM (SELECT ctid AS tid FROM w ORDER BY md5(i || v)) x WHERE tid = w.ctid AND i BETWEEN 1 AND $1;
		$2
		SELECT 'updated';
	SQL
	eventually 60 grep -qx updated "$work/writer.out"
	sql -v VERBOSITY=verbose -c "SET application_name = 'waiter'" -c "UPDATE w SET v = v || 'w' WHERE i = 5" > "$work/waiter.out" 2>&1 &
	session=$!
	eventually 20 test -n "$(sql -c "SELECT 1 FROM pg_stat_activity WHERE application_name = 'waiter' AND wait_event_type = 'Lock'")"
	echo "COMMIT; SELECT 'committed';" >&6
	eventually 30 grep -qx committed "$work/writer.out"
	echo "COMMIT;" >&5
	exec 5>&- 6>&-
	wait
	rm "$work/holder" "$work/writer"
}
in_no_order 60000 ""
is "$(sql -c "SELECT count(*), sum(i), count(*) FILTER (WHERE v = 'v+'), count(*) FILTER (WHERE v = 'v+w'), count(*) FILTER (WHERE v = 'holder') FROM w WHERE i <= 60000")" \
	"60001|1799970000|59999|1|1" "60,000 rows: who waited goes on with the new row, and the lock went to it" || diag "$(cat "$work"/{holder,writer,waiter}.out)"
in_no_order 78000 "DELETE FROM w WHERE hashint4(i) % 30 = 0 AND i BETWEEN 10 AND 78000;"
kept=$(sql -c "SELECT count(*) FROM generate_series(1, 78000) i WHERE NOT (hashint4(i) % 30 = 0 AND i >= 10)")
is "$(sql -c "SELECT count(*), count(DISTINCT i), count(*) FILTER (WHERE v LIKE 'v+%'), count(*) FILTER (WHERE v LIKE '%w+') FROM w WHERE i BETWEEN 1 AND 78000")" \
	"$kept|$kept|$kept|1" "78,000: each is there once"
like "$(cat "$work/waiter.out")" "ERROR:  40001" "who waited is told to try again"
like "$(cat "$work/holder.out")" "ERROR:  40001" "and so is who wanted a key to stay"
is "$(sql -c "SELECT count(*) FROM w WHERE i = -78000")" 0 "and nothing of that is there"
diag "manifests of $(manifest 50000 65000) and $(manifest 65001 90000) bytes"
[ "$(manifest 50000 65000)" -gt 100000 ] && [ "$(manifest 65001 90000)" -lt 20000 ]
ok $? "its manifest is small"
done_testing
