#!/bin/bash
# Entries of indexes that leave memory while their transaction runs: what it sees of them in any order and direction, from cursors that were
# open before, after savepoints, and what is there when it is over; in how little memory.
. "$(dirname "$0")/../lib/tap.sh"

rows=${S3AM_ENTRIES_ROWS:-6000}
settings=("jit = off" "autovacuum = off" "s3am.poll_max = '100ms'")
node two "${settings[@]}"
node one "${settings[@]}"
sql -c 'CREATE EXTENSION s3am' || exit 1
on two
sql -c 'CREATE EXTENSION s3am' || exit 1
on one

# the same statements on a heap table and on one of s3am's, of which a few hundred entries fit into memory
cat > "$work/change.sql" <<'SQL'
\set ON_ERROR_STOP 0
SET s3am.transaction_memory = '64kB';
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET enable_sort = off;
SET client_min_messages = error;
CREATE TABLE :t (id uuid PRIMARY KEY, a int, b text, c int) USING :am;
CREATE INDEX ON :t (a DESC NULLS LAST, b) INCLUDE (c);
CREATE UNIQUE INDEX ON :t (b);
INSERT INTO :t SELECT md5('before' || i)::uuid, i % 50, 'before' || i, i FROM generate_series(1, 500) i;
BEGIN;
INSERT INTO :t SELECT md5(i::text)::uuid, nullif(i % 97, 13), md5('b' || i), i FROM generate_series(1, :rows) i;
\echo added
SELECT count(*), sum(c) FROM (SELECT c FROM :t ORDER BY id) x;
SELECT id, c FROM :t ORDER BY id LIMIT 5;
SELECT id, c FROM :t ORDER BY id DESC OFFSET :rows / 2 LIMIT 5;
SELECT a, b, c FROM :t ORDER BY a DESC NULLS LAST, b LIMIT 3;
SELECT a, b, c FROM :t ORDER BY a NULLS FIRST, b DESC LIMIT 3;
SELECT count(*), sum(c) FROM :t WHERE a = 7;
SELECT c FROM :t WHERE id = md5('77')::uuid;
SELECT sum(c) FROM :t WHERE id IN (SELECT md5(i::text)::uuid FROM generate_series(1, 300) i);
\echo a cursor stays as it is while entries are added and leave memory
DECLARE open SCROLL CURSOR FOR SELECT id, c FROM :t WHERE id > '10000000-0000-0000-0000-000000000000' ORDER BY id;
FETCH 3 FROM open;
SAVEPOINT a;
INSERT INTO :t SELECT md5('later' || i)::uuid, i % 50, 'later' || i, i FROM generate_series(1, :rows) i;
FETCH 3 FROM open;
MOVE 1000 FROM open;
FETCH 3 FROM open;
FETCH BACKWARD 3 FROM open;
SELECT count(*), sum(c) FROM (SELECT c FROM :t ORDER BY b) x;
\echo rows whose numbers are given again
ROLLBACK TO a;
FETCH 2 FROM open;
SELECT count(*), sum(c) FROM (SELECT c FROM :t ORDER BY b) x;
INSERT INTO :t SELECT md5('again' || i)::uuid, i % 50, 'again' || i, i FROM generate_series(1, :rows / 3) i;
FETCH 2 FROM open;
MOVE ABSOLUTE 4 FROM open;
FETCH 2 FROM open;
MOVE LAST FROM open;
FETCH BACKWARD 3 FROM open;
CLOSE open;
SELECT count(*), sum(c) FROM (SELECT c FROM :t ORDER BY b) x;
SELECT count(*), sum(c) FROM (SELECT c FROM :t ORDER BY id DESC) x;
SELECT count(*) FROM :t WHERE id = md5('later7')::uuid;
\echo keys that are there
SAVEPOINT b;
INSERT INTO :t VALUES (md5('12')::uuid);
ROLLBACK TO b;
INSERT INTO :t VALUES (md5('again12')::uuid);
ROLLBACK TO b;
INSERT INTO :t SELECT md5('later' || i)::uuid, i, md5('b' || i * 5) FROM generate_series(1, 10) i ON CONFLICT (b) DO NOTHING;
INSERT INTO :t SELECT md5('later' || i)::uuid, i, 'later' || i, -1 FROM generate_series(1, 10) i ON CONFLICT DO NOTHING;
INSERT INTO :t SELECT md5(i::text)::uuid, 0, NULL, 0 FROM generate_series(1, 200) i ON CONFLICT (id) DO UPDATE SET c = -EXCLUDED.a - :t.c;
\echo nested, some undone
DO $$
BEGIN
	FOR i IN 1 .. 600 LOOP
		BEGIN
			EXECUTE format('INSERT INTO %I SELECT md5($1 || ''n'' || j)::uuid, j, $1 || ''n'' || j, j FROM generate_series(1, 5) j', current_setting('my.t')) USING i;
			IF i % 3 = 0 THEN RAISE division_by_zero; END IF;
		EXCEPTION WHEN division_by_zero THEN NULL;
		END;
	END LOOP;
END $$;
SELECT count(*), sum(c) FROM (SELECT c FROM :t ORDER BY b) x;
SELECT count(*), sum(c) FROM (SELECT c FROM :t ORDER BY id DESC) x;
\echo changed
UPDATE :t SET b = 'u' || b, a = a + 1 WHERE c % 3 = 0 AND b IS NOT NULL;
DELETE FROM :t WHERE c % 7 = 0;
SELECT count(*), sum(c), min(b), max(b) FROM (SELECT b, c FROM :t ORDER BY b) x;
\echo indexes of what the transaction added
CREATE UNIQUE INDEX ON :t (c DESC, id);
SELECT id, c FROM :t ORDER BY c DESC, id LIMIT 3;
SELECT id, c FROM :t ORDER BY c, id DESC OFFSET 1000 LIMIT 3;
SAVEPOINT c;
DROP INDEX :{i};
INSERT INTO :t SELECT md5('dropped' || i)::uuid, i % 50, 'dropped' || i, i FROM generate_series(1, :rows / 4) i;
ROLLBACK TO c;
SELECT count(*), sum(c) FROM (SELECT c FROM :t ORDER BY b) x;
\echo entries larger than a block of a file
INSERT INTO :t SELECT md5('large' || i)::uuid, -i, NULL, i FROM generate_series(1, 100) i;
COMMIT;
SQL
sed -i "s/:{i}/:i/" "$work/change.sql"
cat > "$work/look.sql" <<'SQL'
SET enable_seqscan = off;
SET enable_sort = off;
SET enable_bitmapscan = off;
SELECT count(*), sum(c), md5(string_agg(id::text, ',')) FROM (SELECT id, c FROM :t ORDER BY id) x;
SELECT count(*), sum(c), md5(string_agg(id::text, ',')) FROM (SELECT id, c FROM :t WHERE b IS NOT NULL ORDER BY b) x;
SELECT count(*), md5(string_agg(c::text, ',')) FROM (SELECT c FROM :t ORDER BY c DESC, id) x;
SELECT count(*), md5(string_agg(a::text, ',')) FROM (SELECT a FROM :t ORDER BY a DESC NULLS LAST, b) x;
SQL
chmod 644 "$work"/*.sql
temporary() { sql -c "SELECT temp_files FROM pg_stat_database WHERE datname = 'test'"; }
run() { # TABLE AM
	sql -v t="$1" -v am="$2" -v i="$1_b_idx" -v rows="$rows" -c "SET my.t = $1" -f "$work/change.sql" 2>&1 |
		sed "s/\<$1\>/T/g; s/\<$1_/T_/g; s/^psql:[^ ]* //"
}
run h heap > "$work/heap"
before=$(temporary)
run s s3am > "$work/s3am"
eventually 10 eval "[ \"\$(temporary)\" -gt $((before + 50)) ]"
ok $? "entries went to temporary files"
is "$(diff "$work/heap" "$work/s3am")" "" "a transaction sees what it does in heap"
is "$(grep -c 'duplicate key' "$work/s3am"), $(grep -c 'aborted' "$work/s3am")" "2, 0" "duplicates are found in files"
sql -v t=h -f "$work/look.sql" > "$work/wanted"
is "$(sql -v t=s -f "$work/look.sql")" "$(cat "$work/wanted")" "and so do others afterwards"
is "$(follow one two 20; sql -v t=s -f "$work/look.sql")" "$(cat "$work/wanted")" "and another server"
on one

# ---- keys as large as no block of a file
sql <<'SQL' > "$work/said" 2>&1
SET s3am.transaction_memory = '64kB';
SET enable_seqscan = off;
SET enable_sort = off;
CREATE TABLE large (b text PRIMARY KEY, i int) USING s3am;
BEGIN;
INSERT INTO large SELECT repeat(md5(i::text), CASE WHEN i % 10 = 0 THEN 1000 ELSE 1 END), i FROM generate_series(1, 400) i;
SELECT count(*), sum(i), sum(length(b)) FROM (SELECT * FROM large ORDER BY b) x;
SELECT i FROM large WHERE b = repeat(md5('30'), 1000);
COMMIT;
SELECT count(*), sum(i), sum(length(b)) FROM (SELECT * FROM large ORDER BY b) x;
SQL
is "$(grep '^[0-9]' "$work/said" | tr '\n' ' ')" "400|80200|1291520 30 400|80200|1291520 " "entries larger than a block" || diag "$(cat "$work/said")"

# ---- no room for files
sql <<'SQL' > "$work/said" 2>&1
\set VERBOSITY verbose
\set ON_ERROR_STOP 0
SET s3am.transaction_memory = '64kB';
CREATE TABLE room (i bigint PRIMARY KEY) USING s3am;
BEGIN;
INSERT INTO room SELECT i::bigint * 2654435761 % 4294967296 FROM generate_series(1, 100) i;
SAVEPOINT a;
SET LOCAL temp_file_limit = '100kB';
INSERT INTO room SELECT i::bigint * 2654435761 % 4294967296 FROM generate_series(101, 10000) i;
ROLLBACK TO a;
INSERT INTO room SELECT i::bigint * 2654435761 % 4294967296 FROM generate_series(101, 3000) i;
COMMIT;
SET enable_seqscan = off;
SELECT count(*), count(DISTINCT i) FROM (SELECT i FROM room ORDER BY i) x;
SQL
like "$(tr '\n' ' ' < "$work/said")" "53400: temporary file size exceeds.* 3000[|]3000" "no room for a file is an error from which a savepoint saves" || diag "$(cat "$work/said")"

# ---- claims of keys: one by one, or of the whole index if they are too many for memory
sql -q -c 'CREATE TABLE claim (i bigint PRIMARY KEY) USING s3am' || exit 1
on two
eventually 20 eval 'sql -c "SELECT count(*) FROM claim" > /dev/null 2>&1'
on one
claim() { # ROWS FROM: adds them while the other server adds one
	(echo "\\set VERBOSITY terse"
	echo "SET s3am.transaction_memory = '64kB';"
	echo "BEGIN; INSERT INTO claim SELECT i FROM generate_series($2, $2 + $1 - 1) i;"
	echo "\\! touch $work/added$2"
	echo "SELECT pg_sleep(0.2) FROM generate_series(1, 100) WHERE pg_stat_file('$work/other$2', true) IS NULL;"
	echo "COMMIT;") | sql -v ON_ERROR_STOP=0 > "$work/said" 2>&1 &
	local client=$!
	eventually 60 test -e "$work/added$2"
	(on two && sql -c "INSERT INTO claim VALUES (-$2)" > /dev/null)
	touch "$work/other$2"
	chmod 644 "$work/other$2"
	wait "$client"
}
claim 2000 10
is "$(sql -c 'SELECT count(*) FROM claim WHERE i > 0')" 2000 "others add keys while many are added" || diag "$(cat "$work/said")"
claim 66000 10000
is "$(sql -c 'SELECT count(*) FROM claim WHERE i > 0')" 68000 "and while so many are that fewer bits of each are told" || diag "$(cat "$work/said")"
claim 1000000 100000
like "$(cat "$work/said")" "could not serialize" "with more than memory has room for the whole index is claimed" || diag "$(cat "$work/said")"
is "$(sql -c 'SELECT count(*) FILTER (WHERE i > 0), count(*) FILTER (WHERE i < 0) FROM claim')" "68000|3" "of which one wins"

# ---- memory: what is in use in the transaction, by whom
sql <<'SQL' > "$work/said" 2>&1
CREATE TABLE m (i bigint PRIMARY KEY, t text, n int) USING s3am;
CREATE INDEX ON m (t);
CREATE VIEW memory AS SELECT sum(used_bytes)::bigint AS bytes FROM pg_backend_memory_contexts;
CREATE FUNCTION blocks(n int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	FOR k IN 1 .. n LOOP
		BEGIN
			INSERT INTO m VALUES (-k, 'x' || k, k);
			PERFORM 1 / (k % 2) FROM m WHERE i = -k;
		EXCEPTION WHEN division_by_zero THEN NULL;
		END;
	END LOOP;
END $$;
SET s3am.transaction_memory = '1MB';
SET enable_seqscan = off;
BEGIN;
INSERT INTO m SELECT i::bigint * 2654435761 % 4294967296, md5(i::text), i FROM generate_series(1, 20000) i;
SELECT bytes FROM memory;
INSERT INTO m SELECT i::bigint * 2654435761 % 4294967296, md5(i::text), i FROM generate_series(20001, 100000) i;
INSERT INTO m SELECT i::bigint * 2654435761 % 4294967296, md5(i::text), i FROM generate_series(99001, 101000) i ON CONFLICT DO NOTHING;
SELECT bytes FROM memory;
SELECT blocks(2000);
SELECT bytes FROM memory;
SELECT blocks2000 FROM (SELECT count(*) AS blocks2000 FROM m WHERE i < 0) x;
COMMIT;
SELECT count(*) FROM m;
SQL
mapfile -t lines < <(grep '^[0-9]' "$work/said")
diag "bytes: ${lines[*]}"
[ ${#lines[@]} -eq 5 ] && [ $((lines[1] - lines[0])) -lt 4000000 ]
ok $? "81,000 more rows take no more memory" || diag "$(cat "$work/said")"
[ ${#lines[@]} -eq 5 ] && [ $((lines[2] - lines[1])) -lt 1000000 ]
ok $? "2,000 EXCEPTION blocks, of which half fail in a scan, neither"
is "${lines[3]:-}" 1000 "those that ended well are there"
done_testing
