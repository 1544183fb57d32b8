#!/bin/bash
# A server is stopped, time and again, while it catches up by a checkpoint, until that checkpoint's pages are gone.  It starts over from a
# newer one by itself.
. "$(dirname "$0")/../lib/tap.sh"

# the other server does not end its epoch: then it would start over anyway
quick=("s3am.collect_grace = '50ms'" "s3am.retention = 0" "s3am.collect_interval = '100ms'" "s3am.checkpoint_interval = 10"
	"s3am.poll_max = '100ms'" "s3am.node_timeout = '600s'" "s3am.pin_timeout = '3s'")
bucket=${repository#file://}
objects() { find "$bucket/$1" -type f 2> /dev/null | wc -l; }
at_most() { [ "$(objects "$1")" -le "$2" ]; }
first_manifest() { local name; name=$(find "$bucket/manifests" -type f | sort | head -n 1); echo $((10#$(basename "$name"))); }

node one "${quick[@]}"
sql -c 'CREATE EXTENSION s3am'
# so many that the tables do not fit into the checkpoint's root
for i in {1..60}; do echo "CREATE TABLE t$i (i int) USING s3am; INSERT INTO t$i VALUES (0);"; done | sql
touch_all() { for i in {1..60}; do echo "UPDATE t$i SET i = i + 1;"; done | sql; }
node two "${quick[@]}"
sql -c 'CREATE EXTENSION s3am'
follow one two 20 || exit 1

on two
committer=$(worker committer)
publisher=$(worker publisher)
before=$(version)
kill -STOP "$committer"
on one
touch_all
passed() { [ "$(first_manifest)" -gt $((before + 1)) ]; }
eventually 20 passed
ok $? "versions that the stopped server lacks are collected"

# its committer takes a checkpoint, whose pages its publisher cannot read yet
kill -STOP "$publisher"
kill -CONT "$committer"
on two
head() { sql -c 'SELECT head FROM s3am.node()'; }
ahead() { [ "$(head)" -gt "$before" ]; }
eventually 20 ahead
ok $? "its committer catches up by a checkpoint, and its publisher is stopped"
taken=$(find "$bucket/checkpoints" -type f | sort | tail -n 1)
sql -c 'SELECT i FROM t1' > /dev/null
ok $? "what was published can be read"

# then it follows, and is stopped for so long that it counts no more
on one
touch_all
newest() { find "$bucket/checkpoints" -type f | sort | tail -n 1; }
newer() { [[ $(newest) > $taken ]]; }
eventually 20 newer
last=$(version)
on two
at_head() { [ "$(head)" -ge "$last" ]; }
eventually 20 at_head
kill -STOP "$committer"
eventually 30 at_most checkpoints 2
ok $? "checkpoints go once it has given no sign of life for s3am.pin_timeout" || diag "$(ls "$bucket/checkpoints")"
# pages of all checkpoints but these go in the same pass
sleep 1
kill -CONT "$publisher"
complains() { grep -q 'cannot read object "pages/' "$dir/log"; }
eventually 20 complains
ok $? "its publisher says which object it misses"
kill -CONT "$committer"
content() { sql -c "SELECT sum(i) FROM (SELECT i FROM t1 UNION ALL SELECT i FROM t30 UNION ALL SELECT i FROM t60) t"; }
caught_up() { [ "$(content)" = 6 ]; }
eventually 40 caught_up
ok $? "it starts over from a newer one" || diag "$(content)"
grep -q 'it starts over from a newer one' "$dir/log" && grep -q 'is left out, since a newer one follows' "$dir/log"
ok $? "the log says so"
writes() { sql -c 'UPDATE t1 SET i = 100' > /dev/null 2>&1; }
eventually 20 writes
ok $? "and it writes again"
follow two one 10
is "$(sql -c 'SELECT i FROM t1')" 100 "which the other sees"
done_testing
