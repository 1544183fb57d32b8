#!/bin/bash
# CREATE INDEX CONCURRENTLY and REINDEX CONCURRENTLY: others write while an index is built, here and on another server, and it has what they wrote; what
# goes wrong leaves nothing behind.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/session.sh"

node one "s3am.compaction = off" "s3am.collect_interval = 0" "autovacuum = off" "s3am.poll_max = 50ms"
sql -c 'CREATE EXTENSION s3am' || exit 1
# a build stands still at the row 1 as long as somebody has the lock
sql <<'SQL' || exit 1
CREATE FUNCTION held(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
	BEGIN
		IF i = 1 THEN PERFORM pg_advisory_xact_lock_shared(7); END IF;
		RETURN i;
	END $$;
SET default_table_access_method = s3am;
CREATE TABLE t (i int, n int, x text);
INSERT INTO t SELECT g, g, 'row ' || g FROM generate_series(1, 3000) g;
CREATE TABLE keyed (i int PRIMARY KEY, n int);
INSERT INTO keyed SELECT g, g FROM generate_series(1, 1000) g;
SQL
node two "s3am.compaction = off" "s3am.poll_max = 50ms"
sql -c 'CREATE EXTENSION s3am' || exit 1
follow one two 10
on one

objects() { find "${repository#file://}/segments" -type f 2> /dev/null | wc -l; }
invalid() { sql -c "SELECT count(*) FROM pg_index WHERE NOT indisvalid OR NOT indisready"; }
there() { sql -c "SELECT count(*) FROM pg_class WHERE relname = '$1'"; }
sound() {
	local index
	for index; do sql -c "SELECT s3am.check_index('$index', true)" > /dev/null || return 1; done
}
# writes that must not wait
writes() { sql -c "SET lock_timeout = '3s'; SET statement_timeout = '10s'" -c "$1" > /dev/null; }
holds() { [ "$(sql -c "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")" = 1 ]; }
# hold STATEMENT: begins it and waits until it stands still; release: lets it go on
hold() {
	session holder
	# shellcheck disable=SC2154
	echo "SELECT pg_advisory_lock(7);" >&"$holder"
	sleep 0.2
	sql -v VERBOSITY=verbose -c "$1" > "$work/built" 2>&1 &
	builder=$!
	eventually 20 holds || { diag "$(cat "$work/built")"; return 1; }
}
release() {
	finish holder
	wait "$builder"
}

# ---------------------------------------------------------------- writers go on
hold 'CREATE INDEX CONCURRENTLY t_held ON t (held(i), x)'
ok $? "an index is being built"
writes "INSERT INTO t VALUES (5001, 1, 'new'); UPDATE t SET x = x || '!' WHERE i IN (7, 1); DELETE FROM t WHERE i = 8;
	BEGIN; INSERT INTO t VALUES (5002, 1, 'new'); SAVEPOINT a; INSERT INTO t VALUES (5003, 1, 'undone'); ROLLBACK TO a; COMMIT;
	INSERT INTO t SELECT g, 2, 'many' FROM generate_series(6001, 6400) g"
ok $? "others write meanwhile"
on two
writes "INSERT INTO t VALUES (5004, 1, 'elsewhere'); UPDATE t SET x = 'of two' WHERE i = 9"
ok $? "on another server, too"
follow two one 10
is "$(there t_held)" 0 "there is no index yet"
release
ok $? "then it is there" || diag "$(cat "$work/built")"
sound t_held
ok $? "and has every row that there is"
is "$(sql -c 'SET enable_seqscan = off; SET enable_bitmapscan = off' -c "SELECT i, x FROM t WHERE held(i) IN (1, 5001, 5002, 5003, 5004, 7, 8, 9) ORDER BY held(i)")" \
	$'1|row 1!\n7|row 7!\n9|of two\n5001|new\n5002|new\n5004|elsewhere' "which it finds"
is "$(sql -c "SELECT abs(reltuples - (SELECT count(*) FROM t)) < 30 FROM pg_class WHERE relname = 't'")" t "statistics count all rows"
follow one two 10
sound t_held
ok $? "so it is on the other server"
writes "INSERT INTO t VALUES (5005, 1, 'after')"
sound t_held
ok $? "which adds to it"
follow two one 10

hold 'CREATE INDEX CONCURRENTLY t_hash ON t USING hash (held(i))'
writes "INSERT INTO t VALUES (5006, 1, 'hashed'), (NULL, 1, 'nothing'); DELETE FROM t WHERE i = 9"
release
ok $? "a hash index, too" || diag "$(cat "$work/built")"
sound t_hash
ok $? "is sound"
is "$(sql -c 'SET enable_seqscan = off' -c "SELECT x FROM t WHERE held(i) = 5006")" hashed "and finds what came"

# ---------------------------------------------------------------- keys
before=$(objects)
hold 'CREATE UNIQUE INDEX CONCURRENTLY t_u ON t (held(i)) INCLUDE (x)'
writes "INSERT INTO t VALUES (10, 1, 'again')"
release
like "$(cat "$work/built")" '23505: could not create unique index "t_u".*Key \(held\(i\)\)=\(10\) is duplicated' "a key that came twice meanwhile is found"
is "$(there t_u) $(invalid)" "0 0" "no index is left"
gone() { [ "$(objects)" = "$before" ]; }
eventually 10 gone
ok $? "and no object"
sql -c "DELETE FROM t WHERE x = 'again'"
hold 'CREATE UNIQUE INDEX CONCURRENTLY t_u ON t (held(i)) WHERE x IS NOT NULL'
writes "INSERT INTO t VALUES (7001, 1, 'a'), (7001, 1, 'b')"
release
like "$(cat "$work/built")" '23505.*\(7001\) is duplicated' "so is one that came twice after the rest was built"
writes "DELETE FROM t WHERE i = 7001"
hold 'CREATE UNIQUE INDEX CONCURRENTLY t_u ON t (held(i)) WHERE x IS NOT NULL'
writes "DELETE FROM t WHERE i = 10; INSERT INTO t VALUES (10, 1, 'its place'); UPDATE t SET n = n + 1 WHERE i BETWEEN 20 AND 30; INSERT INTO t VALUES (11, 1, NULL)"
release
ok $? "one that was taken over is none" || diag "$(cat "$work/built")"
sound t_u
ok $? "and the index is sound"
fails_like 23505 t_u "INSERT INTO t VALUES (5001, 1, 'x')" "it knows what came meanwhile"
fails_like 23505 'Key (x)=(new) is duplicated' "CREATE UNIQUE INDEX CONCURRENTLY t_x ON t (x) WHERE i BETWEEN 5001 AND 5002" "keys that were there before are found"
is "$(there t_x) $(invalid)" "0 0" "and leave nothing"

# ---------------------------------------------------------------- long transactions
session long
# shellcheck disable=SC2154
echo "BEGIN; INSERT INTO t VALUES (8001, 1, 'long'); SELECT 'added';" >&"$long"
eventually 10 said long added
sql -c 'CREATE INDEX CONCURRENTLY t_n ON t (n)' > "$work/built" 2>&1 &
builder=$!
waits() { [ "$(sql -c "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'CREATE INDEX%'")" = 1 ]; }
eventually 10 waits
ok $? "it waits for a transaction that has written"
writes "INSERT INTO t VALUES (8002, 1, 'meanwhile')"
ok $? "but nobody waits behind it"
echo "COMMIT;" >&"$long"
finish long
wait "$builder"
ok $? "and goes on when that has ended" || diag "$(cat "$work/built")"
sound t_n
ok $? "with its rows"
# a snapshot from before sees rows that the index does not have
session old
# shellcheck disable=SC2154
echo "SET enable_seqscan = off; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 'began' FROM pg_class LIMIT 1;" >&"$old"
eventually 10 said old began
sql -c "DELETE FROM t WHERE i = 100" -c "CREATE INDEX CONCURRENTLY t_ix ON t (i, x)"
echo "SELECT 'kept', x FROM t WHERE i = 100;" >&"$old"
finish old
like "$(cat "$work/old.out")" 'kept.row 100' "an older snapshot finds what the index lacks"

# ---------------------------------------------------------------- building anew
# shellcheck disable=SC2034
runs_of() { sql -c "SELECT storage FROM s3am.storage WHERE index_id = '$1'::regclass"; }
was=$(runs_of t_held)
hold 'REINDEX INDEX CONCURRENTLY t_held'
writes "INSERT INTO t VALUES (9001, 1, 'anew'); UPDATE t SET x = x || '?' WHERE i = 7"
ok $? "others write while an index is built anew"
is "$(sql -c 'SET enable_seqscan = off; SET statement_timeout = 5000' -c "SELECT x FROM t WHERE held(i) = 7")" 'row 7!?' "and use it"
release
ok $? "then it is" || diag "$(cat "$work/built")"
[ "$(runs_of t_held)" != "$was" ] && sound t_held
ok $? "from the beginning, and sound"
hold 'REINDEX TABLE CONCURRENTLY t'
writes "INSERT INTO t VALUES (9002, 1, 'all anew'); DELETE FROM t WHERE i = 7"
release
ok $? "all of a table" || diag "$(cat "$work/built")"
sound t_held t_u t_n t_ix
ok $? "and all are sound"
sql -c 'REINDEX TABLE CONCURRENTLY keyed' -c "SELECT s3am.check_index('keyed_pkey', true)" > /dev/null
ok $? "keys, too"
fails_like 23505 keyed_pkey 'INSERT INTO keyed VALUES (1, 1)' "which are keys still"

# ---------------------------------------------------------------- another server that never stops writing
on two
while [ ! -e "$work/enough" ]; do echo "INSERT INTO keyed VALUES ((SELECT max(i) + 1 FROM keyed), 0);"; sleep 0.03; done |
	sql -v ON_ERROR_STOP=0 > "$work/elsewhere" 2>&1 &
writer=$!
on one
for i in 1 2 3; do sql -c "CREATE INDEX CONCURRENTLY keyed_$i ON keyed (n, i)" -c 'REINDEX INDEX CONCURRENTLY keyed_pkey' >> "$work/while" 2>&1; done
[ ! -s "$work/while" ]
ok $? "it gets through where another server writes all the time" || diag "$(cat "$work/while")"
touch "$work/enough"
wait "$writer"
follow two one 10
ok "$(grep ERROR "$work/elsewhere" | grep -cv 'could not serialize')" "whose writers get nothing but 40001 ($(grep -c ERROR "$work/elsewhere") of $(sql -c 'SELECT count(*) - 1000 FROM keyed') did)"
sound keyed_1 keyed_2 keyed_3 keyed_pkey
ok $? "and the indexes are sound"

# ---------------------------------------------------------------- ends
before=$(objects)
hold 'CREATE INDEX CONCURRENTLY t_c ON t (held(i), n)'
sql -c "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX%'" > /dev/null
release
like "$(cat "$work/built")" '57014' "it can be cancelled"
is "$(there t_c) $(invalid)" "0 0" "and leaves no index"
eventually 10 gone
ok $? "nor an object"
session long
echo "BEGIN; INSERT INTO t VALUES (8003, 1, 'long'); SELECT 'added';" >&"$long"
eventually 10 said long added
sql -v VERBOSITY=verbose -c 'CREATE INDEX CONCURRENTLY t_c ON t (n)' > "$work/built" 2>&1 &
builder=$!
eventually 10 waits
sql -c "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX%'" > /dev/null
wait "$builder"
like "$(cat "$work/built")" '57014' "also while it waits for another transaction"
echo "ROLLBACK;" >&"$long"
finish long
hold 'CREATE INDEX CONCURRENTLY t_c ON t (held(i), n)'
sql -c "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX%'" > /dev/null
release
is "$(there t_c) $(invalid)" "0 0" "a session that ends leaves no index"
hold 'CREATE INDEX CONCURRENTLY t_c ON t (held(i), n)'
cluster_kill "$dir"
finish holder
wait "$builder"
cluster_start "$dir"
is "$(there t_c) $(invalid)" "0 0" "nor does a server that is killed"
sql -c 'CREATE INDEX CONCURRENTLY t_c ON t (held(i), n)' && sound t_c
ok $? "it is there when it is made again"

# ---------------------------------------------------------------- forms
# refused_after SETTING REGEX STATEMENT NAME
refused_after() { like "$(sql -v ON_ERROR_STOP=0 -v VERBOSITY=verbose -c "$1" -c "$3" 2>&1)" "$2" "$4"; }
fails_like 25001 'CREATE INDEX CONCURRENTLY cannot run inside a transaction block' "BEGIN; CREATE INDEX CONCURRENTLY ON t (i)" "not in a transaction block"
fails_like 25001 'REINDEX CONCURRENTLY cannot' "BEGIN; REINDEX TABLE CONCURRENTLY t" "nor building anew"
fails_like 25001 'cannot be executed' "DO \$\$ BEGIN CREATE INDEX CONCURRENTLY ON t (i); END \$\$" "nor in a function"
fails_like 42703 'column "nothing" does not exist' "CREATE INDEX CONCURRENTLY ON t (nothing)" "errors are core's"
fails_like 42P07 'already exists' "CREATE INDEX CONCURRENTLY t_n ON t (n)" "of all kinds"
refused_after 'SET default_transaction_read_only = on' '25006.*read-only' "CREATE INDEX CONCURRENTLY t_r ON t (n)" "a read-only session makes none"
is "$(sql -c 'CREATE INDEX CONCURRENTLY IF NOT EXISTS t_n ON t (n)' 2>&1)" 'NOTICE:  relation "t_n" already exists, skipping' "IF NOT EXISTS is minded"
sql -c 'CREATE ROLE nobody'
refused_after 'SET ROLE nobody' '42501.*must be owner' "CREATE INDEX CONCURRENTLY ON t (i)" "it is for owners"
refused_after 'SET ROLE nobody' '42501.*must be owner' "REINDEX INDEX CONCURRENTLY t_n" "building anew is, too"
sql -c "SET default_transaction_isolation = serializable" -c 'CREATE INDEX CONCURRENTLY t_s ON t USING s3btree (x)' && sound t_s
ok $? "SERIALIZABLE is no matter, nor is the true name"
sql -c 'CREATE TABLE parted (i int) PARTITION BY RANGE (i)' -c 'CREATE TABLE leaf PARTITION OF parted FOR VALUES FROM (0) TO (10) USING s3am'
fails_like 0A000 'partitioned table' "CREATE INDEX CONCURRENTLY ON parted (i)" "core refuses it for partitioned tables"
sql -c 'CREATE INDEX CONCURRENTLY leaf_i ON leaf (i)' && sound leaf_i
ok $? "one of a partition is fine"
sql -c 'DROP INDEX CONCURRENTLY leaf_i' && [ "$(there leaf_i)" = 0 ]
ok $? "and dropped"
followed "the other server follows"
sound t_held t_u t_n t_ix t_c t_s keyed_pkey keyed_1
ok $? "the other server has all of them"
done_testing
