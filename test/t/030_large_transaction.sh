#!/bin/bash
# Transactions far larger than the memory they may take: bounded, readable, undone by savepoints, gone after ROLLBACK.
. "$(dirname "$0")/../lib/tap.sh"

# without the compiler's library, which is larger than all that is measured here
node server "max_parallel_workers_per_gather = 0" "jit = off"
sql -c 'CREATE EXTENSION s3am' -c 'ALTER DATABASE test SET default_table_access_method = s3am' || exit 1

# highest resident memory of the backend, without the shared memory that it touched, in MB
memory="SELECT ((regexp_match(s, 'VmHWM:\s+(\d+)'))[1]::int - (regexp_match(s, 'RssShmem:\s+(\d+)'))[1]::int) / 1024
	FROM pg_read_file('/proc/self/status') s"
below() {
	diag "$1 MB"
	[ "${1:-999999}" -le "$2" ]
	ok $? "$3"
}
segments() { find "${repository#file://}/segments" -type f 2> /dev/null | wc -l; }
rows=${S3AM_LARGE_ROWS:-1000000}

# ---- insert, read back, roll back
said=$(sql <<SQL
CREATE TABLE t (i bigint, t text);
BEGIN;
INSERT INTO t SELECT i, 'row number ' || i FROM generate_series(1, $rows) i;
SELECT count(*), sum(i), count(DISTINCT t) FROM t WHERE i % 10 = 3;
$memory;
ROLLBACK;
SELECT count(*) FROM t;
SQL
)
is "$(head -n 1 <<< "$said")" "$((rows / 10))|$(seq 3 10 "$rows" | awk "{ s += \$1 } END { printf \"%.0f\", s }")|$((rows / 10))" \
	"rows that left memory are read back"
below "$(sed -n 2p <<< "$said")" 150 "INSERT ... SELECT of $rows rows in bounded memory"
is "$(sed -n 3p <<< "$said")" 0 "ROLLBACK leaves no row"
is "$(segments)" 0 "and no segment"

# ---- COPY, then UPDATE of all of them
said=$(sql <<SQL
\copy t FROM PROGRAM 'seq $rows | sed "s/.*/&\trow number &/"'
$memory;
SELECT count(*), sum(i) FROM t;
BEGIN;
UPDATE t SET t = t || '!' WHERE i <= $rows;
$memory;
SELECT count(*), count(*) FILTER (WHERE t LIKE '%!') FROM t;
COMMIT;
$memory;
SELECT count(*), count(*) FILTER (WHERE t LIKE '%!'), sum(i) FROM t;
SQL
)
below "$(sed -n 1p <<< "$said")" 150 "COPY in bounded memory"
is "$(sed -n 2p <<< "$said")" "$rows|$((rows * (rows + 1) / 2))" "all of it is there"
below "$(sed -n 3p <<< "$said")" 150 "UPDATE in bounded memory"
is "$(sed -n 4p <<< "$said")" "$rows|$rows" "the transaction sees its update"
below "$(sed -n 5p <<< "$said")" 160 "its COMMIT, too"
is "$(sed -n 6p <<< "$said")" "$rows|$rows|$((rows * (rows + 1) / 2))" "and so do others"
before=$(segments)

# ---- an UPDATE in no order
said=$(sql <<SQL
SET enable_sort = off;
BEGIN;
UPDATE t SET i = t.i FROM (SELECT i FROM t GROUP BY i) x WHERE x.i = t.i;
$memory;
ROLLBACK;
SET s3am.transaction_memory = '4MB';
BEGIN;
UPDATE t SET i = t.i FROM (SELECT i FROM t GROUP BY i) x WHERE x.i = t.i;
SELECT (sum(total_bytes) / 1024 / 1024)::int FROM pg_backend_memory_contexts WHERE name LIKE 's3am%';
ROLLBACK;
SET s3am.transaction_memory = '16MB';
BEGIN;
UPDATE t SET i = t.i FROM (SELECT i FROM t GROUP BY i) x WHERE x.i = t.i;
SELECT (sum(total_bytes) / 1024 / 1024)::int FROM pg_backend_memory_contexts
	WHERE name IN ('s3am transaction', 's3am removed rows', 's3am removed rows in memory');
ROLLBACK;
SET s3am.transaction_memory = '4MB';
BEGIN;
SAVEPOINT a;
UPDATE t SET i = t.i FROM (SELECT i FROM t GROUP BY i) x WHERE x.i = t.i;
SAVEPOINT b;
SELECT (sum(total_bytes) / 1024 / 1024)::int FROM pg_backend_memory_contexts WHERE name LIKE 's3am%';
ROLLBACK TO a;
SELECT count(*) FROM t WHERE t LIKE '%!';
ROLLBACK;
SELECT count(*) FROM t;
SQL
)
below "$(sed -n 1p <<< "$said")" 170 "UPDATE from a join in bounded memory"
below "$(sed -n 2p <<< "$said")" 8 "which is what s3am.transaction_memory says, and a little"
below "$(sed -n 3p <<< "$said")" 18 "rows and what was removed together"
below "$(sed -n 4p <<< "$said")" 12 "in a subtransaction, too"
is "$(sed -n 5,6p <<< "$said")" "$rows
$rows" "ROLLBACK TO, ROLLBACK"
is "$(segments)" "$before" "leaves no segment"

# ---- rows removed in no order, whose entries are in files: the same as in heap
cat > "$work/removed.sql" <<'SQL'
SET enable_hashjoin = off;
SET enable_mergejoin = off;
CREATE TABLE r (i int, v text) USING :am;
CREATE TABLE seen (i int, old text, new text) USING heap;
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO seen VALUES (coalesce(NEW.i, OLD.i), OLD.v, NEW.v); RETURN NULL; END $$;
INSERT INTO r SELECT i, 'v' || i FROM generate_series(1, 10000) i;
BEGIN;
UPDATE r SET v = r.v || '+' FROM (SELECT ctid AS tid FROM r ORDER BY md5(i::text)) x WHERE tid = r.ctid;
DECLARE c CURSOR FOR SELECT count(*), sum(i), sum(length(v)) FROM r;
CREATE TRIGGER sees AFTER UPDATE OR DELETE ON r FOR EACH ROW EXECUTE FUNCTION see();
UPDATE r SET v = r.v || '*' FROM (SELECT ctid AS tid FROM r ORDER BY md5(i::text)) x WHERE tid = r.ctid AND r.i % 3 = 0;
SELECT count(*), sum(i), sum(length(v)), count(DISTINCT v) FROM r;
SAVEPOINT a;
DELETE FROM r USING (SELECT ctid AS tid FROM r ORDER BY md5(i::text)) x WHERE tid = r.ctid AND r.i % 2 = 0;
UPDATE r SET v = r.v || '-' FROM (SELECT ctid AS tid FROM r ORDER BY md5(i::text)) x WHERE tid = r.ctid AND r.i % 5 = 0;
SELECT count(*), sum(i), sum(length(v)), count(DISTINCT v) FROM r;
SAVEPOINT b;
UPDATE r SET v = r.v || '!' FROM (SELECT ctid AS tid FROM r ORDER BY md5(i::text)) x WHERE tid = r.ctid;
ROLLBACK TO b;
UPDATE r SET v = r.v || '?' FROM (SELECT ctid AS tid FROM r ORDER BY md5(i::text)) x WHERE tid = r.ctid AND r.i % 7 < 5;
SELECT count(*), sum(i), sum(length(v)), count(DISTINCT v) FROM r;
RELEASE b;
ROLLBACK TO a;
SELECT count(*), sum(i), sum(length(v)), count(DISTINCT v) FROM r;
DECLARE d CURSOR FOR SELECT count(*), sum(i), sum(length(v)) FROM r;
DELETE FROM r USING (SELECT ctid AS tid FROM r ORDER BY md5(i::text)) x WHERE tid = r.ctid AND r.i % 11 = 0;
UPDATE r SET v = r.v || '=' FROM (SELECT ctid AS tid FROM r ORDER BY md5(i::text)) x WHERE tid = r.ctid AND r.i % 2 = 0;
FETCH c;
FETCH d;
SELECT count(*), sum(i), sum(length(v)), count(DISTINCT v) FROM r;
SELECT count(*), sum(i), sum(length(old)), sum(length(new)), md5(string_agg(i || ':' || old || ':' || coalesce(new, ''), ',' ORDER BY i, old, new)) FROM seen;
COMMIT;
SELECT count(*), sum(i), sum(length(v)), md5(string_agg(i || ':' || v, ',' ORDER BY i)) FROM r;
DROP TABLE r, seen CASCADE;
DROP FUNCTION see;
SQL
chmod 644 "$work/removed.sql"
heap=$(sql -v am=heap -f "$work/removed.sql")
said=$(sql -v am=s3am -c "SET s3am.transaction_memory = '64kB'" -c "SET s3am.segment_size = '256kB'" -f "$work/removed.sql")
is "$(wc -l <<< "$heap")" 9 "the script that removes rows in no order says something"
is "$said" "$heap" "and the same on heap and s3am"
# no room for the files: an error like any other
said=$(cluster_psql "$dir" -At -d test -v ON_ERROR_STOP=0 -v VERBOSITY=sqlstate 2>&1 <<'SQL'
CREATE TABLE r AS SELECT i, 'v' || i AS v FROM generate_series(1, 10000) i;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET s3am.transaction_memory = '64kB';
BEGIN;
UPDATE r SET v = 'before' WHERE i = 1;
SAVEPOINT a;
SET temp_file_limit = '200kB';
UPDATE r SET v = v || '+' FROM (SELECT ctid AS tid FROM r ORDER BY md5(i::text)) x WHERE tid = r.ctid;
ROLLBACK TO a;
SELECT count(*), count(DISTINCT v), max(v) FROM r WHERE v LIKE 'v%' OR v = 'before';
UPDATE r SET v = v || '?' FROM (SELECT ctid AS tid FROM r ORDER BY md5(i::text)) x WHERE tid = r.ctid AND i <= 10;
COMMIT;
SELECT count(*), count(DISTINCT v), count(*) FILTER (WHERE v LIKE '%?'), min(v) FROM r;
DROP TABLE r;
SQL
)
is "$said" "ERROR:  53400
10000|10000|v9999
10000|10000|10|before?" "no room for them is an error, and undone"
before=$(segments)

# ---- small portions: everything that can refer to a row that left memory
sql > /dev/null <<SQL
CREATE TABLE s (i int, v text);
CREATE TABLE heard (i int, v text, op text) USING heap;
CREATE FUNCTION hear() RETURNS trigger LANGUAGE plpgsql AS \$\$
BEGIN
	IF TG_OP = 'DELETE' THEN INSERT INTO heard VALUES (OLD.i, OLD.v, TG_OP);
	ELSE INSERT INTO heard VALUES (NEW.i, NEW.v, TG_OP); END IF;
	RETURN NULL;
END \$\$;
CREATE CONSTRAINT TRIGGER hears AFTER INSERT OR UPDATE OR DELETE ON s DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION hear();
SQL
said=$(sql <<'SQL'
SET s3am.transaction_memory = '64kB';
SET s3am.segment_size = '64kB';
SET s3am.inline_limit = 0;
BEGIN;
INSERT INTO s SELECT i, 'v' || i FROM generate_series(1, 10000) i;
DECLARE c CURSOR FOR SELECT * FROM s ORDER BY i;
DECLARE u CURSOR FOR SELECT * FROM s;
MOVE 5000 FROM u;
FETCH u;
UPDATE s SET v = v || '+' WHERE CURRENT OF u;
SAVEPOINT a;
DELETE FROM s WHERE i % 2 = 0;
INSERT INTO s SELECT i, 'w' || i FROM generate_series(10001, 20000) i;
SELECT count(*), sum(i) FROM s;
SAVEPOINT b;
INSERT INTO s SELECT i, 'x' || i FROM generate_series(20001, 25000) i;
ROLLBACK TO b;
INSERT INTO s SELECT i, 'y' || i FROM generate_series(20001, 21000) i;
SELECT count(*), sum(i), max(v) FROM s;
ROLLBACK TO a;
SELECT count(*), sum(i) FROM s;
DELETE FROM s WHERE i > 9000;
MERGE INTO s USING generate_series(8999, 9002) g ON s.i = g WHEN MATCHED THEN UPDATE SET v = 'merged'
	WHEN NOT MATCHED THEN INSERT VALUES (g, 'new');
SELECT i, v FROM s WHERE i BETWEEN 8998 AND 9100 OR i = 5001 ORDER BY i;
SELECT i FROM s WHERE i BETWEEN 100 AND 101 FOR UPDATE;
FETCH c;
MOVE 9998 FROM c;
FETCH c;
COMMIT;
SELECT count(*), sum(i) FROM s;
SELECT op, count(*), count(DISTINCT i) FROM heard GROUP BY 1 ORDER BY 1;
SQL
)
is "$said" "5001|v5001
15000|175005000
16000|195505500|y21000
10000|50005000
5001|v5001+
8998|v8998
8999|merged
9000|merged
9001|new
9002|new
100
101
1|v1
10000|v10000
9002|40522503
DELETE|1000|1000
INSERT|10002|10000
UPDATE|3|3" "rows that left memory: cursors, CURRENT OF, savepoints, MERGE, locks, deferred triggers"
is "$(sql -c 'SELECT count(*), sum(i) FROM s')" "9002|40522503" "another session sees the same"

# a subtransaction's rows go at once
before=$(segments)
export SEGMENTS=${repository#file://}/segments
said=$(sql <<'SQL'
SET s3am.transaction_memory = '64kB';
SET s3am.segment_size = '64kB';
BEGIN;
INSERT INTO s VALUES (-1, 'stays');
DO $$ BEGIN
	FOR n IN 1 .. 20 LOOP
		BEGIN
			INSERT INTO s SELECT -i, 'gone' FROM generate_series(1, 5000) i;
			RAISE division_by_zero;
		EXCEPTION WHEN division_by_zero THEN NULL;
		END;
	END LOOP;
END $$;
SELECT count(*) FROM s WHERE i < 0;
\! find $SEGMENTS -type f | wc -l
COMMIT;
SELECT count(*) FROM s WHERE i < 0;
SQL
)
during=$(sed -n 2p <<< "$said")
said=$(sed 2d <<< "$said")
[ "$during" -le $((before + 8)) ]
ok $? "segments of rolled back subtransactions go while the transaction runs" || diag "$before before, $during during"
is "$said" "1
1" "subtransactions that roll back thousands of rows"
[ "$(segments)" -le $((before + 1)) ]
ok $? "leave no segment but the one with the row that stays"

# DDL between the rows
said=$(sql <<'SQL'
SET s3am.transaction_memory = '64kB';
SET s3am.segment_size = '64kB';
BEGIN;
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE TABLE d (i int, m mood, x text);
INSERT INTO d SELECT i, 'happy', 'x' || i FROM generate_series(1, 3000) i;
ALTER TABLE d ADD COLUMN y int DEFAULT 7;
INSERT INTO d SELECT i, 'sad', 'x' || i, 8 FROM generate_series(3001, 6000) i;
ALTER TABLE d DROP COLUMN m;
DROP TYPE mood;
INSERT INTO d SELECT i, 'x' || i, 9 FROM generate_series(6001, 6010) i;
SELECT count(*), sum(i), sum(y), count(x) FROM d;
ALTER TABLE d ALTER COLUMN i TYPE numeric;
SELECT count(*), sum(i), sum(y), count(x) FROM d;
TRUNCATE d;
INSERT INTO d VALUES (1, 'one', 1);
COMMIT;
SELECT * FROM d;
SQL
)
is "$said" "6010|18063055|45090|6010
6010|18063055|45090|6010
1|one|1" "columns, types and storage that change under them"

# ---- rows that were written to a segment before there was no room for them: what savepoints, changes of the table and removals make of it
cat > "$work/ahead.sql" <<'SQL'
CREATE TABLE a (i int, t text, n numeric, w text) USING :am;
CREATE TABLE b (i int, t text) USING :am;
CREATE TABLE packed (v text) USING heap;
INSERT INTO packed VALUES (repeat('packed ', 500));
CREATE FUNCTION say(what text) RETURNS text LANGUAGE sql AS
	$$ SELECT what || ' ' || count(*) || ' ' || coalesce(sum(i), 0) || ' ' || md5(string_agg(x::text, ',' ORDER BY i, t)) FROM a x $$;
-- Rows of about 52 bytes: of 1 MB, 15,000 to 20,000 of them fill what is written ahead.  Forgotten in the middle of it, from its start on, and behind it
BEGIN;
INSERT INTO a SELECT i, 'one of the rows ' || i, i / 7.0, NULL FROM generate_series(1, 2000) i;
SAVEPOINT one;
INSERT INTO a SELECT i, 'two of the rows ' || i, NULL, 'w' FROM generate_series(2001, 18000) i;
SAVEPOINT two;
INSERT INTO a SELECT i, 'three of the rows ' || i, i, NULL FROM generate_series(18001, 18500) i;
ROLLBACK TO two;
SELECT say('behind');
ROLLBACK TO one;
SELECT say('middle');
INSERT INTO a SELECT i, 'four of the rows ' || i, i, 'x' FROM generate_series(2001, 19000) i;
SELECT say('again');
COMMIT;
SELECT say('committed');
BEGIN;
SAVEPOINT all_of_it;
INSERT INTO a SELECT -i, 'gone of the rows ' || i, 0, NULL FROM generate_series(1, 18000) i;
ROLLBACK TO all_of_it;
INSERT INTO a SELECT -i, 'stays of the rows ' || i, 1, NULL FROM generate_series(1, 18000) i;
COMMIT;
SELECT say('start');
-- the table changes, and rows are of several kinds
BEGIN;
INSERT INTO a SELECT i, CASE WHEN i % 1000 = 0 THEN v ELSE 'five of the rows ' || i END, 5, NULL FROM generate_series(20001, 38000) i, packed;
ALTER TABLE a DROP COLUMN w;
INSERT INTO a SELECT i, 'six of the rows ' || i, 6 FROM generate_series(38001, 39000) i;
ALTER TABLE a ADD COLUMN more int DEFAULT 7;
INSERT INTO a SELECT i, CASE WHEN i % 100 = 0 THEN v ELSE 'seven of the rows ' || i END, 7, i FROM generate_series(40001, 42000) i, packed;
SELECT say('changed');
ALTER TABLE a ALTER COLUMN t TYPE varchar;
INSERT INTO a SELECT i, CASE WHEN i % 100 = 0 THEN repeat(v, 20) END, 8, i FROM generate_series(42001, 42300) i, packed;
INSERT INTO a SELECT i, 'eight of the rows ' || i, 8, i FROM generate_series(42301, 78000) i;
COMMIT;
SELECT say('changes');
-- removed again, another table meanwhile, and all of it rolled back
BEGIN;
INSERT INTO a SELECT i, 'nine of the rows ' || i, 9, i FROM generate_series(80001, 96000) i;
INSERT INTO b SELECT i, 'b of the rows ' || i FROM generate_series(1, 30000) i;
DELETE FROM a WHERE i > 80000 AND i % 3 = 0;
UPDATE a SET t = t || '!' WHERE i > 80000 AND i % 5 = 0;
INSERT INTO a SELECT i, 'ten of the rows ' || i, 10, i FROM generate_series(96001, 97000) i;
COMMIT;
SELECT say('removed');
BEGIN;
INSERT INTO b SELECT -i, 'c of the rows ' || i FROM generate_series(1, 18000) i;
DELETE FROM b WHERE i < 0 AND i % 2 = 0;
COMMIT;
BEGIN;
INSERT INTO b SELECT i, 'd of the rows ' || i FROM generate_series(1, 18000) i;
TRUNCATE b;
INSERT INTO b SELECT i, 'e of the rows ' || i FROM generate_series(1, 18000) i;
DROP TABLE b;
ROLLBACK;
SELECT say('rolled back'), count(*), sum(i), sum(length(t)) FROM b;
DROP TABLE a, b, packed CASCADE;
DROP FUNCTION say;
SQL
chmod 644 "$work/ahead.sql"
heap=$(sql -v am=heap -f "$work/ahead.sql")
for memory_is in 64kB 1MB; do
	said=$(sql -v am=s3am -c "SET s3am.transaction_memory = '$memory_is'" -f "$work/ahead.sql")
	is "$(wc -l <<< "$said")" 9 "rows written ahead with $memory_is of memory"
	is "$said" "$heap" "are what they are in heap"
done

# ---- an upload that fails fails the statement, and nothing can be committed after it
if [[ $repository == file://* && $(id -u) == 0 ]]; then
	find "${repository#file://}/segments" -type d -exec chmod 500 {} +
	said=$(cluster_psql "$dir" -At -d test -v ON_ERROR_STOP=0 -v VERBOSITY=terse 2>&1 <<'SQL'
SET s3am.transaction_memory = '64kB';
SET s3am.segment_size = '64kB';
BEGIN;
INSERT INTO s VALUES (-2, 'before');
SAVEPOINT a;
INSERT INTO s SELECT -3, repeat('x', 100) FROM generate_series(1, 100000);
ROLLBACK TO a;
COMMIT;
SELECT count(*) FROM s WHERE i < -1;
SQL
)
	find "${repository#file://}/segments" -type d -exec chmod 700 {} +
	like "$said" "ERROR:  cannot write a segment to the repository" "an upload that fails is an error"
	is "$(tail -n 1 <<< "$said")" 0 "and nothing of the transaction is committed"
	is "$(sql -c "INSERT INTO s VALUES (-9, 'after')" -c 'SELECT count(*) FROM s WHERE i = -9')" 1 "the next one is not touched by it"
fi
done_testing
