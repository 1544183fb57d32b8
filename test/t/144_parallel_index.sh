#!/bin/bash
# Parallel index scans: the processes of a plan divide an index's entries, and give together each row once, in order where that is asked for.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/session.sh"

# several runs of each index, some in segments, some inline, and merged when the test says so; what rows cost makes the plans parallel
node one "s3am.compaction_pause = '10ms'" "autovacuum = off" "s3am.inline_limit = 16kB" "max_parallel_workers = 4" "max_worker_processes = 20" \
	"parallel_setup_cost = 0" "parallel_tuple_cost = 0" "min_parallel_table_scan_size = 0" "min_parallel_index_scan_size = 0" \
	"max_parallel_workers_per_gather = 3" "enable_seqscan = off" "enable_bitmapscan = off" "cpu_tuple_cost = 1" "s3am.compaction = off"
sql -c 'CREATE EXTENSION s3am' -c 'ALTER DATABASE test SET default_table_access_method = s3am' || exit 1
sql <<'SQL'
CREATE TABLE t (i bigint PRIMARY KEY, n int, v text COLLATE "C", few int);
CREATE INDEX t_n ON t (n DESC, i);
CREATE INDEX t_v ON t (v) INCLUDE (n);
CREATE INDEX t_few ON t (few);
CREATE INDEX t_row ON t (few, n NULLS FIRST) WHERE i % 2 = 0;
INSERT INTO t SELECT g * 2, g % 5000, md5((g % 30000)::text), CASE WHEN g % 4 > 0 THEN g % 4 END FROM generate_series(1, 120000) g;
INSERT INTO t SELECT g * 2 + 1, g % 7000, md5(g::text), 2 FROM generate_series(1, 40000, 3) g;
SQL
for i in 1 2 3 4 5; do
	echo "INSERT INTO t SELECT -g * 10 - $i, CASE WHEN g % 5 > 0 THEN g END, md5(g::text), $i FROM generate_series(1, 100) g; DELETE FROM t WHERE i % 1000 = $i * 2;"
done | sql
sql -c 'ANALYZE t'
is "$(sql -c "SELECT bool_and(n > 2) FROM (SELECT count(*) AS n FROM s3am.batches() b JOIN s3am.storage s USING (storage) WHERE s.index_id IS NOT NULL GROUP BY storage) x")" t \
	"the indexes have several runs"

alone() { sql -q -c "SET max_parallel_workers_per_gather = 0" "$@"; }
again() { sql -q -c "SET enable_material = off" "$@"; }
# kind of scan, query
queries=(
	"Parallel Index Only Scan using t_pkey|SELECT count(*), sum(i), sum(hashint8(i)::bigint) FROM t WHERE i > -100000"
	"Parallel Index Scan using t_pkey|SELECT count(*), sum(n), sum(hashtext(v)::bigint) FROM t WHERE i BETWEEN 1000 AND 190000"
	"Parallel Index Scan using t_pkey|SELECT count(v) FROM t WHERE i > 230000"
	"Parallel Index Scan using t_pkey|SELECT count(v) FROM t WHERE i > (SELECT 10000000)"
	"Parallel Index Only Scan using t_n|SELECT count(*), sum(i), count(n) FROM t WHERE n > 2000"
	"Parallel Index Only Scan using t_n|SELECT count(*), sum(i) FROM t WHERE n IS NULL"
	"Parallel Index Only Scan using t_n|SELECT count(*), sum(i) FROM t WHERE n IN (7, 2000, 99, 4999, 8000, 100, NULL)"
	"Parallel Index Only Scan using t_v|SELECT count(*), sum(n), count(DISTINCT v) FROM t WHERE v >= '3' AND v < 'e'"
	"Parallel Index Only Scan using t_few|SELECT count(*), sum(few) FROM t WHERE few = 2"
	"Parallel Index Only Scan using t_few|SELECT count(*), sum(few) FROM t WHERE few = ANY ('{1,3,5,9}')"
	"Parallel Index Scan using t_row|SELECT count(*), sum(n), sum(i) FROM t WHERE few = 3 AND (n > 100 OR n IS NULL) AND i % 2 = 0"
	"Parallel Index Only Scan using t_n|SELECT md5(string_agg(n || ' ' || i, ',')) FROM (SELECT n, i FROM t WHERE n < 6000 ORDER BY n DESC, i) x"
	"Parallel Index Only Scan Backward using t_n|SELECT md5(string_agg(n || ' ' || i, ',')) FROM (SELECT n, i FROM t WHERE n < 6000 ORDER BY n, i DESC) x"
	"Parallel Index Scan Backward using t_pkey|SELECT md5(string_agg(i || ' ' || v, ',')) FROM (SELECT i, v FROM t WHERE i > 5 ORDER BY i DESC LIMIT 50000) x"
	"Parallel Index Only Scan using t_v|SELECT md5(string_agg(v, ',')) FROM (SELECT v FROM t WHERE v > '7' ORDER BY v) x"
	"Parallel Index Only Scan using t_few|SELECT string_agg(few || ' ' || c, ',') FROM (SELECT few, count(*) AS c FROM t WHERE few > 0 GROUP BY few ORDER BY few) x"
)
asked() {
	local parallel=$1 query
	for query in "${queries[@]}"; do echo "${query#*|};"; done | sql -q -c "SET max_parallel_workers_per_gather = $parallel" -f -
}
plans() {
	local query plan
	for query in "${queries[@]}"; do
		plan=$(sql -c "EXPLAIN (COSTS off) ${query#*|}")
		[[ $plan == *"${query%%|*}"* ]] || { diag "${query#*|}:" "$plan"; return 1; }
	done
}
plans
ok $? "the plans are parallel index scans"
asked 0 > "$work/alone"
for leader in on off; do
	sql -c "ALTER DATABASE test SET parallel_leader_participation = $leader"
	asked 3 > "$work/together"
	diff "$work/alone" "$work/together" > "$work/diff"
	ok $? "they give what one process gives, the leader $leader" || diag "$(cat "$work/diff")"
done
sql -c "ALTER DATABASE test RESET parallel_leader_participation"
launched=$(sql -c "EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off, VERBOSE) SELECT sum(n) FROM t WHERE i > -100000")
like "$launched" 'Workers Launched: 3' "there are workers"
[ "$(grep -c 'Worker [0-9]:.*rows=[1-9]' <<< "$launched")" -ge 1 ]
ok $? "and they have rows" || diag "$launched"

# a Gather that begins again
rescan="SELECT count(*), sum(s), sum(c) FROM (SELECT sum(i) AS s, count(*) AS c FROM t WHERE i > 200) ss RIGHT JOIN (VALUES (1), (2), (3)) v(x) ON true"
like "$(again -c "EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) $rescan")" 'Gather \(actual rows=[0-9]* loops=3\)' "a Gather begins again"
is "$(again -c "$rescan")" "$(alone -c "$rescan")" "and has all rows each time"
# what this transaction has changed workers do not see: there are none
is "$(sql -c "BEGIN" -c "DELETE FROM t WHERE i = 1000" -c "INSERT INTO t VALUES (1001, 1, 'x', 1)" -c "SELECT count(*), sum(i) FROM t WHERE i BETWEEN 900 AND 1100" -c "ROLLBACK")" \
	"$(sql -c "SELECT count(*), sum(i) + 1 FROM t WHERE i BETWEEN 900 AND 1100")" "rows of the transaction's own"

# runs are merged while plans run: a process that begins later may see others
session merger
for i in $(seq 60); do
	echo "INSERT INTO t SELECT -1000000 - $i * 1000 - g, NULL, 'zz', NULL FROM generate_series(1, 300) g; VACUUM t;"
done > "$work/merging"
sql -c "ALTER SYSTEM SET s3am.compaction = on" -c 'SELECT pg_reload_conf()' > /dev/null
cat "$work/merging" - <<< "SELECT 'merged';" >&"$merger"
rounds=0
wrong=
while ! said merger merged && [ "$rounds" -lt 500 ]; do
	rounds=$((rounds + 1))
	# of what the merger does not change
	got=$(sql -c "SELECT count(*), sum(i), count(n) FROM t WHERE i > -100000" -c "SELECT count(*), sum(n::bigint) FROM t WHERE n > 2" -c "SELECT count(*) FROM t WHERE few IN (1, 2, 3)" 2>&1 | tr '\n' ' ')
	[ "$rounds" = 1 ] && first=$got
	[ "$got" = "$first" ] || wrong+="$got"$'\n'
done
finish merger
is "$wrong" "" "nothing is missing, and nothing there twice, while runs are merged"
[ "$rounds" -ge 3 ]
ok $? "the queries were many ($rounds)"
is "$(alone -c "SELECT count(*), sum(i), count(n) FROM t WHERE i > -100000" -c "SELECT count(*), sum(n::bigint) FROM t WHERE n > 2" -c "SELECT count(*) FROM t WHERE few IN (1, 2, 3)" | tr '\n' ' ')" "$first" "as one process sees it"

# no run in a segment: one process has all
sql -c 'CREATE TABLE small (i int PRIMARY KEY)' -c 'INSERT INTO small SELECT generate_series(1, 500)' -c 'ANALYZE small'
like "$(sql -c 'EXPLAIN (COSTS off) SELECT count(*), sum(i) FROM small WHERE i > 10')" 'Parallel Index Only Scan using small_pkey' "a small index is scanned so, too, if asked for"
is "$(sql -c 'SELECT count(*) FROM small WHERE i IN (1, 2, 3, 400, 501)' -c 'SELECT count(*), sum(i) FROM small WHERE i > 10')" $'4\n490|125195' "with all its rows"
# damage, and cancelling
is "$(sql -c "SET statement_timeout = '1ms'" -c "SELECT count(*), sum(hashtext(v)::bigint) FROM t WHERE i > -100000" 2>&1 | grep -c 'statement timeout')" 1 "it can be cancelled"
is "$(sql -c "SELECT count(*) FROM t WHERE i > 0 AND few = 1 AND i % 4 = 2" )" "$(alone -c "SELECT count(*) FROM t WHERE i > 0 AND few = 1 AND i % 4 = 2")" "and goes on after that"

# a worker that is ended ends its query, and nothing else
session long
echo "SELECT count(*), sum(length(pg_sleep(0.001)::text)) FROM t WHERE i > -100000;" >&"$long"
end_worker() { [ "$(sql -c "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity WHERE backend_type = 'parallel worker' AND query ~ 'pg_sleep' LIMIT 1) w")" = 1 ]; }
eventually 10 end_worker
ok $? "a worker is ended"
ended() { said long 'ERROR:  57P01\|FATAL:  57P01'; }
eventually 20 ended
ok $? "its leader says so" || diag "$(cat "$work/long.out")"
echo "SELECT 'goes on', count(*) > 100 FROM t WHERE i > -100000;" >&"$long"
goes_on() { said long 'goes on|t'; }
eventually 20 goes_on
ok $? "and its session goes on"
finish long
is "$(grep -c 'terminating any other active server processes' "$dir/log")" 0 "so does the server"

# another server, which has all of it from the store
asked 0 > "$work/alone"
node two "autovacuum = off" "s3am.compaction = off" "max_parallel_workers = 4" "max_worker_processes = 20" \
	"parallel_setup_cost = 0" "parallel_tuple_cost = 0" "min_parallel_table_scan_size = 0" "min_parallel_index_scan_size = 0" \
	"max_parallel_workers_per_gather = 3" "enable_seqscan = off" "enable_bitmapscan = off" "cpu_tuple_cost = 1"
sql -c 'CREATE EXTENSION s3am' && sql -c 'ANALYZE t' && plans
ok $? "another server has the same plans"
asked 3 > "$work/together"
diff "$work/alone" "$work/together" > "$work/diff"
ok $? "which give there what one process gives here" || diag "$(cat "$work/diff")"

# a page that is damaged: the query fails and names the object, whichever process comes to it
segment=$(sql -c "SELECT object FROM s3am.batches() b JOIN s3am.storage s USING (storage) WHERE s.index_id = 't_v'::regclass AND object IS NOT NULL ORDER BY rows DESC LIMIT 1")
file=${repository#file://}/$segment
printf '\xff\x00\xff\x00' | dd of="$file" bs=1 seek=$(($(stat -c %s "$file") / 3)) conv=notrunc status=none
cluster_restart "$dir"
for leader in on off; do
	said=$(sql -v VERBOSITY=verbose -c "SET parallel_leader_participation = $leader" -c "SELECT count(*), sum(n) FROM t WHERE v >= ''" 2>&1)
	like "$said" 'ERROR:  XX001: ' "a damaged page of a run, the leader $leader"
	[[ $said == *"$segment"* ]]
	ok $? "is named" || diag "$said"
done
is "$(sql -c "SELECT count(*), sum(i), sum(hashint8(i)::bigint) FROM t WHERE i > -100000")" "$(head -n 1 "$work/alone")" "sound indexes are read"
done_testing
