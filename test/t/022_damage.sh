#!/bin/bash
# Damaged bytes of segments and inline rows: an error or the same rows, never anything else, and never a crash.  The reader runs under
# the address sanitizer, in a server of its own that knows nothing of s3am.
. "$(dirname "$0")/../lib/tap.sh"

here=$(cd "$(dirname "$0")/.." && pwd)
mkdir "$work/build"
make -s -C "$work/build" -f "$here/segment/Makefile" "PG_CONFIG=$PG_CONFIG" \
	"SEGMENT_CFLAGS=-g -O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined" \
	all > "$work/make.log" 2>&1
ok $? "build" || diag "$(cat "$work/make.log")"
chmod 755 "$work/build"

# glibc's bindtextdomain waits for ever when it is called under the preloaded library; messages stay English without it
echo 'char *bindtextdomain(const char *d, const char *n) { (void) d; return (char *) n; }
char *textdomain(const char *d) { return (char *) d; }' > "$work/english.c"
gcc -shared -fPIC -o "$work/english.so" "$work/english.c"
mkdir "$work/said" && chmod 777 "$work/said"
export S3AM_SERVER_PRELOAD="$(gcc -print-file-name=libasan.so):$work/english.so"
export S3AM_SERVER_OPTIONS="ASAN_OPTIONS=detect_leaks=0:log_path=$work/said/address UBSAN_OPTIONS=print_stacktrace=1:log_path=$work/said/undefined"
dir=$work/server
cluster_init "$dir" && cluster_start "$dir"
cluster_psql "$dir" -d postgres -c 'CREATE DATABASE test'
sql -c "CREATE FUNCTION damage(query text, place text, how text, step int, OUT tried int8, OUT same int8, OUT errors int8, OUT other int8)
	LANGUAGE c AS '$work/build/segment_test', 'damage'"
sql << 'SQL'
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TYPE pair AS (a int, b text, m mood);
CREATE TYPE mood_range AS RANGE (subtype = mood);
CREATE FUNCTION noise(seed int, n int) RETURNS text LANGUAGE sql AS
	$$ SELECT left(string_agg(md5((seed * 1000 + g)::text), ''), n) FROM generate_series(1, n / 32 + 1) g $$;
-- pages of more than 8 kB, so that each is a block of its own
CREATE TABLE plain AS SELECT g AS i, noise(g, g % 300) AS t, g / 3.0 AS n, CASE WHEN g % 3 = 0 THEN g::int8 END AS o, ARRAY[g, NULL] AS a,
	point(g, g) AS p, (g % 7 = 0) AS b, g::text::name AS nm FROM generate_series(1, 100) g;
CREATE TABLE nested AS SELECT (ARRAY['sad', 'ok', 'happy'])[g % 3 + 1]::mood AS m, ARRAY['ok', NULL]::mood[] AS ms,
	ROW(g, noise(g, 80), 'ok')::pair AS c, ARRAY[ROW(1, NULL, 'sad')::pair, NULL] AS cs, mood_range('sad', 'happy', '[]') AS r,
	mood_multirange(mood_range('sad', 'ok')) AS mr, 'pg_class'::regclass AS rc, makeaclitem(0, 10, 'SELECT', false) AS acl
	FROM generate_series(1, 60) g;
CREATE TABLE large AS SELECT g AS i, noise(g, 9000) AS t, ARRAY[noise(g, 3000)] AS a, convert_to(noise(g + 5, 2500), 'UTF8') AS b,
	CASE WHEN g = 2 THEN noise(g, 1100000) END AS huge FROM generate_series(1, 3) g;
-- what only pages by columns tell apart: numbers of each width that repeat, grow, shrink and jump, NULLs in some rows, long values
CREATE TABLE columns AS SELECT g::int2 AS two, g * 1000003 AS four, g::int8 * g * g * -7 AS eight, g / 8.0::float8 AS f, (g % 3)::float4 AS f4,
	('2024-01-01'::timestamptz + g * '1 s'::interval) AS at, CASE WHEN g % 4 > 0 THEN (g % 4)::int8 << 40 END AS few,
	CASE WHEN g % 9 = 0 THEN noise(g, g) END AS t, gen::uuid AS id, 'x' || (g % 5) AS kind, g % 2 = 0 AS even, (g * 37 % 101)::text::name AS nm
	FROM generate_series(1, 1500) g, md5(g::text) gen;
-- several pages
CREATE TABLE long AS SELECT g AS i, noise(g, 2000) AS t FROM generate_series(1, 150) g;
SQL

show() { sql -c "SELECT tried > 0, same, errors, other FROM damage('SELECT * FROM $1', '$2', '$3', $4)"; }
# what: nothing but errors and what has no meaning (padding)
check() {
	local got tried same errors other
	got=$(sql -F ' ' -c "SELECT tried, same, errors, other FROM damage('SELECT * FROM $1', '$2', '$3', $4)" 2>&1)
	read -r tried same errors other <<< "$got"
	[[ $got =~ ^[0-9]+\ [0-9]+\ [0-9]+\ [0-9]+$ && $tried -gt 0 && $((same + errors + other)) = "$tried" && $errors -gt 0 ]] &&
		{ [ "$5" = any ] || [ "$other" = 0 ]; } && { [ "$5" != none ] || [ "$same" = 0 ]; }
	ok $? "$1 $2 $3: $got"
}
for table in plain nested; do
	for place in inline segment; do
		check "$table" "$place" flip 1 error
		check "$table" "$place" cut 3 error
		check "$table" "$place" seal 1 any
		check "$table" "$place" raw 1 any
	done
	check "$table" alone flip 1 error
	check "$table" alone cut 7 none
	check "$table" alone seal 3 any
	check "$table" segment schema 1 any
done
check large inline flip 997 error
check large segment flip 997 error
check large segment cut 9973 error
check large segment seal 499 any
check plain inline columns 1 any
check nested inline columns 1 any
check long segment columns 1013 any
check columns segment columns 61 any
check columns segment seal 61 any
check columns segment packed 499 any
check long segment packed 4001 any
check long segment swap 1 none
check long inline swap 1 none
check long segment places 1 any
check large segment places 1 any
is "$(sql -c 'SELECT 1')" 1 "the server still answers"
is "$(ls "$work/said")" "" "nothing for the sanitizers to say" || diag "$(head -n 40 "$work"/said/*)"
done_testing
