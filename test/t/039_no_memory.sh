#!/bin/bash
# Memory runs out in a session, at every single allocation of s3am's: an error that says so, no crash, nothing lost.
. "$(dirname "$0")/../lib/tap.sh"

lib=$(cd "$(dirname "$0")/../lib" && pwd)
if ! /usr/bin/python3 -c 'import psycopg2' 2> /dev/null; then
	tap_done=1
	echo "Bail out! psycopg2 is missing"
	exit 1
fi
gcc -O1 -Wall -Werror -shared -fPIC -o "$work/no_memory.so" "$lib/no_memory.c" || exit 1
head -c 12 /dev/zero > "$work/control"
chmod 666 "$work/control"
export S3AM_SERVER_PRELOAD=$work/no_memory.so S3AM_SERVER_OPTIONS="NO_MEMORY=$work/control"
# no cache: every scan reads from the store
node server "s3am.cache_size = 0" "s3am.compaction = off"
sql -c 'CREATE EXTENSION s3am' -c 'CREATE TABLE t (i int, x text) USING s3am' -c 'CREATE TABLE cold (i int, x text) USING s3am' \
	-c "SET s3am.inline_limit = 0; INSERT INTO cold SELECT i, md5(i::text) FROM generate_series(1, 20000) i" || exit 1
/usr/bin/python3 "$lib/no_memory.py" "$dir" "$work/control" > "$work/said"
status=$?
tap_run=$((tap_run + $(grep -c '^ok\|^not ok' "$work/said")))
tap_failed=$((tap_failed + $(grep -c '^not ok' "$work/said")))
cat "$work/said"
ok "$status" "all of it"
is "$(grep -c 'terminating any other active server processes\|PANIC' "$dir/log")" 0 "no process died"
is "$(sql -c 'SELECT object, problem FROM s3am.verify() WHERE problem IS NOT NULL')" "" "and nothing is damaged"
done_testing
