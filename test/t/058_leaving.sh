#!/bin/bash
# A server that ends in good order gives up its epoch: others take over its sequences at once.  A committer that is ended alone comes
# back, and what was asked of one that lost its epoch is answered by the next.
. "$(dirname "$0")/../lib/tap.sh"

node one
sql -c 'CREATE EXTENSION s3am' -c 'CREATE SEQUENCE s' -c 'CREATE TABLE t (i int) USING s3am' \
	-c "SELECT nextval('s') FROM generate_series(1, 100)" > /dev/null || exit 1
largest=$(sql -c "SELECT nextval('s')")
node two
sql -c 'CREATE EXTENSION s3am' || exit 1
fails_like 0A000 'in use by another server' "SELECT nextval('s')" "a second server may not draw"
writing() { while sql -c 'INSERT INTO t VALUES (1)' >> "$work/written" 2>&1; do echo done >> "$work/written"; done; }
on one
for i in 1 2 3; do
	writing &
	writers[i]=$!
done
sleep 1
cluster_stop "$dir"
began=$SECONDS
for i in 1 2 3; do wait "${writers[i]}"; done
on two
draw() { number=$(sql -c "SELECT nextval('s')" 2> /dev/null); }
eventually 5 draw
ok $? "it may when the first was shut down, after $((SECONDS - began)) s, not s3am.node_timeout"
[ "${number:-0}" -gt "$largest" ]
ok $? "and goes on after it: ${number:-none}, not $largest"
[ "$(sql -c 'SELECT count(*) FROM t')" -ge "$(grep -c done "$work/written")" ]
ok $? "all that was committed before the shutdown is there"
on one
cluster_start "$dir"
fails_like 0A000 'in use by another server' "SELECT nextval('s')" "the first may not when it comes back"
on two
cluster_stop "$dir" smart
on one
before=$number
eventually 5 draw
[ "${number:-0}" -gt "$before" ]
ok $? "until the second was shut down: ${number:-none}"

# the committer alone is told to end, while a session reads
epoch=$(sql -c 'SELECT epoch FROM s3am.node()')
old=$(worker committer)
nodes=${repository#file://}/nodes
cluster_use "$dir"
(printf '%s;\n' 'BEGIN ISOLATION LEVEL REPEATABLE READ' 'SELECT count(*) FROM t' 'SELECT pg_sleep(600)' | timeout 60 "$cluster_bin/psql" -Xq -d test) > /dev/null 2>&1 &
reader=$!
reads() { [ "$(sql -c "SELECT count(*) FROM pg_stat_activity WHERE query ~ 'pg_sleep' AND backend_xmin IS NOT NULL AND pid <> pg_backend_pid()")" = 1 ]; }
eventually 5 reads
ok $? "a session reads"
kill -TERM "$old"
writes() { sql -c 'INSERT INTO t VALUES (2)' > /dev/null 2>&1; }
another() { [ "$(worker committer)" != "$old" ] && writes; }
# what keeps others from collecting what it reads is there at every moment
kept=0
for i in {1..400}; do
	if [[ $repository == file://* ]] && [ -z "$(ls "$nodes")" ]; then
		kept=1
	fi
	[ $((i % 20)) -gt 0 ] || ! another || break
	sleep 0.01
done
is "$kept" 0 "others are told all the time that it does"
eventually 10 another
ok $? "a committer that was ended comes back"
[ "$(sql -c 'SELECT epoch FROM s3am.node()')" -gt "$epoch" ]
ok $? "in a new epoch"
withdrawn() { [ "$(ls "$nodes" | wc -l)" = 1 ]; }
if [[ $repository == file://* ]]; then
	eventually 10 withdrawn
	ok $? "and says so itself, in place of the earlier one" || diag "$(ls "$nodes")"
	before=$(ls "$nodes")
	cluster_restart "$dir"
	eventually 10 writes
	withdrawn && [ "$(ls "$nodes")" != "$before" ]
	ok $? "the end of the whole server, with this session, withdraws it at once" || diag "$(ls "$nodes")"
fi
wait "$reader"

# asked while the committer is stopped, and fenced; answered by the next one
on two
cluster_conf "$dir" "s3am.node_timeout = '3s'"
cluster_start "$dir"
on one
id=$(sql -c 'BEGIN' -c 'INSERT INTO t VALUES (3)' -c 'SELECT s3am.commit_id()' -c 'COMMIT')
never=$(sql -c 'BEGIN' -c 'SELECT s3am.commit_id()' -c 'ROLLBACK')
old=$(worker committer)
on two
manifests() { sql -c "SELECT version FROM s3am.node()"; }
live=$(manifests)
fenced() { [ "$(manifests)" -gt "$live" ]; }
on one
kill -STOP "$old"
cluster_use "$dir"
ask() { timeout 40 "$cluster_bin/psql" -X -q -At -d test -c "$1" > "$2" 2>&1; }
ask "SELECT status FROM s3am.commit_status('$id')" "$work/said1" &
asker1=$!
ask "SELECT status FROM s3am.commit_status('$never', true)" "$work/said2" &
asker2=$!
on two
eventually 30 fenced
ok $? "the silent one is fenced"
on one
kill -CONT "$old"
wait "$asker1"
is "$(cat "$work/said1")" committed "a question that was on its way is answered"
wait "$asker2"
is "$(cat "$work/said2")" aborted "one that asks for a final answer, too"
eventually 10 writes
ok $? "and the server writes again"
done_testing
