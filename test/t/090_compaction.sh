#!/bin/bash
# Small batches are merged and deleted rows dropped, and nobody sees a difference: rows, ctid and xmin stay, whatever the snapshot.
. "$(dirname "$0")/../lib/tap.sh"

node one "s3am.inline_limit = 4" "s3am.segment_size = 64" "s3am.compaction = off" "autovacuum = off"
sql -c 'CREATE EXTENSION s3am' -c 'SET default_table_access_method = s3am' \
	-c 'CREATE TABLE t (i int, a text, n numeric, big text)' || exit 1

compaction() { # on|off
	sql -c "ALTER SYSTEM SET s3am.compaction = $1" -c 'SELECT pg_reload_conf()' > /dev/null
	eventually 5 test "$(sql -c 'SHOW s3am.compaction')" = "$1"
}
batches() { sql -c "SELECT count(*) FROM s3am.batches() b JOIN s3am.storage s USING (storage) JOIN pg_class c USING (relfilenode) WHERE relname = '$1'"; }
sum_of() { sql -c "SELECT count(*), md5(string_agg(ctid || ' ' || xmin || ' ' || r::text, E'\n' ORDER BY ctid)) FROM $1 r"; }

# rows of every shape, from many transactions: inline, segments, NULLs, overflow values
for i in {1..40}; do
	echo "INSERT INTO t SELECT $i * 1000 + g, CASE g % 3 WHEN 0 THEN NULL WHEN 1 THEN 'row ' || g ELSE repeat('x', g) END, g / 7.0, CASE g % 50 WHEN 7 THEN repeat(md5(g::text), 400) END FROM generate_series(1, $i * 3) g;"
done | sql || exit 1
sql -c 'DELETE FROM t WHERE i % 7 = 3' -c "UPDATE t SET a = a || ' again' WHERE i % 11 = 5" -c 'DELETE FROM t WHERE i < 5000'
before=$(sum_of t)
many=$(batches t)
compaction on
sql -c 'VACUUM t'
few=$(batches t)
ok $((few >= many)) "VACUUM merges batches ($many, then $few)"
is "$(sum_of t)" "$before" "rows, ctid and xmin are what they were"
is "$(sql -c 'SELECT phase, failures FROM s3am.compaction')" "idle|0" "nothing failed"
dropped=$(sql -c 'SELECT rows_dropped FROM s3am.compaction')
ok $((dropped < 100)) "deleted rows were dropped ($dropped)"
is "$(sql -c 'SELECT count(*) FROM t WHERE ctid = ANY(ARRAY(SELECT ctid FROM t))')" "${before%%|*}" "each row is found by its ctid"

done_testing
