#!/bin/bash
# What operators look at: node(), store_stats(), manifests, activity; and who may.
. "$(dirname "$0")/../lib/tap.sh"

node one
sql -c 'CREATE EXTENSION s3am' -c 'CREATE TABLE t (id int, n text) USING s3am' -c 'CREATE TABLE u (id int) USING s3am'
puts() { sql -c "SELECT puts FROM s3am.store_stats() WHERE process = 'committer'"; }

before=$(puts)
sql -c "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')"
is "$(($(puts) - before))" 1 "a small commit is one PUT"
is "$(sql -c "SELECT transactions, tables, rows_added, rows_removed, segments FROM s3am.manifests LIMIT 1")" '1|{t}|3|0|0' "and one manifest"
sql -c "BEGIN; UPDATE t SET n = 'x' WHERE id < 3; DELETE FROM t WHERE id = 3; INSERT INTO u VALUES (1); COMMIT"
is "$(sql -c 'SELECT transactions, tables, rows_added, rows_removed FROM s3am.manifests LIMIT 1')" '1|{t,u}|3|3' "updates and deletes, two tables"
is "$(sql -c 'SELECT author = (s3am.node()).epoch, inline_bytes > 0, bytes > inline_bytes, now() - "time" < interval $$1 minute$$
	FROM s3am.manifests LIMIT 1')" 't|t|t|t' "author, sizes and time"
sql -c "SET s3am.inline_limit = 0; INSERT INTO t SELECT i, 'y' FROM generate_series(1, 5000) i"
is "$(sql -c 'SELECT rows_added, segments, inline_bytes FROM s3am.manifests LIMIT 1')" '5000|1|0' "a segment"
is "$(sql -c "SELECT puts > 0 FROM s3am.store_stats() WHERE process = 'sessions'")" t "which the session uploaded"
sql -c 'CREATE TABLE v (i int) USING s3am'
is "$(sql -c 'SELECT ddl > 0 FROM s3am.manifests LIMIT 1')" t "DDL"
head=$(sql -c 'SELECT head FROM s3am.node()')
is "$(sql -c "SELECT string_agg(version::text, ' ') FROM s3am.read_manifests(3, 2)")" '3 2' "older ones"
is "$(sql -c "SELECT count(*), min(version), max(version) FROM s3am.read_manifests(NULL, 100000)")" "$head|1|$head" "all of them"
is "$(sql -c "SELECT count(*) FROM s3am.read_manifests(0, 5)")" 0 "none"
is "$(sql -c 'SELECT version = head, applied = head, queued, taken, undelivered, commits > 4, conflicts, error FROM s3am.node()')" \
	't|t|0|0|0|t|0|' "node()"
at_rest() {
	workers=$(sql -c "SELECT string_agg(process || ': ' || replace(waits_for, 'reading the chain', 'work'), ', ' ORDER BY process) FROM s3am.activity WHERE process <> 'session'")
	[ "$workers" = 'committer: work, compactor: work, publisher: work' ]
}
eventually 10 at_rest
ok $? "activity: workers at rest"

committer=$(worker committer)
trap 'status=$?; kill -CONT "$committer" 2> /dev/null; (exit "$status"); tap_end' EXIT
kill -STOP "$committer"
sql -c "INSERT INTO t VALUES (9, 'z')" &
waits() { [ "$(sql -c "SELECT count(*) FROM s3am.activity WHERE process = 'session' AND waits_for = 'its commit' AND query ~ 'VALUES \(9' AND commit_seq > 0")" = 1 ]; }
eventually 5 waits
ok $? "activity: a session that waits for its commit"
is "$(sql -c 'SELECT queued FROM s3am.node()')" 1 "which is queued"
sql -c "SET s3am.freshness = latest; SELECT count(*) FROM u" > /dev/null &
waits() { [ "$(sql -c "SELECT count(*) FROM s3am.activity WHERE waits_for = 'the newest version'")" = 1 ]; }
eventually 5 waits
ok $? "and one that waits for the newest version"
kill -CONT "$committer"
wait
trap tap_end EXIT

sql -c 'CREATE ROLE viewer IN ROLE pg_monitor' -c 'CREATE ROLE nobody'
is "$(sql -c 'SET ROLE viewer' -c 'SELECT count(*) > 0 FROM s3am.manifests' -c 'SELECT count(*) > 0 FROM s3am.activity' \
	-c 'SELECT count(*) FROM s3am.store_stats()' -c 'SELECT count(*) > 0 FROM s3am.tables')" $'t\nt\n2\nt' "pg_monitor may look"
fails_like 42501 'permission denied' 'SET ROLE nobody; SELECT * FROM s3am.manifests' "others may not"
fails_like 42501 'permission denied' 'SET ROLE nobody; SELECT * FROM s3am.node()' "nor call functions"

# ---------------------------------------------------------------- requests, and what they cost

is "$(sql -c "SELECT requests > 5, errors, bytes > 1000, p50_ms > 0, p99_ms >= p50_ms, mean_ms > 0, (SELECT sum(n) FROM unnest(latencies) n) = requests
	FROM s3am.store_requests WHERE process = 'committer' AND request = 'PUT'")" 't|0|t|t|t|t|t' "store_requests: the committer's PUTs"
is "$(sql -c "SELECT requests > 0, bytes >= (SELECT sum(bytes) FROM s3am.segments) FROM s3am.store_requests WHERE process = 'sessions' AND request = 'PUT'")" 't|t' "a session's upload"
is "$(sql -c "SET s3am.price_put = 1000" -c "SELECT cost = requests FROM s3am.store_requests WHERE process = 'committer' AND request = 'PUT'")" t \
	"at a price of one's own"
is "$(sql -c "SELECT quantity > 0, cost > 0, per_month > cost FROM s3am.cost WHERE item = 'requests: PUT'" \
	-c "SELECT quantity > 0, cost IS NULL, per_month > 0 FROM s3am.cost WHERE item ~ 'storage'")" $'t|t|t\nt|t|t' "the cost of requests and of storage"
sql -c 'SELECT s3am.store_reset()' > /dev/null
is "$(sql -c "SELECT requests, bytes, p99_ms, now() - since < interval '1 minute' FROM s3am.store_requests WHERE process = 'sessions' AND request = 'PUT'")" \
	'0|0||t' "reset"
fails_like 42501 'permission denied' 'SET ROLE viewer; SELECT s3am.store_reset()' "which is the superuser's"
is "$(sql -c 'SET ROLE viewer' -c 'SELECT count(*) FROM s3am.cost' -c 'SELECT count(*) FROM s3am.store_requests')" $'5\n16' "pg_monitor may look"
is "$(sql -c "SELECT dead > 0, dead_share = round(dead::numeric / rows, 4) FROM s3am.tables WHERE \"table\" = 't'::regclass")" 't|t' "the dead share of a table"

# ---------------------------------------------------------------- secrets

secret=BWQ2tYkX0pNotToBeSeen
cluster_conf "$dir" "s3am.access_key = 'AK$secret'" "s3am.secret_key = 'SK$secret'" "s3am.session_token = 'ST$secret'"
cluster_restart "$dir"
sql -c 'SELECT count(*) FROM t' > /dev/null
seen() { ! grep -q "$secret" <<< "$1"; }
sql -c 'SET ROLE viewer' -c 'SELECT * FROM pg_settings' -c 'SHOW ALL' > "$work/shown" 2>&1
seen "$(cat "$work/shown")"
ok $? "a monitoring role does not see secrets in pg_settings or SHOW ALL"
seen "$(sql -c 'SELECT * FROM pg_settings' -c 'SHOW ALL' -c 'SELECT * FROM pg_stat_activity' -c 'SELECT * FROM s3am.activity' -c 'SELECT * FROM s3am.node()')"
ok $? "nor does a superuser in the same, or in a view"
fails_like 42501 'must be superuser' 'SET ROLE nobody; SHOW s3am.secret_key' "SHOW of the setting itself is refused"
for role in viewer postgres; do
	is "$(sql -c "SET ROLE $role" -c 'SHOW s3am.secret_key' -c "SELECT current_setting('s3am.access_key'), current_setting('s3am.session_token')")" \
		$'********\n********|********' "and says nothing to $role"
done
fails_like 42501 '' 'SET ROLE viewer; SELECT * FROM pg_file_settings' "and so is pg_file_settings"
sql -v ON_ERROR_STOP=0 -c "ALTER SYSTEM SET s3am.secret_key = 'x'" -c "SET s3am.secret_key = 'x'" > /dev/null 2>&1
[ $? -ne 0 ]
ok $? "secrets are set in the configuration file alone"
! grep -q "$secret" "$dir/log"
ok $? "the log has none"
! tr '\0' '\n' < "/proc/$(cluster_postmaster "$dir")/cmdline" | grep -q "$secret"
ok $? "nor has a command line"
done_testing
