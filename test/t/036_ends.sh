#!/bin/bash
# Many rows that end at once: in runs, in sets, one by one; what older snapshots, other servers and later ones see of it; in how little memory.
. "$(dirname "$0")/../lib/tap.sh"

rows=${S3AM_ENDS_ROWS:-400000}
settings=("jit = off" "max_parallel_workers_per_gather = 0" "s3am.compaction = off" "s3am.poll_max = '100ms'")
node two "${settings[@]}"
node one "${settings[@]}"
sql -c 'CREATE EXTENSION s3am' -c 'ALTER DATABASE test SET default_table_access_method = s3am' || exit 1
on two
sql -c 'CREATE EXTENSION s3am' || exit 1
on one
# kB of the node's state, as far as the publisher has touched it
state() { awk '/^RssShmem/ { print $2 }' "/proc/$(worker publisher)/status"; }
sums() { sql -c "SELECT count(*), sum(i), sum(n), count(*) FILTER (WHERE i % 100 < 3) FROM $1"; }

cat > "$work/fill.sql" <<'SQL'
CREATE TABLE :t (i int, n int) USING :am;
INSERT INTO :t SELECT i, 0 FROM generate_series(1, :rows) i;
SQL
# each of another kind: neighbours; every other row; a few of each chunk; updates in order; with holes; in no order; what is left
cat > "$work/ends.sql" <<'SQL'
DELETE FROM :t WHERE i BETWEEN :rows / 10 AND :rows / 5;
DELETE FROM :t WHERE hashint4(i) % 2 = 0 AND i % 7 < 4;
DELETE FROM :t WHERE i % 1000 = 17;
UPDATE :t SET n = n + 1 WHERE i > :rows / 2;
UPDATE :t SET n = n + 1 WHERE i % 3 = 1;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
UPDATE :t SET n = :t.n + 1 FROM (SELECT ctid AS tid FROM :t ORDER BY md5(i::text)) x WHERE tid = :t.ctid AND i < 30000;
DELETE FROM :t WHERE hashint4(i) % 3 = 0;
SQL
chmod 644 "$work"/*.sql
for t in "s s3am" "h heap"; do
	read -r name am <<< "$t"
	sql -v t="$name" -v am="$am" -v rows="$rows" -f "$work/fill.sql" > /dev/null || exit 1
done
wanted=$(sums h)

# ---- an older snapshot keeps what it sees, through all of them
mkfifo "$work/fifo"
chmod 666 "$work/fifo"
sql -v VERBOSITY=verbose -f "$work/fifo" > "$work/old" 2> "$work/refused" &
old=$!
exec 5> "$work/fifo"
echo "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 'begun', count(*) FROM s;" >&5
eventually 20 grep -q begun "$work/old"
before=$(state)
sql -v t=s -v rows="$rows" -f "$work/ends.sql" > /dev/null
ok $? "rows end in every way"
diag "$(($(state) - before)) kB of shared memory"
sql -v t=h -v rows="$rows" -f "$work/ends.sql" > /dev/null
echo "SELECT count(*), sum(i), sum(n), count(*) FILTER (WHERE i % 100 < 3) FROM s; UPDATE s SET n = 9 WHERE i = $((rows / 10)); COMMIT;" >&5
exec 5>&-
wait "$old"
is "$(sed -n 2p "$work/old")" "$wanted" "a snapshot from before sees what it saw"
like "$(cat "$work/refused")" "ERROR:  40001" "and may not change it"
wanted=$(sums h)
is "$(sums s)" "$wanted" "a new one sees what is left, as in heap"
is "$(sql -c "SELECT rows - dead FROM s3am.tables WHERE \"table\" = 's'::regclass")" "${wanted%%|*}" "and so says the count"
follow one two 20
is "$(sums s)" "$wanted" "another server, too"
cluster_restart "$dir"
is "$(sums s)" "$wanted" "and when it has started again"
on one
sql -c 'ALTER SYSTEM SET s3am.compaction = on' -c 'SELECT pg_reload_conf()' > /dev/null
sql -c 'VACUUM s'
is "$(sums s)" "$wanted" "and when the dead rows are gone"
sql -c 'DELETE FROM s WHERE i % 2 = 0' -c 'DELETE FROM h WHERE i % 2 = 0'
is "$(sums s)" "$(sums h)" "more may end then"

# ---- how little memory
sql -c 'CREATE TABLE m (i int)' -c "INSERT INTO m SELECT i FROM generate_series(1, $((rows * 4))) i"
sql -c 'ALTER SYSTEM SET s3am.compaction = off' -c 'SELECT pg_reload_conf()' > /dev/null
before=$(state)
sql -c 'DELETE FROM m WHERE hashint4(i) % 2 = 0'
half=$(($(state) - before))
sql -c 'DELETE FROM m'
all=$(($(state) - before))
diag "$half kB, $all kB"
# 4 MB and a byte for each four rows; an entry a row would be 24 bytes
[ "$half" -le $((4096 + rows / 1024)) ] && [ "$all" -le $((4096 + rows / 1024)) ]
ok $? "$((rows * 4)) rows, first half of them in no order, end in a few bits each"
is "$(sql -c 'SELECT count(*) FROM m')" 0 "and all of them"
done_testing
