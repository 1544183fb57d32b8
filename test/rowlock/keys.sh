#!/bin/bash
# From run.sh: keys of indexes, few and many, exactly known and not.
set -eu
psql=(psql -X -q -A -t -d keys)
seconds=${SECONDS_EACH:-5}
fail=0
expect() { if [ "$2" = "$3" ]; then echo "    $1: $2"; else echo "    $1: $2, expected $3"; fail=1; fi; }
within() { if [ "$2" -ge "$3" ] && [ "$2" -le "$4" ]; then echo "    $1: $2"; else echo "    $1: $2, expected $3 to $4"; fail=1; fi; }
# a: a session that stays; a STATEMENT ...: its answer to the last of them
mkfifo "$PGHOST/a.in" "$PGHOST/a.out"
"${psql[@]}" < "$PGHOST/a.in" > "$PGHOST/a.out" 2>&1 &
exec 7> "$PGHOST/a.in" 8< "$PGHOST/a.out"
a() {
	local line=
	printf '%s;\n' "$@" "\echo done" >&7
	answer=
	while read -r line <&8 && [ "$line" != "done;" ] && [ "$line" != "done" ]; do answer=$line; done
}
b() { "${psql[@]}" -c "$1"; }
left() { expect "left behind" "$(b 'SELECT kl_bytes(), kl_sets(), rl_chunks()')" "0|0|0"; }

# many, all known
a BEGIN "SELECT kl_bulk('t', 1, 0, 1000)"
expect "few are in the table" "$(b 'SELECT kl_sets(), rl_chunks()')" "0|1000"
a "SELECT kl_bulk('t', 1, 1000, 199000)"
expect "keys locked" "$answer" 199000
expect "none is in the table" "$(b 'SELECT rl_chunks()')" 0
within "bytes a key" "$(b 'SELECT kl_bytes() / 200000')" 8 15
within "bytes a key in the session" "$(a "SELECT (sum(total_bytes) / 200000)::int FROM pg_backend_memory_contexts WHERE name = 's3am row locks'"; echo "$answer")" 0 2
expect "another session gets none of them" "$(b "SELECT kl_bulk('t', 1, 0, 200000)")" 0
expect "but others, those of another index too" "$(b "SELECT kl_bulk('t', 1, 200000, 100000), kl_bulk('t', 2, 0, 100000)")" "100000|100000"
a "SELECT kl_bulk('t', 1, 0, 200000)"
expect "again" "$answer" 200000
expect "held" "$(a "SELECT kl_held(1, 0, 400000)"; echo "$answer")" 200000
a COMMIT
left

# every bit counts
a BEGIN "SELECT kl_hash('t', 1, 4711)"
expect "keys whose hashes differ in one bit" "$(b "SELECT count(*), count(*) FILTER (WHERE kl_hash('t', 1, 4711 # (1::int8 << i))) FROM generate_series(0, 63) i")" "64|64"
expect "and the same one" "$(b "SELECT kl_hash('t', 1, 4711)")" f
a COMMIT
left

# savepoints
a BEGIN "SELECT kl_bulk('t', 1, 0, 3000)" "SAVEPOINT s" "SELECT kl_bulk('t', 1, 3000, 3000)" "SAVEPOINT s2" "SELECT kl_bulk('t', 1, 6000, 3000)" "ROLLBACK TO s2"
expect "rolled back" "$(b "SELECT kl_bulk('t', 1, 0, 3000), kl_bulk('t', 1, 3000, 3000), kl_bulk('t', 1, 6000, 3000)")" "0|0|3000"
a "SELECT kl_bulk('t', 1, 6000, 500)" "RELEASE s2" "RELEASE s"
expect "released" "$(b "SELECT kl_bulk('t', 1, 0, 3000), kl_bulk('t', 1, 3000, 3000), kl_bulk('t', 1, 6000, 3000)")" "0|0|2500"
a "SELECT kl_held(1, 0, 20000)"
expect "held" "$answer" 6500
a ROLLBACK
left
b "CREATE FUNCTION blocks(n int) RETURNS void LANGUAGE plpgsql AS \$\$
BEGIN
	FOR i IN 1..n LOOP
		BEGIN
			PERFORM kl_lock('t', 1, i);
			IF i % 10 = 0 THEN RAISE EXCEPTION 'no'; END IF;
		EXCEPTION WHEN raise_exception THEN NULL;
		END;
	END LOOP;
END \$\$"
a BEGIN "SELECT blocks(100000)" "SELECT kl_held(1, 1, 100000)"
expect "a hundred thousand blocks, one in ten rolled back" "$answer" 90000
within "bytes a key" "$(b 'SELECT (kl_bytes() + 110 * rl_chunks()) / 90000')" 8 20
within "kB in the session" "$(a "SELECT (sum(total_bytes) / 1024)::int FROM pg_backend_memory_contexts WHERE name = 's3am row locks'"; echo "$answer")" 1 200
expect "another session gets the others" "$(b "SELECT kl_bulk('t', 1, 1, 100000)")" 10000
a COMMIT
left

# more than there is memory for
a "SELECT kl_memory(1024)" BEGIN "SELECT kl_bulk('t', 1, 0, 1000000)"
expect "keys locked" "$answer" 1000000
within "kB of them" "$(b 'SELECT kl_bytes() / 1024')" 64 1100
expect "another session gets none" "$(b "SELECT kl_bulk('t', 1, 0, 20000), kl_bulk('t', 1, 990000, 20000) < 10000")" "0|t"
within "of a thousand others it gets" "$(b "SELECT kl_bulk('t', 1, 1000000, 1000)")" 300 999
expect "of another index all" "$(b "SELECT kl_bulk('t', 2, 0, 20000)")" 20000
within "one that has as many, of its last ten thousand" "$(b "SELECT kl_memory(1024); BEGIN; SELECT kl_bulk('t', 1, 2000000, 500000) IS NULL; SELECT kl_bulk('t', 1, 2500000, 10000)" | tail -n 1)" 10000 10000
a "SELECT kl_held(1, 0, 1000000)"
expect "held" "$answer" 1000000
a ROLLBACK
left
# savepoints: a filter becomes its parent's, takes in a table, and another filter
a BEGIN "SELECT kl_bulk('t', 1, 0, 2000)" "SAVEPOINT s" "SELECT kl_bulk('t', 1, 2000, 300000)" "RELEASE s" "SAVEPOINT s" "SELECT kl_bulk('t', 1, 302000, 2000)" \
	"RELEASE s" "SAVEPOINT s" "SELECT kl_bulk('t', 1, 304000, 300000)" "RELEASE s" "SELECT kl_held(1, 0, 604000)"
expect "all of them" "$answer" 604000
expect "another session gets none" "$(b "SELECT kl_bulk('t', 1, 0, 604000)")" 0
a "SAVEPOINT s" "SELECT kl_bulk('t', 1, 1000000, 300000)" "ROLLBACK TO s" "SELECT kl_bulk('t', 1, 0, 2000)" COMMIT
left

# no room in shared memory, whatever the setting says
a "SELECT kl_memory(1048576)" "SELECT rl_limit(6 * 1048576)" BEGIN "SELECT kl_bulk('t', 1, 0, 1000000)"
expect "keys locked without shared memory for all" "$answer" 1000000
a ROLLBACK "SELECT rl_limit(0)" "SELECT kl_memory(131072)"
left
exec 7>&-
wait $!

# nobody gets a key that another one has: few against many, many against many
cat > "$PGHOST/few.sql" <<'SQL'
\set key random(1, 8)
SELECT kl_increment('t', 1, :key);
SQL
cat > "$PGHOST/many.sql" <<'SQL'
\set a random(1, 1000)
\set b random(0, 1)
\set key random(1, 8)
BEGIN;
SELECT kl_bulk('t', 1, 1000 * :a, 1200);
SAVEPOINT x;
SELECT kl_bulk('t', 1, 5000000 + 1000 * :a, 300 + 1000 * :b);
RELEASE x;
SAVEPOINT y;
SELECT kl_lock('t', 1, :key, 'skip');
ROLLBACK TO y;
SELECT kl_increment('t', 1, :key);
COMMIT;
SQL
cat > "$PGHOST/more.sql" <<'SQL'
\set key random(1, 8)
BEGIN;
SELECT kl_memory(1024), kl_bulk('t', 1, 10000000, 200000);
SELECT kl_increment('t', 1, :key);
COMMIT;
SQL
transactions() { sed -n 's/number of transactions actually processed: \([0-9]*\).*/\1/p' "$1"; }
before=$("${psql[@]}" -c 'SELECT rl_counters()')
pgbench -n -c 3 -j 1 -T "$seconds" -f "$PGHOST/few.sql" keys > "$PGHOST/few.log" 2>&1 &
few=$!
pgbench -n -c 1 -j 1 -T "$seconds" -f "$PGHOST/more.sql" keys > "$PGHOST/more.log" 2>&1 &
more=$!
pgbench -n -c 3 -j 1 -T "$seconds" -f "$PGHOST/many.sql" keys > "$PGHOST/many.log" 2>&1 || fail=1
wait $few || fail=1
wait $more || fail=1
n=$(($(transactions "$PGHOST/few.log") + $(transactions "$PGHOST/many.log") + $(transactions "$PGHOST/more.log")))
echo "    transactions: $(transactions "$PGHOST/few.log") $(transactions "$PGHOST/many.log") $(transactions "$PGHOST/more.log")"
expect "increments" $(($("${psql[@]}" -c 'SELECT rl_counters()') - before)) "$n"
grep -hE 'ERROR|FATAL|PANIC' "$PGHOST"/{few,many,more}.log && fail=1
left
[ $fail = 0 ] && echo "keys ok" || echo "keys FAILED"
exit $fail
