#!/bin/bash
# Small batches are merged and deleted rows dropped, and nobody sees a difference: rows, ctid and xmin stay, whatever the snapshot.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/session.sh"

node one "s3am.inline_limit = 4" "s3am.segment_size = 64" "s3am.compaction = off" "autovacuum = off" "s3am.checkpoint_interval = 25"
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

# ---- snapshots from before
other="$cluster_bin/psql -XqAt -d test -c"
change="DELETE FROM t WHERE i % 5 = 1; UPDATE t SET a = 'changed' WHERE i % 5 = 2"
rows="SELECT count(*), md5(string_agg(ctid || ' ' || xmin || ' ' || r::text, E'\\n' ORDER BY ctid)) FROM t r"
cluster_psql "$dir" -At -d test > "$work/old" 2>&1 <<SQL
BEGIN ISOLATION LEVEL REPEATABLE READ;
DECLARE c CURSOR FOR SELECT ctid FROM t;
MOVE 100 IN c;
SELECT 'first', x.* FROM ($rows) x;
SELECT ctid AS dead FROM t WHERE i % 5 = 1 AND i > 20000 LIMIT 1 \gset
\! $other "$change" -c "VACUUM t"
\! $other "DELETE FROM t WHERE i % 5 = 3" -c "VACUUM t"
SELECT 'second', x.* FROM ($rows) x;
SELECT 'by ctid', count(*) FROM t WHERE ctid = :'dead';
FETCH ALL FROM c \g |wc -l > '$work/fetched'
UPDATE t SET a = 'mine' WHERE ctid = :'dead';
SQL
first=$(sed -n 's/^first|//p' "$work/old")
like "$first" '^[1-9][0-9]+\|' "there is something to be seen"
is "$(sed -n 's/^second|//p' "$work/old")" "$first" "a snapshot from before sees the same after two compactions"
is "$(sed -n 's/^by ctid|//p' "$work/old")" 1 "and finds a row that is gone by its ctid"
is "$(cat "$work/fetched")" $((${first%%|*} - 100)) "a cursor goes on where it was"
like "$(cat "$work/old")" "could not serialize access due to concurrent (update|delete)" "who changes such a row under REPEATABLE READ is refused"
is "$(sql -c "SELECT count(*) FROM t WHERE i % 5 IN (1, 3)")" 0 "new snapshots do not see them"

# an UPDATE waits between looking at a row and changing it, while the row is changed and its old version dropped
sql -c 'CREATE TABLE w (i int, n int) USING s3am' -c 'INSERT INTO w VALUES (1, 1)' -c 'INSERT INTO w VALUES (2, 2)'
mkfifo "$work/in"
cluster_psql "$dir" -At -d test < "$work/in" > "$work/out" 2>&1 &
session=$!
exec 9> "$work/in"
sql -c 'SELECT 1' > /dev/null
cluster_psql "$dir" -At -d test > "$work/holder" 2>&1 <<SQL
SELECT pg_advisory_lock(7);
\! echo "UPDATE w SET n = n + 10 WHERE i = 1 AND pg_advisory_xact_lock(7) IS NOT NULL; SELECT n FROM w WHERE i = 1;" > "$work/in"
\! while [ "\$($other "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")" != 1 ]; do sleep 0.1; done
UPDATE w SET n = 5 WHERE i = 1;
VACUUM w;
SELECT pg_advisory_unlock(7);
SQL
exec 9>&-
wait "$session"
is "$(tail -n 1 "$work/out")" 15 "an UPDATE finds the old version that it looked at, and then the new one"

# ---- rows that are gone
sql -c 'CREATE TABLE q (i int) USING s3am'
for i in {1..30}; do echo "INSERT INTO q SELECT generate_series($i * 10, $i * 10 + 9); DELETE FROM q WHERE i < $i * 10;"; done | sql
sql -c 'VACUUM q' -c 'VACUUM q'
is "$(sql -c 'SELECT count(*), min(i) FROM q')" "10|300" "a queue has its last rows"
is "$(batches q)" 1 "in one batch, and those before them are forgotten"
sql -c 'DELETE FROM q' -c 'SELECT pg_stat_force_next_flush()' -c 'VACUUM q' > /dev/null
is "$(batches q)" 0 "an empty table has none"
sql -c 'INSERT INTO q VALUES (7)'
is "$(sql -c 'SELECT ctid, i FROM q')" "(1,10)|7" "row ids go on"
is "$(sql -c "SELECT pg_stat_get_dead_tuples('q'::regclass), pg_stat_get_vacuum_count('q'::regclass)")" "0|3" "the statistics know"

# ---- schemas
sql -c 'CREATE TABLE s (i int, a text) USING s3am' -c "INSERT INTO s VALUES (1, 'one')" -c "INSERT INTO s VALUES (2, 'two')" \
	-c 'ALTER TABLE s ADD COLUMN b int DEFAULT 7' -c "INSERT INTO s VALUES (3, 'three', 3)" -c "INSERT INTO s VALUES (4, NULL, NULL)" \
	-c 'ALTER TABLE s DROP COLUMN a' -c "INSERT INTO s VALUES (5, 5)"
before=$(sum_of s)
sql -c 'VACUUM s'
is "$(sum_of s)" "$before" "rows that are older than a column have its default still"
is "$(batches s)" 3 "batches of different schemas stay apart"
sql -c 'ALTER TABLE t DROP COLUMN n' -c 'ALTER TABLE t ADD COLUMN m int DEFAULT 3'
before=$(sum_of t)
sql -c 'DELETE FROM t WHERE i % 13 = 0' -c 'VACUUM t'
is "$(sql -c "SELECT count(*) FILTER (WHERE m = 3) = count(*) FROM t")" t "of a dropped column as well"

# ---- rows that had ended for everybody, and were dropped later
sql -c 'CREATE TABLE z (i int) USING s3am' -c 'CREATE TABLE other (i int) USING s3am'
for i in {1..20}; do echo "INSERT INTO z SELECT g FROM generate_series(1, 500) g;"; done | sql
sql -c 'INSERT INTO z SELECT 1000 + g FROM generate_series(1, 10000) g'
session older
echo "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM other;" >&"$older"
eventually 10 said older '^0'
few=$(batches z)
sql -c 'VACUUM z' -c 'DELETE FROM z WHERE i <= 500'
ok $(($(batches z) >= few)) "batches of rows are merged while an older snapshot is open"
session newer
echo "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM z;" >&"$newer"
eventually 10 said newer '^10000'
dropped=$(sql -c 'SELECT rows_dropped FROM s3am.compaction')
sql -c 'VACUUM z'
ok $(($(sql -c 'SELECT rows_dropped FROM s3am.compaction') < dropped + 5000)) "and dropped, when they have ended, while a newer one is"
finish older
for i in {1..5}; do echo "INSERT INTO other VALUES ($i);"; done | sql
echo "SELECT count(*), max(i) FROM z; UPDATE z SET i = 0 WHERE i <= 500; COMMIT; SELECT 'end';" >&"$newer"
eventually 10 said newer end
is "$(sed -n 2,3p "$work/newer.out" | tr '\n' ' ')" '10000|11000 end ' "when the older one has gone the newer one still sees that they had ended"
is "$(sql -c 'SELECT count(*) FROM z')" 10000 "and cannot bring them back"
finish newer

# ---- the same for who comes to them by an index, whose entries stay longer
sql -c 'CREATE TABLE e (i int) USING s3am' -c 'INSERT INTO e SELECT generate_series(2, 20000, 2)' \
	-c 'INSERT INTO e SELECT generate_series(1, 199999, 2)' -c 'CREATE INDEX ON e (i)' -c 'ANALYZE e'
session earlier
echo "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM other;" >&"$earlier"
eventually 10 said earlier '^5'
sql -c 'DELETE FROM e WHERE i % 2 = 0' -c 'VACUUM e'
session later
echo "BEGIN; SET enable_seqscan = off; SET enable_bitmapscan = off; DECLARE c CURSOR FOR SELECT i, xmin FROM e WHERE i < 1000 ORDER BY i;
	MOVE 2 IN c; SELECT 'moved';" >&"$later"
eventually 10 said later moved
finish earlier
for i in {1..5}; do echo "INSERT INTO other VALUES ($i);"; done | sql
echo "FETCH ALL FROM c; SELECT 'end';" >&"$later"
eventually 10 said later end
is "$(grep -c '^[0-9]*[13579]|' "$work/later.out") $(grep -c '^[0-9]*[02468]|' "$work/later.out")" "498 0" "rows that are gone are gone for a scan that goes on from entry to entry"
finish later

# ---- other servers, and this one when it starts anew
before=$(sum_of t)
cluster_restart "$dir"
is "$(sum_of t)" "$before" "the same after a restart"
node two "s3am.compaction = off"
sql -c 'CREATE EXTENSION s3am'
is "$(sum_of t)" "$before" "and on a server that comes later"
is "$(sql -c 'SELECT count(*) FROM s')" 5 "with all tables"
like "$(grep -h 'from a checkpoint\|from the checkpoint\|checkpoint of version' "$work/one/log" | tail -n 1)" "checkpoint" "there were checkpoints of what was merged"

done_testing
