#!/bin/bash
# A server starts from a checkpoint and the few versions after it: tables, rows, deletes, schema, sequences and labels are what they
# were, without the manifests that were summed up.
. "$(dirname "$0")/../lib/tap.sh"

# batches are compared as well, so nobody merges them meanwhile
small=("s3am.compaction = off" "s3am.checkpoint_interval = 20" "s3am.collect_interval = 0" "s3am.poll_max = 100ms")
checkpoints() { find "${repository#file://}/checkpoints" -type f 2> /dev/null | wc -l; }
has_checkpoint() { [ "$(checkpoints)" -ge "${1:-1}" ]; }
newest() { find "${repository#file://}/checkpoints" -type f | sort | tail -n 1; }
covers() { local name; name=$(basename "$(newest)"); [ "$((10#${name%%-*}))" -ge "$1" ]; }

node one "${small[@]}"
sql -c 'CREATE EXTENSION s3am'
sql -c "CREATE TYPE mood AS ENUM ('sad', 'happy')" \
	-c "CREATE TABLE t (id int, m mood, s text DEFAULT 'x') USING s3am" \
	-c "INSERT INTO t VALUES (1, 'sad'), (2, 'happy')" \
	-c "ALTER TYPE mood ADD VALUE 'so so' BEFORE 'happy'" \
	-c "INSERT INTO t VALUES (3, 'so so')" \
	-c "ALTER TYPE mood ADD VALUE 'angry' BEFORE 'sad'" \
	-c "INSERT INTO t VALUES (4, 'angry')" \
	-c "ALTER TYPE mood RENAME TO feeling" \
	-c 'CREATE TABLE u (id serial, n int) USING s3am' \
	-c 'INSERT INTO u (n) SELECT 0 FROM generate_series(1, 100)' \
	-c 'CREATE TABLE gone (i int) USING s3am' -c 'INSERT INTO gone VALUES (1)' -c 'DROP TABLE gone' \
	-c 'CREATE TABLE emptied (i int) USING s3am' -c 'INSERT INTO emptied VALUES (1)' -c 'TRUNCATE emptied' \
	-c 'INSERT INTO emptied VALUES (2)' \
	-c 'CREATE TABLE never_filled (i int) USING s3am' \
	-c "CREATE SEQUENCE back INCREMENT -1" -c "SELECT nextval('back')" -c "SELECT setval('back', -1000)" \
	-c "SET s3am.inline_limit = 0; CREATE TABLE large USING s3am AS SELECT i, repeat('y', 1000) s FROM generate_series(1, 5000) i" \
	> /dev/null
for i in {1..30}; do
	echo "UPDATE u SET n = n + 1 WHERE id = $((i * 3)); DELETE FROM large WHERE i % 100 = $i;"
done | sql
eventually 20 has_checkpoint
ok $? "a checkpoint is made after s3am.checkpoint_interval versions"
v=$(version)
for i in {1..25}; do echo "INSERT INTO never_filled VALUES ($i); DELETE FROM never_filled WHERE i = $i;"; done | sql
eventually 20 covers "$v"
ok $? "and another one, of all that was there at that time"
sql -c "INSERT INTO t VALUES (5, 'so so')" -c 'DELETE FROM t WHERE id = 1'

content() {
	sql -c 'SELECT * FROM t ORDER BY m, id' -c 'SELECT count(*), sum(n), sum(id) FROM u' -c 'SELECT * FROM emptied' \
		-c 'SELECT count(*) FROM never_filled' -c 'SELECT count(*), sum(i), sum(length(s)) FROM large' \
		-c "SELECT relname FROM pg_class WHERE relname = 'gone'" \
		-c 'SELECT ctid, xmin FROM t ORDER BY id' \
		-c 'SELECT storage, table_id, rows, dead, segments FROM s3am.table_states() WHERE NOT dropped ORDER BY 1'
}
on one
wanted=$(content)

# what a checkpoint sums up is not read: it is not even there
hidden=$work/hidden
mkdir "$hidden"
name=$(basename "$(newest)")
covered=$((10#${name%%-*}))
for object in "${repository#file://}"/manifests/*; do
	n=$(basename "$object")
	[ "$((10#$n))" -gt "$covered" ] || mv "$object" "$hidden/"
done

node two "${small[@]}"
sql -c 'CREATE EXTENSION s3am'
attached() { [ "$(sql -c "SELECT phase FROM s3am.node()" 2> /dev/null)" = ready ]; }
eventually 20 attached
ok $? "a new server attaches without the manifests that the checkpoint sums up"
is "$(content)" "$wanted" "and has the rows, row ids, schema, storages and labels"
is "$(sql -c 'SELECT id FROM u WHERE id = 99 FOR UPDATE')" 99 "rows can be locked there"
fails_like 0A000 'in use by another server' "INSERT INTO u (n) VALUES (1)" "the owner of a sequence is known there"
sql -c "UPDATE t SET s = 'two' WHERE id = 2" -c "INSERT INTO t VALUES (6, 'angry')"
on one
eventually 5 reached "$(on two; version)"
is "$(sql -c "SELECT id FROM t WHERE s = 'two' OR m = 'angry' ORDER BY 1" | paste -sd,)" '2,4,6' "what it writes fits what the first has"

last=$(sql -c "SELECT nextval('u_id_seq')" -c 'INSERT INTO t VALUES (7)')
cluster_restart "$dir"
is "$(content)" "$(on two; content)" "the first starts again from the checkpoint, and replays no schema change twice"
cluster_stop "$dir"
on two
drawn() { sql -c 'INSERT INTO u (n) VALUES (1) RETURNING id' 2> /dev/null; }
eventually 20 drawn > "$work/drawn"
ok "$([ "$(tail -n 1 "$work/drawn")" -gt "$last" ]; echo $?)" "numbers go on beyond those of the first"
is "$(sql -c "SELECT nextval('back') < -1000")" t "also downwards, and after setval"

# a fresh one once more: what was drawn since the checkpoint is in the manifests after it
cluster_stop "$dir"
on one
cluster_start "$dir"
attached() { [ "$(sql -c "SELECT phase FROM s3am.node()" 2> /dev/null)" = ready ]; }
eventually 20 attached
is "$(sql -c "SELECT nextval('u_id_seq') > $(tail -n 1 "$work/drawn")")" t "and back"

# rows that were removed and that no batch has any more take no memory in a server that starts
cluster_conf "$dir" "s3am.compaction = on"
sql -c 'SELECT pg_reload_conf()' > /dev/null
sql -c 'CREATE TABLE replaced (i int) USING s3am'
for i in {1..12}; do
	echo 'SET s3am.inline_limit = 0; INSERT INTO replaced SELECT generate_series(1, 100000); DELETE FROM replaced;'
	[ "$i" -lt 12 ] || echo 'INSERT INTO replaced VALUES (1), (2), (3); DELETE FROM replaced WHERE i = 2;'
	echo 'VACUUM replaced;'
done | sql
v=$(version)
for i in {1..40}; do echo "INSERT INTO never_filled VALUES ($i);"; done | sql
eventually 20 covers "$v"
cluster_restart "$dir"
eventually 20 attached
is "$(sql -c 'SELECT i FROM replaced ORDER BY 1' | paste -sd,)" 1,3 "a table whose rows were replaced again and again"
is "$(sql -c "SELECT rows, dead, dead_share FROM s3am.tables WHERE \"table\" = 'replaced'::regclass")" "2|0|0.0000" "s3am.tables says so"
kb=$(awk '/^[0-9a-f]+-[0-9a-f]+ / { counts = $6 ~ "^/dev/shm/PostgreSQL" } /^Rss:/ && counts { n += $2 } END { print n + 0 }' "/proc/$(worker publisher)/smaps")
ok $((kb > 15000)) "and of the million that it had nothing is in memory ($kb kB)"
done_testing
