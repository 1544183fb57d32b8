#!/bin/bash
# VACUUM of a table has its indexes' runs merged, as far as that is in proportion, and entries of rows that are gone leave them.
. "$(dirname "$0")/../lib/tap.sh"

# the compactor by itself does nothing for a few runs
node one "s3am.collect_interval = 0" "autovacuum = off" "s3am.inline_limit = 1kB"
sql -c 'CREATE EXTENSION s3am' -c 'CREATE TABLE t (i int PRIMARY KEY, n int, x text) USING s3am' -c 'CREATE INDEX t_some ON t (n) WHERE n < 500' -c 'CREATE INDEX t_x ON t USING hash (x)' \
	-c 'INSERT INTO t SELECT g, g % 1000, md5(g::text) FROM generate_series(1, 60000) g' || exit 1
runs() { sql -c "SELECT count(*) FROM s3am.batches() b JOIN s3am.storage s USING (storage) WHERE s.index_id = '$1'::regclass"; }
entries() { sql -c "SELECT entries FROM s3am.indexes WHERE index = '$1'::regclass"; }
object() { sql -c "SELECT string_agg(object, ' ' ORDER BY bytes DESC) FROM s3am.segments WHERE \"table\" = '$1'::regclass AND bytes > 20000"; }
is "$(sql -c 'SELECT index, "table", entries, bytes > 1000, segments FROM s3am.indexes ORDER BY 1')" $'t_pkey|t|60000|t|1\nt_some|t|30000|t|1\nt_x|t|60000|t|1' "s3am.indexes shows them"
add() { for i in $(seq "$1" "$2"); do echo "INSERT INTO t SELECT $i * 1000 + g, g, md5(g::text) FROM generate_series(1, 30) g;"; done | sql; }
large=$(object t_pkey)
add 101 103
before=$(runs t_pkey)
[ "$before" -gt 2 ]
ok $? "there are several runs ($before)"
sql -c 'VACUUM (INDEX_CLEANUP off) t'
is "$(runs t_pkey)" "$before" "INDEX_CLEANUP off leaves them"
like "$(sql -c 'VACUUM (VERBOSE) t' 2>&1)" 'index "t_pkey": 60090 entries in 1 segments, and 90 inline' "VACUUM merges them"
is "$(runs t_pkey) $(runs t_x)" "2 2" "the small ones, for all indexes"
is "$(object t_pkey)" "$large" "and leaves the large one"
is "$(sql -c "SELECT reltuples FROM pg_class WHERE relname IN ('t_pkey', 't_some') ORDER BY relname")" $'60090\n30090' "the catalog has how many entries there are"
sql -c 'DELETE FROM t WHERE i % 3 > 0' -c 'VACUUM t'
is "$(entries t_pkey) $(runs t_pkey)" "$(sql -c 'SELECT count(*) FROM t') 1" "entries of rows that are gone go when there are many"
is "$(entries t_x)" "$(entries t_pkey)" "from a hash index, too"
sql -c "SELECT s3am.check_index('t_pkey', true), s3am.check_index('t_some', true), s3am.check_index('t_x', true)" > /dev/null
ok $? "the indexes are sound"
sql -c "ALTER SYSTEM SET s3am.compaction = off" -c 'SELECT pg_reload_conf()' > /dev/null
sleep 0.5
like "$(sql -c 'VACUUM t' 2>&1)" 'runs of index "t_pkey" could not be merged' "it says if it could not"
done_testing
