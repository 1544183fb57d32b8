CREATE FUNCTION rl_lock(rel regclass, storage int8, row_id int8, mode text, policy text DEFAULT 'wait', base int8 DEFAULT 0)
	RETURNS text AS 'rowlock_test' LANGUAGE c VOLATILE STRICT;
CREATE FUNCTION rl_bulk(rel regclass, storage int8, first int8, n int8, step int8, mode text)
	RETURNS float8 AS 'rowlock_test' LANGUAGE c VOLATILE STRICT;
CREATE FUNCTION rl_held(storage int8, row_id int8, mode text) RETURNS bool AS 'rowlock_test' LANGUAGE c VOLATILE STRICT;
CREATE FUNCTION rl_conflicts(storage int8, row_id int8, mode text) RETURNS bool AS 'rowlock_test' LANGUAGE c VOLATILE STRICT;
CREATE FUNCTION rl_any() RETURNS bool AS 'rowlock_test' LANGUAGE c VOLATILE;
CREATE FUNCTION rl_owner() RETURNS int8[] AS 'rowlock_test' LANGUAGE c VOLATILE;
CREATE FUNCTION rl_each() RETURNS text AS 'rowlock_test' LANGUAGE c VOLATILE;
CREATE FUNCTION rl_each_count() RETURNS int8 AS 'rowlock_test' LANGUAGE c VOLATILE;
CREATE FUNCTION rl_publish(storage int8, row_id int8, mode text, version int8, successor int8, owner int8[] DEFAULT NULL)
	RETURNS int4 AS 'rowlock_test' LANGUAGE c VOLATILE;
CREATE FUNCTION rl_follow(storage int8, first int8, n int8, mode text, distance int8)
	RETURNS float8 AS 'rowlock_test' LANGUAGE c VOLATILE STRICT;
CREATE FUNCTION rl_doomed() RETURNS bool AS 'rowlock_test' LANGUAGE c VOLATILE;
CREATE FUNCTION rl_dump(OUT storage int8, OUT chunk int8, OUT mine bool, OUT token int8, OUT mode text, OUT kind text,
						OUT base int8, OUT count int4, OUT bytes int4)
	RETURNS SETOF record AS 'rowlock_test' LANGUAGE c VOLATILE;
CREATE FUNCTION rl_chunks() RETURNS int8 AS 'rowlock_test' LANGUAGE c VOLATILE;
CREATE FUNCTION rl_notes() RETURNS int4 AS 'rowlock_test' LANGUAGE c VOLATILE;
CREATE FUNCTION rl_limit(bytes int8) RETURNS void AS 'rowlock_test' LANGUAGE c VOLATILE STRICT;
CREATE FUNCTION rl_increment(rel regclass, storage int8, row_id int8) RETURNS void AS 'rowlock_test' LANGUAGE c VOLATILE STRICT;
CREATE FUNCTION rl_counters() RETURNS int8 AS 'rowlock_test' LANGUAGE c VOLATILE;
CREATE TABLE t (i int);
CREATE TABLE other (i int);
CREATE FUNCTION rl_stray() RETURNS int4 AS 'rowlock_test' LANGUAGE c VOLATILE;
CREATE FUNCTION rl_pass(storage int8, n int8) RETURNS int8 AS 'rowlock_test' LANGUAGE c VOLATILE STRICT;
CREATE FUNCTION rl_begun() RETURNS int8 AS 'rowlock_test' LANGUAGE c VOLATILE;
CREATE FUNCTION rl_done() RETURNS int8 AS 'rowlock_test' LANGUAGE c VOLATILE;
-- Locks taken in subtransactions that end meanwhile must be on every successor that was published since.
CREATE FUNCTION check_followed(n int) RETURNS int8 LANGUAGE plpgsql AS $$
DECLARE
	begun int8[] := array_fill(NULL::int8, ARRAY[n]);
	checked int8 := 0;
	r int;
BEGIN
	IF rl_notes() > 0 THEN
		RAISE EXCEPTION 'the last transaction was followed after its end';
	END IF;
	PERFORM rl_lock('t', 7, 999999, 'key share');	-- so that the parent has a token
	FOR i IN 1..30 LOOP
		BEGIN
			FOR j IN 1..3 LOOP
				r := 1 + random() * (n - 1);
				PERFORM rl_lock('t', 7, r, 'key share');
				begun[r] := coalesce(begun[r], rl_begun());
			END LOOP;
			-- long enough to end for publications to fall into it
			PERFORM rl_bulk('t', 8, 0, 300, 4096, 'share');
			IF i % 5 = 0 THEN
				BEGIN
					PERFORM rl_lock('t', 7, (1 + random() * (n - 1))::int, 'key share');
					RAISE EXCEPTION 'no';
				EXCEPTION WHEN raise_exception THEN
					NULL;
				END;
			END IF;
		EXCEPTION WHEN division_by_zero THEN
			NULL;
		END;
	END LOOP;
	FOR r IN 1..n LOOP
		CONTINUE WHEN begun[r] IS NULL;
		FOR k IN begun[r] + 1 .. rl_done() LOOP
			IF NOT rl_held(7, k::int8 * 1000000 + r, 'key share') THEN
				RAISE EXCEPTION 'row % is not followed to pass %', r, k;
			END IF;
			checked := checked + 1;
		END LOOP;
	END LOOP;
	IF rl_stray() > 0 THEN
		RAISE EXCEPTION '% entries are under a token that has ended', rl_stray();
	END IF;
	RETURN checked;
END $$;
CREATE FUNCTION kl_lock(rel regclass, storage int8, key int8, policy text DEFAULT 'wait') RETURNS text AS 'rowlock_test' LANGUAGE c VOLATILE STRICT;
CREATE FUNCTION kl_bulk(rel regclass, storage int8, first int8, n int8) RETURNS int8 AS 'rowlock_test' LANGUAGE c VOLATILE STRICT;
CREATE FUNCTION kl_held(storage int8, first int8, n int8) RETURNS int8 AS 'rowlock_test' LANGUAGE c VOLATILE STRICT;
CREATE FUNCTION kl_bytes() RETURNS int8 AS 'rowlock_test' LANGUAGE c VOLATILE;
CREATE FUNCTION kl_memory(kilobytes int4) RETURNS void AS 'rowlock_test' LANGUAGE c VOLATILE STRICT;
CREATE FUNCTION kl_sets() RETURNS int8 AS 'rowlock_test' LANGUAGE c VOLATILE;
CREATE FUNCTION kl_increment(rel regclass, storage int8, key int8) RETURNS void AS 'rowlock_test' LANGUAGE c VOLATILE STRICT;
CREATE FUNCTION kl_hash(rel regclass, storage int8, hash int8) RETURNS bool AS 'rowlock_test' LANGUAGE c VOLATILE STRICT;
