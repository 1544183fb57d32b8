#!/bin/bash
# From run.sh: eight sessions at once.  Updates under update locks must not be lost, and nothing may stay behind.
set -eu
psql=(psql -X -q -A -t -d stress)
seconds=${SECONDS_EACH:-5}
cat > "$PGHOST/increment.sql" <<'SQL'
\set row random(1, 8)
SELECT rl_increment('t', 1, :row);
SQL
# savepoints: an increment that is undone must not have been done, so it only locks
cat > "$PGHOST/mixed.sql" <<'SQL'
\set a random(1, 3000)
\set b random(3001, 6000)
\set row random(1, 8)
BEGIN;
SELECT rl_lock('t', 1, 100 + :a, 'key share', 'wait', :a);
SAVEPOINT x;
SELECT rl_lock('t', 1, 100 + :a, 'no key update', 'skip');
SELECT rl_lock('t', 1, 100 + :b, 'share', 'skip');
ROLLBACK TO x;
SAVEPOINT y;
SELECT rl_lock('t', 1, 100 + :b, 'key share', 'skip', :b);
RELEASE y;
SELECT rl_increment('t', 1, :row);
COMMIT;
SQL
# the publisher follows the key share locks of the others while they end, with successors that are locked, too
cat > "$PGHOST/publish.sql" <<'SQL'
\set a random(1, 6000)
\set c random(1, 6000)
SELECT rl_publish(1, 100 + :a, 'no key update', 3000, 100 + :c);
SQL

fail=0
expect() { if [ "$2" = "$3" ]; then echo "    $1: $2"; else echo "    $1: $2, expected $3"; fail=1; fi; }
transactions() { sed -n 's/number of transactions actually processed: \([0-9]*\).*/\1/p' "$1"; }

before=$("${psql[@]}" -c 'SELECT rl_counters()')
pgbench -n -c 8 -j 2 -T "$seconds" -f "$PGHOST/increment.sql" stress > "$PGHOST/increment.log" 2>&1 || fail=1
n=$(transactions "$PGHOST/increment.log")
expect "increments by eight sessions" $(($("${psql[@]}" -c 'SELECT rl_counters()') - before)) "$n"

before=$("${psql[@]}" -c 'SELECT rl_counters()')
pgbench -n -c 2 -j 1 -T "$seconds" -f "$PGHOST/publish.sql" stress > "$PGHOST/publish.log" 2>&1 &
publisher=$!
pgbench -n -c 8 -j 2 -T "$seconds" -f "$PGHOST/mixed.sql" stress > "$PGHOST/mixed.log" 2>&1 || fail=1
wait $publisher || fail=1
n=$(transactions "$PGHOST/mixed.log")
expect "increments with savepoints and a publisher" $(($("${psql[@]}" -c 'SELECT rl_counters()') - before)) "$n"
echo "    versions published meanwhile: $(transactions "$PGHOST/publish.log")"
# following while subtransactions end
echo "SELECT rl_pass(7, 20)" > "$PGHOST/pass.sql"
echo "INSERT INTO checked SELECT check_followed(20)" > "$PGHOST/follow.sql"
"${psql[@]}" -c 'CREATE UNLOGGED TABLE checked (n int8)'
pgbench -n -c 1 -j 1 -T "$seconds" -f "$PGHOST/pass.sql" stress > "$PGHOST/pass.log" 2>&1 &
publisher=$!
pgbench -n -c 4 -j 1 -T "$seconds" -f "$PGHOST/follow.sql" stress > "$PGHOST/follow.log" 2>&1 || fail=1
wait $publisher || fail=1
n=$("${psql[@]}" -c 'SELECT coalesce(sum(n), 0) FROM checked')
echo "    successors checked: $n in $("${psql[@]}" -c 'SELECT count(*), rl_done() FROM checked')"
[ "$n" -gt 1000 ] || fail=1

# a holder that is ended from outside, and one that dies
psql -X -q -d stress -c "BEGIN" -c "SELECT rl_lock('t', 1, 1, 'update')" -c "SELECT rl_bulk('t', 1, 5, 100000, 1, 'share')" \
	-c "SELECT pg_sleep(60)" > /dev/null 2>&1 &
"${psql[@]}" -c "DO \$\$ BEGIN WHILE (SELECT count(*) FROM rl_dump()) < 25 LOOP PERFORM pg_sleep(0.01); END LOOP; END \$\$"
"${psql[@]}" -c "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()" > /dev/null
expect "lock after the holder was terminated" "$("${psql[@]}" -c "SELECT replace(rl_lock('t', 1, 1, 'update'), 'waited', 'granted')")" granted
wait $! 2> /dev/null || true
expect "entries left" "$("${psql[@]}" -c 'SELECT count(*), rl_chunks() FROM rl_dump()')" "0|0" "$("${psql[@]}" -c 'SELECT count(*), rl_chunks() FROM rl_dump()')" "0|0"
grep -hE 'ERROR|FATAL|PANIC' "$PGHOST"/{increment,mixed,publish,pass,follow}.log && fail=1

psql -X -q -d stress -c "BEGIN" -c "SELECT rl_lock('t', 1, 1, 'update')" -c "SELECT pg_sleep(60)" > /dev/null 2>&1 &
holder=$!
pid=$("${psql[@]}" -c "DO \$\$ BEGIN WHILE (SELECT count(*) FROM rl_dump()) < 1 LOOP PERFORM pg_sleep(0.01); END LOOP; END \$\$" \
	-c "SELECT pid FROM pg_stat_activity WHERE datname = 'stress' AND pid <> pg_backend_pid() AND backend_type = 'client backend'")
# stopped: it holds its row, and nothing else
kill -STOP "$pid"
expect "other rows while the holder is stopped" "$("${psql[@]}" -c "SELECT rl_lock('t', 1, 1, 'share', 'skip'), rl_lock('t', 1, 2, 'update')")" "skipped|granted"
kill -KILL "$pid"
wait $holder 2> /dev/null || true
sleep 0.5
for i in 1 2 3 4 5 6 7 8 9 10; do "${psql[@]}" -c 'SELECT 1' > /dev/null 2>&1 && break || sleep 0.5; done
expect "locks after a crash" "$("${psql[@]}" -c "SELECT rl_chunks(), rl_lock('t', 1, 1, 'update')")" "0|granted"
[ $fail = 0 ] && echo "stress ok" || echo "stress FAILED"
exit $fail
