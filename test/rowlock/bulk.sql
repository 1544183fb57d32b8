-- Sizes and times; each line says what must hold, and prints figures that differ from run to run on lines with "ns" or "kB".
\set ON_ERROR_STOP on
\pset tuples_only on
\pset format unaligned
BEGIN;
SELECT 'three million rows: ' || round(rl_bulk('t', 1, 0, 3000000, 1, 'update')) || ' ns a row';
SELECT 'again: ' || round(rl_bulk('t', 1, 0, 3000000, 1, 'share')) || ' ns a row';
SELECT 'shared: ' || sum(bytes + 32) / 1024 || ' kB, backend: '
	|| (SELECT total_bytes / 1024 FROM pg_backend_memory_contexts WHERE name = 's3am row locks') || ' kB' FROM rl_dump();
SELECT 'locked: ' || sum(count) || ' in less than a megabyte: ' || (sum(bytes + 32) < 1048576) FROM rl_dump();
SELECT 'collected: ' || rl_each_count();
\timing on
COMMIT;
\timing off
SELECT 'left: ' || count(*) || ', ' || rl_chunks() FROM rl_dump();

BEGIN;
SELECT 'every thousandth row: ' || round(rl_bulk('t', 1, 0, 300000, 1000, 'update')) || ' ns a row';
SELECT 'shared: ' || sum(bytes + 32) / 1024 || ' kB, backend: '
	|| (SELECT total_bytes / 1024 FROM pg_backend_memory_contexts WHERE name = 's3am row locks') || ' kB' FROM rl_dump();
SELECT 'locked: ' || sum(count) || ', collected: ' || rl_each_count() FROM rl_dump();
\timing on
ROLLBACK;
\timing off
SELECT 'left: ' || count(*) || ', ' || rl_chunks() FROM rl_dump();

-- a hundred thousand blocks, each with a lock of its own, one in ten rolled back
CREATE FUNCTION blocks(n int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..n LOOP
		BEGIN
			PERFORM rl_lock('t', 1, i, 'update');
			IF i % 10 = 0 THEN
				RAISE EXCEPTION 'no';
			END IF;
		EXCEPTION WHEN raise_exception THEN
			NULL;
		END;
	END LOOP;
END $$;
BEGIN;
SELECT rl_lock('t', 2, 1, 'update');
\timing on
SELECT blocks(100000);
\timing off
SELECT 'locked: ' || sum(count) || ', tokens: ' || count(DISTINCT token) FROM rl_dump();
SELECT 'token locks: ' || count(*) FROM pg_locks WHERE locktype = 'userlock';
SELECT 'collected: ' || rl_each_count();
SELECT 'shared: ' || sum(bytes + 32) / 1024 || ' kB, backend: '
	|| (SELECT total_bytes / 1024 FROM pg_backend_memory_contexts WHERE name = 's3am row locks') || ' kB' FROM rl_dump();
COMMIT;
SELECT 'left: ' || count(*) || ', ' || rl_chunks() FROM rl_dump();
-- the same without a lock of the parent's
BEGIN;
SELECT blocks(1000);
SELECT 'locked: ' || sum(count) || ', tokens: ' || count(DISTINCT token) FROM rl_dump();
COMMIT;
SELECT 'left: ' || count(*) || ', ' || rl_chunks() FROM rl_dump();

-- large subtransactions joined: sparse and bitmap on either side
BEGIN;
SELECT rl_bulk('t', 1, 0, 20, 100, 'share') > 0, rl_bulk('t', 1, 4096, 1000, 2, 'share') > 0, rl_bulk('t', 1, 8192, 3, 1, 'share') > 0;
SAVEPOINT a;
SELECT rl_bulk('t', 1, 1, 1000, 2, 'share') > 0, rl_bulk('t', 1, 4097, 3, 2, 'share') > 0, rl_bulk('t', 1, 8192 + 3, 2, 1, 'share') > 0;
SAVEPOINT b;
SELECT rl_bulk('t', 1, 8192 + 100, 44, 1, 'share') > 0, rl_bulk('t', 1, 12288, 5, 1, 'update') > 0;
RELEASE b;
RELEASE a;
SELECT chunk, mode, kind, count FROM rl_dump() ORDER BY 1, 2;
SELECT 'collected: ' || rl_each_count();
COMMIT;

-- publishing: rows that nobody holds, and weak locks that are followed
SELECT 'published without holders: ' || round(rl_follow(1, 0, 1000000, 'no key update', 10000000)) || ' ns a row';
BEGIN;
SELECT 'key share: ' || round(rl_bulk('t', 1, 0, 1000000, 1, 'key share')) || ' ns a row';
SELECT 'followed: ' || round(rl_follow(1, 0, 1000000, 'no key update', 10000000)) || ' ns a row';
SELECT 'locked: ' || sum(count) || ', collected: ' || rl_each_count() || ', notes: ' || rl_notes() FROM rl_dump();
COMMIT;
SELECT 'left: ' || count(*) || ', ' || rl_chunks() || ', notes: ' || rl_notes() FROM rl_dump();

-- a parallel worker sees its leader's locks as its own
ALTER FUNCTION rl_held PARALLEL SAFE;
ALTER FUNCTION rl_conflicts PARALLEL SAFE;
BEGIN;
SELECT rl_lock('t', 1, 1, 'update');
SET LOCAL force_parallel_mode = on;
EXPLAIN (COSTS off) SELECT rl_held(1, 1, 'share'), rl_conflicts(1, 1, 'share');
SELECT 'worker: ' || rl_held(1, 1, 'share') || ', ' || rl_held(1, 2, 'share') || ', ' || rl_conflicts(1, 1, 'share');
SELECT 'locked: ' || sum(count) FROM rl_dump();
COMMIT;

-- the strongest mode of a row only
BEGIN;
SELECT rl_bulk('t', 1, 0, 10, 1, 'key share') > 0, rl_bulk('t', 1, 5, 10, 1, 'update') > 0, rl_lock('t', 3, 7, 'share', 'wait', 4);
SELECT rl_each();
SELECT 'any: ' || rl_any();
COMMIT;
SELECT 'any: ' || rl_any();

-- a nearly full area: the error names the remedy, and nothing stays behind
SELECT rl_limit(4 * 1024 * 1024);
\set ON_ERROR_STOP off
\set VERBOSITY verbose
BEGIN;
SELECT rl_bulk('t', 1, 0, 1000000, 4096, 'update');
SELECT 1;
ROLLBACK;
\set VERBOSITY default
BEGIN;
SELECT rl_lock('t', 1, 1, 'update');
SAVEPOINT a;
SELECT rl_bulk('t', 1, 0, 1000000, 4096, 'update');
ROLLBACK TO a;
SELECT 'left: ' || count(*) || ', ' || rl_chunks() FROM rl_dump();
COMMIT;
SELECT rl_limit(0);
SELECT 'left: ' || count(*) || ', ' || rl_chunks() FROM rl_dump();
