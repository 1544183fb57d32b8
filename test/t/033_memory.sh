#!/bin/bash
# A session that runs for ever does not grow: within one transaction only by what the transaction holds, over many not at all.
. "$(dirname "$0")/../lib/tap.sh"

node server
sql -c 'CREATE EXTENSION s3am' -c 'ALTER DATABASE test SET default_table_access_method = s3am' || exit 1
sql <<'SQL'
CREATE TABLE t (i int, t text);
-- what is in use: total_bytes grows by a whole block when the last one is full, whoever fills it
CREATE VIEW memory AS SELECT sum(used_bytes)::bigint AS bytes FROM pg_backend_memory_contexts;
CREATE PROCEDURE many(n int) LANGUAGE plpgsql AS $$
BEGIN
	FOR k IN 1 .. n LOOP
		INSERT INTO t VALUES (k, 'x' || k);
		UPDATE t SET t = 'y' WHERE ctid = '(0,1)';
		PERFORM FROM t WHERE ctid = '(0,5)' FOR UPDATE;
		COMMIT;
	END LOOP;
END $$;
CREATE FUNCTION one(n int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	FOR k IN 1 .. n LOOP
		INSERT INTO t VALUES (k, 'x');
		PERFORM FROM t WHERE ctid = '(0,5)';
		BEGIN
			UPDATE t SET t = 'z' WHERE ctid = '(0,3)';
			INSERT INTO t VALUES (-k, 'gone');
			IF k % 2 = 0 THEN RAISE division_by_zero; END IF;
		EXCEPTION WHEN division_by_zero THEN NULL;
		END;
	END LOOP;
END $$;
SQL
loops=${S3AM_MEMORY_LOOPS:-20000}
said=$(sql <<SQL
SELECT bytes FROM memory;
CALL many(500);
SELECT one(500);
SELECT bytes FROM memory;
CALL many($((loops / 10)));
SELECT bytes FROM memory;
SELECT one($loops);
SELECT bytes FROM memory;
BEGIN;
SELECT one($loops);
SELECT bytes FROM memory;
COMMIT;
SELECT bytes FROM memory;
SQL
)
mapfile -t bytes < <(grep . <<< "$said")
grown() { [ $((${bytes[$2]} - ${bytes[$1]})) -le "$3" ]; }
diag "bytes: ${bytes[*]}"
grown 1 2 16384
ok $? "many transactions"
grown 1 3 16384
ok $? "one with many statements and subtransactions"
# rows of 30 to 40 bytes that are there, and the committed one that was updated again and again
grown 3 4 $((loops * 120))
ok $? "while it runs it holds what it added"
grown 1 5 16384
ok $? "and nothing afterwards"
done_testing
