#!/bin/bash
# A store that is slower than the writers: they wait, in bounded memory, where one can see it and cancel it, and lose nothing by it.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/s3.sh"

s3_start rgw || { echo "Bail out! no S3 server"; exit 1; }
repository=$S3AM_REPOSITORY
s3_proxy || exit 1
node one "jit = off" "max_parallel_workers_per_gather = 0"
sql -c 'CREATE EXTENSION s3am' -c 'CREATE TABLE t (i int, b bytea) USING s3am' || exit 1
# 16 kB a row that no compression makes smaller
cat > "$work/noise.sql" <<'SQL'
CREATE FUNCTION noise(seed int) RETURNS bytea LANGUAGE sql AS
	$$ SELECT string_agg(sha512((seed || ' ' || j)::bytea), '') FROM generate_series(1, 256) j $$;
SQL
sql -f "$work/noise.sql" > /dev/null
memory="SELECT ((regexp_match(s, 'VmHWM:\s+(\d+)'))[1]::int - (regexp_match(s, 'RssShmem:\s+(\d+)'))[1]::int) / 1024
	FROM pg_read_file('/proc/self/status') s"
segments() { s3tool "$repository" list segments/ | wc -l; }
# waits PID: what the session waits for
waits() { sql -c "SELECT waits_for FROM s3am.activity WHERE pid = $1"; }
waits_for_uploads() { [ "$(waits "$1")" = uploads ]; }

# ---- segments that are on their way, and the one that is being made
s3_delay 2000
SECONDS=0
said=$(sql -c "SET s3am.transaction_memory = '34MB'" -c 'BEGIN' -c 'INSERT INTO t SELECT i, noise(i) FROM generate_series(1, 5120) i' \
	-c "$memory" -c COMMIT -c 'SELECT count(*), count(DISTINCT i) FROM t')
diag "$(head -n 1 <<< "$said") MB, $SECONDS s"
[ "$(head -n 1 <<< "$said")" -le $((34 + 64)) ]
ok $? "80 MB that the store takes slowly, in s3am.transaction_memory and 64 MB"
is "$(sed -n 2p <<< "$said")" "5120|5120" "all of it is there"
before=$(segments)

# ---- seen and cancelled
s3_delay 20000
sql -v ON_ERROR_STOP=0 -v VERBOSITY=sqlstate -c "SET s3am.transaction_memory = '1MB'" -c "SET s3am.segment_size = '1MB'" \
	-c "SET application_name = 'writer'" -c 'INSERT INTO t SELECT i, noise(i) FROM generate_series(1, 5120) i' \
	-c 'SELECT count(*) FROM pg_class WHERE false' > "$work/said" 2>&1 &
client=$!
eventually 10 test -n "$(sql -c "SELECT pid FROM pg_stat_activity WHERE application_name = 'writer'")"
pid=$(sql -c "SELECT pid FROM pg_stat_activity WHERE application_name = 'writer'")
eventually 20 waits_for_uploads "$pid"
ok $? "s3am.activity says that it waits for uploads" || diag "$(waits "$pid")"
is "$(sql -c "SELECT wait_event_type FROM pg_stat_activity WHERE pid = $pid")" Extension "and it does not burn the processor meanwhile"
SECONDS=0
sql -c "SELECT pg_cancel_backend($pid)" > /dev/null
wait "$client"
[ "$SECONDS" -le 5 ]
ok $? "cancelled at once" || diag "$SECONDS s"
is "$(cat "$work/said")" "ERROR:  57014
0" "and the session goes on"

# ---- the uploads of a COMMIT: its rows were in memory until then
SECONDS=0
is "$(sql -v ON_ERROR_STOP=0 -v VERBOSITY=verbose -c "SET statement_timeout = '3s'" -c 'INSERT INTO t SELECT i, noise(i) FROM generate_series(1, 64) i' \
	-c 'SELECT pg_sleep(0.5)' -c "SELECT 'goes on'" 2>&1 | grep -v LOCATION)" "ERROR:  57014: canceling statement due to statement timeout

goes on" "statement_timeout ends them, and the session goes on"
[ "$SECONDS" -le 10 ]
ok $? "at once" || diag "$SECONDS s"
said=$(sql -v ON_ERROR_STOP=0 -c "SET statement_timeout = '3s'" -c BEGIN -c 'INSERT INTO t SELECT i, noise(i) FROM generate_series(1, 64) i' -c COMMIT 2>&1)
like "$said" "ERROR:  canceling statement due to statement timeout" "that of a COMMIT of its own, too"
sql -v ON_ERROR_STOP=0 -v VERBOSITY=sqlstate -c "SET application_name = 'writer'" -c 'INSERT INTO t SELECT i, noise(i) FROM generate_series(1, 64) i' > "$work/said" 2>&1 &
client=$!
committing() { [ "$(sql -c "SELECT waits_for FROM s3am.activity JOIN pg_stat_activity USING (pid) WHERE application_name = 'writer'")" = uploads ]; }
eventually 10 committing
ok $? "a COMMIT waits for uploads, and says so"
SECONDS=0
sql -c "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'writer'" > /dev/null
wait "$client"
[ "$SECONDS" -le 5 ]
ok $? "it is cancelled at once" || diag "$SECONDS s"
is "$(cat "$work/said")" "ERROR:  57014" "as one asked for"

# ---- and then all is well again
s3_delay 0
is "$(sql -c "INSERT INTO t VALUES (0, '')" -c 'SELECT count(*), count(DISTINCT i) FROM t')" "5121|5121" "the next one is not touched by it"
none_left() { [ "$(segments)" = "$before" ]; }
sql -c 'SELECT count(*) FROM t' > /dev/null
eventually 30 none_left
ok $? "no segment is left of what was cancelled" || diag "$before before, $(segments) now"
done_testing
