#!/bin/bash
# s3am.check_index(): finds each kind of damage, and none where there is none.
. "$(dirname "$0")/../lib/tap.sh"

[[ $repository == file://* ]] || { echo "1..0 # SKIP it changes files of a directory"; tap_done=1; exit 0; }
root=${repository#file://}
here=$(cd "$(dirname "$0")/.." && pwd)
node one "s3am.compaction = off" "s3am.collect_interval = 0" "autovacuum = off"
sql -c 'CREATE EXTENSION s3am' || exit 1
sql <<'SQL' || exit 1
SET default_table_access_method = s3am;
CREATE TABLE t (i int PRIMARY KEY, n int, x text, v numeric);
INSERT INTO t SELECT g, g % 100, 'text ' || g, g / 3.0 FROM generate_series(1, 12000) g;
CREATE INDEX t_n ON t (n DESC NULLS LAST, x) INCLUDE (v);
CREATE INDEX t_some ON t ((i % 7), x COLLATE "C") WHERE n < 50;
CREATE UNIQUE INDEX t_x ON t (upper(x));
CREATE INDEX t_code ON t USING hash (upper(x)) WHERE n < 50;
ALTER TABLE t ADD CONSTRAINT t_excl EXCLUDE USING hash (v WITH =) WHERE (v > 7000.5), ADD CONSTRAINT t_both EXCLUDE (n WITH =, x WITH =) WHERE (i > 100) DEFERRABLE;
CREATE TABLE small (i int PRIMARY KEY, n name UNIQUE NULLS NOT DISTINCT, a int[], d date, UNIQUE (d, a));
INSERT INTO small VALUES (1, 'one', '{1,2}', '2024-01-01'), (2, NULL, '{}', NULL), (3, repeat('three', 20), NULL, NULL);
CREATE INDEX ON small (n DESC, a) INCLUDE (d);
CREATE TABLE empty (i int PRIMARY KEY);
CREATE TABLE wide (t text);
INSERT INTO wide SELECT string_agg(md5((g * j)::text), '') FROM generate_series(1, 20) g, generate_series(1, 100) j GROUP BY g;
CREATE INDEX ON wide (t);
SQL
all="SELECT indexrelid::regclass FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam WHERE amname IN ('s3btree', 's3hash')"
# everything that the indexes of the server are wrong with
problems() { sql -c "SELECT x.indexrelid, p.problem FROM ($all) x, s3am.index_problems(x.indexrelid, true) p"; }
sound() {
	local found
	found=$(problems 2>&1)
	[ -z "$found" ] && sql -c "SELECT s3am.check_index(x.indexrelid, true), s3am.check_index(x.indexrelid) FROM ($all) x" > /dev/null || { diag "$found"; return 1; }
}
# ---------------------------------------------------------------- nothing is wrong
sound
ok $? "indexes that were built are sound"
{
	for i in {1..30}; do echo "INSERT INTO t VALUES ($((20000 + i)), $i, 'inline ' || $i); UPDATE t SET n = n + 1 WHERE i = $i; DELETE FROM t WHERE i = $((i + 50));"; done
	echo "UPDATE t SET x = x || '!' WHERE i % 10 = 0; DELETE FROM t WHERE i BETWEEN 5000 AND 6000; INSERT INTO t SELECT g, g, 'again ' || g FROM generate_series(5000, 6000) g;"
	echo "BEGIN; INSERT INTO t VALUES (30001); SAVEPOINT a; INSERT INTO t VALUES (30002); ROLLBACK TO a; INSERT INTO t VALUES (30003); COMMIT;"
} | sql || exit 1
sound
ok $? "so are those of rows that came, changed and went"
is "$(sql -c 'BEGIN' -c "INSERT INTO t VALUES (40001); DELETE FROM t WHERE i = 1; UPDATE t SET n = 0 WHERE i < 100" -c "SELECT s3am.check_index('t_pkey', true), s3am.check_index('t_n', true)" -c ROLLBACK 2>&1)" \
	"|" "and while the transaction has changes of its own"
sql -c "ALTER SYSTEM SET s3am.compaction = on" -c 'SELECT pg_reload_conf()' -c 'VACUUM t' > /dev/null
sound
ok $? "and when runs were merged, and rows are gone"
sql -c "ALTER SYSTEM SET s3am.compaction = off" -c 'SELECT pg_reload_conf()' -c 'REINDEX TABLE t' -c 'VACUUM FULL t' > /dev/null
sound
ok $? "and when they were built anew"
node two "s3am.compaction = off"
sql -c 'CREATE EXTENSION s3am' || exit 1
follow one two 10
sound
ok $? "another server says the same"
on one

# ---------------------------------------------------------------- what cannot be checked
sql -c 'CREATE TABLE h (i int PRIMARY KEY) USING heap' -c 'CREATE TABLE parted (i int PRIMARY KEY) PARTITION BY RANGE (i)' -c 'CREATE ROLE nobody' || exit 1
fails_like 42809 'amcheck' "SELECT s3am.check_index('h_pkey')" "an index of a heap table is another extension's"
fails_like 42809 'partitions' "SELECT s3am.check_index('parted_pkey')" "one of a partitioned table has no entries"
fails_like 42809 'is not an index' "SELECT s3am.check_index('t')" "a table is no index"
fails_like 42501 'permission denied' "SET ROLE nobody; SELECT s3am.check_index('t_pkey')" "it is not for everybody"
fails_like 55000 'built by this transaction' "BEGIN; REINDEX INDEX t_pkey; SELECT s3am.check_index('t_pkey')" "one that is not committed has to wait"
fails_like 22023 'positive' "SELECT s3am.index_problems('t_pkey', true, 0)" "there is no number of problems below one"

# ---------------------------------------------------------------- entries and pages that nobody but a faulty writer makes
# what is changed must fit where it was: pages are compressed badly when they are written, and well when they are changed
cat > "$work/badly.c" <<'C'
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
size_t ZSTD_compressCCtx(void *cctx, void *to, size_t room, const void *from, size_t len, int level) {
	size_t (*real)(void *, void *, size_t, const void *, size_t, int) = (size_t (*)(void *, void *, size_t, const void *, size_t, int)) dlsym(RTLD_NEXT, "ZSTD_compressCCtx");
	(void) level;
	return real(cctx, to, room, from, len, -100);
}
C
gcc -shared -fPIC -o "$work/badly.so" "$work/badly.c" || exit 1
chmod 755 "$work/badly.so"
cluster_stop "$dir"
S3AM_SERVER_PRELOAD="$work/badly.so" cluster_start "$dir" || exit 1
sql -c 'CREATE TABLE d (i int PRIMARY KEY) USING s3am' -c 'INSERT INTO d SELECT g * 1000 + hashint4(g) % 500 FROM generate_series(1, 12000) g' -c 'REINDEX TABLE d' || exit 1
object=$(sql -c "SELECT object FROM s3am.segments WHERE \"table\" = 'd_pkey'::regclass")
[ "$(wc -l <<< "$object")" = 1 ] && [ -f "$root/$object" ]
ok $? "the index is one segment" || diag "$object"
cp -p "$root/$object" "$work/kept"
found() { sql -F ' ' -c "SELECT problem FROM s3am.index_problems('d_pkey', $1)" 2>&1; }
# damaged NAME ROW COLUMN VALUE REGEX [heapallindexed]: finds what is said, in one way and the other
damaged() {
	"$here/lib/patch_segment" "$root/$object" 8,4 "$2" "$3" "$4" || exit 1
	like "$(found "${6:-false}")" "$5" "$1"
	fails_like XX002 'not what its table says' "SELECT s3am.check_index('d_pkey', ${6:-false})" "which is an error: $1"
	cat "$work/kept" > "$root/$object"
}
is "$(found true)" "" "the index is sound"
damaged "a key that is too large" 100 1 +5000 'entry 101 of the run should come before .*the entry of row \(0,101\) has other values'
damaged "a key that is too small" 7000 1 -2000 'entry 7000 of the run should come before'
damaged "a row that the table does not have" 50 0 +100000 'entry 50 of the run is of row \(343,238\), which the table does not have'
damaged "the row of another entry" 200 0 +1 'row \(0,202\) has more than one entry'
damaged "and its own is without one" 200 0 +1 'row \(0,201\) has no entry' true
damaged "a row of nobody" 200 0 18446744073709551615 'entry 200 of the run is of row'
damaged "a key in an inner page" -1 1 +1 'inner row [0-9]+ has another key than the page that it leads to'
damaged "an inner page that leads elsewhere" -2 0 +1 'inner row [0-9]+ does not lead to the page'
like "$(sql -v ON_ERROR_STOP=0 -c "SELECT object = '$object' AND problem ~ 'inner' FROM s3am.index_problems('d_pkey')")" '^$' "nothing is left of that"
"$here/lib/patch_segment" "$root/$object" 8,4 -1 1 +1
is "$(sql -c "SELECT DISTINCT object FROM s3am.index_problems('d_pkey')")" "$object" "the object is named"
cat "$work/kept" > "$root/$object"
for i in {1..4}; do "$here/lib/patch_segment" "$root/$object" 8,4 $((i * 10)) 1 100000000 || exit 1; done
is "$(sql -c "SELECT count(*) FROM s3am.index_problems('d_pkey', false, 3)")" 3 "no more are told than were asked for"
cat "$work/kept" > "$root/$object"
printf 'XXXXXXXX' | dd of="$root/$object" bs=1 seek=1000 conv=notrunc status=none
fails_like XX001 "$object" "SELECT s3am.check_index('d_pkey')" "an object that is damaged is an error that names it"
cat "$work/kept" > "$root/$object"
is "$(found true)" "" "nothing is left of all this"

# ---------------------------------------------------------------- functions that changed their mind
sql <<'SQL' || exit 1
CREATE FUNCTION ordered(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT CASE WHEN $1 < $2 THEN -1 WHEN $1 > $2 THEN 1 ELSE 0 END $$;
CREATE OPERATOR CLASS odd_ops FOR TYPE int USING btree AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 ordered(int, int);
CREATE FUNCTION computed(int) RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT $1 $$;
CREATE FUNCTION chosen(int) RETURNS bool LANGUAGE sql IMMUTABLE AS $$ SELECT $1 % 2 = 0 $$;
CREATE TABLE f (i int) USING s3am;
INSERT INTO f SELECT generate_series(1, 300);
CREATE INDEX f_order ON f (i odd_ops);
CREATE UNIQUE INDEX f_unique ON f (i odd_ops);
CREATE INDEX f_computed ON f (computed(i));
CREATE INDEX f_chosen ON f (i) WHERE chosen(i);
CREATE FUNCTION coded(int) RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT $1 / 4 $$;
CREATE FUNCTION same(int, int) RETURNS bool LANGUAGE sql IMMUTABLE AS $$ SELECT $1 = $2 $$;
CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = same, COMMUTATOR = ===);
CREATE OPERATOR CLASS coded_ops FOR TYPE int USING hash AS OPERATOR 1 ===, FUNCTION 1 coded(int);
ALTER TABLE f ADD CONSTRAINT f_code EXCLUDE USING hash (i coded_ops WITH ===);
SQL
sound
ok $? "indexes by functions are sound"
# after STATEMENT INDEX REGEX NAME: what is wrong with it then; all is as it was afterwards
after() {
	local said
	said=$(sql -c BEGIN -c "$1" -c "SELECT problem FROM s3am.index_problems('$2', true)" -c ROLLBACK 2>&1)
	like "$said" "$3" "$4"
}
after "CREATE OR REPLACE FUNCTION coded(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT \$1 / 5'" f_code 'the entry of row \(0,4\) has other values than the row' "a hash function that comes to say something else"
after "CREATE OR REPLACE FUNCTION same(int, int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT \$1 / 2 = \$2 / 2'" f_code 'rows \(0,2\) and \(0,3\) have one key' "an equality that holds more equal"
ordered() { echo "CREATE OR REPLACE FUNCTION ordered(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS \$\$ SELECT $1 \$\$"; }
after "$(ordered "CASE WHEN \$1 < \$2 THEN 1 WHEN \$1 > \$2 THEN -1 ELSE 0 END")" f_order 'entry 1 of the run should come before' "an operator class that orders otherwise"
after "$(ordered "CASE WHEN \$1 / 2 < \$2 / 2 THEN -1 WHEN \$1 / 2 > \$2 / 2 THEN 1 ELSE 0 END")" f_unique 'rows \(0,2\) and \(0,3\) have one key' "one that comes to hold keys equal"
is "$(sql -c BEGIN -c "$(ordered "CASE WHEN \$1 / 2 < \$2 / 2 THEN -1 WHEN \$1 / 2 > \$2 / 2 THEN 1 ELSE 0 END")" -c "SELECT count(*) FROM s3am.index_problems('f_order', true)" -c ROLLBACK)" \
	0 "which an index that is not unique may have"
after "CREATE OR REPLACE FUNCTION computed(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT \$1 + (\$1 = 17)::int'" f_computed 'the entry of row \(0,17\) has other values' "an expression that is computed otherwise"
after "CREATE OR REPLACE FUNCTION chosen(int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT \$1 % 4 = 0'" f_chosen 'row \(0,2\) has an entry, though' "a condition that holds no more"
after "CREATE OR REPLACE FUNCTION chosen(int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT \$1 % 2 = 0 OR \$1 = 33'" f_chosen 'row \(0,33\) has no entry' "and one that holds for more rows"
# as whom they run
sql -c 'CREATE ROLE owner' -c 'GRANT CREATE ON SCHEMA public TO owner' -c 'SET ROLE owner' -c "CREATE FUNCTION whoami(int) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT current_user::text'" \
	-c 'CREATE TABLE w (i int) USING s3am' -c 'INSERT INTO w VALUES (1)' -c 'CREATE INDEX w_who ON w (whoami(i))' -c 'RESET ROLE' -c "SELECT s3am.check_index('w_who', true)" > /dev/null
ok $? "functions run as the table's owner"

# ---------------------------------------------------------------- a long one
sql -c "CREATE OR REPLACE FUNCTION computed(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN PERFORM pg_sleep(0.05); RETURN \$1; END'" || exit 1
sql -c "SELECT s3am.check_index('f_computed')" > "$work/long" 2>&1 &
long=$!
shown() { [ "$(sql -F ' ' -c "SELECT command, phase, objects >= 1, objects = objects_total, bytes > 0 FROM s3am.progress")" = "check index comparing with the table t t t" ]; }
eventually 10 shown
ok $? "s3am.progress says how far it is"
sql -c "SELECT pg_cancel_backend(pid) FROM s3am.progress" > /dev/null
wait "$long"
like "$(cat "$work/long")" 'canceling statement' "it can be cancelled"
is "$(sql -c 'SELECT count(*) FROM s3am.progress')" 0 "and leaves nothing behind"
done_testing
