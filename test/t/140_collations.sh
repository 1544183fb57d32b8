#!/bin/bash
# Servers whose library sorts text otherwise: an index of another version's order is not used, nobody gets a wrong answer, and everybody is told.
. "$(dirname "$0")/../lib/tap.sh"

lib=$(cd "$(dirname "$0")/../lib" && pwd)
icu=$(nm -D "$cluster_bin/postgres" | sed -n 's/.* ucol_getVersion_\([0-9]*\)$/\1/p')
[ -n "$icu" ] || { echo "1..0 # SKIP PostgreSQL was built without ICU"; tap_done=1; exit 0; }
gcc -O1 -Wall -Werror -shared -fPIC -DVERSION="$icu" -o "$work/collate.so" "$lib/collate.c" || exit 1
gcc -O1 -Wall -Werror -shared -fPIC -DVERSION="$icu" -DNAMELESS -o "$work/nameless.so" "$lib/collate.c" || exit 1
chmod 755 "$work"/*.so
quiet="log_min_messages = error"
node one "$quiet" "s3am.collect_interval = 0" "autovacuum = off" "s3am.compaction = off"
sql -c 'CREATE EXTENSION s3am' || exit 1
here=$(sql -c "SELECT pg_collation_actual_version(oid) FROM pg_collation WHERE collname = 'en-x-icu'")
sql <<'SQL' || exit 1
SET default_table_access_method = s3am;
CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TYPE texts AS RANGE (subtype = text, collation = "en-x-icu");
CREATE TYPE pair AS (n int, x text COLLATE "en-x-icu");
CREATE TABLE t (i int PRIMARY KEY, x text COLLATE "en-x-icu");
INSERT INTO t SELECT g, 'text ' || g FROM generate_series(1, 3000) g;
CREATE UNIQUE INDEX t_x ON t (x);
CREATE INDEX t_c ON t (x COLLATE "C");
CREATE INDEX t_pattern ON t (x text_pattern_ops);
CREATE INDEX t_hash ON t USING hash (x);
CREATE INDEX t_loose ON t USING hash (x COLLATE loose);
CREATE INDEX t_range ON t (texts(x, NULL));
CREATE INDEX t_array ON t (i, (ARRAY[x]));
CREATE TABLE made (p pair PRIMARY KEY, i int);
INSERT INTO made SELECT (g, 'x')::pair, g FROM generate_series(1, 10) g;
CREATE TABLE u (i int, x text COLLATE "en-x-icu");
INSERT INTO u SELECT g, 'text ' || g FROM generate_series(1, 3000) g;
CREATE INDEX u_x ON u (x);
CREATE TABLE v (x text COLLATE "en-x-icu");
CREATE INDEX v_x ON v (x);
SQL
export S3AM_SERVER_PRELOAD=$work/collate.so
node two "$quiet" "s3am.compaction = off"
sql -c 'CREATE EXTENSION s3am' || exit 1
unset S3AM_SERVER_PRELOAD
follow one two 20
is "$(sql -c "SELECT 'a' COLLATE \"en-x-icu\" > 'b'")" t "the second server's library sorts otherwise"
unusable() { sql -c "SELECT string_agg(index::text, ' ' ORDER BY index::text COLLATE \"C\") FROM s3am.indexes WHERE unusable IS NOT NULL"; }
plan() { sql -c "SET enable_seqscan = off" -c "SET enable_bitmapscan = off" -c "EXPLAIN (COSTS off) $1" 2>&1; }

# ---------------------------------------------------------------- reading
is "$(unusable)" "made_pkey t_array t_loose t_range t_x u_x" "s3am.indexes says which indexes it cannot use: those whose order goes by the collation"
is "$(sql -c "SELECT unusable FROM s3am.indexes WHERE index = 't_x'::regclass")" \
	"ordered by version $here of collation \"en-x-icu\", and this server has 7.7" "and why"
said=$(sql -c "SELECT i FROM t WHERE x = 'text 77'" -c "SELECT i FROM t WHERE x = 'text 78'" 2>&1)
like "$said" "WARNING:  index \"t_x\" is ordered by another version of collation \"en-x-icu\" than this server has" "who plans is told"
like "$said" "DETAIL:  The order is that of version $here; the library of this server has version 7.7" "of both versions"
like "$said" "HINT:  Queries do without the index. REINDEX it here" "and of the remedy"
is "$(grep -c 'WARNING:  index "t_x"' <<< "$said")" 1 "once in a session"
like "$said" $'\n77\n78$' "what is asked for is found"
like "$(plan "SELECT i FROM t WHERE x = 'text 77'")" "t_hash" "a hash index of a deterministic collation is used"
like "$(plan "SELECT i FROM t WHERE x COLLATE \"C\" = 'text 77' ORDER BY x COLLATE \"C\"")" "t_(c|pattern)" "so is one of another collation"
like "$(plan "SELECT i FROM t WHERE x ~>~ 'text 77' ORDER BY x USING ~>~")" "t_(c|pattern)" "and one by bytes"
like "$(plan "SELECT i FROM t ORDER BY x LIMIT 1")" "Sort" "there is no order by the other one"
is "$(sql -c "SELECT x FROM t ORDER BY x LIMIT 1" 2> /dev/null)|$(on one; sql -c "SELECT x FROM t ORDER BY x DESC LIMIT 1")" "text 999|text 999" "each server has the order of its library"

# ---------------------------------------------------------------- writing
fails_like 55000 'index "t_x" is ordered by another version of collation "en-x-icu" than this server has' "INSERT INTO t VALUES (5000, 'new')" \
	"who would have to look for a key there fails"
fails_like 55000 'index "made_pkey"' "INSERT INTO made VALUES ((1, 'x')::pair)" "also if the text is within a key"
fails_like 55000 'index "t_x"' "INSERT INTO t VALUES (5000, 'text 7') ON CONFLICT (x) DO NOTHING" "so does ON CONFLICT"
sql -c "DELETE FROM t WHERE x = 'text 2999'" 2> /dev/null
ok $? "rows can be deleted"
fails_like 55000 'index "t_x"' "SELECT s3am.check_index('t_x', true)" "it cannot be checked"
is "$(sql -c "SELECT problem FROM s3am.index_problems('t_x', true)")" "the run is ordered by version $here of collation \"en-x-icu\", and this server has 7.7" \
	"but for what does not depend on the order, and that is all right"
is "$(sql -c "SELECT s3am.check_index('t_hash', true), s3am.check_index('t_c', true)")" "|" "others can"

# ---------------------------------------------------------------- runs of both
follow two one 20
sql > "$work/session" 2>&1 <<SQL &
\set ON_ERROR_STOP 0
\set VERBOSITY verbose
SET plan_cache_mode = force_generic_plan;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
PREPARE found AS SELECT 'found ' || i FROM u WHERE x = \$1;
EXECUTE found('text 5');
EXPLAIN (COSTS off) EXECUTE found('text 5');
\! touch $work/ready; until [ -e $work/go ]; do sleep 0.1; done
EXECUTE found('from two');
EXECUTE found('from two');
EXECUTE found('text 5');
SQL
session=$!
eventually 20 test -e "$work/ready"
on two
sql -c "INSERT INTO u VALUES (9001, 'from two')"
ok $? "an index that is not unique takes what comes"
follow two one 20
touch "$work/go"
wait $session
like "$(cat "$work/session")" 'u_x.*ERROR:  55000: index "u_x".*found 9001.*found 5' "the plan that there was fails once, the next one does without the index" ||
	diag "$(cat "$work/session")"
is "$(unusable)" "u_x" "the index is of no use to either"
is "$(on two; unusable)" "made_pkey t_array t_loose t_range t_x u_x" "as for both"
runs() { sql -c "SELECT count(*) FROM s3am.batches() b JOIN s3am.storage s USING (storage) WHERE s.index_id = '$1'::regclass"; }
for i in 1 2 3; do echo "INSERT INTO v SELECT 'one $i ' || g FROM generate_series(1, 100) g;"; done | sql
follow one two 20
sql -c "ALTER SYSTEM SET s3am.compaction = on" -c "SELECT pg_reload_conf()" > /dev/null
sql -c "VACUUM v" 2> /dev/null
is "$(runs v_x)" 3 "runs that are all of the other order are left alone"
sql -c "INSERT INTO v SELECT 'two ' || g FROM generate_series(1, 100) g" -c "VACUUM v" 2> /dev/null
is "$(runs v_x)" 1 "runs of both are merged"
is "$(unusable)" "made_pkey t_array t_loose t_range t_x u_x" "in the order of who does it"
is "$(sql -c "SELECT s3am.check_index('v_x', true)" -c "SELECT count(*) FROM v")" $'\n400' "and are sound"
like "$(plan "SELECT x FROM v ORDER BY x")" "v_x" "and used"
is "$(sql -c "SET enable_seqscan = off; SET enable_sort = off" -c "SELECT md5(string_agg(x, ' ')) FROM (SELECT x FROM v ORDER BY x) s")" \
	"$(sql -c "SELECT md5(string_agg(x, ' ' ORDER BY x)) FROM v")" "as what they are"
sql -c "ALTER SYSTEM SET s3am.compaction = off" -c "SELECT pg_reload_conf()" > /dev/null

# ---------------------------------------------------------------- runs that do not say it
export S3AM_SERVER_PRELOAD=$work/nameless.so
node early "$quiet" "s3am.compaction = off"
unset S3AM_SERVER_PRELOAD
sql -c 'CREATE EXTENSION s3am' || exit 1
follow two early 20
sql -c 'CREATE TABLE w (x text COLLATE "en-x-icu") USING s3am' -c 'CREATE UNIQUE INDEX w_x ON w (x)' -c "INSERT INTO w SELECT 'early ' || g FROM generate_series(1, 300) g" || exit 1
follow early one 20
is "$(unusable)" "u_x v_x" "what does not say by which version it is ordered"
like "$(plan "SELECT x FROM w WHERE x = 'early 7'")" "w_x" "is used"
sql -c "ALTER SYSTEM SET s3am.compaction = on" -c "SELECT pg_reload_conf()" > /dev/null
sql -c "INSERT INTO w SELECT 'late ' || g FROM generate_series(1, 300) g" -c 'VACUUM w' || exit 1
is "$(runs w_x) $(sql -c "SELECT s3am.check_index('w_x', true)" -c "SELECT count(*) FROM w WHERE x >= 'early 50'")" $'1 \n354' "when it is merged"
sql -c "ALTER SYSTEM SET s3am.compaction = off" -c "SELECT pg_reload_conf()" > /dev/null
follow one two 20
like "$(unusable)" "w_x" "it is sorted, and says so"
sql -c 'DROP TABLE w' || exit 1

# ---------------------------------------------------------------- the remedy
sql -c 'REINDEX TABLE t' -c 'REINDEX TABLE made' 2> /dev/null
is "$(unusable)" "u_x" "REINDEX mends it"
is "$(sql -c "INSERT INTO t VALUES (5000, 'new') RETURNING i" -c "SELECT s3am.check_index('t_x', true), s3am.check_index('t_loose', true), s3am.check_index('made_pkey', true)")" $'5000\n||' "rows can be added"
fails_like 23505 't_x' "INSERT INTO t VALUES (5001, 'text 7')" "and no key twice"
like "$(plan "SELECT i FROM t ORDER BY x LIMIT 1")" "t_x" "it is used"
follow two one 20
is "$(unusable)" "made_pkey t_array t_loose t_range t_x u_x v_x" "the other server uses what is in its order"
fails_like 55000 'index "t_x"' "INSERT INTO t VALUES (5002, 'text 7')" "and no other one"
sql -c 'REINDEX INDEX CONCURRENTLY u_x' 2> /dev/null
is "$(sql -c "SELECT s3am.check_index('u_x', true)" -c "SELECT unusable IS NULL FROM s3am.indexes WHERE index = 'u_x'::regclass")" $'\nt' "REINDEX CONCURRENTLY mends it as well"

# ---------------------------------------------------------------- the database's own collation
repository=$repository-default
S3AM_INITDB="--locale-provider=icu --icu-locale=en" node three "$quiet"
sql -c 'CREATE EXTENSION s3am' -c "CREATE TABLE d (x text PRIMARY KEY, j jsonb UNIQUE, b bytea UNIQUE, n name, i int) USING s3am" -c 'CREATE INDEX d_h ON d USING hash (x)' -c 'CREATE INDEX d_n ON d (n) INCLUDE (x)' \
	-c 'CREATE INDEX d_i ON d ((length(x)), i)' -c "INSERT INTO d VALUES ('a', '{}', 'b', 'n', 1)" || exit 1
is "$(unusable 2>&1)" "" "a server uses what it wrote"
cluster_stop "$dir"
S3AM_SERVER_PRELOAD=$work/collate.so cluster_start "$dir" || exit 1
is "$(unusable 2> /dev/null)" "d_j_key d_pkey" "the default collation is that of the database, and of strings in jsonb"
done_testing
