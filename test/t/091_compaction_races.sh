#!/bin/bash
# Two servers compact and change the same tables at once, schema changes come between, and compactors die: nothing is lost, and no
# transaction fails for it.
. "$(dirname "$0")/../lib/tap.sh"

aggressive=("s3am.compaction_batches = 2" "s3am.compaction_dead = 1" "s3am.compaction_pause = 10ms" "s3am.compaction_rate = 0"
	"s3am.segment_size = 64" "s3am.inline_limit = 1" "s3am.poll_max = 50ms" "autovacuum = off" "restart_after_crash = on")
node one "${aggressive[@]}"
sql -c 'CREATE EXTENSION s3am'
node two "${aggressive[@]}"
sql -c 'CREATE EXTENSION s3am'
on one
sql -c 'SET default_table_access_method = s3am' -c 'CREATE TABLE accounts (id int, balance int, filler text)' \
	-c 'CREATE TABLE history (server int, id int, delta int)' -c 'CREATE TABLE log (server int, n int)' \
	-c "INSERT INTO accounts SELECT g, 0, repeat('x', 80) FROM generate_series(1, 400) g" || exit 1
follow one two 10

cat > "$work/transfer" <<'E2'
\set a random(1, 400)
\set b random(1, 400)
\set d random(-100, 100)
BEGIN;
UPDATE accounts SET balance = balance + (:d) WHERE id = :a;
UPDATE accounts SET balance = balance - (:d) WHERE id = :b;
INSERT INTO history VALUES (:server, :a, :d), (:server, :b, 0 - (:d));
COMMIT;
E2
cat > "$work/insert" <<'E2'
INSERT INTO log VALUES (:server, 1);
E2
chmod 755 "$work"/transfer "$work"/insert
load() { # SERVER SCRIPT SECONDS CLIENTS NAME
	local n=1
	[ "$1" = one ] || n=2
	on "$1"
	cluster_use "$dir"
	"$cluster_bin/pgbench" -n -f "$work/$2" -D server=$n -T "$3" -c "$4" -j 1 --max-tries 100 test > "$work/$5" 2>&1
}
compacted() { on "$1"; sql -c "SELECT $2 FROM s3am.compaction"; }
processed() { sed -n 's/^number of transactions actually processed: \([0-9]*\).*/\1/p' "$work/$1"; }
failed() { sed -n 's/^number of failed transactions: \([0-9]*\).*/\1/p' "$work/$1"; }

load one transfer 15 3 a &
load two transfer 15 3 b &
load one insert 15 1 c &
load two insert 15 1 d &
# rewrites and changes of the schema meanwhile, on both
sleep 1
errors=0
for i in 1 2 3 4; do
	on one
	sql -c "VACUUM accounts" -c "ALTER TABLE log ADD COLUMN c$i int DEFAULT $i" > "$work/ddl" 2>&1 || errors=$((errors + 1))
	on two
	sql -c "VACUUM history" -c "CREATE TABLE x$i (i int) USING s3am" -c "INSERT INTO x$i SELECT generate_series(1, 100)" -c "VACUUM FULL x$i" \
		-c "TRUNCATE x$i" -c "DROP TABLE x$i" >> "$work/ddl" 2>&1 || errors=$((errors + 1))
	sleep 2
done
wait
diag "$(grep -h 'ERROR' "$work/ddl")"
for f in a b c d; do diag "$f: $(grep -h "error\|aborted" "$work/$f" | sort | uniq -c | head -n 5)"; diag "$f: $(processed $f) processed, $(failed $f) failed"; done
sums() {
	is "$(sql -c 'SELECT count(*), sum(balance) FROM accounts')" "400|0" "$1: no account is missing and no sum is wrong"
	is "$(sql -c 'SELECT count(*) FROM accounts a WHERE balance <> (SELECT coalesce(sum(delta), 0) FROM history h WHERE h.id = a.id)')" 0 \
		"$1: each balance is what its history says"
	is "$(sql -c 'SELECT count(*) FROM history')" "$history" "$1: history has two rows for each transfer"
	is "$(sql -c 'SELECT server, count(*) FROM log GROUP BY 1 ORDER BY 1' | tr '\n' ' ')" "1|$(processed c) 2|$(processed d) " \
		"$1: each row that was inserted is there once"
}
history=$((($(processed a) + $(processed b)) * 2))
is "$(failed c) $(failed d)" "0 0" "no insert failed"
follow two one 10
sums "server one"
follow one two 10
sums "server two"
for s in one two; do
	ok $(($(compacted $s jobs) < 10)) "server $s compacted ($(compacted $s jobs) jobs, $(compacted $s rows_dropped) rows dropped, $(compacted $s lost_races) races lost)"
	is "$(compacted $s failures)" 0 "and without an error" || diag "$(grep -A 2 'cannot be compacted' "$dir/log")"
done
ok $(($(sql -c 'SELECT count(*) FROM s3am.batches()') > 400)) "few batches are left ($(sql -c 'SELECT count(*) FROM s3am.batches()'))"

# ---- a compactor that dies takes the server's processes with it, as any process with shared memory does; nothing more
on one
load one insert 12 1 e &
for i in 1 2 3; do
	on one
	sleep 2
	eventually 20 worker compactor > "$work/pid" && kill -9 "$(cat "$work/pid")"
	eventually 20 sql -c 'SELECT 1' > /dev/null 2>&1
done
wait
on one
eventually 20 sql -c 'SELECT 1' > /dev/null 2>&1
is "$(sql -c 'SELECT count(*), sum(balance) FROM accounts')" "400|0" "killed compactors lose nothing"
is "$(sql -c 'SELECT count(*) FROM history')" "$history" "in any table"
sql -c 'VACUUM log' -c 'VACUUM accounts' > /dev/null
is "$(sql -c 'SELECT count(*) FROM accounts a WHERE balance <> (SELECT coalesce(sum(delta), 0) FROM history h WHERE h.id = a.id)')" 0 \
	"and it goes on afterwards"

# ---- without a worker all else works
node three "max_worker_processes = 4" "autovacuum = off"
sql -c 'CREATE EXTENSION s3am'
is "$(sql -c 'SELECT count(*), sum(balance) FROM accounts')" "400|0" "a server without a free worker reads"
sql -c "INSERT INTO log (server) VALUES (3)"
is "$(sql -c "SELECT count(*) FROM log WHERE server = 3")" 1 "and writes"
is "$(sql -c 'SELECT phase FROM s3am.compaction')" "no worker" "the view says why it does not compact"
like "$(sql -c 'VACUUM log' 2>&1)" "WARNING.*could not be dropped" "and so does VACUUM"

done_testing
