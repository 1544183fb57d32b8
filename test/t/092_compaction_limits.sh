#!/bin/bash
# Writers wait for compaction rather than fill the memory, and never when that would not help; a table that cannot be compacted is named
# and holds up no other; autovacuum has dead rows dropped.
. "$(dirname "$0")/../lib/tap.sh"

node one "s3am.unmerged_memory = 64kB" "s3am.compaction_batches = 10000" "s3am.compaction_pause = 60s" "s3am.inline_limit = 64kB" \
	"s3am.segment_size = 64" "s3am.commit_timeout = 20s" "autovacuum = off"
sql -c 'CREATE EXTENSION s3am' -c 'SET default_table_access_method = s3am' -c 'CREATE TABLE t (i int, a text)' -c 'CREATE TABLE u (i int)' || exit 1
unmerged() { sql -c 'SELECT unmerged_bytes FROM s3am.compaction'; }
set_to() { # SETTING VALUE
	sql -c "ALTER SYSTEM SET s3am.$1 = '$2'" -c 'SELECT pg_reload_conf()' > /dev/null
	eventually 5 test "$(sql -c "SHOW s3am.$1")" = "$2"
}
eventually 20 worker compactor > /dev/null

for i in {1..300}; do echo "INSERT INTO t SELECT $i, md5((g + $i * 100)::text) FROM generate_series(1, 60) g;"; done > "$work/inserts"
sql < "$work/inserts"
ok $? "600 kB are written while 64 kB may wait"
ok $(($(unmerged) > 400000)) "compaction kept up with them ($(unmerged) bytes)"
is "$(sql -c 'SELECT count(*), count(DISTINCT i) FROM t')" "18000|300" "all are there"

# nothing can be merged any more: writers go on
for i in {1..40}; do echo "CREATE TABLE x$i (a text) USING s3am; INSERT INTO x$i SELECT string_agg(md5(g::text), '') FROM generate_series(1, 120) g;"; done > "$work/tables"
cluster_use "$dir"
timeout 60 "$cluster_bin/psql" -XqAt -v ON_ERROR_STOP=1 -d test < "$work/tables"
ok $? "forty tables of one batch each fill the memory, and nobody waits for ever"
is "$(sql -c 'SELECT count(*) FROM x40')" 1 "the last one is there"

# while the compactor stands still a writer waits, and can be cancelled
kill -STOP "$(worker compactor)"
sql -c 'INSERT INTO u VALUES (-2)' > "$work/writer" 2>&1 &
writer=$!
waiting() { [ "$(sql -c "SELECT count(*) FROM s3am.activity WHERE waits_for = 'compaction'")" = 1 ]; }
eventually 10 waiting
ok $? "s3am.activity says what a writer waits for"
sql -c "SELECT pg_cancel_backend(pid) FROM s3am.activity WHERE waits_for = 'compaction'" > /dev/null
wait "$writer"
like "$(cat "$work/writer")" "canceling statement due to user request" "and it can be cancelled"
sql -c "SET s3am.commit_timeout = '2s'" -c 'INSERT INTO u VALUES (-3)'
ok $? "who waited for s3am.commit_timeout goes on and does not fail"
kill -CONT "$(worker compactor)"
set_to unmerged_memory 1GB
sql -c 'INSERT INTO u VALUES (-1)'
ok $? "and others write"

# ---- a segment that is missing
set_to compaction_batches 8
sql -c 'VACUUM t' -c 'VACUUM u' > /dev/null 2>&1
sql -c 'SET s3am.inline_limit = 0' -c 'CREATE TABLE broken (i int, a text) USING s3am' -c "INSERT INTO broken SELECT g, md5(g::text) FROM generate_series(1, 300) g" \
	-c "INSERT INTO broken SELECT g, md5(g::text) FROM generate_series(1, 300) g"
object=$(sql -c "SELECT object FROM s3am.segments WHERE \"table\" = 'broken'::regclass LIMIT 1")
mv "$work/repository/$object" "$work/kept"
like "$(sql -c 'VACUUM broken' 2>&1)" "WARNING:  dead rows of table \"broken\" could not be dropped.*$object" "VACUUM names an object that is missing"
is "$(sql -c 'SELECT failed_table, failures > 0 FROM s3am.compaction')" "broken|t" "and so does the view"
sql -c 'DELETE FROM t WHERE i % 2 = 0' -c 'SELECT pg_stat_force_next_flush()' -c 'VACUUM t' > /dev/null
is "$(sql -c "SELECT pg_stat_get_dead_tuples('t'::regclass)")" 0 "other tables are compacted"
mv "$work/kept" "$work/repository/$object"
is "$(sql -c 'VACUUM broken' 2>&1)" "" "once it is back all goes on"
is "$(sql -c 'SELECT count(*) FROM broken')" 600 "with every row"

# ---- a job that lasts longer than committers keep what was committed since it began
sql -c 'SET s3am.inline_limit = 0' -c 'CREATE TABLE long (i int, a text) USING s3am' -c "INSERT INTO long SELECT g, md5(g::text) FROM generate_series(1, 500) g" \
	-c "INSERT INTO long SELECT g, md5(g::text) FROM generate_series(501, 1000) g"
set_to compaction_rate 4kB
pieces() { sql -c "SELECT segments FROM s3am.tables WHERE \"table\" = 'long'::regclass"; }
is "$(pieces)" 2 "two segments, to become one batch in a manifest"
lost=$(sql -c 'SELECT lost_races FROM s3am.compaction')
sql -c 'VACUUM long' > "$work/vacuum" 2>&1 &
vacuum=$!
reading() { [ "$(sql -c "SELECT phase FROM s3am.compaction WHERE \"table\" = 'long'::regclass")" = reading ]; }
eventually 10 reading
kill -STOP "$(worker compactor)"
first=$(version)
sql -c 'DELETE FROM long WHERE i % 100 = 0'
for i in {1..4110}; do echo "INSERT INTO u VALUES ($i);"; done | sql
ok $(($(version) - first < 4110)) "thousands of versions while a table is compacted"
set_to compaction_rate 32MB
kill -CONT "$(worker compactor)"
wait "$vacuum"
is "$(cat "$work/vacuum")" "" "VACUUM ends well"
is "$(pieces) $(sql -c 'SELECT lost_races FROM s3am.compaction')" "0 $lost" "and what was compacted is taken, though it began long ago"
is "$(sql -c 'SELECT count(*), count(DISTINCT a) FROM long')" "990|990" "without what was deleted meanwhile"

# ---- a table that is dropped while it is compacted
sql -c 'SET s3am.inline_limit = 0' -c 'CREATE TABLE brief (i int, a text) USING s3am' -c "INSERT INTO brief SELECT g, md5(g::text) FROM generate_series(1, 500) g" \
	-c "INSERT INTO brief SELECT g, md5(g::text) FROM generate_series(501, 1000) g" -c "INSERT INTO brief SELECT g, md5(g::text) FROM generate_series(1001, 1500) g"
set_to compaction_rate 4kB
failures=$(sql -c 'SELECT failures FROM s3am.compaction') lost=$(sql -c 'SELECT lost_races FROM s3am.compaction')
(cluster_use "$dir" && PGAPPNAME=vacuum exec "$cluster_bin/psql" -Xq -d test -c 'VACUUM brief') > "$work/vacuum" 2>&1 &
vacuum=$!
reading() { [ "$(sql -c "SELECT phase FROM s3am.compaction WHERE \"table\" = 'brief'::regclass")" = reading ]; }
eventually 10 reading
sql -c "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = 'vacuum'" > /dev/null
wait "$vacuum"
sql -c 'DROP TABLE brief'
given_up() { [ "$(sql -c 'SELECT lost_races FROM s3am.compaction')" -gt "$lost" ]; }
eventually 20 given_up
ok $? "a job whose table is dropped is given up"
is "$(sql -c 'SELECT failures FROM s3am.compaction')" "$failures" "which is no failure"
set_to compaction_rate 32MB

# ---- autovacuum
sql -c 'CREATE TABLE a (i int) USING s3am WITH (autovacuum_vacuum_threshold = 10, autovacuum_vacuum_scale_factor = 0)' \
	-c 'INSERT INTO a SELECT generate_series(1, 1000)' -c 'DELETE FROM a WHERE i % 2 = 0'
cluster_conf "$dir" "autovacuum = on" "autovacuum_naptime = 1s"
cluster_restart "$dir"
sql -c 'DELETE FROM a WHERE i % 3 = 0' -c 'SELECT pg_stat_force_next_flush()' > /dev/null
vacuumed() { [ "$(sql -c "SELECT pg_stat_get_autovacuum_count('a'::regclass) > 0 AND pg_stat_get_dead_tuples('a'::regclass) = 0")" = t ]; }
eventually 30 vacuumed
ok $? "autovacuum drops dead rows"
is "$(sql -c 'SELECT count(*) FROM a')" 333 "and no other"

done_testing
