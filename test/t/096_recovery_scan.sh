#!/bin/bash
# s3am.recovery_scan(): what a killed load left is found and removed by another server, once its epoch has ended, and nothing else ever.
. "$(dirname "$0")/../lib/tap.sh"

[[ $repository == file://* ]] || { echo "1..0 # SKIP it looks at files of a directory"; tap_done=1; exit 0; }
root=${repository#file://}
segments() { find "$root/segments" -type f | wc -l; }
# scan DRY_RUN: segments, removed ones
scan() { sql -F ' ' -c "SELECT count(*), count(*) FILTER (WHERE removed) FROM s3am.recovery_scan($1) WHERE object ~ '^segments/'" 2>&1; }
small=("s3am.node_timeout = '3s'" "s3am.transaction_memory = '1MB'" "s3am.segment_size = '256kB'" "s3am.inline_limit = 0")

node one "${small[@]}"
sql -c 'CREATE EXTENSION s3am' -c 'CREATE TABLE t (i int, x text) USING s3am' -c "INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 20000) i" || exit 1
kept=$(segments)
ok "$((kept > 0 ? 0 : 1))" "there are segments"
is "$(scan true)" "0 0" "nothing to be found"

# a load that goes on, whose segments nothing names yet
(sql -c "BEGIN" -c "INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 100000) i" -c 'SELECT pg_sleep(600)' > /dev/null 2>&1) &
loader=$!
loaded() { [ "$(segments)" -gt "$((kept + 5))" ] && [ "$(sql -c "SELECT count(*) FROM pg_stat_activity WHERE query ~ 'pg_sleep' AND state = 'active' AND pid <> pg_backend_pid()")" = 1 ]; }
eventually 30 loaded
ok $? "a load has uploaded segments"
is "$(scan false)" "0 0" "those of a living epoch are not touched: on its own server"
before=$(segments)
node two "${small[@]}"
sql -c 'CREATE EXTENSION s3am'
is "$(sql -c 'SELECT count(*) FROM t')" 20000 "another server"
is "$(scan false)" "0 0" "nor on another one"
is "$(segments)" "$before" "all of them are there"

# an old temporary file, one in use, and a young one
as_server mkdir -p "$root/.tmp"
for f in old used young; do as_server touch "$root/.tmp/$f"; done
as_server touch -d '2 hours ago' "$root/.tmp/old" "$root/.tmp/used"
exec 5< "$root/.tmp/used"
flock -x 5
is "$(sql -c "SELECT object, removed FROM s3am.recovery_scan() WHERE object ~ 'tmp'")" '.tmp/old|f' "an old temporary file that nobody writes is found"

cluster_kill "$work/one"
wait "$loader" 2> /dev/null
found() { read -r n _ <<< "$(scan true)"; [ "$n" = "$((before - kept))" ]; }
eventually 30 found
ok $? "the server dies, its epoch is ended, and all it left is found" || diag "$(scan true), $before, $kept"
is "$(segments)" "$before" "a dry run removes nothing"
like "$(sql -c "SELECT reason FROM s3am.recovery_scan() WHERE object ~ '^segments/' LIMIT 1")" '^nothing refers to it, and epoch [0-9]+ has ended$' "it says why"
is "$(sql -c "SELECT sum(objects), sum(bytes) > 0 FROM s3am.verify() WHERE what ~ 'segments that nothing'")" "$((before - kept))|t" "verify counts them, and takes no offence"
is "$(sql -c 'SELECT count(*) FROM s3am.verify() WHERE problem IS NOT NULL')" 0 "nothing is wrong"
is "$(scan false)" "$((before - kept)) $((before - kept))" "it removes them"
is "$(segments)" "$kept" "and nothing else"
is "$(scan false)" "0 0" "a second time there is nothing"
is "$(sql -c 'SELECT count(*), count(DISTINCT x) FROM t')" "20000|20000" "all rows are there"
is "$(ls "$root/.tmp" | tr '\n' ' ')" "used young " "of the temporary files the old one has gone"
fails_like 42501 'permission denied' 'CREATE ROLE plain; SET ROLE plain; SELECT * FROM s3am.recovery_scan()' "it is the superuser's"
cluster_start "$work/one"
on one
is "$(sql -c 'SELECT count(*) FROM t')" 20000 "the killed server comes back and has them, too"
is "$(sql -c "INSERT INTO t SELECT i, 'x' FROM generate_series(1, 5000) i" -c 'SELECT count(*) FROM t')" 25000 "and writes"
is "$(scan false)" "0 0" "which leaves nothing behind"
done_testing
