#!/bin/bash
# The harness itself: servers come up, die by SIGKILL without a trace, come up again, and go.
. "$(dirname "$0")/../lib/tap.sh"

dir=$work/plain
cluster_init "$dir"
ok $? "initdb"
cluster_start "$dir"
ok $? "start"
cluster_psql "$dir" -d postgres -c 'CREATE DATABASE test'
sql -c 'CREATE TABLE t AS SELECT generate_series(1, 1000) AS i'
is "$(PGPASSWORD=$(cat "$dir/password") "$cluster_bin/psql" -XAt -h 127.0.0.1 -p "$(cat "$dir/port")" -U postgres -d test -c 'SELECT count(*) FROM t')" \
	1000 "over TCP with the password"
said=$(PGPASSWORD=wrong "$cluster_bin/psql" -XAt -h 127.0.0.1 -p "$(cat "$dir/port")" -U postgres -d test -c 'SELECT 1' 2>&1)
like "$said" 'password authentication failed' "not without it"
is "$(stat -c %a "$dir")" 700 "nobody else reaches the socket"

postmaster=$(cluster_postmaster "$dir")
mapfile -t pids < <(process_tree "$postmaster")
[ ${#pids[@]} -ge 5 ]
ok $? "a postmaster has children"
mapfile -t shm < <(shared_memory_of "$postmaster")
cluster_kill "$dir"
ok $? "SIGKILL"
processes_gone "${pids[@]}"
ok $? "all processes are gone"
is "$(ls -d "${shm[@]:-/dev/shm/PostgreSQL.none}" 2> /dev/null)" "" "and their shared memory"
cluster_postmaster "$dir"
is $? 1 "no postmaster"
! grep -q 'unexpected postmaster exit' "$dir/log"
ok $? "nobody noticed"

cluster_start "$dir"
ok $? "start after a crash"
is "$(sql -c 'SELECT count(*) FROM t')" 1000 "what was committed is there"
fails_like 42P01 'relation "nowhere" does not exist' 'SELECT * FROM nowhere' "an error is told from another"
cluster_restart "$dir"
ok $? "restart"
cluster_stop "$dir"
ok $? "stop"

# a port that somebody else took meanwhile
cluster_init "$work/other" && cluster_start "$work/other"
cp "$work/other/port" "$dir/port"
cluster_start "$dir"
ok $? "a taken port is not the end"
isnt=$(cat "$dir/port")
[ "$isnt" != "$(cat "$work/other/port")" ]
ok $? "another port is found"
cluster_remove "$dir"
[ ! -e "$dir" ]
ok $? "remove"
done_testing
