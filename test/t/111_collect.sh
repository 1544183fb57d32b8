#!/bin/bash
# What nobody needs any more goes away, while two servers write and read: manifests, checkpoints, segments.  What a snapshot of either
# server may read, what a transaction has uploaded, and what a server needs that was stopped for a while, stays.
. "$(dirname "$0")/../lib/tap.sh"

# everything that takes days elsewhere takes moments here
quick=("s3am.collect_grace = '50ms'" "s3am.retention = '1s'" "s3am.collect_interval = '100ms'" "s3am.checkpoint_interval = 10"
	"s3am.poll_max = '100ms'" "s3am.node_timeout = '6s'" "s3am.pin_timeout = '20s'" "s3am.max_apply_delay = '60s'")
bucket=${repository#file://}
objects() { find "$bucket/$1" -type f | wc -l; }
at_most() { [ "$(objects "$1")" -le "$2" ]; }
node one "${quick[@]}"
sql -c 'CREATE EXTENSION s3am' -c 'CREATE TABLE n (i int) USING s3am' -c 'INSERT INTO n VALUES (0)'
node two "${quick[@]}"
sql -c 'CREATE EXTENSION s3am'
fill='SET s3am.inline_limit = 0; SET s3am.segment_size = 64; '
on one
sql -c "$fill CREATE TABLE emptied USING s3am AS SELECT i, md5(i::text) s FROM generate_series(1, 20000) i" \
	-c "$fill CREATE TABLE dropped USING s3am AS SELECT i, md5(i::text) s FROM generate_series(1, 20000) i" \
	-c "$fill CREATE TABLE kept USING s3am AS SELECT i, md5(i::text) s FROM generate_series(1, 20000) i"
commits() {
	local i
	for ((i = 0; i < ${1:-40}; i++)); do echo 'UPDATE n SET i = i + 1;'; done | sql
}

# What a collector would look at, for a segment that stays.
why_kept() {
	local object
	diag "$(objects segments) segments, version $(version)"
	for object in $(cd "$bucket" && find boundary nodes pins checkpoints -type f); do
		diag "$object $(stat -c %y "$bucket/$object")" "$(sql -c "SELECT left(s3am.inspect('$object')::text, 600)")"
	done
	diag "$(sql -c "SELECT object, reason FROM s3am.collect(true) WHERE object LIKE 'segments/%' LIMIT 3")"
	diag "$(sql -c "SELECT pid, backend_xmin, state, wait_event, query FROM pg_stat_activity WHERE backend_xmin IS NOT NULL")"
}

# ---------------------------------------------------------------- manifests and checkpoints

commits 200
few() { at_most manifests 60 && at_most checkpoints 6; }
eventually 20 few
ok $? "manifests and checkpoints are collected" || diag "$(objects manifests) manifests, $(objects checkpoints) checkpoints"
is "$(sql -c 'SELECT count(*) > 0 FROM s3am.manifests')" t "what is left of the newest versions can be shown"

# ---------------------------------------------------------------- a snapshot on the other server

on one
merged() { [ "$(sql -c 'SELECT max(segments) FROM s3am.tables')" = 1 ]; }
eventually 30 merged # what compaction replaces goes, and no snapshot is held yet
ok $? "a table's small segments are merged"
objects_of() { sql -c "SELECT object FROM s3am.segments WHERE \"table\"::text = '$1'"; }
emptied=$(objects_of emptied)
kept() { (cd "$bucket" && ls $emptied > /dev/null); }
gone() { ! (cd "$bucket" && ls $emptied 2> /dev/null) | grep -q .; }
follow one two 10 || exit 1
start_session() {					# its commands from fd $session, its answers in $work/session
	mkfifo "$work/fifo$1"
	sql -v ON_ERROR_STOP=0 -v VERBOSITY=sqlstate < "$work/fifo$1" > "$work/session$1" 2>&1 &
	eval "exec {session$1}> '$work/fifo$1'"
}
tell() { local fd=session$1; echo "$2" >&"${!fd}"; }
answered() { [ "$(wc -l 2> /dev/null < "$work/session$1" || echo 0)" -ge "$2" ]; }
# one that only holds a snapshot; one that holds a lock as well, so that its server cannot even apply the TRUNCATE
start_session 1
tell 1 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM n;'
eventually 10 answered 1 1
start_session 2
tell 2 'BEGIN; DECLARE c CURSOR FOR SELECT * FROM emptied; FETCH 1 FROM c;'
eventually 10 answered 2 1
on one
sql -c 'TRUNCATE emptied'
commits 100
eventually 20 at_most manifests 60
ok $? "manifests go while a snapshot is held elsewhere" || diag "$(objects manifests) manifests"
sleep 3
kept
ok $? "but no segment that it may read"
tell 2 'FETCH 19999 FROM c; COMMIT; SELECT 1;'
eventually 20 answered 2 20001
ok $? "a cursor over what was truncated elsewhere reads on"
follow one two 10
is "$(sql -c 'SELECT count(*) FROM emptied')" 0 "then it is truncated there, too"
on one
commits 20
sleep 3
kept
ok $? "and the other snapshot still keeps the segments"
tell 1 'COMMIT; SELECT 1;'
eventually 10 answered 1 2
on one
commits 20
eventually 20 gone
ok $? "then they go" || why_kept

# ---------------------------------------------------------------- what is under way

on two
sql -c 'CREATE TABLE loaded (i int, s text) USING s3am'
start_session 3
tell 3 "SET s3am.transaction_memory = '64kB'; SET s3am.segment_size = '64kB'; BEGIN;
	INSERT INTO loaded SELECT i, md5(i::text) FROM generate_series(1, 20000) i; SELECT 1;"
eventually 20 answered 3 1
on one
follow two one 10
sql -c "DROP TABLE dropped"
commits 100
sleep 1
on two
commits 20
sleep 3
tell 3 'COMMIT; SELECT 2;'
eventually 20 answered 3 2
is "$(paste -sd, "$work/session3")" 1,2 "a transaction that had uploaded long before commits" ||
	diag "$(grep -h -E 'fenced|writes again' "$work"/*/log)"
is "$(sql -c 'SELECT count(*), sum(length(s)) FROM loaded')" '20000|640000' "and all of it is there"

# ---------------------------------------------------------------- a server that is killed while it uploads

start_session 4
tell 4 "SET s3am.transaction_memory = '64kB'; SET s3am.segment_size = '64kB'; BEGIN;
	INSERT INTO loaded SELECT i, md5(i::text) FROM generate_series(1, 20000) i; SELECT 1;"
eventually 20 answered 4 1
cluster_kill "$dir"
on one
commits 20
tables_segments() { sql -c 'SELECT sum(segments) FROM s3am.tables'; }
exact() { [ "$(objects segments)" = "$(tables_segments)" ]; }
eventually 40 exact
ok $? "what a killed server left goes when its epoch was ended" || diag "$(objects segments) objects, $(tables_segments) segments"

on two
cluster_start "$dir"
is "$(sql -c 'SELECT count(*), sum(length(s)) FROM loaded' -c 'SELECT count(*), sum(length(s)) FROM kept')" "$(printf '20000|640000\n20000|640000')" \
	"it starts again from a checkpoint"

# ---------------------------------------------------------------- a committer that was away for a while

unpinned() { at_most pins 0; }
on one
sql -c 'CREATE TABLE keyed (i int PRIMARY KEY) USING s3am'
more_keys() { for _ in $(seq 20); do echo "INSERT INTO keyed SELECT coalesce(max(i), 0) + 1 FROM keyed;"; done | sql -f -; }
keys() { sql -q -c "SET enable_${1}scan = off" -c 'SET enable_bitmapscan = off' -c 'SELECT count(*), sum(i) FROM keyed WHERE i > 0'; }
away() {						# shorter than s3am.node_timeout, if the machine allows
	on one
	more_keys
	follow one two 10
	# an index whose inline runs it has put together in memory, and which are others when it goes on
	keys seq > /dev/null
	committer=$(worker committer)
	kill -STOP "$committer"
	on one
	more_keys
	sql -c 'VACUUM keyed'
	commits 100
	eventually 4 few
	kill -CONT "$committer"
	follow one two 10
	grep -q 'was followed again from the checkpoint' "$dir/log"
}
eventually 20 unpinned
on one
eventually 30 away
ok $? "a server that has fallen behind what is collected follows from a checkpoint"
is "$(keys seq)" "$(keys index)" "and its indexes have what came meanwhile"
eventually 10 unpinned
ok $? "and pins that for no longer than it needs it" || why_kept

# ---------------------------------------------------------------- one that was away for too long

pin_timeout() {
	local name
	for name in one two; do
		on "$name"
		cluster_conf "$dir" "s3am.pin_timeout = '$1'"
		sql -c 'SELECT pg_reload_conf()' > /dev/null
	done
}
pin_timeout 1h
on two
was=$(sql -c "SELECT lpad(epoch::text, 20, '0') FROM s3am.node()")
sql -c 'CREATE TABLE reread (i int) USING s3am' -c 'INSERT INTO reread SELECT generate_series(1, 10)' \
	-c 'CREATE SEQUENCE drawn' -c 'CREATE TABLE away (i int) USING s3am' -c "SELECT nextval('drawn')" -c 'INSERT INTO away VALUES (1)' > /dev/null
start_session 5
tell 5 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*), sum(i) FROM reread;'
start_session 6
tell 6 'BEGIN; UPDATE reread SET i = 100 WHERE i = 1; SELECT 1;'
eventually 10 answered 5 1
eventually 10 answered 6 1
follow two one 10
on two
committer=$(worker committer)
kill -STOP "$committer"
on one
sleep 4
sql -c 'DELETE FROM reread WHERE i > 5' -c 'UPDATE reread SET i = 50 WHERE i = 5' -c 'INSERT INTO reread VALUES (60)' \
	-c 'CREATE TABLE new (i int) USING s3am' -c 'INSERT INTO new VALUES (1), (2)' -c 'DROP TABLE away' \
	-c 'ALTER TABLE kept ADD COLUMN c int DEFAULT 7'
draws() { sql -c "SELECT nextval('drawn')" > /dev/null 2>&1; }
eventually 20 draws
commits 100
eventually 20 few
boundary=$(find "$bucket/manifests" -type f | sort | head -n 1)
[ "$((10#$(basename "$boundary")))" -gt "$(on two; version)" ]
ok $? "versions that a stopped server has not seen are collected"
wanted=$(sql -c 'SELECT * FROM reread ORDER BY 1' -c 'SELECT * FROM new' -c 'SELECT count(*), sum(c) FROM kept')
last=$(sql -c "SELECT nextval('drawn')")
on two
kill -CONT "$committer"
eventually 30 sql -c 'SELECT 1 FROM new LIMIT 1' > /dev/null 2>&1
ok $? "it catches up by a checkpoint, without a restart"
caught_up() { [ "$(sql -c 'SELECT * FROM reread ORDER BY 1' -c 'SELECT * FROM new' -c 'SELECT count(*), sum(c) FROM kept')" = "$wanted" ]; }
eventually 10 caught_up
ok $? "and has what the other has" || diag "$wanted" "$(sql -c 'SELECT * FROM reread ORDER BY 1')"
is "$(sql -c "SELECT count(*) FROM pg_class WHERE relname = 'away'")" 0 "dropped tables are gone"
grep -q 'was followed again from the checkpoint' "$dir/log"
ok $? "the log says so"
tell 5 'SELECT count(*), sum(i) FROM reread; COMMIT; SELECT 1;'
eventually 10 answered 5 3
is "$(sed -n 2p "$work/session5")" '10|55' "an old snapshot reads what it read"
tell 6 'COMMIT; SELECT 2;'
eventually 10 answered 6 2
like "$(sed -n 2p "$work/session6")" 'ERROR:  (40001|08006)' "what was written before is rolled back"
writes() { sql -c 'UPDATE reread SET i = 101 WHERE i = 1' > /dev/null 2>&1; }
eventually 20 writes
ok $? "and the server writes again"
withdrawn() { [ -n "$was" ] && [ ! -e "$bucket/nodes/$was" ] && at_most pins 0; }
eventually 15 withdrawn
ok $? "what its ended epoch wrote to keep objects is withdrawn" || why_kept
pin_timeout 20s
on two
cluster_stop "$work/one"
draws() { sql -c "SELECT nextval('drawn')" > "$work/number" 2> /dev/null; }
eventually 20 draws
ok "$([ "$(cat "$work/number")" -gt "$last" ]; echo $?)" "its sequences go on after the other's numbers"
cluster_start "$work/one"

# ---------------------------------------------------------------- two that were silent at the same time, as when the store was away

pin_timeout 8s
on one
sql -c "$fill CREATE TABLE shared USING s3am AS SELECT i, md5(i::text) s FROM generate_series(1, 20000) i"
eventually 20 merged
emptied=$(objects_of shared)
follow one two 10
start_session 7
tell 7 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM n;'
eventually 10 answered 7 1
on one
sql -c 'DELETE FROM shared' -c 'VACUUM shared'
commits 100
follow one two 10
sleep 3
committers=$(on one; worker committer; on two; worker committer)
kill -STOP $committers
sleep 9
kill -CONT "${committers%%$'\n'*}"
sleep 3
kept
ok $? "who was silent itself collects nothing that another one may still read"
kill -CONT $committers
tell 7 'SELECT count(*), sum(length(s)) FROM shared; COMMIT; SELECT 1;'
eventually 20 answered 7 3
is "$(sed -n 2p "$work/session7")" '20000|640000' "an old snapshot on the other one is whole"
on one
commits 20
eventually 30 gone
ok $? "then they go" || why_kept
pin_timeout 20s

# ---------------------------------------------------------------- by hand

on two
sql -c "$fill CREATE TABLE byhand USING s3am AS SELECT i, md5(i::text) s FROM generate_series(1, 20000) i"
cluster_conf "$dir" "s3am.collect_interval = 0"
cluster_conf "$work/one" "s3am.collect_interval = 0"
for name in one two; do on "$name"; sql -c 'SELECT pg_reload_conf()' > /dev/null; done
on two
sleep 1
sql -c 'TRUNCATE byhand'
commits 60
sleep 1
sql -c 'SELECT FROM s3am.collect()'
sleep 1
deleted() {
	sql -c 'SELECT object FROM s3am.collect(false)' >> "$work/deleted" && grep -q '^manifests/' "$work/deleted" && grep -q '^segments/' "$work/deleted"
}
eventually 40 deleted
ok $? "s3am.collect(false) collects, and lists what it has deleted"
commits 30
fails_like 42501 'permission denied' 'SET ROLE pg_monitor; SELECT s3am.collect()' "it is the superuser's"
grep -q 'that nobody needs any more were deleted' "$dir/log"
ok $? "the log says what was deleted"

# ---------------------------------------------------------------- in the end

content() { sql -c 'SELECT count(*), sum(length(s)) FROM loaded' -c 'SELECT count(*), sum(length(s)), sum(c) FROM kept' -c 'SELECT count(*) FROM n'; }
wanted=$(content)
node three "${quick[@]}"
sql -c 'CREATE EXTENSION s3am'
attached() { [ "$(sql -c 'SELECT phase FROM s3am.node()' 2> /dev/null)" = ready ]; }
eventually 20 attached
is "$(content)" "$wanted" "a third server starts from what is left"
is "$(sql -c 'SELECT i > 500 FROM n')" t "no commit was lost"
# ---------------------------------------------------------------- one whose pin ran out under a snapshot

pin_timeout 4s
on one
sql -c "$fill CREATE TABLE cold USING s3am AS SELECT i, md5(i::text) s FROM generate_series(1, 20000) i"
eventually 20 merged
cold=$(objects_of cold)
follow one two 10
start_session 8
tell 8 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM n;'
eventually 10 answered 8 1
committer=$(worker committer)
kill -STOP "$committer"
on one
sql -c 'VACUUM FULL cold'
cold_gone() { commits 20 && ! (cd "$bucket" && ls $cold 2> /dev/null) | grep -q .; }
eventually 30 cold_gone
ok $? "what a server reads goes if that is silent for longer than s3am.pin_timeout"
tell 8 'SELECT count(*), sum(length(s)) FROM cold;'
eventually 20 answered 8 2
like "$(cat "$work/session8")" 'ERROR:  72000' "who still needs it is told that, and not that something is damaged"
on two
kill -CONT "$committer"
read_again() { [ "$(sql -c 'SELECT count(*), sum(length(s)) FROM cold')" = '20000|640000' ]; }
eventually 30 read_again
ok $? "and a new snapshot of that server reads all, once it has caught up"
done_testing
