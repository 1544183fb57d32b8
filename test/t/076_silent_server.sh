#!/bin/bash
# A server that is silent for too long loses its epoch: what it had on its way is rolled back, and it begins another by itself.
. "$(dirname "$0")/../lib/tap.sh"

node one "s3am.node_timeout = '3s'" "s3am.commit_timeout = '60s'"
sql -c 'CREATE EXTENSION s3am' -c 'CREATE TABLE t (i int) USING s3am' -c 'INSERT INTO t VALUES (1)' || exit 1
epoch() { sql -c 'SELECT epoch FROM s3am.node()'; }
first=$(epoch)
node two "s3am.node_timeout = '3s'"
sql -c 'CREATE EXTENSION s3am' || exit 1
is "$(sql -c 'SELECT i FROM t')" 1 "two servers"

on one
cluster_use "$dir"
coproc old { exec "$cluster_bin/psql" -X -q -At -d test 2>&1; }
# ask SQL: one line from a session that lives through it
ask() {
	echo "$1" >&"${old[1]}"
	IFS= read -r -t 60 answer <&"${old[0]}" || answer="no answer"
	echo "$answer"
}
echo 'BEGIN ISOLATION LEVEL REPEATABLE READ;' >&"${old[1]}"
is "$(ask 'SELECT count(*) FROM t;')" 1 "a snapshot"

committer=$(worker committer)
kill -STOP "$committer"
sql -v VERBOSITY=verbose -c 'INSERT INTO t VALUES (2)' > "$work/said" 2>&1 &
late=$!
on two
fenced() { [ "$(sql -c "SELECT count(*) FROM s3am.manifests WHERE version > 2 AND transactions = 0 AND author = (SELECT epoch FROM s3am.node())")" -ge 1 ]; }
eventually 20 fenced
ok $? "the other server ends the silent one's epoch"
sql -c 'INSERT INTO t VALUES (3)'
ok $? "and goes on"

on one
kill -CONT "$committer"
wait "$late"
like "$(cat "$work/said")" "ERROR:  08006: the transaction is rolled back: this server's epoch in the repository has ended" "what was on its way is rolled back"
writes() { sql -c 'INSERT INTO t VALUES (4)' > /dev/null 2>&1; }
eventually 15 writes
ok $? "the server writes again by itself"
[ "$(epoch)" -gt "$first" ]
ok $? "in a new epoch"
is "$(ask 'SELECT count(*) FROM t;')" 1 "the old snapshot still sees what it saw"
is "$(ask 'COMMIT; SELECT string_agg(i::text, $$ $$ ORDER BY i) FROM t;')" "1 3 4" "a new one sees all, and nothing of what was rolled back"
signs() { [ "$(find "${repository#file://}/nodes" -type f | wc -l)" = 2 ]; }
eventually 10 signs
ok $? "and takes back the old one's sign of life, which would keep what it read" || diag "$(ls -l "${repository#file://}/nodes")"
on two
follows() { [ "$(sql -c "SELECT string_agg(i::text, ' ' ORDER BY i) FROM t")" = "1 3 4" ]; }
eventually 5 follows
ok $? "on the other server, too"
done_testing
