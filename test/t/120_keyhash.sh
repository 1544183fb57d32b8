#!/bin/bash
# Hashes of keys: equal for keys that an index holds equal, whatever they look like, the same on every server, and of the bytes that
# docs/format-manifests.md says.
. "$(dirname "$0")/../lib/tap.sh"

here=$(cd "$(dirname "$0")/.." && pwd)
mkdir "$work/build"
make -s -C "$work/build" -f "$here/index/Makefile" "PG_CONFIG=$PG_CONFIG" \
	"KEYHASH_CFLAGS=-g -fsanitize=undefined -fno-sanitize-recover=undefined" all > "$work/make.log" 2>&1
ok $? "build" || diag "$(cat "$work/make.log")"
chmod 755 "$work/build"

# Sessions are few, as each takes time: statements are gathered, and answers come as lines of TAP do.
gathered=$work/gathered.sql
names=() wanted=()
gather() { cat >> "$gathered"; }
# expect WANTED NAME <<< QUERY: a query of one line, among what is gathered
expect() { wanted+=("$1") names+=("$2") && gather; }
answers() {
	local lines i
	mapfile -t lines < <(sql -q < "$gathered" 2> "$work/errors")
	for i in "${!names[@]}"; do
		is "${lines[$i]:-}" "${wanted[$i]}" "${names[$i]}"
	done
	is "$(cat "$work/errors")" "" "no errors"
	: > "$gathered"
	names=() wanted=()
}

# keys NAME COLUMNS INDEX-ELEMENTS LOOK ROWS: equal keys have equal hashes, and LOOK of them at least look otherwise.  A heap table with an
# index whose keys it holds; with no entries, so that keys may be equal and large
keys() {
	gather <<< "CREATE TABLE $1 ($2); CREATE UNIQUE INDEX ${1}_key ON $1 ($3) WHERE false; INSERT INTO $1 $5;"
	checked "$1_key" "$4" "$1: $3"
}
checked() { # INDEX LOOK NAME
	expect "t|t|t|0|0|t|0" "$3" <<< "SELECT rows > 1, equal > 0, otherwise >= $2, wrong, clashes, counts, leak FROM key_check('$1');"
}

node one
sql -c 'CREATE EXTENSION s3am'
sql << SQL
CREATE FUNCTION key_seed(seed int8) RETURNS void LANGUAGE c AS '$work/build/keyhash_test';
CREATE FUNCTION key_hash(index regclass, "row" record, OUT everywhere int8, OUT here int8, OUT coarse bool, OUT "distinct" bool)
	LANGUAGE c AS '$work/build/keyhash_test';
CREATE FUNCTION key_check(index regclass, OUT rows int8, OUT equal int8, OUT otherwise int8, OUT wrong int8, OUT clashes int8,
	OUT counts bool, OUT leak int8) LANGUAGE c AS '$work/build/keyhash_test';
SQL
sql << 'SQL'
CREATE FUNCTION n(lo int, hi int) RETURNS int LANGUAGE sql VOLATILE AS $$ SELECT floor(lo + random() * (hi - lo + 1))::int $$;
-- with a display scale of its own
CREATE FUNCTION num() RETURNS numeric LANGUAGE sql VOLATILE AS $$
	SELECT (n(-300, 300)::numeric * (ARRAY[0.01, 0.5, 1, 100, 10000, 1e8, 1e-9, 1e30])[n(1, 8)])::text::numeric
		+ (ARRAY[0, 0.0, 0.000, 0.00000000000])[n(1, 4)] $$;
CREATE FUNCTION word() RETURNS text LANGUAGE sql VOLATILE AS $$
	SELECT translate(n(0, 400)::text, '0123', 'äB c') || repeat(' ', n(0, 2)) $$;
CREATE FUNCTION span() RETURNS interval LANGUAGE sql VOLATILE AS $$
	SELECT make_interval(months => m, days => d - 30 * m - e, hours => 24 * e)
		FROM (SELECT n(-40, 40) AS m, n(-100, 100) AS d, n(-50, 50) AS e) x $$;
SQL

gather <<< "DO \$\$ BEGIN PERFORM setseed(0.5); END \$\$;"
keys bools 'v bool' v 0 'SELECT n(0, 1) = 1 FROM generate_series(1, 50)'
keys chars 'v "char"' v 0 'SELECT chr(n(33, 120))::"char" FROM generate_series(1, 500)'
for t in int2 int4 int8 oid money; do
	keys "${t}s" "v $t" v 0 "SELECT n(0, 2000)::text::$t FROM generate_series(1, 3000)"
done
keys ints 'v int8' v 0 "SELECT n(-2000, 2000)::int8 << n(0, 52) FROM generate_series(1, 3000)"
for t in float4 float8; do
	keys "${t}s" "v $t" v 2 "SELECT (n(-300, 300) / 4.0)::$t * (CASE n(0, 9) WHEN 0 THEN -1e20 ELSE 1 END)::$t FROM generate_series(1, 3000)
		UNION ALL SELECT '-0' UNION ALL SELECT '0' UNION ALL SELECT -('0'::$t) UNION ALL SELECT 'NaN' UNION ALL SELECT -('NaN'::$t)
		UNION ALL SELECT 'Infinity'::$t - 'Infinity' UNION ALL SELECT 'Infinity' UNION ALL SELECT '-Infinity'"
done
keys numerics 'v numeric' v 500 "SELECT num() FROM generate_series(1, 4000)
	UNION ALL SELECT unnest('{0,-0,0.0000,-0.0,NaN,NaN,Infinity,-Infinity,1e1000,1e-1000,9999,10000,10000.0,0.0001,0.00010,0.1,0.10000}'::numeric[])"
keys numerics_fixed 'v numeric(60, 10)' v 0 'SELECT num() FROM generate_series(1, 1000)'
for ops in text_ops text_pattern_ops; do
	keys "texts_$ops" 'v text' "v $ops" 0 'SELECT word() FROM generate_series(1, 3000)'
	keys "varchars_$ops" 'v varchar' "v $ops" 0 'SELECT word() FROM generate_series(1, 3000)'
done
keys texts_c 'v text' 'v COLLATE "C"' 0 'SELECT word() FROM generate_series(1, 1000)'
for ops in bpchar_ops bpchar_pattern_ops; do
	keys "bpchars_$ops" 'v bpchar' "v $ops" 500 "SELECT word() || repeat(' ', n(0, 9)) FROM generate_series(1, 3000) UNION ALL SELECT unnest('{\"\",\" \"}'::bpchar[])"
done
keys char20s 'v char(20)' v 0 'SELECT word() FROM generate_series(1, 1000)'
keys names 'v name' v 0 'SELECT word()::name FROM generate_series(1, 3000)'
keys byteas 'v bytea' v 0 "SELECT decode(lpad(to_hex(n(0, 2000)), 4, '0') || repeat('00', n(0, 3)), 'hex') FROM generate_series(1, 3000)"
keys dates 'v date' v 0 "SELECT '2000-01-01'::date + n(-1000, 1000) * n(1, 2) FROM generate_series(1, 3000)
	UNION ALL SELECT unnest('{infinity,infinity,-infinity,4713-01-01 BC,5874897-12-31}'::date[])"
keys times 'v time' v 0 "SELECT '00:00'::time + n(0, 1999) * '0.013 s'::interval FROM generate_series(1, 3000) UNION ALL SELECT '24:00'"
keys timetzs 'v timetz' v 0 "SELECT (lpad(n(0, 23)::text, 2, '0') || ':00:00' || (ARRAY['+00', '-00', '+01', '-01', '+05:30'])[n(1, 5)])::timetz FROM generate_series(1, 1000)"
for t in timestamp timestamptz; do
	keys "${t}s" "v $t" v 0 "SELECT '2001-01-01'::$t + n(-2000, 2000) * '1 day 0.5 s'::interval FROM generate_series(1, 3000)
		UNION ALL SELECT unnest('{infinity,infinity,-infinity}'::$t[])"
done
keys intervals 'v interval' v 1000 "SELECT span() FROM generate_series(1, 4000) UNION ALL SELECT unnest('{1 mon,30 days,720:00,1 day -24:00,0,-1 day,-24:00,
	-0:00:01,-1 day 23:59:59,178000000 years,-178000000 years}'::interval[])"
keys uuids 'v uuid' v 0 "SELECT md5(n(0, 2000)::text)::uuid FROM generate_series(1, 3000)"
keys macaddrs 'v macaddr' v 0 "SELECT ('08002b' || lpad(to_hex(n(0, 2000)), 6, '0'))::macaddr FROM generate_series(1, 3000)"
keys macaddr8s 'v macaddr8' v 0 "SELECT ('08002bff' || lpad(to_hex(n(0, 2000)), 8, '0'))::macaddr8 FROM generate_series(1, 3000)"
for ops in inet_ops cidr_ops; do
	keys "inets_$ops" 'v inet' "v $ops" 0 "SELECT (CASE n(0, 1) WHEN 0 THEN '10.0.' || n(0, 9) || '.' || n(0, 9) ELSE 'fe80::' || n(0, 9) END
		|| '/' || n(20, 32))::inet FROM generate_series(1, 3000)
		UNION ALL SELECT unnest('{10.1.0.1,10.1.0.1/32,::1,0::0001/128,::ffff:1.2.3.4,1.2.3.4}'::inet[])
		UNION ALL SELECT ('11.0.0.0/' || m)::inet FROM generate_series(8, 14) m UNION ALL SELECT ('11.0.0.0/' || m)::cidr::inet FROM generate_series(8, 14) m"
done
keys cidrs 'v cidr' v 0 "SELECT ('10.' || n(0, 200) || '.0.0/' || n(16, 32))::cidr FROM generate_series(1, 3000)"
keys bits 'v bit(11)' v 0 "SELECT n(0, 2000)::bit(11) FROM generate_series(1, 3000)"
keys varbits 'v varbit' v 0 "SELECT substring(n(0, 500)::bit(9)::varbit, 1, n(0, 9)) FROM generate_series(1, 3000)"
keys jsonbs 'v jsonb' v 50 "SELECT CASE n(0, 5) WHEN 0 THEN to_jsonb(num()) WHEN 1 THEN to_jsonb(word()) WHEN 2 THEN jsonb_build_array(num())
	WHEN 3 THEN jsonb_build_object('a', num(), word(), NULL) WHEN 4 THEN jsonb_build_object('b', jsonb_build_array(n(0, 9), jsonb_build_object('c', n(0, 1) = 1)))
	ELSE (ARRAY['[]', '{}', 'null', 'true', '[[]]', '[null]', '\"\"', '[{}]', '[1,[2]]', '[[1],2]', '{\"a\":1.0}', '{\"a\":1.000}'])[n(1, 12)]::jsonb END
	FROM generate_series(1, 4000)"
# a scale in each element; lower bounds and dimensions alone are not told apart
keys int4_arrays 'v int4[]' v 0 "SELECT ARRAY[n(0, 9), NULLIF(n(0, 9), 0), n(0, 9)] FROM generate_series(1, 3000) UNION ALL SELECT '{}' UNION ALL SELECT '{}' UNION ALL SELECT '{NULL}'
	UNION ALL SELECT '{0}'"
keys numeric_arrays 'v numeric[]' v 100 "SELECT ARRAY[num() * 0, NULLIF(n(0, 9), 0), n(0, 20) * 1.0 + (ARRAY[0, 0.00])[n(1, 2)]] FROM generate_series(1, 3000)"
keys text_arrays 'v text[]' v 0 "SELECT ARRAY[word(), NULL, NULLIF(word(), 'ä')] FROM generate_series(1, 1000) UNION ALL SELECT '{ab,c}' UNION ALL SELECT '{a,bc}'
	UNION ALL SELECT '{a,bc}'"
keys int4ranges 'v int4range' v 0 "SELECT int4range(l, l + n(0, 20), (ARRAY['[]', '[)', '(]'])[n(1, 3)]) FROM (SELECT n(0, 30) AS l FROM generate_series(1, 3000)) x
	UNION ALL SELECT unnest('{empty,\"[1,1)\",\"(,)\",\"[,]\",\"[1,)\",\"(,1)\"}'::int4range[])"
keys numranges 'v numrange' v 300 "SELECT numrange(l * 1.0, l + n(0, 20) + (ARRAY[0, 0.00])[n(1, 2)], (ARRAY['[]', '[)', '(]', '()'])[n(1, 4)]) FROM (SELECT n(0, 30) AS l FROM generate_series(1, 3000)) x"
keys daterange_arrays 'v daterange[]' v 0 "SELECT ARRAY[daterange('2020-01-01', '2020-01-01'::date + n(0, 500), '[]')] FROM generate_series(1, 2000)"
keys nummultiranges 'v nummultirange' v 100 "SELECT nummultirange(numrange(l, l + 1.0), numrange(l + 1 + n(0, 1), l + 2 + (ARRAY[0, 0.00])[n(1, 2)])) FROM (SELECT n(0, 300) AS l FROM generate_series(1, 3000)) x"
gather << 'SQL'
CREATE DOMAIN amount AS numeric CHECK (VALUE < 1e100);
CREATE DOMAIN amounts AS amount[];
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TYPE mood_range AS RANGE (subtype = mood);
CREATE TYPE text_range AS RANGE (subtype = text, collation = "C");
SQL
keys domains 'v amount' v 300 'SELECT num() FROM generate_series(1, 3000)'
keys domain_arrays 'v amounts' v 100 'SELECT ARRAY[n(0, 300), n(0, 1) + (ARRAY[0, 0.00])[n(1, 2)]]::amounts FROM generate_series(1, 3000)'
keys enums 'v mood' v 0 "SELECT (ARRAY['sad', 'ok', 'happy'])[n(1, 3)]::mood FROM generate_series(1, 100)"
keys enum_ranges 'v mood_range' v 0 "SELECT mood_range('sad', (ARRAY['ok', 'happy'])[n(1, 2)]::mood, '[]') FROM generate_series(1, 100)"
keys text_ranges 'v text_range' v 0 "SELECT text_range('a', 'a' || word(), '[]') FROM generate_series(1, 1000)"
keys several 'a numeric, b text, c char(3), d timestamptz' 'b DESC, a NULLS FIRST, lower(c), d' 300 \
	"SELECT n(0, 9) + (ARRAY[0, 0.0])[n(1, 2)], NULLIF(n(0, 9), 3), n(0, 2), NULL FROM generate_series(1, 3000)"
keys included 'a int, b int' 'a) INCLUDE (b' 0 'SELECT n(0, 500), n(0, 500) FROM generate_series(1, 1000)'

# large values: out of line, compressed, with short headers and long ones
large() { # WHICH LENGTHS ONE
	echo "INSERT INTO large SELECT repeat(g::text, l), to_jsonb(repeat(g::text, l)), array_fill(g * $2, ARRAY[l]) FROM generate_series(1, 5) g, unnest('{$1}'::int[]) l;"
}
gather << SQL
CREATE TABLE large (v text, w jsonb, x numeric[]);
CREATE UNIQUE INDEX large_key ON large (v, w, x) WHERE false;
$(large 20,50,340,1021,1024,2000,100000 1.0)
ALTER TABLE large ALTER v SET STORAGE EXTERNAL, ALTER w SET STORAGE EXTERNAL, ALTER x SET STORAGE EXTERNAL;
$(large 20,50,340,1021,1024,2000,100000 1.00)
SQL
checked large_key 30 "large values"

# one family, one hash; and whatever kind of index it is
gather << 'SQL'
CREATE TABLE widths (a int2, b int4, c int8, f float4, g float8, d date, ts timestamp, v varchar, u text, n name, x bpchar, EXCLUDE (u WITH =));
INSERT INTO widths VALUES (-7, -7, -7, 0.5, 0.5, '2020-02-29', '2020-02-29', 'ab', 'ab', 'ab', 'ab  ');
CREATE INDEX widths_hash ON widths USING hash (u);
SQL
for c in a b c f g d ts v u n x; do gather <<< "CREATE INDEX widths_$c ON widths ($c);"; done
for pair in "a b" "a c" "f g" "d ts" "v u" "u n" "u x" "u hash" "u u_excl"; do
	expect t "hashed alike: $pair" <<< "SELECT (key_hash('widths_${pair% *}', t)).everywhere = (key_hash('widths_${pair#* }', t)).everywhere FROM widths t;"
done
answers

# the bytes themselves: what versions and servers agree on
cat > "$work/xxh.py" << 'PY'
import ctypes, struct, sys
lib = ctypes.CDLL('libxxhash.so.0')
lib.XXH3_64bits_withSeed.restype = ctypes.c_uint64
lib.XXH3_64bits_withSeed.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64]
seed = int(sys.argv[1])
data = bytes.fromhex(sys.argv[2])
while len(data) >= 1024:
    data = struct.pack('<Q', lib.XXH3_64bits_withSeed(data[:1024], 1024, seed)) + data[1024:]
print(ctypes.c_int64(lib.XXH3_64bits_withSeed(data, len(data), seed) or 1).value)
PY
n=0
gather <<< "DO \$\$ BEGIN PERFORM key_seed(4711); END \$\$;"
bytes() { # TYPE VALUE BYTES
	n=$((n + 1))
	gather <<< "CREATE TABLE bytes$n (v $1); CREATE UNIQUE INDEX bytes${n}_key ON bytes$n (v) WHERE false; INSERT INTO bytes$n VALUES ($2);"
	expect "$(python3 "$work/xxh.py" 4711 "$3")" "bytes of $1 $2" <<< "SELECT (key_hash('bytes${n}_key', t)).everywhere FROM bytes$n t;"
}
bytes int4 'NULL' '00'
bytes int2 '-2' '01 feffffffffffffff'
bytes bool 'true' '01 01'
bytes '"char"' "'a'" '01 61'
bytes money "'0.03'" '01 0300000000000000'
bytes oid '4000000000' '01 00286bee'
bytes float4 "'-0'" '01 0000000000000000'
bytes float4 "'NaN'" '01 000000000000f87f'
bytes float8 '1' '01 000000000000f03f'
bytes numeric '-1234567.50' '01 00400000 01000000 03000000 7b00 d711 8813'
bytes numeric "'NaN'" '01 00c00000 00000000 00000000'
bytes numeric "'-Infinity'" '01 00f00000 00000000 00000000'
bytes numeric '0.00' '01 00000000 00000000 00000000'
bytes text "'ä '" '01 03000000 c3a420'
bytes 'char(4)' "'a'" '01 01000000 61'
bytes name "'a'" '01 01000000 61'
bytes bytea "'\\x00ff'" '01 02000000 00ff'
bytes date "'2000-01-02'" '01 0060d71d14000000'
bytes date "'-infinity'" '01 0000000000000080'
bytes time "'00:00:01'" '01 40420f0000000000'
bytes timetz "'00:00:01+01'" '01 40420f0000000000 f0f1ffff'
bytes timestamp "'2000-01-01 00:00:01'" '01 40420f0000000000'
bytes interval "'1 mon -1 us'" '01 1d00000000000000 ff5fd71d14000000'
bytes uuid "'00112233-4455-6677-8899-aabbccddeeff'" '01 00112233445566778899aabbccddeeff'
bytes macaddr "'08:00:2b:01:02:03'" '01 08002b010203'
bytes inet "'10.0.0.1/8'" '01 04 08 0a000001'
bytes cidr "'::/8'" '01 06 08 00000000000000000000000000000000'
bytes varbit "B'101'" '01 03000000 a0'
bytes jsonb "'{\"a\": [1, null, \"b\"]}'" '01 7b 73 01000000 61 5b 30 00000000 00000000 01000000 0100 6e 73 01000000 62 7d 7d'
bytes jsonb "'true'" '01 3d 74 7d'
bytes 'int4[]' "'{1,NULL}'" '01 02000000 01 0100000000000000 00'
bytes int4range "'[1,)'" '01 00 01 0100000000000000 00'
bytes int4range "'empty'" '01 01'
bytes int4multirange "'{[1,3)}'" '01 01000000 01 0100000000000000 02 0300000000000000'
bytes mood "'ok'" '01 02000000'
bytes text "repeat('x', 3000)" "01 b80b0000 $(printf 'x%.0s' {1..3000} | od -An -v -tx1 | tr -d ' \n')"
gather <<< "DO \$\$ BEGIN PERFORM key_seed(1); END \$\$;"
expect "$(python3 "$work/xxh.py" 1 '01 feffffffffffffff')" "another seed" <<< "SELECT (key_hash('bytes2_key', t)).everywhere FROM bytes2 t;"
answers

# what is left out, and what counts on one server all the same
gather << 'SQL'
CREATE EXTENSION citext;
CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TYPE pair AS (a int, b numeric);
CREATE TYPE ci_range AS RANGE (subtype = text, collation = ci);
CREATE TYPE lsn_range AS RANGE (subtype = pg_lsn);
CREATE FUNCTION cmp_abs(int, int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT btint4cmp(abs($1), abs($2))';
CREATE FUNCTION eq_abs(int, int) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT abs($1) = abs($2)';
CREATE OPERATOR =% (FUNCTION = eq_abs, LEFTARG = int, RIGHTARG = int, COMMUTATOR = =%);
CREATE OPERATOR CLASS abs_ops FOR TYPE int USING btree AS OPERATOR 3 =%, FUNCTION 1 cmp_abs(int, int);
CREATE OPERATOR CLASS near_ops FOR TYPE int USING btree AS OPERATOR 1 =%, OPERATOR 3 =, FUNCTION 1 btint4cmp(int, int);
CREATE TYPE odd_range AS RANGE (subtype = int, subtype_opclass = abs_ops);
CREATE TYPE tsvector_range AS RANGE (subtype = tsvector);
SQL
# left TYPE INDEX-ELEMENT A EQUAL OTHER HERE: no server but this one tells A, EQUAL, OTHER and NULL apart, with an int before them or alone.  HERE:
# this one does, and knows that A and EQUAL are
left() {
	n=$((n + 1))
	gather << SQL
CREATE TABLE left$n (r serial, i int, v $1);
CREATE UNIQUE INDEX left${n}_key ON left$n (i, $2) WHERE false;
CREATE UNIQUE INDEX left${n}_only ON left$n ($2) WHERE false;
INSERT INTO left$n (i, v) VALUES (1, $3), (1, $4), (1, $5), (1, NULL), (2, $3);
SQL
	expect "2|f|0|0|t|t|t|$([ "$6" = t ] && echo "4|3" || echo "2|1")" "left out: $1 $2" << SQL
WITH k AS (SELECT r, k.*, o.coarse AS o_coarse, o.everywhere AS o_everywhere, o.here AS o_here FROM left$n t, key_hash('left${n}_key', t) k, key_hash('left${n}_only', t) o)
	SELECT count(DISTINCT everywhere), bool_or(coarse), min(o_everywhere), max(o_everywhere), bool_and(o_coarse),
		(max(here) FILTER (WHERE r = 1)) = (max(here) FILTER (WHERE r = 2)), (max(o_here) FILTER (WHERE r = 1)) = (max(o_here) FILTER (WHERE r = 2)),
		count(DISTINCT here), count(DISTINCT o_here) FROM k;
SQL
}
left citext v "'Ab'" "'aB'" "'b'" t
left citext 'v text_ops' "'Ab'" "'Ab'" "'b'" t
left text 'v COLLATE ci' "'Ab'" "'aB'" "'b'" t
left bpchar 'v COLLATE ci' "'Ab'" "'aB  '" "'b'" t
left 'text[]' 'v COLLATE ci' "'{Ab}'" "'{aB}'" "'{b}'" t
left 'citext[]' v "'{Ab}'" "'{aB}'" "'{b}'" t
left ci_range v "'[Ab,c]'" "'[aB,C]'" "'[b,c]'" t
left lsn_range v "'[0/1,0/2]'" "'[0/1,0/2]'" "'[0/1,0/3]'" t
left regclass v "'pg_class'" "'pg_class'" "'pg_type'" t
left 'regclass[]' v "'{pg_class}'" "'{pg_class}'" "'{pg_type}'" t
left pair v "'(1,1.0)'" "'(1,1.00)'" "'(2,1)'" t
left pg_lsn v "'0/1'" "'0/1'" "'0/2'" t
left tsvector v "'a'" "'a'" "'b'" f
left 'tsvector[]' v "'{a}'" "'{a}'" "'{b}'" f
left int 'v abs_ops' 1 -1 2 f
left odd_range v "'[1,3]'" "'[1,3]'" "'[2,3]'" t
left tsvector_range v "'[a,c]'" "'[a,c]'" "'[b,c]'" f

# EXCLUDE with another operator than equality: keys that differ there exclude each other
gather << 'SQL'
CREATE TABLE near (i int, v int, CONSTRAINT near_excl EXCLUDE (i WITH =, v near_ops WITH =%) WHERE (false));
CREATE INDEX near_equal ON near (i, v near_ops);
INSERT INTO near VALUES (1, 2), (1, -2), (2, 2);
SQL
expect "2|2" "EXCLUDE with another operator leaves its column out" <<< "SELECT count(DISTINCT everywhere), count(DISTINCT here) FROM near t, key_hash('near_excl', t);"
expect "3|3" "which counts where keys must be equal" <<< "SELECT count(DISTINCT everywhere), count(DISTINCT here) FROM near t, key_hash('near_equal', t);"

# keys with a NULL
gather << 'SQL'
CREATE TABLE nulls (a int, b int, c int);
CREATE UNIQUE INDEX nulls_key ON nulls (a, b) INCLUDE (c);
CREATE UNIQUE INDEX nulls_equal ON nulls (a, b) NULLS NOT DISTINCT WHERE false;
INSERT INTO nulls VALUES (1, 2, NULL), (1, NULL, 3), (1, NULL, 4);
SQL
expect "f f f, t f f, t f f" "a NULL makes a key distinct, but for NULLS NOT DISTINCT, and if it is no key column" \
	<<< "SELECT string_agg(concat_ws(' ', k.distinct, e.distinct, 'f'), ', ' ORDER BY t.ctid) FROM nulls t, key_hash('nulls_key', t) k, key_hash('nulls_equal', t) e;"
expect 2 "NULLs are equal keys' as well" <<< "SELECT count(DISTINCT everywhere) FROM nulls t, key_hash('nulls_equal', t) e;"
answers

# another server, where the type has another OID and its labels have others, while they are renamed and added
hashes() { sql -c "SELECT everywhere FROM $1 t, key_hash('$1_key', t) ORDER BY t.i"; }
moods() {
	sql -q -c "CREATE TABLE $1 (i int, v mood, w mood[], x mood_range)" -c "CREATE UNIQUE INDEX $1_key ON $1 (v, w, x) WHERE false" \
		-c "INSERT INTO $1 SELECT n, v, ARRAY[v], mood_range('sad', v, '[]') FROM (VALUES ${2}) x (n, s), CAST(s AS mood) v"
	hashes "$1"
}
# (under the seed 0, as each of these sessions is new)
before=$(moods moods "(1, 'sad'), (2, 'ok'), (3, 'happy')")
is "$(sort -u <<< "$before" | wc -l)" 3 "labels differ"
sql -c "ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'" -c "ALTER TYPE mood ADD VALUE 'meh' BEFORE 'sad'" -c "ALTER TYPE mood ADD VALUE 'ok' AFTER 'fine'"
is "$(hashes moods)" "$before" "labels renamed and added change no hash"
after=$(moods later "(1, 'sad'), (2, 'fine'), (3, 'happy'), (5, 'ok')")
oids=$(sql -c "SELECT 'mood'::regtype::oid")
to=$(version)
node two
sql -c 'CREATE SCHEMA junk' -c "DO \$\$ BEGIN FOR i IN 1..20 LOOP EXECUTE format('CREATE TYPE junk.t%s AS ENUM (''a'', ''b'')', i); END LOOP; END \$\$"
sql -c 'CREATE EXTENSION s3am' # whose functions come along
caught_up() { [ "$(sql -c 'SELECT phase FROM s3am.node()')" = ready ] && [ "$(version)" -ge "$to" ]; }
eventually 30 caught_up
[ "$(sql -c "SELECT 'mood'::regtype::oid")" != "$oids" ]
ok $? "OIDs differ on another server"
is "$(moods later "(1, 'sad'), (2, 'fine'), (3, 'happy'), (5, 'ok')")" "$after" "hashes do not"
is "$(moods moods "(1, 'sad'), (2, 'fine'), (3, 'happy')")" "$before" "nor those from before the change"
done_testing
