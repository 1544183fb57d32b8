#!/bin/bash
# Functions of an index run as whoever owns its table, whoever builds, checks or merges it; also when expressions are made ready to use, which calls those
# that have constant arguments.
. "$(dirname "$0")/../lib/tap.sh"

node one "s3am.collect_interval = 0" "autovacuum = off" "s3am.inline_limit = 1kB" "s3am.poll_max = 50ms"
sql -c 'CREATE EXTENSION s3am' -c 'CREATE ROLE keeper SUPERUSER' || exit 1
node two "s3am.compaction = off" "s3am.poll_max = 50ms"
sql -c 'CREATE EXTENSION s3am' -c 'CREATE ROLE keeper SUPERUSER' || exit 1
on one
# the row i stands still as long as somebody has the lock i
sql <<'SQL' || exit 1
CREATE FUNCTION kept(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
	BEGIN
		ASSERT current_user = 'keeper', format('kept(%s) was called by %s', i, current_user);
		IF i IN (1, 2) THEN PERFORM pg_advisory_xact_lock_shared(i); END IF;
		RETURN i;
	END $$;
CREATE TABLE t (i int, n int) USING s3am;
INSERT INTO t SELECT g, g FROM generate_series(3, 4000) g;
ALTER TABLE t OWNER TO keeper;
SQL
holds() { [ "$(sql -c "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND NOT granted")" = 1 ]; }
# lock I: a session that has it until `unlock I`
lock() {
	mkfifo "$work/lock.$1"
	sql < "$work/lock.$1" > "$work/lock.$1.out" &
	eval "pid_$1=$!"
	exec {fd}> "$work/lock.$1"
	eval "lock_$1=$fd"
	echo "SELECT pg_advisory_lock($1), 'got it';" >&"$fd"
	eventually 10 grep -q 'got it' "$work/lock.$1.out"
}
unlock() {
	local fd=lock_$1 pid=pid_$1
	fd=${!fd}
	echo '\q' >&"$fd"
	exec {fd}>&-
	wait "${!pid}"
	rm "$work/lock.$1"
}
# runs STATEMENT NAME
runs() {
	local said
	said=$(sql -c "$1" 2>&1)
	ok $? "$2" || diag "$said"
}

expression='(kept(i) + kept(0))) WHERE kept(n + 10) > kept(10'
runs "CREATE INDEX t_a ON t ($expression)" "CREATE INDEX"
runs "CREATE INDEX CONCURRENTLY t_b ON t ($expression)" "CREATE INDEX CONCURRENTLY"
runs 'CREATE INDEX CONCURRENTLY t_hash ON t USING hash ((kept(i) + kept(0)))' "a hash index"
runs 'REINDEX INDEX t_a' "REINDEX"
runs 'REINDEX INDEX CONCURRENTLY t_a' "REINDEX CONCURRENTLY"
runs 'REINDEX TABLE CONCURRENTLY t' "of a table"
runs "SELECT s3am.check_index('t_a', true), s3am.check_index('t_b', true), s3am.check_index('t_hash', true)" "s3am.check_index"
sql -c 'CREATE INDEX t_d ON t ((kept(i) + kept(0)))'
runs 'CLUSTER t USING t_d' "CLUSTER"

# ---------------------------------------------------------------- what another server writes just before COMMIT
add() { sql -c 'SET SESSION AUTHORIZATION keeper' -c 'SET statement_timeout = 20000' -c "INSERT INTO t VALUES ($1, $1)"; }
add 1
follow one two 10
on one
lock 1
lock 2
sql -c "CREATE INDEX CONCURRENTLY t_c ON t ($expression)" > "$work/built" 2>&1 &
builder=$!
eventually 20 holds 1
ok $? "rows are read that are there already"
sql -c 'SET SESSION AUTHORIZATION keeper' -c 'INSERT INTO t VALUES (2, 2)' > "$work/added" 2>&1 &
adder=$!
eventually 10 holds 2
unlock 2
wait "$adder"
lock 2
unlock 1
eventually 20 holds 2
ok $? "then those that came meanwhile"
on two
add 5001
ok $? "and another server adds one more"
wanted=$(version)
on one
reached "$wanted" || eventually 10 reached "$wanted"
unlock 2
wait "$builder"
ok $? "which is added as well" || diag "$(cat "$work/built")"
is "$(sql -c 'SET SESSION AUTHORIZATION keeper' -c 'SET enable_seqscan = off; SET enable_bitmapscan = off' \
	-c 'SELECT i FROM t WHERE kept(i) + kept(0) = 5001 AND kept(n + 10) > kept(10)' | tail -n 1)" 5001 "and found"
runs "SELECT s3am.check_index('t_c', true)" "the index is sound"

# ---------------------------------------------------------------- the compactor
count() { sql -c "SELECT count(*) FROM s3am.batches() b JOIN s3am.storage s USING (storage) WHERE s.index_id = '$1'::regclass"; }
for i in {1..4}; do echo "INSERT INTO t SELECT $i * 10000 + g, g FROM generate_series(11, 60) g;"; done | sql -c 'SET SESSION AUTHORIZATION keeper' -f -
before=$(count t_a)
sql -c 'SET SESSION AUTHORIZATION keeper' -c 'VACUUM t' > "$work/vacuum" 2>&1
cat "$work/vacuum" | diag
[ "$(count t_a)" -lt "$before" ]
ok $? "runs are merged ($before, then $(count t_a))"
runs "SELECT s3am.check_index('t_a', true), s3am.check_index('t_hash', true)" "and sound"
is "$(grep 'was called by' "$work"/*/log)" "" "nobody else called a function of theirs"
done_testing
