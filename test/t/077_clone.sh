#!/bin/bash
# Two servers with copies of one data directory: the later one takes the other's place, once; no restart takes it back.
. "$(dirname "$0")/../lib/tap.sh"

node one
sql -c 'CREATE EXTENSION s3am' -c 'CREATE TABLE t (i int) USING s3am' -c 'INSERT INTO t VALUES (1)' || exit 1
cluster_stop "$dir"
as_server mkdir -m 700 "$work/two"
as_server cp -a "$work/one/data" "$work/one/password" "$work/two"
cluster_all+=("$work/two")
cluster_conf "$work/two" "unix_socket_directories = '$work/two'"

insert() { sql -c "INSERT INTO t VALUES ($1)" > "$work/said" 2>&1; }
refused() { ! insert "$1" && grep -q "$2" "$work/said"; }
epochs() { sql -c 'SELECT epoch FROM s3am.node()'; }

cluster_start "$dir"
insert 2
ok $? "the original writes"
on two
cluster_start "$dir"
insert 3
ok $? "so does the copy, which takes its place"
on one
eventually 10 refused 4 'epoch in the repository has ended'
ok $? "and the original does not any more" || diag "$(cat "$work/said")"
cluster_restart "$dir"
eventually 20 refused 4 'took this one.s place'
ok $? "nor after a restart: it says why" || diag "$(cat "$work/said")"
like "$(cat "$work/said")" 'set s3am.node_name' "and what to do"
on two
epoch=$(epochs)
insert 5
ok $? "the copy goes on"
cluster_restart "$dir"
insert 6
ok $? "after a restart, too"
[ "$(epochs)" = $((epoch + 1)) ]
ok $? "nobody else began an epoch meanwhile"
on one
cluster_conf "$dir" "s3am.node_name = 'one'"
cluster_restart "$dir"
insert 7
ok $? "with a name of its own the original is a server beside the copy"
on two
insert 8
ok $? "which goes on as well"
is "$(sql -c 'SET s3am.freshness = latest; SELECT string_agg(i::text, chr(32) ORDER BY i) FROM t')" "1 2 3 5 6 7 8" "nothing was lost"
on one
cluster_stop "$dir"
sed -i '/^s3am.node_name/d' "$dir/data/postgresql.conf"
as_server sh -c "rm '$dir'/data/s3am/*.displaced"
cluster_start "$dir"
insert 9
ok $? "without the note the original takes the copy's place in its turn"
on two
eventually 10 refused 10 'epoch in the repository has ended'
ok $? "and the copy notices"
done_testing
