#!/bin/bash
# Rows that a transaction adds one by one, by commands in no regular order: which of them each command, cursor and savepoint sees; in bounded
# memory.
. "$(dirname "$0")/../lib/tap.sh"

node server "jit = off"
sql -c 'CREATE EXTENSION s3am' || exit 1
cat > "$work/loops.sql" <<'SQL'
CREATE TABLE r (i int, k int) USING :am;
CREATE TABLE other (i int) USING heap;
CREATE PROCEDURE add(first int, last int) LANGUAGE plpgsql AS $$
BEGIN
	FOR k IN first .. last LOOP
		INSERT INTO r VALUES (k, 0);
		IF k * 7 % 11 < 5 THEN INSERT INTO other VALUES (k); END IF;
		IF k * 5 % 13 < 4 THEN INSERT INTO r VALUES (k, 1), (k, 2); END IF;
	END LOOP;
END $$;
-- each turn sees what it began with, not what the others add
CREATE PROCEDURE while_reading(n int) LANGUAGE plpgsql AS $$
DECLARE x record; seen int := 0;
BEGIN
	FOR x IN SELECT i FROM r WHERE i % n = 0 LOOP
		seen := seen + 1;
		INSERT INTO r VALUES (x.i, 3);
		IF seen % 3 = 0 THEN INSERT INTO other VALUES (x.i); END IF;
	END LOOP;
	RAISE NOTICE 'seen %', seen;
END $$;
BEGIN;
CALL add(1, 9000);
DECLARE c CURSOR FOR SELECT count(*), sum(i), sum(k) FROM r;
CALL add(9001, 18000);
SAVEPOINT a;
CALL add(18001, 30000);
DECLARE d CURSOR FOR SELECT count(*), sum(i), sum(k) FROM r;
SELECT count(*), sum(i), sum(k) FROM r;
SAVEPOINT b;
CALL while_reading(7);
FETCH d;
SELECT count(*), sum(i), sum(k) FROM r;
ROLLBACK TO a;
SELECT count(*), sum(i), sum(k) FROM r;
CALL add(40001, 41000);
SAVEPOINT c;
CALL add(41001, 60000);
UPDATE r SET k = k + 10 WHERE i % 10 = 0;
SELECT count(*), sum(i), sum(k) FROM r;
ROLLBACK TO c;
CALL while_reading(3);
FETCH c;
SELECT count(*), sum(i), sum(k) FROM r;
COMMIT;
SELECT count(*), sum(i), sum(k) FROM r;
DROP TABLE r, other;
DROP PROCEDURE add, while_reading;
SQL
chmod 644 "$work/loops.sql"
heap=$(sql -v am=heap -f "$work/loops.sql" 2>&1)
is "$(wc -l <<< "$heap")" 10 "the script says something"
is "$(sql -v am=s3am -f "$work/loops.sql" 2>&1)" "$heap" "and the same on heap and s3am"
is "$(sql -v am=s3am -c "SET s3am.transaction_memory = '64kB'" -c "SET s3am.segment_size = '64kB'" -f "$work/loops.sql" 2>&1)" "$heap" \
	"when the rows have left memory, too"

# without files 16 bytes for each turn that is unlike the one before it: 2 MB
said=$(sql <<'SQL'
CREATE TABLE r (i int) USING s3am;
CREATE TABLE other (i int) USING heap;
SET s3am.transaction_memory = '256kB';
BEGIN;
DO $$ BEGIN
	FOR k IN 1 .. 300000 LOOP
		INSERT INTO r VALUES (k);
		IF k % 2 = 0 THEN INSERT INTO other VALUES (k); END IF;
	END LOOP;
END $$;
SELECT sum(total_bytes) / 1024 FROM pg_backend_memory_contexts WHERE name LIKE 's3am transaction%';
COMMIT;
SELECT count(*), sum(i) FROM r;
SQL
)
diag "$(head -n 1 <<< "$said") kB"
[ "$(awk 'NR == 1 { print int($1) }' <<< "$said")" -le 1024 ]
ok $? "300,000 single rows and their command ids, in bounded memory"
is "$(sed -n 2p <<< "$said")" "300000|45000150000" "and they are there"
done_testing
