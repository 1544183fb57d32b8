#!/bin/bash
# A server starts without the leaves of its checkpoint and reads them when somebody needs them: what ended stays ended wherever its batch
# begins, a leaf that cannot be read is named by those who need it alone, and is kept from being collected until it was read.
. "$(dirname "$0")/../lib/tap.sh"

# one row, and so one small segment, for each commit
settings=("s3am.compaction = off" "s3am.checkpoint_interval = 0" "s3am.collect_interval = 0" "s3am.poll_max = 100ms" "s3am.inline_limit = 0"
	"s3am.node_timeout = 40s" "s3am.pin_timeout = 600s" "autovacuum = off" "jit = off" "s3am.collect_grace = '50ms'" "s3am.retention = 0")
bucket=${repository#file://}
# checkpoint: one of all that there is now; the server's settings are as before then
newest() { find "$bucket/checkpoints" -type f 2> /dev/null | sort | tail -n 1; }
covers() { local name; name=$(basename "$(newest)"); [ -n "$name" ] && [ "$((10#${name%%-*}))" -ge "$1" ]; }
checkpoint() {
	local v
	v=$(version)
	cluster_conf "$dir" "s3am.checkpoint_interval = 1"
	sql -c 'SELECT pg_reload_conf()' -c 'INSERT INTO u VALUES (0)' > /dev/null
	eventually 30 covers "$v"
	ok $? "$1"
	cluster_conf "$dir" "s3am.checkpoint_interval = 0"
	sql -c 'SELECT pg_reload_conf()' > /dev/null
}
pages() { find "$bucket/pages" -type f | sort; }
attached() { [ "$(sql -c "SELECT phase FROM s3am.node()" 2> /dev/null)" = ready ]; }
rows() { local i; for ((i = $1; i <= $2; i++)); do echo "INSERT INTO t VALUES ($i);"; done; }
content() {
	sql -c 'SELECT count(*), sum(i), md5(string_agg(ctid::text || i, NULL ORDER BY i)) FROM t' \
		-c 'SELECT count(*), min(b.first_row), max(b.first_row + b.rows) FROM s3am.batches() b' \
		-c 'SELECT rows, dead, segments, bytes FROM s3am.table_states() ORDER BY storage'
}
# GETs of a kind of processes
gets() { sql -c "SELECT coalesce(sum(requests), 0) FROM s3am.store_requests WHERE request = 'get' AND process = '$1'"; }

node one "${settings[@]}"
sql -c 'CREATE EXTENSION s3am' -c 'CREATE TABLE t (i int) USING s3am' -c 'CREATE TABLE u (i int) USING s3am' \
	-c 'CREATE TABLE v (i int) USING s3am' -c 'INSERT INTO v VALUES (1)'
rows 1 6000 | sql
sql -c 'DELETE FROM t WHERE i % 10 = 0'
checkpoint "a checkpoint has thousands of segments"
leaves=$(pages | wc -l)
ok "$([ "$leaves" -ge 3 ]; echo $?)" "in several leaves"
wanted=$(content)
node two "${settings[@]}"
sql -c 'CREATE EXTENSION s3am'
eventually 20 attached
is "$(content)" "$wanted" "a server that attaches has them"

on one
cluster_restart "$dir"
eventually 20 attached
is "$(sql -c "SELECT i FROM t WHERE ctid = '(3,1)'")" 874 "the first row is there after a restart"
ok "$([ "$(gets publisher)" -lt "$leaves" ]; echo $?)" "and not all leaves were read before it ($(gets publisher) by the publisher, of $leaves)"
is "$(content)" "$wanted" "all that was there is there"
is "$(sql -c 'SELECT count(*) FROM t WHERE i % 10 = 0')" 0 "what had ended is not"
sql -c 'BEGIN' -c 'DELETE FROM t WHERE i = 1' -c 'DELETE FROM t WHERE i = 5999' -c 'SELECT count(*) FROM t' -c 'ROLLBACK' | tail -n 2 | head -n 1 > "$work/said"
is "$(cat "$work/said")" 5398 "rows of leaves can be deleted"

# ---------------------------------------------------------------- a leaf that is not there
cluster_stop "$dir"
n=0
while read -r page; do
	mv "$page" "$work/page"
	cluster_start "$dir"
	eventually 20 attached || { ok 1 "a server without $page serves"; break; }
	said=$(sql -c 'SELECT count(*) FROM t' 2>&1)
	bad=0 good=0
	for b in 0 4 8 12 16 20; do
		if sql -c "SELECT i FROM t WHERE ctid = '($b,2)'" > "$work/said" 2>&1; then good=$((good + 1)); else bad=$((bad + 1)); fi
	done
	if [[ $said == *"cannot read object \"${page#"$bucket/"}\""* ]]; then
		n=$((n + 1))
		ok "$([ $bad -gt 0 ] && [ $good -gt 0 ]; echo $?)" "who needs rows of a leaf that is missing is told, and nobody else ($bad and $good)"
		said=$(sql -v VERBOSITY=sqlstate -c 'SELECT count(*) FROM t' 2>&1)
		like "$said" 'XX001' "by SQLSTATE"
		like "$(sql -c "SELECT segments FROM s3am.tables WHERE \"table\" = 't'::regclass")" '^600[0-9]$' "its segments can be counted"
		sql -c 'INSERT INTO t VALUES (7000)' -c 'DELETE FROM t WHERE i = 7000 AND ctid >= $$(20,1)$$' > "$work/said" 2>&1
		is "$(sql -c 'SELECT i FROM t WHERE ctid >= $$(20,200)$$')" "" "and rows be added and deleted behind it" || diag "$(cat "$work/said")"
		read_ahead() { grep -q 'cannot be read ahead' "$dir/log"; }
		eventually 10 read_ahead
		ok $? "the log says so"
	fi
	mv "$work/page" "$page"
	is "$(sql -c 'SELECT count(*) FROM t WHERE i <= 6000')" 5400 "when it is there again, all rows are"
	cluster_stop "$dir"
	[ $n -lt 2 ] || break
done < <(pages)
ok "$([ $n -ge 2 ]; echo $?)" "several leaves were missed"

# ---------------------------------------------------------------- one that cannot be read, and is not needed by newer checkpoints
chmod 000 $(pages)
cluster_start "$dir"
eventually 20 attached
ok $? "a server starts that may not read the leaves"
like "$(sql -c 'SELECT count(*) FROM t' 2>&1)" 'cannot read object' "who needs them is told"
follow two one 10
held=$(worker committer)
kill -STOP "$held"
before=$(pages)
chmod 644 $before
on two
cluster_conf "$dir" "s3am.collect_interval = 100ms"
sql -c 'SELECT pg_reload_conf()' -c 'DELETE FROM t WHERE i % 100 = 1' > /dev/null
checkpoint "another server's checkpoint has other leaves"
for _ in 1 2 3; do sql -c 'INSERT INTO u VALUES (0)'; sleep 1; done
checkpoint "and so has the next one"
sleep 2
is "$(ls $before 2> /dev/null | wc -l)" "$(wc -l <<< "$before")" "those that a server has not read are not collected"
on one
is "$(sql -c 'SELECT count(*) FROM t WHERE i <= 6000')" 5400 "it reads them when it may, and sees what it saw"
kill -CONT "$held"
follow two one 10
is "$(sql -c 'SELECT count(*) FROM t WHERE i <= 6000')" 5340 "then it follows"
on two
# each collection needs something that was dropped since
collected() {
	sql -c 'INSERT INTO u VALUES (0)'
	cluster_conf "$dir" "s3am.checkpoint_interval = 1"
	sql -c 'SELECT pg_reload_conf()' > /dev/null
	[ "$(ls $before 2> /dev/null | wc -l)" -lt "$(wc -l <<< "$before")" ]
}
eventually 60 collected
ok $? "and when they were read they go" || diag "$(grep "deleted from" "$dir/log" | tail -n 3)" "$(on one; sql -c "SELECT * FROM s3am.node()"; cat "$dir/log" | tail -n 5)"
# ---------------------------------------------------------------- other checkpoints while a snapshot is open
on one
cluster_restart "$dir"
eventually 20 attached
jumped=$(grep -c 'was followed again from the checkpoint' "$dir/log")
mkfifo "$work/early"
sql < "$work/early" > "$work/seen" 2>&1 &
session=$!
exec 7> "$work/early"
sees="SELECT count(*), sum(i), count(*) FILTER (WHERE i % 10 = 0 OR i % 100 = 1) FROM t"
wanted=$(sql -c "$sees")
echo "BEGIN ISOLATION LEVEL REPEATABLE READ; $sees;" >&7
seen() { [ "$(cat "$work/seen")" = "$wanted" ]; }
eventually 10 seen
ok $? "a snapshot is open on a server that is stopped" || diag "$(cat "$work/seen")"
first_manifest() { local name; name=$(find "$bucket/manifests" -type f | sort | head -n 1); echo $((10#$(basename "$name"))); }
passed() { collected; [ "$(first_manifest)" -gt $((before + 1)) ]; }
caught_up() { [ "$(sql -c "$sees")" = "$now" ]; }
# from the second one on the base is on its way out already
for turn in 1 2; do
	on one
	held=$(worker committer)
	kill -STOP "$held"
	before=$(version)
	on two
	sql -c "DELETE FROM t WHERE i % 100 = 1 + $turn" -c "INSERT INTO t SELECT $turn * 10 + generate_series(5991, 6000)" > /dev/null
	eventually 25 passed
	ok $? "and the versions that it lacks are collected, turn $turn"
	now=$(sql -c "$sees")
	kill -CONT "$held"
	on one
	eventually 30 caught_up
	ok $? "it catches up by a checkpoint" || diag "$(sql -c "$sees")" "$now"
	is "$(grep -c 'was followed again from the checkpoint' "$dir/log")" "$((jumped + turn))" "as its log says"
done
echo "$sees; COMMIT; $sees;" >&7
exec 7>&-
wait $session
is "$(cat "$work/seen")" "$wanted
$wanted
$now" "the snapshot sees what it saw, whatever had ended before, and the next one what there is now"
is "$(sql -c "$sees")" "$now" "and so does everybody else"
# the memory of what it saw is given back, once, and used for something else
# (what ended among the 4,096 rows of a chunk takes some 560 bytes, as these rows do; no DDL, which would be a page that a start needs)
number="('x' || substr(md5(n || '-' || g), 1, 8))::bit(32)::int"
was=$(sql -c 'SELECT count(*) FROM u')
for i in {1..1500}; do
	echo "SET s3am.inline_limit = 64; INSERT INTO u SELECT $number FROM (VALUES ($i)) x (n), generate_series(1, 100 + $i % 60) g;"
done | sql
is "$(sql -c "SELECT count(*) - $was, count(i) - $was FROM u")|$(sql -c 'SELECT sum(i) FROM u')" \
	"$(sql -c "SELECT count(*), count(*), sum($number) FROM generate_series(1, 1500) n, generate_series(1, 100 + n % 60) g")" "rows that use its memory are there"
is "$(sql -c "$sees")" "$now" "and the table has its own"
on two
cluster_conf "$dir" "s3am.checkpoint_interval = 0" "s3am.collect_interval = 0"
sql -c 'SELECT pg_reload_conf()' > /dev/null

# ---------------------------------------------------------------- merging batches of a leaf that was not read
checkpoint "a checkpoint of all that"
on one
follow two one 10
cluster_stop "$dir"
chmod 000 $(pages)
cluster_start "$dir"
eventually 20 attached
on two
wanted=$(sql -c 'SELECT count(*), sum(i) FROM t')
# a snapshot that sees the leaves as they were
mkfifo "$work/orders"
sql < "$work/orders" > "$work/snapshot" 2>&1 &
session=$!
exec 7> "$work/orders"
echo 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*), sum(i) FROM t;' >&7
began() { [ "$(cat "$work/snapshot")" = "$wanted" ]; }
eventually 10 began
ok $? "a snapshot is open" || diag "$(cat "$work/snapshot")"
# rows are deleted while they are being merged, slowly, so the merged batch has them
cluster_conf "$dir" "s3am.compaction = on" "s3am.compaction_rate = 32" "s3am.compaction_pause = 10ms"
sql -c 'SELECT pg_reload_conf()' > /dev/null
merging() { [ "$(sql -c "SELECT job_rows_done > 100 FROM s3am.compaction")" = t ]; }
eventually 20 merging
ok $? "another server merges"
sql -c 'DELETE FROM t WHERE i BETWEEN 3000 AND 3020 OR i BETWEEN 5000 AND 5020'
merged() { [ "$(sql -c "SELECT segments < 100 FROM s3am.tables WHERE \"table\" = 't'::regclass")" = t ]; }
eventually 60 merged
ok $? "what lies in several leaves" || diag "$(sql -c 'SELECT * FROM s3am.compaction')"
ok "$([ "$(sql -c "SELECT dead FROM s3am.tables WHERE \"table\" = 't'::regclass")" -gt 0 ]; echo $?)" "with rows that were deleted meanwhile"
cluster_conf "$dir" "s3am.compaction = off"
sql -c 'SELECT pg_reload_conf()' > /dev/null
merged=$(sql -c 'SELECT count(*), sum(i), md5(string_agg(ctid::text || i, NULL ORDER BY i)) FROM t')
v=$(version)
echo 'SELECT count(*), sum(i) FROM t; COMMIT;' >&7
exec 7>&-
wait $session
is "$(sed -n 2p "$work/snapshot")" "$wanted" "the snapshot sees what it saw"
on one
waits() { [ "$(sql -c "SELECT reason LIKE '%cannot read object \"pages/%' FROM s3am.attach_status")" = t ]; }
eventually 20 waits
ok $? "a server that cannot read them waits with that version, and says why" || diag "$(sql -c 'SELECT * FROM s3am.attach_status')"
is "$(sql -c 'SELECT i FROM v')" 1 "what it has can be read"
chmod 644 $(pages)
eventually 20 reached "$v"
ok $? "and goes on when it can"
is "$(sql -c 'SELECT count(*), sum(i), md5(string_agg(ctid::text || i, NULL ORDER BY i)) FROM t')" "$merged" "with the same rows"

# ---------------------------------------------------------------- ends of rows whose merged batch begins in an earlier leaf
on two
checkpoint "a checkpoint has merged batches that cover the ranges of several leaves"
for server in one two; do
	on $server
	cluster_restart "$dir"
	eventually 20 attached
	is "$(sql -c 'SELECT count(*), sum(i), md5(string_agg(ctid::text || i, NULL ORDER BY i)) FROM t')" "$merged" \
		"server $server: rows that ended while they were merged have ended after a restart"
done
is "$(sql -c "SELECT count(*) FROM s3am.verify() WHERE problem IS NOT NULL")" 0 "the repository is sound"
done_testing
