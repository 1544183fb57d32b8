#!/bin/bash
# After a crash the postmaster starts the workers that there were, and the launcher new ones: however late the old ones begin, there is one of each.
. "$(dirname "$0")/../lib/tap.sh"
lib=$(cd "$(dirname "$0")/../lib" && pwd)
gcc -O1 -Wall -Werror -shared -fPIC -o "$work/late_workers.so" "$lib/late_workers.c" || exit 1
export S3AM_SERVER_PRELOAD=$work/late_workers.so S3AM_SERVER_OPTIONS="LATE_WORKERS=$work/late/worker"
node server "restart_after_crash = on"
sql -c 'CREATE EXTENSION s3am' -c 'CREATE TABLE t (a int) USING s3am' -c 'INSERT INTO t VALUES (1)' || exit 1
workers() {
	local pid
	for pid in $(process_tree "$(cluster_postmaster "$dir")"); do
		tr '\0' ' ' < "/proc/$pid/cmdline" 2> /dev/null | grep -o ': s3am [a-z]*'
	done | sort | uniq -c | awk '{ print $1, $4 }' | tr '\n' ' '
}
all_there() { [ "$(workers)" = '1 committer 1 compactor 1 launcher 1 publisher ' ]; }
eventually 20 all_there
ok $? "one of each worker" || diag "$(workers)"
epoch=$(sql -c 'SELECT epoch FROM s3am.node()')

mkdir "$work/late"
touch "$work/late/worker."{1,2,3}
chown -R "$cluster_owner" "$work/late"
sql -c 'SELECT pg_sleep(60)' > /dev/null 2>&1 &
client=$!
backend() { pid=$(sql -c "SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'") && [ -n "$pid" ]; }
eventually 10 backend
kill -KILL "$pid"
wait "$client"
eventually 30 eval 'sql -c "INSERT INTO t VALUES (2)" > /dev/null 2>&1'
ok $? "a server whose backend was killed writes again"
sleep 6									# those of before, if they lived, would fence each other by now
eventually 20 all_there
ok $? "one of each worker, though they came late" || diag "$(workers)"
is "$(sql -c 'SELECT epoch FROM s3am.node()')" $((epoch + 1)) "which needed one epoch"
is "$(find "$dir/data/s3am" -name '*.displaced' 2> /dev/null)" "" "nobody took the server's place"
is "$(sql -c 'INSERT INTO t VALUES (3)' -c 'SELECT count(*) FROM t')" 3 "and all goes on"
done_testing
