#!/bin/bash
# What index scans read from the store: runs whose filter says no are not looked at, index-only scans read no rows, and what comes next is
# requested ahead; and all of it finds what a scan of the table finds.
. "$(dirname "$0")/../lib/tap.sh"

# nothing stays in memory from one question to the next: each begins with a server that has just started
node one "s3am.inline_limit = 0" "s3am.compaction = off" "autovacuum = off" "s3am.cache_size = 64MB" "max_parallel_workers_per_gather = 0"
sql << 'SQL' || exit 1
CREATE EXTENSION s3am;
CREATE TABLE t (id int PRIMARY KEY, v numeric, s text COLLATE "C", n bigint, filler text) USING s3am;
CREATE INDEX by_v ON t (v);
CREATE INDEX by_s ON t (s, n);
CREATE INDEX by_n ON t (n) WHERE n > 0;
CREATE INDEX by_code ON t USING hash ((s || '!'));
SQL
# ten runs of each index, each over all the keys' range
for run in 0 1 2 3 4 5 6 7 8 9; do
	sql -c "INSERT INTO t SELECT g * 20 + $run, CASE WHEN g % 10 > 0 THEN g * 20 + $run + 0.50 END, 'key ' || hashint4(g * 20 + $run), (g * 7919::bigint) % 5000, repeat(md5(g::text), 4)
		FROM generate_series(1, 10000) g" || exit 1
done
sql -c "ANALYZE t"
is "$(sql -c "SELECT count(*) FROM s3am.segments WHERE \"table\" IN ('t_pkey'::regclass, 'by_v'::regclass)")" 20 "an index of ten runs"

gets() { sql -c "SELECT sum(gets) FROM s3am.store_stats() WHERE process = 'sessions'"; }
# cold SQL: its answer, then the number of GETs that it took a server that has just started
cold() {
	cluster_restart "$dir"
	sql << IN
SET enable_seqscan = off; SET enable_bitmapscan = off;
SELECT count(*) FROM pg_class \g /dev/null
SELECT sum(gets) AS before FROM s3am.store_stats() WHERE process = 'sessions' \gset
$1;
SELECT sum(gets) - :before FROM s3am.store_stats() WHERE process = 'sessions';
IN
}
# cheap ANSWER MOST WHAT: of the last cold question, and its GETs
cheap() {
	is "$(sed -n '$!p' <<< "$got")" "$1" "$3"
	[ "$(tail -n 1 <<< "$got")" -le "$2" ]
	ok $? "in $(tail -n 1 <<< "$got") GETs"
}

# ---------------------------------------------------------------- filters
got=$(cold "SELECT count(t.id) FROM generate_series(100, 2000, 100) g LEFT JOIN t ON t.id = g + 15")
cheap 0 16 "keys that no run has: a chunk of each filter"
got=$(cold "SELECT count(t.id), sum(t.id - g) FROM generate_series(100, 2000, 100) g LEFT JOIN t ON t.id = g + 3")
cheap "20|60" 30 "keys that one run has: its pages besides"
got=$(cold "WITH new AS (INSERT INTO t (id) SELECT g + 16 FROM generate_series(100, 2000, 100) g RETURNING 1) SELECT count(*) FROM new")
cheap 20 16 "new keys are looked for in the filters alone"

got=$(cold "SELECT count(t.id) FROM generate_series(1, 20) g LEFT JOIN t ON t.s || '!' = 'none ' || g")
cheap 0 16 "values that no run of a hash index has: the same"
got=$(cold "SELECT count(t.id), sum(t.id - g) FROM generate_series(100, 2000, 100) g LEFT JOIN t ON t.s || '!' = 'key ' || hashint4(g + 3) || '!'")
cheap "20|60" 45 "values that one run has: a page of that and one of the table for each"

# by ways that use filters and by ways that do not
equalities="SELECT count(*), sum(id) FROM t WHERE id IN (40, 41, 49, 50, 59, 100003, 116, -1, 2147483647);
SELECT count(*), sum(id) FROM t WHERE id = 41::bigint OR id = 42::smallint;
SELECT count(*), sum(id) FROM t WHERE v = 41.5 OR v = 42.500 OR v = 43 OR v = 20000.50;
SELECT count(*), sum(id) FROM t WHERE v IN (61.5, 62.50, 63.500, 61.5, NULL);
SELECT count(*), sum(id) FROM t WHERE v IS NULL;
SELECT count(*), sum(t.id) FROM generate_series(1, 300) g JOIN t ON t.s = 'key ' || hashint4(g * 10) AND t.n = ((g / 2) * 7919::bigint) % 5000;
SELECT count(*), sum(t.id) FROM generate_series(1, 300) g JOIN t ON t.s || '!' = 'key ' || hashint4(g * 10) || '!';
SELECT count(*), sum(t.id) FROM generate_series(1, 5000, 7) g JOIN t ON t.n = g AND t.n > 0;
SELECT count(*), sum(a.id) FROM t a JOIN t b ON b.id = a.id + 1 AND b.v = a.v + 1 WHERE a.id < 4000;"
same_answers() {
	sql -c "SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off" -c "$equalities" | grep -v SET > "$work/by_scan"
	for how in indexscan bitmapscan mergejoin nestloop; do
		sql -c "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_$([ "$how" = indexscan ] && echo bitmapscan || echo indexscan) = off" \
			-c "SET enable_$([ "$how" = mergejoin ] && echo nestloop || echo mergejoin) = off; SET enable_indexscan = $([ "$how" = bitmapscan ] && echo off || echo on)" \
			-c "$equalities" | grep -v SET > "$work/by_$how"
		[ -s "$work/by_scan" ] && cmp "$work/by_scan" "$work/by_$how" || return 1
	done
}
cluster_restart "$dir"
same_answers
ok $? "equalities of all kinds find what a scan of the table finds, cold"
same_answers
ok $? "and when all is in memory"
is "$(sql << 'SQL'
SET enable_seqscan = off; SET enable_bitmapscan = off;
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT id FROM t WHERE id IN (40, 43, 55, 61);
FETCH ALL c; FETCH BACKWARD ALL c; FETCH 2 c; FETCH BACKWARD 1 c; FETCH 2 c;
COMMIT;
SQL
)" "$(printf '%s\n' 40 43 61 61 43 40 40 43 40 43 61)" "a scan that turns passes over no run that has something, and into none that has not"
fails_like 23505 t_pkey "INSERT INTO t VALUES (41)" "a key that a run has is found"
fails_like 23505 t_pkey "INSERT INTO t SELECT 100000 + g FROM generate_series(10, 21) g" "also the last of many"

# ---------------------------------------------------------------- index-only scans
pages=$(sql -c "SELECT (sum(bytes) / 65536)::int FROM s3am.segments WHERE \"table\" = 't'::regclass")
got=$(cold "SELECT count(n) FROM t WHERE n > 0")
cheap 99980 $((pages / 2)) "an index-only scan of all entries reads the index ($pages pages of 64 kB, stored, are the table)"
only="SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_indexscan = off; SELECT count(n), sum(n) FROM t WHERE n > 0"
all="SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off; SET enable_seqscan = on; SELECT count(n), sum(n) FROM t WHERE n > 0"
like "$(sql -c "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_indexscan = off; EXPLAIN SELECT count(n), sum(n) FROM t WHERE n > 0")" 'Index Only Scan using by_n' "an index-only scan it is"
answer() { sql -c "$1" | tail -n 1; }
is "$(answer "$only")" "$(answer "$all")" "what it counts is what is there"
sql -c "DELETE FROM t WHERE n % 7 = 3" -c "UPDATE t SET n = n + 1 WHERE n % 7 = 4" > /dev/null
is "$(answer "$only")" "$(answer "$all")" "after rows were removed and replaced"
is "$(sql -c "BEGIN; DELETE FROM t WHERE n % 11 = 3; UPDATE t SET n = n + 1 WHERE n % 11 = 4; INSERT INTO t (id, n) SELECT -g, g FROM generate_series(1, 100) g" -c "$only" -c ROLLBACK | tail -n 2 | head -n 1)" \
	"$(sql -c "BEGIN; DELETE FROM t WHERE n % 11 = 3; UPDATE t SET n = n + 1 WHERE n % 11 = 4; INSERT INTO t (id, n) SELECT -g, g FROM generate_series(1, 100) g" -c "$all" -c ROLLBACK | tail -n 2 | head -n 1)" \
	"and within the transaction that does so"
before=$(answer "$all")
is "$(
	cluster_use "$dir"
	sql << SQL | tail -n 3
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT 1 FROM t LIMIT 1 \g /dev/null
\! "$cluster_bin/psql" -qXd test -c "DELETE FROM t WHERE n % 5 = 2"
$only;
$all;
COMMIT;
$only;
SQL
)" "$(printf '%s\n' "$before" "$before" "$(answer "$all")")" "an older snapshot sees what it saw, a newer one what is left"

# ---------------------------------------------------------------- a lookup, cold
sql << 'SQL' || exit 1
CREATE TABLE lone (id int, filler text) USING s3am;
INSERT INTO lone SELECT g, repeat(md5(g::text), 3) FROM generate_series(1, 200000) g;
ALTER TABLE lone ADD PRIMARY KEY (id);
SQL
got=$(cold "SET s3am.read_ahead = '16MB'; SELECT sum(bytes_in) AS before_in FROM s3am.store_stats() WHERE process = 'sessions' \\gset
SELECT count(length(l.filler)) FROM generate_series(7, 200000, 4999) g, LATERAL (SELECT * FROM lone WHERE id = g) l;
SELECT (sum(bytes_in) - :before_in)::bigint FROM s3am.store_stats() WHERE process = 'sessions'")
is "$(sed -n 1p <<< "$got")" 41 "lookups far from each other"
[ "$(tail -n 1 <<< "$got")" -le $((2 * 41 + 1)) ]
ok $? "cost a GET each for the entry and the row, and one for the root: $(tail -n 1 <<< "$got")"
[ "$(sed -n 2p <<< "$got")" -le $((41 * 2 * 131072)) ]
ok $? "of 128 kB at most: $(sed -n 2p <<< "$got") bytes in all"

# ---------------------------------------------------------------- built by several processes
sql << 'SQL' || exit 1
CREATE FUNCTION said(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$ BEGIN IF i % 1000 = 0 THEN RAISE NOTICE 'pid %', pg_backend_pid(); END IF; RETURN i; END $$;
SQL
workers="SET max_parallel_maintenance_workers = 2; SET min_parallel_table_scan_size = 0; SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_indexscan = off"
said=$(sql -c "$workers" -c "CREATE INDEX built ON lone (said(id), filler) WHERE id % 2 = 0" 2>&1)
[ "$(grep -o 'pid [0-9]*' <<< "$said" | sort -u | wc -l)" -ge 2 ]
ok $? "workers take part in CREATE INDEX: $(grep -o 'pid [0-9]*' <<< "$said" | sort | uniq -c | tr -s ' \n' ' ')"
is "$(sql -c "SELECT relname, reltuples FROM pg_class WHERE relname IN ('lone', 'built') ORDER BY relname")" "$(printf 'built|100000\nlone|200000')" "what it counted, of a partial index"
is "$(sql -c "$workers" -c "SELECT count(*), sum(said(id)), md5(string_agg(filler, ',' ORDER BY said(id), filler)) FROM lone WHERE id % 2 = 0 AND said(id) > 0" 2> /dev/null | tail -n 1)" \
	"$(sql -c "SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off" -c "SELECT count(*), sum(id), md5(string_agg(filler, ',' ORDER BY id)) FROM lone WHERE id % 2 = 0" | tail -n 1)" "and what it has"
sql -c "INSERT INTO lone VALUES (300001, 'twice'), (300002, 'twice')"
fails_like 23505 unique_filler "SET max_parallel_maintenance_workers = 2; SET min_parallel_table_scan_size = 0; CREATE UNIQUE INDEX unique_filler ON lone (filler)" "a key that two workers have found"
is "$(sql -c "$workers" -c "BEGIN; INSERT INTO lone SELECT -g, 'own' FROM generate_series(1, 1000) g; DELETE FROM lone WHERE id = 7; CREATE INDEX own ON lone (filler, id); SELECT count(*), sum(id) FROM lone WHERE filler = 'own'; ROLLBACK" | tail -n 1)" \
	"1000|-500500" "rows of the transaction itself are in it, and no worker is asked"

# ---------------------------------------------------------------- what comes next
got=$(cold "SELECT count(*), sum(length(filler)) FROM t WHERE s > 'key 1'")
index_scan=$(sed -n 1p <<< "$got")
got=$(cold "SET enable_indexscan = off; SET enable_bitmapscan = on; SELECT count(*), sum(length(filler)) FROM t WHERE s > 'key 1'")
is "$(sed -n 1p <<< "$got")" "$index_scan" "rows that are requested ahead, by an index scan and by a bitmap scan"
is "$(sql -c "SET enable_indexscan = off; SET enable_bitmapscan = off; SELECT count(*), sum(length(filler)) FROM t WHERE s > 'key 1'" | tail -n 1)" "$index_scan" "are those of the table"
is "$(cold "SET s3am.read_ahead = 0; SELECT count(*), sum(length(filler)) FROM t WHERE s > 'key 1'" | sed -n 1p)" "$index_scan" "and without reading ahead"
is "$(sql -c "SELECT count(*) FROM s3am.verify() WHERE problem IS NOT NULL")" 0 "filters are no damage to s3am.verify()"

# ---------------------------------------------------------------- a filter that is damaged
object=$(sql -c "SELECT object FROM s3am.segments WHERE \"table\" = 't_pkey'::regclass ORDER BY first_row LIMIT 1")
place=$(sql -c "SELECT substring(value FROM 'overflow chunk at ([0-9]+)') FROM s3am.inspect('$object') WHERE value LIKE 'overflow chunk%'")
cluster_stop "$dir"
file=${repository#file://}/$object
cp "$file" "$work/kept"
printf 'damaged!' | dd of="$file" bs=1 seek=$((place + 5000)) conv=notrunc status=none
cluster_start "$dir"
fails_like XX001 'a checksum does not fit' "INSERT INTO t (id) VALUES (20 * 10001 + 17)" "a filter that is damaged is no answer"
like "$(sql -c "SELECT object, problem FROM s3am.verify() WHERE problem IS NOT NULL")" "^$object.*a checksum does not fit" "s3am.verify() names its object"
cp "$work/kept" "$file"
is "$(sql -c "INSERT INTO t (id) VALUES (20 * 10001 + 17) RETURNING id")" 200037 "when it is whole again it is read again"
done_testing
