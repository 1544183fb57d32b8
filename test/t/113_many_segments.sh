#!/bin/bash
# A checkpoint with thousands of segments: what a server reads of it when it starts is what was there, whatever the pages hold, and a page that
# cannot be read is named and tried again.
. "$(dirname "$0")/../lib/tap.sh"

# batches are compared as well, so nobody merges them meanwhile
settings=("s3am.compaction = off" "s3am.checkpoint_interval = 0" "s3am.collect_interval = 0" "s3am.poll_max = 100ms" "jit = off"
	"s3am.attach_timeout = 2s" "s3am.inline_limit = 0" "s3am.segment_size = 64kB")
newest() { find "${repository#file://}/checkpoints" -type f 2> /dev/null | sort | tail -n 1; }
covers() { local name; name=$(basename "$(newest)"); [ -n "$name" ] && [ "$((10#${name%%-*}))" -ge "$1" ]; }
# the largest first
objects() { find "${repository#file://}/pages" -type f -printf '%s %p\n' | sort -rn | cut -d' ' -f2; }
shared() { awk '/^RssShmem/ { print $2 }' "/proc/$(worker publisher)/status"; }
attached() { [ "$(sql -c "SELECT phase FROM s3am.node()" 2> /dev/null)" = ready ]; }

node one "${settings[@]}"
sql -c 'CREATE EXTENSION s3am' -c 'CREATE TABLE t (i int, a text) USING s3am' -c 'CREATE TABLE u (i int) USING s3am' \
	-c 'CREATE TABLE schemas (i int) USING s3am'
# FROM TO: in statements of a thousand rows, as those that leave their transaction's memory make larger segments
rows() {
	local from
	for ((from = $1; from <= $2; from += 1000)); do
		echo "INSERT INTO t SELECT i, repeat(md5(i::text), 62) FROM generate_series($from, $((from + 999 < $2 ? from + 999 : $2))) i;"
	done
}
{
	rows 1 50000
	echo 'ALTER TABLE t ADD COLUMN b int DEFAULT 7;'
	rows 50001 60000
} | sql
# rows in the checkpoint itself, between segments; removed rows in all pages, and batches without any
sql -c 'SET s3am.inline_limit = 256' -c "$(rows 60001 60010)" -c "INSERT INTO t (i, b) VALUES (60011, 1)"
rows 60012 80000 | sql
sql -c 'DELETE FROM t WHERE i % 1000 = 1 OR i BETWEEN 30000 AND 30100' -c 'UPDATE t SET b = -i WHERE i % 5000 = 2'
# batches that have another schema than their neighbours, more than one page of them
for n in {1..150}; do
	echo "ALTER TABLE schemas ADD COLUMN c$n numeric($((n % 30 + 1)));"
	echo "INSERT INTO schemas (i, c$n) VALUES ($n, 1);"
	[ $((n % 2)) = 0 ] || echo "ALTER TABLE schemas DROP COLUMN c$n;"
done | sql
v=$(version)
cluster_conf "$dir" "s3am.checkpoint_interval = 1"
cluster_restart "$dir"
sql -c 'INSERT INTO u VALUES (1)'
eventually 30 covers "$v"
ok $? "a checkpoint has all of it"
diag "$(sql -c "SELECT count(*) FROM s3am.batches()") batches, $(objects | wc -l) pages"
ok "$([ "$(sql -c 'SELECT count(*) FROM s3am.batches()')" -gt 2000 ]; echo $?)" "thousands of batches"
ok "$([ "$(objects | wc -l)" -ge 3 ]; echo $?)" "in several pages"

content() {
	sql -c 'SELECT count(*), sum(i), sum(b), sum(length(a)), count(a), md5(string_agg(ctid::text || i, NULL ORDER BY i)) FROM t' \
		-c "SELECT i, b, left(a, 5) FROM t WHERE ctid = ANY ('{\"(0,2)\",\"(100,5)\",\"(206,77)\",\"(250,100)\",\"(270,3)\"}')" \
		-c 'SELECT md5(string_agg(s::text, NULL ORDER BY i)) FROM schemas s' \
		-c 'SELECT storage, table_id, rows, dead, inline_rows, segments, bytes FROM s3am.table_states() WHERE NOT dropped ORDER BY 1' \
		-c 'SELECT count(*), md5(string_agg(b::text, NULL ORDER BY storage, first_row)) FROM s3am.batches() b'
}
wanted=$(content)
like "$wanted" '^[0-9]+.[0-9]' "it can be read"
cluster_restart "$dir"
is "$(content)" "$wanted" "a server that starts again has the same batches, rows and row ids"
node two "${settings[@]}" "s3am.checkpoint_interval = 1"
sql -c 'CREATE EXTENSION s3am'
eventually 20 attached
is "$(content)" "$wanted" "and one that attaches"
sql -c 'INSERT INTO t VALUES (90000)' -c 'DELETE FROM t WHERE i = 77777' -c 'UPDATE t SET b = 0 WHERE i = 40000'
wanted=$(content)
followed "what that one writes fits what the first one has"
is "$(content)" "$wanted" "row by row"

# a page in the middle, which is on its way with others when it is found to be damaged
v=$(version)
eventually 30 covers "$v"
on two
cluster_stop "$dir"
on one
cluster_stop "$dir"
for how in damaged absent; do
	n=0
	while read -r page; do
		cp -p "$page" "$work/page"
		if [ $how = damaged ]; then
			printf 'XXXX' | dd of="$page" bs=1 seek=$(($(stat -c %s "$page") - 9)) conv=notrunc status=none
		else
			rm "$page"
		fi
		cluster_start "$dir"
		if sql -c 'SELECT 1 FROM t LIMIT 1' > "$work/said" 2>&1; then
			: # no page of the newest checkpoint
		elif grep -q "${page#"${repository#file://}/"}" "$work/said" "$dir/log"; then
			n=$((n + 1))
			if [ $how = damaged ]; then
				before=$(shared)
				sleep 4
				after=$(shared)
				ok "$([ $((after - before)) -lt 400 ]; echo $?)" "tries that fail leave no memory behind ($before kB, then $after)"
			fi
		else
			ok 1 "a page that is $how is named"
			diag "$page" "$(cat "$work/said")"
		fi
		cp -p "$work/page" "$page"
		eventually 20 attached || { ok 1 "it attaches when a page that was $how is there again"; break; }
		cluster_stop "$dir" immediate
		[ $n -lt 2 ] || break
	done < <(objects | head -n 6)
	ok "$([ $n -gt 0 ]; echo $?)" "a page that is $how is named, and tried again"
done
cluster_start "$dir"
eventually 20 attached
is "$(content)" "$wanted" "nothing is lost with that"

cluster_conf "$dir" "s3am.compaction = on" "s3am.compaction_rate = 0" "s3am.segment_size = 32MB"
cluster_restart "$dir"
eventually 20 attached
few() { [ "$(sql -c "SELECT segments FROM s3am.tables WHERE \"table\" = 't'::regclass")" -lt 100 ]; }
eventually 60 few
ok $? "what was read can be merged"
is "$(content | sed -n '1,6p')" "$(sed -n '1,6p' <<< "$wanted")" "and stays what it was"
done_testing
