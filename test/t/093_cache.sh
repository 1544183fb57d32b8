#!/bin/bash
# The page cache: what it holds costs no request, for all sessions; it never holds what is not so; and no lack of room is an error.
. "$(dirname "$0")/../lib/tap.sh"

gets() { sql -c "SELECT sum(gets) FROM s3am.store_stats()"; }
# gets_of SQL: requests that it costs, in a session of its own
gets_of() {
	local before
	before=$(gets)
	sql -c "$1" > "$work/answer"
	echo $(($(gets) - before))
}
sum_of() { sql -c "SELECT count(*) || ' ' || sum(a) || ' ' || sum(length(t)) FROM $1"; }

node one "s3am.cache_size = '8MB'" "max_parallel_workers_per_gather = 0" "autovacuum = off" "s3am.poll_min = '1h'" "s3am.poll_max = '1h'"
sql << 'SQL'
CREATE EXTENSION s3am;
CREATE TABLE small (a int, t text) USING s3am;
INSERT INTO small SELECT g, md5(g::text) FROM generate_series(1, 30000) g;
CREATE TABLE large (a int, t text) USING s3am;
INSERT INTO large SELECT g, repeat(md5(g::text), 8) FROM generate_series(1, 80000) g;
SQL
small="30000 450015000 960000"
large="80000 3200040000 20480000"

# ---------------------------------------------------------------- what is there costs nothing

cluster_restart "$dir"
is "$(sum_of small)" "$small" "a cold scan"
is "$(gets_of 'SELECT sum(a) FROM small')" 0 "another session's scan of the same table costs no request"
is "$(gets_of "SELECT a FROM small WHERE ctid = '(50,7)'")" 0 "neither does a row by ctid"
is "$(cat "$work/answer")" $((50 * 291 + 7)) "and it is that row"
is "$(sql -c "SELECT sum(hits) > 0 AND sum(misses) > 0 AND sum(evictions) = 0 AND sum(pages) = sum(misses) AND sum(bytes) <= sum(room)
	FROM s3am.cache")" t "s3am.cache counts it"

# ---------------------------------------------------------------- scans do not push out what others use

cluster_restart "$dir"
for i in 1 2 3; do sql -c "SELECT a FROM small WHERE ctid IN ('(0,1)', '(20,1)', '(40,1)', '(60,1)', '(80,1)')" > "$work/answer"; done
is "$(wc -l < "$work/answer")" 5 "rows by ctid"
for i in 1 2 3; do is "$(sum_of large)" "$large" "a scan of more than the cache holds"; done
is "$(gets_of "SELECT count(*) FROM small WHERE ctid IN ('(0,1)', '(20,1)', '(40,1)', '(60,1)', '(80,1)')")" 0 \
	"has pushed out none of their pages"
is "$(sql -c "SELECT sum(evictions) > 0 AND sum(room) <= 8388608 AND sum(pinned) = 0 FROM s3am.cache")" t \
	"but others, and the memory is what it was"
# of what did not fit a part stays, so that not every scan reads everything
is "$(sql -c "SELECT sum(hits) > 30 FROM s3am.cache")" t "and of the large table a part stays"

# ---------------------------------------------------------------- a scan that finds some of its pages

# What is left of an earlier scan lies here and there.  A request for each of what lies between, or pages that were found when it was planned and
# are pushed out before they are read, each read by itself then, made such a scan three times as slow as one that finds nothing.
sql -c 'CREATE TABLE other (a int, t text) USING s3am' -c 'INSERT INTO other SELECT * FROM large' || exit 1
cluster_restart "$dir"
cold=$(gets_of 'SELECT sum(a) FROM large')
for i in 1 2 3; do
	for table in other large; do
		again=$(gets_of "SELECT sum(a) FROM $table")
		[ "$again" -le $((cold + cold / 4)) ]
		ok $? "scan $i of $table: $again requests, of $cold when nothing is cached"
	done
done

# ---------------------------------------------------------------- constant pushing out, many sessions

cat > "$work/mixed.sql" << 'SQL'
\set n random(0, 79999)
SELECT 1 / (a = :n + 1)::int FROM large WHERE ctid = ('(' || :n / 291 || ',' || :n % 291 + 1 || ')')::tid;
\set m random(0, 29)
\if :m = 0
SELECT 1 / (sum(a) = 3200040000)::int FROM large;
SELECT 1 / (sum(length(t)) = 960000)::int FROM small;
\endif
SQL
sed -i 's/^\\if :m = 0/\\set zero :m = 0\n\\if :zero/' "$work/mixed.sql"
cluster_conf "$dir" "s3am.cache_size = '2MB'"
cluster_restart "$dir"
(
	cluster_use "$dir"
	"$cluster_bin/pgbench" -n -c 8 -j 2 -T 10 -f "$work/mixed.sql" test
) > "$work/pgbench.out" 2>&1
ok $? "eight sessions in a cache of 2 MB get the right rows" || diag "$(tail -n 3 "$work/pgbench.out")"
is "$(sql -c "SELECT sum(evictions) > 100 AND sum(pinned) = 0 FROM s3am.cache")" t "which was too small all the time, and nothing stays pinned"

# ---------------------------------------------------------------- everything pinned

{
	echo 'BEGIN;'
	for i in $(seq 0 59); do echo "DECLARE c$i CURSOR FOR SELECT a FROM large WHERE ctid >= '($((i * 4)),1)';"; done
	for i in $(seq 0 59); do echo "FETCH FROM c$i;"; done
	echo '\echo pinned'
	echo 'SELECT sum(pinned) > 10 FROM s3am.cache;'
	echo '\echo rest'
	for i in $(seq 0 59); do echo "FETCH FROM c$i;"; done
	echo 'SELECT sum(a) FROM large;'
	echo 'ROLLBACK;'
	echo 'SELECT sum(pinned) FROM s3am.cache;'
} > "$work/cursors.sql"
sql -q -f "$work/cursors.sql" > "$work/answer" 2>&1
{
	for i in $(seq 0 59); do echo $((i * 4 * 291 + 1)); done
	echo pinned
	echo t
	echo rest
	for i in $(seq 0 59); do echo $((i * 4 * 291 + 2)); done
	echo 3200040000
	echo 0
} > "$work/wanted"
diff "$work/wanted" "$work/answer" > "$work/diff"
ok $? "sixty cursors on more pages than there are frames" || diag "$(head -n 5 "$work/diff")"

# ---------------------------------------------------------------- without a cache

cluster_conf "$dir" "s3am.cache_size = 0"
cluster_restart "$dir"
is "$(sum_of small)" "$small" "without a cache it reads as well"
is "$(sql -c 'SELECT sum(pages) + sum(room) + sum(hits) + sum(misses) FROM s3am.cache')" 0 "and s3am.cache has nothing"
cluster_conf "$dir" "s3am.cache_size = '8MB'"
cluster_restart "$dir"

# ---------------------------------------------------------------- a page that cannot be loaded

object=$(sql -c "SELECT object FROM s3am.segments WHERE \"table\" = 'small'::regclass ORDER BY first_row LIMIT 1")
file=${repository#file://}/$object
cp -p "$file" "$work/kept"
printf 'x' | dd of="$file" bs=1 seek=1000 conv=notrunc status=none
fails_like XX001 "are damaged" 'SELECT sum(a) FROM small' "a damaged page is not served"
said=$(sql -c "DO \$\$ BEGIN FOR i IN 1..100 LOOP BEGIN PERFORM sum(a) FROM small; EXCEPTION WHEN data_corrupted THEN NULL; END; END LOOP; END \$\$" \
	-c 'SELECT sum(pinned) FROM s3am.cache' 2>&1)
is "${said##*$'\n'}" 0 "nor left half loaded"
cp -p "$work/kept" "$file"
is "$(sum_of small)" "$small" "once it is whole it is read"

# ---------------------------------------------------------------- two databases on copies of one repository

# Both know the same segments, and then each makes others with the same numbers.
sql -c 'CREATE TABLE later (a int, t text) USING s3am'
cluster_stop "$dir"
cp -rp "${repository#file://}" "$work/copy"
cluster_start "$dir"
cluster_psql "$dir" -d postgres -c 'CREATE DATABASE other'
other() { cluster_psql "$dir" -At -d other "$@"; }
cluster_psql "$dir" -d other -c "SET s3am.repository = 'file://$work/copy'" -c 'CREATE EXTENSION s3am' > "$work/other.out" 2>&1
is "$(other -c 'SELECT sum(a) FROM small')" 450015000 "a second database attaches to a copy of the repository"
insert() { echo "SET s3am.inline_limit = 0; INSERT INTO later SELECT g, '$1' || g FROM generate_series(1, 3000) g"; }
for i in 1 2 3; do
	sql -c "$(insert left)" > /dev/null
	other -c "$(insert right)" > /dev/null
done
ids() { sort -u | tr '\n' ' '; }
sql -c "SELECT object FROM s3am.segments WHERE \"table\" = 'later'::regclass" | ids > "$work/ids1"
other -c "SELECT object FROM s3am.segments WHERE \"table\" = 'later'::regclass" | ids > "$work/ids2"
diag "segments: $(cat "$work/ids1") and $(cat "$work/ids2")"
is "$(sql -c "SELECT count(*), count(*) FILTER (WHERE t LIKE 'left%') FROM later")" "9000|9000" "one database reads its own rows"
is "$(other -c "SELECT count(*), count(*) FILTER (WHERE t LIKE 'right%') FROM later")" "9000|9000" "and the other its own"

# ---------------------------------------------------------------- a backend that dies

sql -c 'BEGIN' -c 'DECLARE c CURSOR FOR SELECT a FROM large' -c 'FETCH 10 FROM c' -c 'SELECT pg_sleep(60)' > /dev/null 2>&1 &
eventually 20 test -n "$(sql -c "SELECT pid FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()")"
kill -KILL "$(sql -c "SELECT pid FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()")"
wait
answers() { [ "$(sum_of small 2> /dev/null)" = "$small" ]; }
eventually 60 answers
ok $? "after a backend died with a page pinned the server begins with an empty cache"
is "$(sql -c 'SELECT sum(pinned) FROM s3am.cache')" 0 "where nothing is pinned"

# ---------------------------------------------------------------- parallel scans

# each row once, whoever of the participants reads it, inline rows and segments, cold and cached
sql -c 'CREATE TABLE rest (a int) USING s3am' -c 'INSERT INTO rest SELECT g FROM generate_series(1, 10000) g'
cluster_restart "$dir"
parallel="SET max_parallel_workers_per_gather = 3; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
	SET parallel_leader_participation = off;"
for how in cold cached; do
	is "$(sql -q -c "$parallel SELECT count(*), sum(a) FROM large")" "80000|3200040000" "a parallel scan, $how"
	is "$(sql -q -c "$parallel SELECT count(*), sum(a) FROM rest")" "10000|50005000" "the same of inline rows, $how"
done
like "$(sql -q -c "$parallel EXPLAIN SELECT sum(a) FROM large")" "Parallel Seq Scan" "they are parallel"

# ---------------------------------------------------------------- inline batches of many rows

# a page of one is taken apart once, and then found: the keys of a large statement were unpacked for each new key
sql -c 'CREATE TABLE keyed (a int PRIMARY KEY) USING s3am' -c 'ALTER SYSTEM SET s3am.compaction = off' -c 'SELECT pg_reload_conf()' > /dev/null
sql -c 'INSERT INTO keyed SELECT g * 2 FROM generate_series(1, 5000) g' || exit 1
is "$(sql -c "SELECT count(*) FROM s3am.segments WHERE \"table\" = 'keyed_pkey'::regclass")" 0 "the entries are inline"
found() { sql -c 'SELECT sum(hits) FROM s3am.cache' -c 'SELECT sum(misses) FROM s3am.cache'; }
before=$(found)
sql -c 'INSERT INTO keyed SELECT g * 2 + 1 FROM generate_series(1, 4999) g' || exit 1
after=$(found)
hits=$(($(head -n 1 <<< "$after") - $(head -n 1 <<< "$before")))
misses=$(($(tail -n 1 <<< "$after") - $(tail -n 1 <<< "$before")))
diag "$hits hits, $misses misses"
[ "$hits" -ge 4900 ] && [ "$misses" -le 20 ]
ok $? "whoever looks for keys in them finds their pages"
done_testing
