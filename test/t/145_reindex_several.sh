#!/bin/bash
# REINDEX CONCURRENTLY of schemas, the database, partitioned tables and indexes: s3am tables and heap tables in one statement, others write meanwhile, here and on
# another server; what goes wrong leaves what is done done; who may reindex a whole may do so, and stays who he is.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/session.sh"

node one "s3am.compaction = off" "s3am.collect_interval = 0" "autovacuum = off" "s3am.poll_max = 50ms"
sql -c 'CREATE EXTENSION s3am' -c 'CREATE ROLE app' -c 'CREATE ROLE keeper' -c 'CREATE ROLE nobody' || exit 1
# a build stands still at a row 1 as long as somebody has the lock, and fails at a row 2 if it is told to
sql <<'SQL' || exit 1
CREATE FUNCTION held(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
	BEGIN
		IF i = 1 THEN PERFORM pg_advisory_xact_lock_shared(7); END IF;
		IF i = 2 AND current_setting('test.fails', true) = 'yes' THEN RAISE 'it fails'; END IF;
		RETURN i;
	END $$;
SET default_table_access_method = s3am;
CREATE SCHEMA several;
SET search_path = several, public;
CREATE TABLE early (i int PRIMARY KEY, n int);
INSERT INTO early SELECT g, g FROM generate_series(3, 1000) g;
CREATE TABLE plain (i int PRIMARY KEY, n int, x text) USING heap;
INSERT INTO plain SELECT g, g FROM generate_series(1, 1000) g;
CREATE TABLE t (i int PRIMARY KEY, n int, x text);
CREATE INDEX t_held ON t (held(i));
CREATE INDEX t_hash ON t USING hash (x);
INSERT INTO t SELECT g, g, 'row ' || g FROM generate_series(1, 1000) g;
CREATE TABLE parted (i int, n int, PRIMARY KEY (i)) PARTITION BY RANGE (i);
CREATE TABLE leaf_1 PARTITION OF parted FOR VALUES FROM (0) TO (1000);
CREATE TABLE leaf_2 PARTITION OF parted FOR VALUES FROM (1000) TO (10000) PARTITION BY RANGE (i);
CREATE TABLE leaf_21 PARTITION OF leaf_2 FOR VALUES FROM (1000) TO (10000);
CREATE INDEX parted_held ON parted (held(n));
INSERT INTO parted SELECT g, g FROM generate_series(3, 2000) g;
INSERT INTO parted VALUES (0, 1);
CREATE TABLE nothing (i int);
CREATE TABLE nothing_plain (i int) USING heap;
CREATE MATERIALIZED VIEW seen AS SELECT i FROM early;
CREATE UNIQUE INDEX seen_i ON seen (i);
CREATE TABLE late (i int PRIMARY KEY, n int);
INSERT INTO late SELECT g, g FROM generate_series(3, 1000) g;
SQL
node two "s3am.compaction = off" "s3am.poll_max = 50ms"
sql -c 'CREATE EXTENSION s3am' -c 'CREATE ROLE app' -c 'CREATE ROLE keeper' -c 'CREATE ROLE nobody' || exit 1
follow one two 10
on one

# indexes of a schema as they are now: one that is built anew has another file
files() {
	sql -c "SELECT c.oid::regclass, c.relfilenode FROM pg_class c JOIN pg_index ON c.oid = indexrelid JOIN pg_class r ON r.oid = indrelid
		LEFT JOIN pg_class owner ON owner.reltoastrelid = r.oid
		WHERE COALESCE(owner.relnamespace, r.relnamespace) = '$1'::regnamespace AND c.relkind = 'i' ORDER BY 1"
}
kept() { comm -12 <(sort <<< "$1") <(sort <<< "$2") | cut -d '|' -f 1 | xargs; }
invalid() { sql -c "SELECT count(*) FROM pg_index JOIN pg_class c ON c.oid = indexrelid WHERE NOT indisvalid OR NOT indisready OR relname LIKE '%ccnew%' OR relname LIKE '%ccold%'"; }
sound() {
	sql -c "SELECT s3am.check_index(c.oid::regclass, true) FROM pg_class c JOIN pg_index ON c.oid = indexrelid JOIN pg_class r ON r.oid = indrelid
		WHERE r.relam = (SELECT oid FROM pg_am WHERE amname = 's3am')" > "$work/checked" 2>&1 && [ "$(wc -l < "$work/checked")" -ge "${1:-9}" ]
}
# writes that must not wait
writes() { sql -c "SET lock_timeout = '3s'; SET statement_timeout = '10s'" -c "$1" > /dev/null; }
holds() { [ "$(sql -c "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")" = 1 ]; }
waits() { [ "$(sql -c "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '$1%'")" = 1 ]; }
# hold STATEMENT ...: begins them and waits until they stand still; release: lets them go on
hold() {
	local statement each=()
	for statement; do each+=(-c "$statement"); done
	session holder
	# shellcheck disable=SC2154
	echo "SELECT pg_advisory_lock(7), 'got it';" >&"$holder"
	eventually 10 said holder 'got it'
	sql -v ON_ERROR_STOP=0 -v VERBOSITY=verbose "${each[@]}" > "$work/built" 2>&1 &
	builder=$!
	eventually 20 holds || { diag "$(cat "$work/built")"; return 1; }
}
release() {
	finish holder
	wait "$builder"
	! grep -q ERROR "$work/built"
}
cancel() { sql -c "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE 'REINDEX%'" > /dev/null; }

# ---------------------------------------------------------------- a schema
before=$(files several)
hold 'REINDEX (VERBOSE) SCHEMA CONCURRENTLY several'
ok $? "a schema is built anew"
writes "SET search_path = several; INSERT INTO t VALUES (5001, 1, 'new'); UPDATE t SET x = x || '!' WHERE i = 7; INSERT INTO parted VALUES (2001, 3), (1, 3);
	INSERT INTO plain VALUES (5001, 1); DELETE FROM early WHERE i = 8; INSERT INTO late VALUES (5001, 1)"
ok $? "others write meanwhile"
on two
writes "INSERT INTO several.t VALUES (5002, 1, 'elsewhere'); INSERT INTO several.late VALUES (5002, 1)"
ok $? "on another server, too"
follow two one 10
release
ok $? "then it is" || diag "$(cat "$work/built")"
is "$(kept "$before" "$(files several)")" "" "with all indexes in it"
is "$(invalid)" 0 "which are valid"
sound
ok $? "and sound" || diag "$(cat "$work/checked")"
is "$(sed -nE 's/.*: +table "several\.(.*)" was reindexed/\1/p' "$work/built" | sort | xargs)" "early late leaf_1 leaf_21 plain seen t" "VERBOSE tells of each table"
is "$(grep -c 'NOTICE\|WARNING' "$work/built")" 0 "and nothing is said of those without an index"
is "$(sql -c 'SET enable_seqscan = off; SET enable_bitmapscan = off' -c "SELECT i, x FROM several.t WHERE held(i) IN (7, 5001, 5002) ORDER BY held(i)")" \
	$'7|row 7!\n5001|new\n5002|elsewhere' "what came is found"
follow one two 10
sound
ok $? "so it is on the other server" || diag "$(cat "$work/checked")"
writes "INSERT INTO several.t VALUES (5003, 1, 'after'); INSERT INTO several.parted VALUES (2002, 3)"
sound
ok $? "which adds to it" || diag "$(cat "$work/checked")"
follow two one 10

# ---------------------------------------------------------------- the database
before=$(files several)
said=$(sql -c 'CREATE TEMP TABLE mine (i int PRIMARY KEY)' -c 'REINDEX (VERBOSE) DATABASE CONCURRENTLY test' 2>&1)
ok $? "the database is built anew" || diag "$said"
is "$(kept "$before" "$(files several)") $(invalid)" " 0" "with all that is in it"
is "$(grep WARNING <<< "$said")" "WARNING:  cannot reindex system catalogs concurrently, skipping all" "but the catalogs, as is said once"
like "$said" 'index "mine_pkey" was reindexed' "temporary tables, too"
sound
ok $? "all are sound" || diag "$(cat "$work/checked")"
fails_like 0A000 'cannot reindex system catalogs concurrently' 'REINDEX SYSTEM CONCURRENTLY test' "SYSTEM is refused"
fails_like 0A000 'can only reindex the currently open database' 'REINDEX DATABASE CONCURRENTLY postgres' "another database is"
is "$(sql -c 'REINDEX SCHEMA CONCURRENTLY pg_catalog' 2>&1)" "WARNING:  cannot reindex system catalogs concurrently, skipping all" "of pg_catalog nothing is done"

# ---------------------------------------------------------------- partitioned tables and indexes
before=$(files several)
hold 'REINDEX TABLE CONCURRENTLY several.parted'
writes 'INSERT INTO several.parted VALUES (2, 3), (2003, 3)'
ok $? "others write while a partitioned table is built anew"
release
ok $? "then it is" || diag "$(cat "$work/built")"
is "$(kept "$before" "$(files several)")" "$(cut -d '|' -f 1 <<< "$before" | grep -v leaf | sort | xargs)" \
	"with the indexes of its leaves"
before=$(files several)
hold 'REINDEX INDEX CONCURRENTLY several.parted_held'
writes 'INSERT INTO several.parted VALUES (999, 3) ON CONFLICT DO NOTHING; INSERT INTO several.parted VALUES (2004, 3)'
ok $? "so they do while a partitioned index is"
release
ok $? "then it is" || diag "$(cat "$work/built")"
is "$(kept "$before" "$(files several)" | tr ' ' '\n' | grep leaf | xargs)" "several.leaf_1_pkey several.leaf_21_pkey" "and no other of its table"
sound
ok $? "all are sound" || diag "$(cat "$work/checked")"
fails_like 23505 leaf_21_pkey 'INSERT INTO several.parted VALUES (2004, 1)' "keys are keys still"

# ---------------------------------------------------------------- what is dropped or renamed meanwhile
sql <<'SQL' || exit 1
SET default_table_access_method = s3am;
CREATE SCHEMA going;
SET search_path = going, public;
CREATE TABLE g (i int);
INSERT INTO g SELECT generate_series(1, 500);
CREATE INDEX g_held ON g (held(i));
CREATE TABLE gone (i int PRIMARY KEY);
CREATE TABLE gone_plain (i int PRIMARY KEY) USING heap;
CREATE TABLE renamed (i int PRIMARY KEY);
CREATE TABLE renamed_plain (i int PRIMARY KEY) USING heap;
CREATE TABLE stays (i int PRIMARY KEY);
SQL
before=$(files going)
hold 'REINDEX SCHEMA CONCURRENTLY going'
writes 'DROP TABLE going.gone, going.gone_plain; ALTER TABLE going.renamed RENAME TO other; ALTER TABLE going.renamed_plain RENAME TO other_plain'
ok $? "tables are dropped and renamed before it is their turn"
sql -c 'DROP TABLE going.g' > "$work/dropped" 2>&1 &
dropper=$!
eventually 10 waits 'DROP TABLE'
ok $? "that whose turn it is waits to be dropped"
release
ok $? "they are passed over, or found by their new names" || diag "$(cat "$work/built")"
wait "$dropper"
ok $? "the one that waited is dropped" || diag "$(cat "$work/dropped")"
is "$(kept "$before" "$(files going)")" "" "what is left is built anew"
# while it stands in the queue for the lock: one of s3am, one that is not
for table in other other_plain; do
	session dropping
	# shellcheck disable=SC2154
	echo "BEGIN; DROP TABLE going.$table; SELECT 'dropped';" >&"$dropping"
	eventually 10 said dropping dropped
	sql -c 'REINDEX SCHEMA CONCURRENTLY going' > "$work/built" 2>&1 &
	builder=$!
	eventually 10 waits 'REINDEX SCHEMA'
	echo "COMMIT;" >&"$dropping"
	finish dropping
	wait "$builder"
	ok $? "one that is dropped while it is waited for ($table) is passed over" || diag "$(cat "$work/built")"
done
is "$(invalid)" 0 "no index is left that is not valid"

# ---------------------------------------------------------------- errors
# tables in the order in which they are gone through, which is that of pg_class; the indexes of those from several.t on
sequence=$(sql -c "SELECT oid::regclass FROM pg_class WHERE relnamespace = 'several'::regnamespace AND relkind IN ('r', 'm') AND relhasindex ORDER BY ctid")
from_t() { sed -n '/^several.t$/,$p' <<< "$sequence" | while read -r table; do sql -c "SELECT indexrelid::regclass FROM pg_index WHERE indrelid = '$table'::regclass"; done | sort | xargs; }
[ "$(head -n 1 <<< "$sequence")" != several.t ] && [ "$(tail -n 1 <<< "$sequence")" != several.t ]
ok $? "there are tables before and after several.t" || diag "$sequence"
before=$(files several)
said=$(sql -v ON_ERROR_STOP=0 -c "SET test.fails = 'yes'" -c 'REINDEX SCHEMA CONCURRENTLY several' -c "SELECT 'goes on'" 2>&1)
like "$said" 'ERROR:  it fails.*goes on' "an error ends it, and the session goes on"
is "$(kept "$before" "$(files several)") $(invalid)" "$(from_t) 0" "what was done before is done, and the rest is as it was"
before=$(files several)
hold 'REINDEX SCHEMA CONCURRENTLY several' "SELECT 'goes on'"
cancel
release
like "$(cat "$work/built")" '57014.*goes on' "it can be cancelled"
is "$(kept "$before" "$(files several)") $(invalid)" "$(from_t) 0" "with the same result"
session long
# shellcheck disable=SC2154
echo "BEGIN; INSERT INTO several.t VALUES (8001, 1, 'long'); SELECT 'added';" >&"$long"
eventually 10 said long added
sql -v VERBOSITY=verbose -c 'REINDEX SCHEMA CONCURRENTLY several' > "$work/built" 2>&1 &
builder=$!
eventually 10 waits 'REINDEX SCHEMA'
ok $? "it waits for a transaction that has written"
writes "INSERT INTO several.t VALUES (8002, 1, 'meanwhile')"
ok $? "but nobody waits behind it"
cancel
wait "$builder"
like "$(cat "$work/built")" '57014' "it can be cancelled then, too"
echo "COMMIT;" >&"$long"
finish long
sound
ok $? "all indexes are sound" || diag "$(cat "$work/checked")"
hold 'REINDEX SCHEMA CONCURRENTLY several'
cluster_kill "$dir"
finish holder
wait "$builder"
cluster_start "$dir"
is "$(invalid)" 0 "a server that is killed leaves no index that is not valid"
sound
ok $? "nor one that is not sound" || diag "$(cat "$work/checked")"

# ---------------------------------------------------------------- who may
sql -c 'GRANT USAGE ON SCHEMA several TO nobody'
for statement in 'SCHEMA CONCURRENTLY several' 'DATABASE CONCURRENTLY test' 'TABLE CONCURRENTLY several.parted' 'INDEX CONCURRENTLY several.parted_held'; do
	like "$(sql -v ON_ERROR_STOP=0 -v VERBOSITY=verbose -c 'SET ROLE nobody' -c "REINDEX $statement" 2>&1)" '42501: must be owner' "REINDEX $statement is for owners"
done
sql <<'SQL' || exit 1
CREATE FUNCTION apps(i int, kind text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
	BEGIN
		ASSERT current_user = 'app', format('apps() was called by %s', current_user);
		IF i = 1 AND current_setting('test.holds', true) = kind THEN PERFORM pg_advisory_xact_lock_shared(7); END IF;
		IF i = 2 AND current_setting('test.fails', true) = kind THEN RAISE 'it fails'; END IF;
		RETURN i;
	END $$;
CREATE SCHEMA owned;
SET search_path = owned, public;
CREATE TABLE a (i int PRIMARY KEY) USING s3am;
CREATE TABLE b (i int PRIMARY KEY) USING heap;
CREATE TABLE p (i int) PARTITION BY RANGE (i);
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (1000) USING s3am;
ALTER TABLE a OWNER TO app;
ALTER TABLE b OWNER TO app;
ALTER TABLE p OWNER TO app;
ALTER TABLE p1 OWNER TO app;
GRANT USAGE ON SCHEMA owned TO app;
SET ROLE app;
INSERT INTO a SELECT generate_series(1, 500);
INSERT INTO b SELECT generate_series(1, 500);
INSERT INTO p1 SELECT generate_series(1, 500);
RESET ROLE;
CREATE INDEX a_apps ON a (apps(i, 's3am'), apps(0, 'none'));
CREATE INDEX b_apps ON b (apps(i, 'heap'), apps(0, 'none'));
CREATE INDEX p_apps ON p (apps(i, 'leaf'), apps(0, 'none'));
ALTER TABLE p OWNER TO keeper;
ALTER SCHEMA owned OWNER TO keeper;
REVOKE ALL ON SCHEMA owned FROM keeper;
SQL
as_keeper="SET SESSION AUTHORIZATION keeper"
who="SELECT current_user, current_setting('is_superuser')"
# still_keeper OUTPUT NAME: the session's user after that is who he was
still_keeper() { like "$1" $'keeper\\|off\n(ERROR:  )?(42501: )?.*permission denied to create role' "$2"; }
before=$(files owned)
said=$(sql -v ON_ERROR_STOP=0 -c "$as_keeper" -c 'REINDEX SCHEMA CONCURRENTLY owned' -c "$who" -c 'CREATE ROLE thief' 2>&1)
still_keeper "$said" "the owner of a schema reindexes what others have in it, and is who he was after that"
is "$(kept "$before" "$(files owned)")" "" "all of it"
fails_like 42501 'permission denied for schema owned' "$as_keeper; SELECT FROM owned.a" "who may not even name it"
for kind in s3am heap leaf; do
	said=$(sql -v ON_ERROR_STOP=0 -c "$as_keeper" -c "SET test.fails = '$kind'" -c 'REINDEX SCHEMA CONCURRENTLY owned' -c "$who" -c 'CREATE ROLE thief' 2>&1)
	like "$said" 'ERROR:  it fails' "an error in a function ($kind) ends it"
	still_keeper "$said" "and makes nobody a superuser"
	hold "$as_keeper" "SET test.holds = '$kind'" 'REINDEX SCHEMA CONCURRENTLY owned' "$who" 'CREATE ROLE thief'
	cancel
	release
	like "$(cat "$work/built")" 57014 "it can be cancelled while it calls that"
	still_keeper "$(cat "$work/built")" "with the same result"
	# which core leaves behind
	sql -c 'DROP INDEX IF EXISTS owned.b_apps_ccnew, owned.b_pkey_ccnew, owned.b_apps_ccnew1, owned.b_pkey_ccnew1' 2> /dev/null
done
sql -c 'GRANT USAGE ON SCHEMA owned TO keeper'
before=$(files owned)
for statement in 'TABLE CONCURRENTLY owned.p' 'INDEX CONCURRENTLY owned.p_apps'; do
	said=$(sql -v ON_ERROR_STOP=0 -c "$as_keeper" -c "REINDEX $statement" -c "$who" -c 'CREATE ROLE thief' 2>&1)
	still_keeper "$said" "the owner of a partitioned table reindexes others' leaves (REINDEX $statement)"
	is "$(kept "$before" "$(files owned)" | grep -c p1)" 0 "all of them"
	before=$(files owned)
done
on two
while [ ! -e "$work/enough" ]; do
	echo "SET ROLE app; INSERT INTO owned.a VALUES ((SELECT max(i) + 1 FROM owned.a)) RETURNING 'came', i;"
	sleep 0.03
done | sql -v ON_ERROR_STOP=0 > "$work/elsewhere" 2>&1 &
writer=$!
eventually 10 grep -q came "$work/elsewhere"
on one
said=$(sql -v ON_ERROR_STOP=0 -c "$as_keeper" -c 'REINDEX SCHEMA CONCURRENTLY owned' -c 'REINDEX SCHEMA CONCURRENTLY owned' \
	-c 'REINDEX SCHEMA CONCURRENTLY owned' -c "$who" -c 'CREATE ROLE thief' 2>&1)
still_keeper "$said" "also where another server writes all the time"
touch "$work/enough"
wait "$writer"
follow two one 10
is "$(grep ERROR "$work/elsewhere" | grep -cv 'could not serialize')" 0 "whose writers get nothing but 40001 ($(grep -c ERROR "$work/elsewhere") did, $(grep -c came "$work/elsewhere") not)"
sql -c 'ALTER DATABASE test OWNER TO keeper'
before=$(files several)$(files owned)
said=$(sql -v ON_ERROR_STOP=0 -c "$as_keeper" -c 'REINDEX DATABASE CONCURRENTLY test' -c "$who" -c 'CREATE ROLE thief' 2>&1)
still_keeper "$said" "the owner of a database reindexes all of it"
is "$(kept "$before" "$(files several)$(files owned)") $(invalid)" " 0" "s3am tables and others"
is "$(grep 'was called by' "$work"/*/log)" "" "functions of indexes ran as the owners of the tables"
sound
ok $? "all indexes are sound" || diag "$(cat "$work/checked")"

# ---------------------------------------------------------------- forms
for statement in 'SCHEMA CONCURRENTLY several' 'DATABASE CONCURRENTLY test' 'TABLE CONCURRENTLY several.parted' 'INDEX CONCURRENTLY several.parted_held'; do
	fails_like 25001 'REINDEX CONCURRENTLY cannot run inside a transaction block' "BEGIN; REINDEX $statement" "REINDEX $statement is not for transaction blocks"
done
fails_like 25001 'REINDEX CONCURRENTLY cannot be executed from a function' "DO \$\$ BEGIN REINDEX SCHEMA CONCURRENTLY several; END \$\$" "nor for functions"
fails_like 3F000 'schema "nowhere" does not exist' 'REINDEX SCHEMA CONCURRENTLY nowhere' "errors are core's"
fails_like 42601 'unrecognized REINDEX option' 'REINDEX (CONCURRENTLY, WRONG) SCHEMA several' "of all kinds"
fails_like 42704 'tablespace "nowhere" does not exist' 'REINDEX (TABLESPACE nowhere) SCHEMA CONCURRENTLY several' "also of tablespaces"
before=$(files several)
sql -c 'SET default_transaction_read_only = on' -c 'SET default_transaction_isolation = serializable' -c 'REINDEX (CONCURRENTLY true) SCHEMA several'
ok $? "SERIALIZABLE is no matter, nor READ ONLY, as in heap"
is "$(kept "$before" "$(files several)")" "" "it is done then"
before=$(files several)
echo 'REINDEX SCHEMA CONCURRENTLY several;' > "$work/prepared.sql"
(
	cluster_use "$dir"
	"$cluster_bin/pgbench" -n -M prepared -t 2 -f "$work/prepared.sql" test
) > "$work/prepared" 2>&1
ok $? "it may be prepared" || diag "$(tail -n 3 "$work/prepared")"
is "$(kept "$before" "$(files several)")" "" "and is done then, too"
followed "the other server follows"
sound 12
ok $? "all indexes are sound there" || diag "$(cat "$work/checked")"
is "$(invalid)" 0 "and valid"
done_testing
