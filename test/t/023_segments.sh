#!/bin/bash
# Segments on a server: a cold row costs its page, large values, what damaged objects look like.
. "$(dirname "$0")/../lib/tap.sh"

top=$(cd "$(dirname "$0")/../.." && pwd)
protoc-c --c_out="$work" -I"$top/src" manifest/s3am.proto && gcc -I"$work" -I"$top/src" -o "$work/states" "$top/test/segment/states.c" \
	"$top/src/manifest/delta.c" "$top/src/manifest/rowset.c" "$top/src/manifest/memory.c" "$work/manifest/s3am.pb-c.c" -lroaring -lprotobuf-c && said=$("$work/states" 2>&1)
ok $? "batches keep their schema in a checkpoint: ${said:-yes}"

node one "s3am.inline_limit = 0" "autovacuum = off" "s3am.cache_size = 0" # what is read comes from the store
sql << 'SQL'
CREATE EXTENSION s3am;
CREATE FUNCTION noise(seed int, n int) RETURNS text LANGUAGE sql AS
	$$ SELECT left(string_agg(md5((seed * 1000 + g)::text), ''), n) FROM generate_series(1, n / 32 + 1) g $$;
CREATE TABLE warm (i int, t text, a int[], huge text) USING s3am;
CREATE TABLE rows (i int, t text, a int[], huge text) USING s3am;
INSERT INTO warm VALUES (1, 'x', '{1}', NULL);
INSERT INTO rows SELECT g, noise(g, 1000), ARRAY[g], CASE WHEN g % 1000 = 500 THEN noise(g, 3000000) END FROM generate_series(1, 20000) g;
SQL
[ "$(sql -c "SELECT sum(bytes) FROM s3am.segments WHERE \"table\" = 'rows'::regclass")" -gt 20000000 ]
ok $? "a segment of many pages"

# GETs and bytes that sessions have read from the store for a query, in a new one that has seen the catalogs by another table
reads_of() {
	sql << SQL
SELECT i, length(t), a FROM warm WHERE ctid = '(0,1)';
SELECT gets, bytes_in FROM s3am.store_stats() WHERE process = 'sessions' \gset before_
$1;
SELECT gets - :before_gets, bytes_in - :before_bytes_in FROM s3am.store_stats() WHERE process = 'sessions';
SQL
}
page() { [[ $1 =~ ^1\|([0-9]+)$ ]] && [ "${BASH_REMATCH[1]}" -gt 10000 ] && [ "${BASH_REMATCH[1]}" -le 131072 ]; }
got=$(reads_of "SELECT i, length(t), a FROM rows WHERE ctid = '(20,100)'")
is "$(sed -n 2p <<< "$got")" "5920|1000|{5920}" "a cold row by its ctid"
page "$(tail -n 1 <<< "$got")"
ok $? "is one GET of its page: $(tail -n 1 <<< "$got")"
got=$(reads_of "SELECT i, length(t), a FROM rows WHERE ctid = '(1,209)'")
is "$(sed -n 2p <<< "$got")" "500|1000|{500}" "a row with a large value that is not looked at"
page "$(tail -n 1 <<< "$got")"
ok $? "costs no more: $(tail -n 1 <<< "$got")"
got=$(reads_of "SELECT i, octet_length(huge) FROM rows WHERE ctid = '(1,209)'")
is "$(sed -n 2p <<< "$got")" "500|3000000" "nor does its length"
page "$(tail -n 1 <<< "$got")"
ok $? "which the row knows: $(tail -n 1 <<< "$got")"
total=$(sql -c "SELECT sum(bytes) FROM s3am.segments WHERE \"table\" = 'rows'::regclass")
got=$(reads_of "SELECT count(*), sum(i) FROM rows")
IFS='|' read -r gets bytes <<< "$(tail -n 1 <<< "$got")"
[ "$bytes" -gt 1000000 ] && [ "$bytes" -lt $((total * 2 / 3)) ] && [ "$gets" -lt 100 ]
ok $? "a scan does not read large values, and many pages at a time: $bytes of $total bytes in $gets GETs"
got=$(reads_of "SET s3am.read_ahead = '4MB'; SELECT count(*), sum(i) FROM rows")
IFS='|' read -r gets bytes <<< "$(tail -n 1 <<< "$got")"
[ $((bytes / gets)) -gt 100000 ]
ok $? "requests are whole while it goes on, a 32nd of what is read ahead: $bytes bytes in $gets GETs"
is "$(sql -c "SELECT md5(huge) = md5(noise(i, 3000000)) FROM rows WHERE ctid = '(1,209)'")" t "until they are asked for"

# what was open when an error was caught goes then, not when the transaction ends
grown=$(sql 2>&1 << 'SQL'
DO $$ DECLARE r record; before int8; BEGIN
	FOR n IN 1..1000 LOOP
		BEGIN
			FOR r IN SELECT i FROM rows WHERE i > 0 LOOP RAISE 'enough'; END LOOP;
		EXCEPTION WHEN raise_exception THEN NULL;
		END;
		BEGIN
			PERFORM i / (i - 2), t FROM rows;
		EXCEPTION WHEN division_by_zero THEN NULL;
		END;
		IF n = 1 THEN SELECT total_bytes INTO before FROM pg_backend_memory_contexts WHERE name = 'TopTransactionContext'; END IF;
	END LOOP;
	RAISE NOTICE 'grown: %', (SELECT total_bytes - before FROM pg_backend_memory_contexts WHERE name = 'TopTransactionContext');
END $$;
SQL
)
grown=${grown##*grown: }
[ "${grown:-none}" -lt 1000000 ]
ok $? "2000 scans that an error ended: $grown bytes"
# errors while pages are read ahead and unpacked, for the scan that fails and for a cursor, which goes on; another cursor just stands there
is "$(sql 2>&1 << 'SQL'
BEGIN;
DECLARE stands CURSOR FOR SELECT i FROM rows;
MOVE 700 FROM stands;
DECLARE goes CURSOR FOR SELECT i, t FROM rows;
MOVE 700 FROM goes;
DO $$ DECLARE r record; n int := 700; bad int := 0; goes refcursor := 'goes'; BEGIN
	FOR k IN 1..60 LOOP
		BEGIN
			PERFORM i / (i - 400 - k * 20) FROM rows;
		EXCEPTION WHEN division_by_zero THEN bad := bad + 1;
		END;
		FOR f IN 1..20 LOOP
			FETCH goes INTO r;
			n := n + 1;
			IF r.i <> n OR length(r.t) <> 1000 THEN RAISE 'row % is %', n, r.i; END IF;
		END LOOP;
	END LOOP;
	RAISE NOTICE '% errors, % rows', bad, n;
END $$;
MOVE ALL FROM goes;
SAVEPOINT s;
\set ON_ERROR_STOP 0
SELECT sum(i / (i - 9000)) FROM rows;
ROLLBACK TO s;
FETCH stands;
COMMIT;
SELECT count(*), sum(i), sum(length(t)) FROM rows;
SQL
)" "NOTICE:  60 errors, 1900 rows
ERROR:  division by zero
701
20000|200010000|20000000" "errors with pages on their way"
# a cursor goes on whose page was read in a subtransaction that was rolled back
is "$(sql << 'SQL'
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT i, left(huge, 0) AS h, t FROM rows;
FETCH c \gset
SAVEPOINT s;
MOVE 700 FROM c;
ROLLBACK TO s;
FETCH c \gset
SELECT :i, md5(:'t') = md5(noise(:i, 1000));
FETCH BACKWARD 702 FROM c \gset
COMMIT;
SQL
)" "702|t" "a cursor outlives the subtransaction that moved it"

# one value of 300 MB, as it comes and goes
sql -c "CREATE TABLE huge (i int, t text, b bytea) USING s3am" \
	-c "INSERT INTO huge SELECT 1, repeat(noise(1, 1000), 314573), NULL"
is "$(sql -c "SELECT octet_length(t), md5(right(t, 1000)) = md5(noise(1, 1000)) FROM huge")" "314573000|t" "300 MB"
is "$(sql -c "COPY (SELECT t FROM huge) TO STDOUT" | md5sum)" \
	"$(python3 -c "import sys; sys.stdout.write('$(sql -c "SELECT noise(1, 1000)")' * 314573 + chr(10))" | md5sum)" "COPY gives it"

# what a footer says of its columns, of many pages: NULLs, smallest and largest, some of them in overflow chunks
sql << 'SQL'
CREATE TABLE sums (a int2, b int4, c int8, d float4, e float8, f text, g bytea, h uuid, i bool, k timestamptz, l text, m numeric, j interval) USING s3am;
INSERT INTO sums SELECT (g * 7919 % 30011 - 15000)::int2, g * 104729 % 1000003 - 500000, (g::int8 * 15485863 % 1000003 - 500000) << 30,
		CASE WHEN g = 9000 THEN 'NaN'::float4 ELSE g * 31 % 20011 - 10000 END, (g * 37 % 20011 - 10000) / 8.0, md5(g::text) || 'x',
		CASE WHEN g % 3 > 0 THEN decode(md5(g::text), 'hex') END, md5((g + 1)::text)::uuid, g % 2 = 0,
		'2024-01-01'::timestamptz + g * 43 % 20011 * '1 s'::interval,
		CASE g WHEN 7000 THEN '!' || noise(1, 20000) WHEN 8000 THEN '~' || noise(2, 20000) ELSE 'm' || g END, g,
		g * 41 % 20011 * '1 hour'::interval
	FROM generate_series(1, 20000) g;
-- the same without the column that needs a function of its type: then rows are stored as they were formed
CREATE TABLE formed USING s3am AS SELECT a, b, c, d, e, f, g, h, i, k, l, m FROM sums;
CREATE FUNCTION least_first(b bytea) RETURNS text LANGUAGE sql AS
	$$ SELECT '\x' || string_agg(lpad(to_hex(get_byte(b, i)), 2, '0'), '' ORDER BY i DESC) FROM generate_series(0, length(b) - 1) i $$;
CREATE FUNCTION beginning(b bytea) RETURNS text LANGUAGE sql AS $$ SELECT '\x' || encode(substr(b, 1, 32), 'hex') $$;
CREATE FUNCTION in_hex(v text) RETURNS text LANGUAGE sql AS
	$$ SELECT CASE WHEN left(v, 1) = chr(39) THEN beginning(convert_to(substr(v, 2, length(v) - 2), 'UTF8')) ELSE v END $$;
SQL
wanted=$(sql << 'SQL'
SELECT 'footer.columns[' || n || '].' || what || ' ' || value FROM (
	SELECT 0 AS n, least_first(int2send(min(a))) AS min, least_first(int2send(max(a))) AS max, NULL::int8 AS nulls FROM sums
	UNION ALL SELECT 1, least_first(int4send(min(b))), least_first(int4send(max(b))), NULL FROM sums
	UNION ALL SELECT 2, least_first(int8send(min(c))), least_first(int8send(max(c))), NULL FROM sums
	UNION ALL SELECT 3, least_first(float4send(min(d))), least_first(float4send(max(d))), NULL FROM sums
	UNION ALL SELECT 4, least_first(float8send(min(e))), least_first(float8send(max(e))), NULL FROM sums
	UNION ALL SELECT 5, beginning(convert_to(min(f COLLATE "C"), 'UTF8')), beginning(convert_to(max(f COLLATE "C"), 'UTF8')), NULL FROM sums
	UNION ALL SELECT 6, beginning((array_agg(g ORDER BY g) FILTER (WHERE g IS NOT NULL))[1]),
		beginning((array_agg(g ORDER BY g DESC) FILTER (WHERE g IS NOT NULL))[1]), count(*) FILTER (WHERE g IS NULL) FROM sums
	UNION ALL SELECT 7, beginning(uuid_send((array_agg(h ORDER BY h))[1])), beginning(uuid_send((array_agg(h ORDER BY h DESC))[1])), NULL FROM sums
	UNION ALL SELECT 8, '\x00', '\x01', NULL
	UNION ALL SELECT 9, least_first(timestamptz_send(min(k))), least_first(timestamptz_send(max(k))), NULL FROM sums
	UNION ALL SELECT 10, beginning(convert_to('!' || noise(1, 40), 'UTF8')), beginning(convert_to('~' || noise(2, 40), 'UTF8')), NULL
) s, LATERAL (VALUES ('nulls', nulls::text), ('min', min), ('max', max)) v(what, value) WHERE value IS NOT NULL ORDER BY n, what;
SQL
)
is "$(wc -l <<< "$wanted")" 23 "what summaries should be"
for table in sums formed; do
	segment=$(sql -c "SELECT object FROM s3am.segments WHERE \"table\" = '$table'::regclass")
	is "$(sql -c "SELECT path || ' ' || in_hex(value) FROM s3am.inspect('$segment') WHERE path ~ '^footer.columns' AND path !~ '\\[12\\]'
		ORDER BY substring(path FROM '\\d+')::int, substring(path FROM '[a-z]+$')")" "$wanted" "a footer's summaries: $table"
done
is "$(sql -c "SELECT count(*), count(*) FILTER (WHERE one IS DISTINCT FROM other) FROM (SELECT *, ROW(a, b, c, d, e, f, g, h, i, k, l, m) AS one FROM sums) s
	FULL JOIN (SELECT m, ROW(a, b, c, d, e, f, g, h, i, k, l, m) AS other FROM formed) f USING (m)")" "20000|0" "both have the same rows"

# damaged objects
store=${repository#file://}

segment=$(sql -c "SELECT object FROM s3am.segments WHERE \"table\" = 'warm'::regclass")
file=$(find "$store" -path "*$segment")
cp -p "$file" "$work/intact"
flip() { python3 -c "
import sys
b = bytearray(open('$work/intact', 'rb').read())
b[$1] ^= 0x10
open('$file', 'wb').write(b)"; }
size=$(stat -c %s "$file")
flip 70
fails_like XX001 "rows in \"$segment\" are damaged: a checksum does not fit" 'SELECT * FROM warm' "a damaged page"
is "$(sql -c "SELECT count(*) > 5, count(*) FILTER (WHERE path = 'damaged') FROM s3am.inspect('$segment')")" "t|1" "is shown"
is "$(sql -c "SELECT path || ': ' || value FROM s3am.inspect('$segment', 0) WHERE path = 'damaged'")" \
	"damaged: rows in \"$segment\" are damaged: a checksum does not fit" "and says so"
flip $((size - 20))
is "$(sql -c 'SELECT i FROM warm')" 1 "a damaged footer harms nobody who has the manifest"
is "$(sql -c "SELECT value FROM s3am.inspect('$segment') WHERE path = 'damaged'")" \
	"rows in \"$segment\" are damaged: the footer's checksum does not fit" "but is seen"
quiet=0
for ((at = 0; at < size; at += 7)); do
	flip $at
	[[ $(sql -c "SELECT count(*) FROM s3am.inspect('$segment')" 2>&1) =~ ^[0-9]+$ ]] || quiet=1
done
ok $quiet "whatever is damaged is shown, not thrown"
head -c 90 "$work/intact" > "$file"
fails_like XX001 "object \"$segment\" of the repository is shorter than its manifest says" 'SELECT * FROM warm' "a segment that is cut off"
is "$(sql -c "SELECT count(*) FROM s3am.inspect('$segment') WHERE path = 'damaged'")" 1 "is shown"
other=$(find "$store" -path "*segments/*" -type f ! -path "*$segment" | head -n 1)
cp "$other" "$file"
fails_like XX001 "rows in \"$segment\" are damaged" 'SELECT * FROM warm' "another segment in its place"
is "$(sql -c "SELECT value FROM s3am.inspect('$segment') WHERE path = 'damaged'")" \
	"rows in \"$segment\" are damaged: it was written under another name" "is recognised"
rm -f "$file"
fails_like XX001 "cannot read object \"$segment\"" 'SELECT * FROM warm' "one that is gone"
is "$(sql -c 'SELECT count(*) FROM rows')" 20000 "the others are there"
file=$store/manifests/00000000000000000003
cp -p "$file" "$work/intact"
size=$(stat -c %s "$file")
quiet=$((${size:-0} < 100))
for ((at = 0; at < size; at += 13)); do
	flip $at
	[ "$(sql -c "SELECT count(*) FROM s3am.inspect('manifests/3') WHERE path = 'damaged'" 2>&1)" = 1 ] || { quiet=1; diag "$at"; }
done
ok $quiet "a manifest with a damaged byte"
cp -p "$work/intact" "$file"
is "$(sql -c "SELECT count(*) FROM s3am.inspect('manifests/3') WHERE path = 'damaged'")" 0 "an intact one"
done_testing
