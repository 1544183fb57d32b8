-- keys.sql: every form of DDL and DML in which core asks whether an index is a B-tree, for like_heap.
-- Run with -a on a heap and on an s3am database; the outputs must be the same.  What may be written is what both answer
-- alike: no costs, no sizes, every query with an order.
\pset null <null>
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE FUNCTION uses(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS off) ' || query LOOP
		RETURN NEXT line;
	END LOOP;
END $$;

-- ---------------------------------------------------------------- definitions
CREATE TABLE k1 (a int PRIMARY KEY, b text UNIQUE, c int, d text, UNIQUE (c, d) DEFERRABLE INITIALLY DEFERRED);
CREATE INDEX k1_expr ON k1 (lower(b) text_pattern_ops, c DESC NULLS LAST) INCLUDE (d) WHERE c > 0;
CREATE UNIQUE INDEX CONCURRENTLY k1_conc ON k1 (abs(a));
CREATE INDEX k1_named ON k1 USING btree (d COLLATE "C" DESC);
CREATE UNIQUE INDEX k1_nulls ON k1 (c, a) NULLS NOT DISTINCT;
COMMENT ON INDEX k1_named IS 'a comment';
\d k1
SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'k1' ORDER BY 1;
SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'k1'::regclass ORDER BY 1;
INSERT INTO k1 SELECT g, 'B' || g, g % 100 + 1, 'd' || g / 100 FROM generate_series(1, 1000) g;
INSERT INTO k1 VALUES (1, 'x', 0, 'x');
INSERT INTO k1 VALUES (-1, 'x', 0, 'x');
INSERT INTO k1 VALUES (1001, 'B1', 0, 'x');
INSERT INTO k1 VALUES (1002, 'y', 2, 'd0');
BEGIN;
INSERT INTO k1 VALUES (1003, 'z', 2, 'd0');
UPDATE k1 SET c = 1000 WHERE a = 1;
COMMIT;
BEGIN;
INSERT INTO k1 VALUES (1004, 'zz', 2, 'd0');
SET CONSTRAINTS ALL IMMEDIATE;
ROLLBACK;
ALTER INDEX k1_named RENAME TO k1_renamed;
ALTER INDEX k1_renamed SET (fillfactor = 70);
REINDEX INDEX k1_renamed;
REINDEX TABLE k1;
REINDEX TABLE CONCURRENTLY k1;
BEGIN;
DROP INDEX CONCURRENTLY k1_conc;
ROLLBACK;
DROP INDEX CONCURRENTLY IF EXISTS k1_nowhere;
DROP INDEX CONCURRENTLY k1_conc;
ANALYZE k1;
SELECT count(*), min(a), max(a) FROM k1;
BEGIN;
CREATE TABLE k2 (a int);
SAVEPOINT s;
CREATE UNIQUE INDEX k2_a ON k2 (a);
INSERT INTO k2 VALUES (1);
ROLLBACK TO s;
INSERT INTO k2 VALUES (1), (1);
CREATE INDEX k2_a ON k2 (a);
COMMIT;
\d k2
DROP TABLE k2;

-- ---------------------------------------------------------------- CREATE TABLE LIKE, dump-like statements, ALTER TYPE
CREATE TABLE k3 (LIKE k1 INCLUDING ALL);
\d k3
INSERT INTO k3 SELECT * FROM k1 WHERE a <= 10;
INSERT INTO k3 VALUES (1, 'x', 1, 'x');
ALTER TABLE k3 ALTER COLUMN b TYPE varchar(20), ALTER COLUMN a TYPE bigint, ALTER COLUMN d TYPE varchar USING d || '!';
\d k3
INSERT INTO k3 VALUES (1, 'x', 1, 'x');
SELECT a, b, c, d FROM k3 WHERE a = 3;
ALTER TABLE k3 ALTER COLUMN b TYPE varchar(40);
\d k3
SELECT a FROM k3 WHERE b = 'B4';
DROP TABLE k3;

-- ---------------------------------------------------------------- ON CONFLICT
CREATE TABLE u1 (k int PRIMARY KEY, v text, n int DEFAULT 0, UNIQUE (v));
INSERT INTO u1 VALUES (1, 'one'), (2, 'two') ON CONFLICT DO NOTHING;
INSERT INTO u1 VALUES (1, 'one'), (3, 'three') ON CONFLICT DO NOTHING RETURNING *;
INSERT INTO u1 VALUES (1, 'uno'), (4, 'four') ON CONFLICT (k) DO UPDATE SET v = excluded.v, n = u1.n + 1 RETURNING *;
INSERT INTO u1 VALUES (9, 'uno') ON CONFLICT ON CONSTRAINT u1_v_key DO UPDATE SET n = u1.n + 10 WHERE u1.n < 100 RETURNING *;
INSERT INTO u1 VALUES (1, 'three') ON CONFLICT (k) DO UPDATE SET v = excluded.v;
INSERT INTO u1 VALUES (7, 'a'), (7, 'b') ON CONFLICT (k) DO UPDATE SET v = excluded.v;
CREATE UNIQUE INDEX u1_part ON u1 (n) WHERE n > 1000;
INSERT INTO u1 VALUES (20, 'n', 2000), (21, 'm', 2000) ON CONFLICT (n) WHERE n > 1000 DO NOTHING;
EXPLAIN (COSTS off) INSERT INTO u1 VALUES (1, 'q') ON CONFLICT (k) DO NOTHING;
WITH w AS (INSERT INTO u1 VALUES (1, 'cte'), (5, 'five') ON CONFLICT (k) DO UPDATE SET v = excluded.v || '!' RETURNING k, v),
	x AS (INSERT INTO u1 VALUES (2, 'second') ON CONFLICT DO NOTHING RETURNING k)
SELECT * FROM w ORDER BY 1;
WITH x AS (INSERT INTO u1 VALUES (2, 'unread'), (6, 'six') ON CONFLICT (k) DO UPDATE SET v = excluded.v)
INSERT INTO u1 SELECT 8, 'eight' ON CONFLICT DO NOTHING;
PREPARE p AS INSERT INTO u1 VALUES ($1, $2) ON CONFLICT (k) DO UPDATE SET n = u1.n + 1 RETURNING k, n;
EXECUTE p (1, 'p');
EXECUTE p (1, 'p');
EXECUTE p (10, 'p');
DEALLOCATE p;
SELECT * FROM u1 ORDER BY k;
-- after an error nothing stays as it was for the statement: plans are made of the index again
BEGIN;
SAVEPOINT s;
INSERT INTO u1 SELECT g, (1 / (12 - g))::text FROM generate_series(11, 13) g ON CONFLICT (k) DO NOTHING;
ROLLBACK TO s;
SELECT * FROM u1 WHERE k = 3;
INSERT INTO u1 VALUES (3, 'again') ON CONFLICT (k) DO UPDATE SET v = excluded.v;
COMMIT;
DO $$
BEGIN
	FOR i IN 1..3 LOOP
		BEGIN
			INSERT INTO u1 SELECT g, (1 / (g - 31))::text FROM generate_series(30, 32) g ON CONFLICT (k) DO UPDATE SET n = 0;
		EXCEPTION WHEN division_by_zero THEN
			INSERT INTO u1 VALUES (40, 'caught', i) ON CONFLICT (k) DO UPDATE SET n = u1.n * 10 + excluded.n;
		END;
	END LOOP;
END $$;
SELECT * FROM u1 WHERE k IN (3, 30, 31, 40) ORDER BY k;
-- a trigger that plans queries of the same table
CREATE FUNCTION u1_looks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('SELECT count(*) FROM %I WHERE k < $1', TG_TABLE_NAME) INTO new.n USING new.k;
	RETURN new;
END $$;
CREATE TRIGGER looks BEFORE INSERT ON u1 FOR EACH ROW EXECUTE FUNCTION u1_looks();
INSERT INTO u1 SELECT g, 'g' || g FROM generate_series(50, 53) g ON CONFLICT (k) DO NOTHING RETURNING *;
-- what reads while it writes
INSERT INTO u1 SELECT k + 1, v || '+' FROM u1 WHERE (k, v) > (51, 'g51') ON CONFLICT (k) DO UPDATE SET v = excluded.v RETURNING k, v;
DROP TABLE u1;

-- ---------------------------------------------------------------- partitions
CREATE TABLE pt (a int, b int, v text, PRIMARY KEY (a, b)) PARTITION BY RANGE (a);
CREATE TABLE pt1 PARTITION OF pt FOR VALUES FROM (0) TO (100);
CREATE TABLE pt2 PARTITION OF pt FOR VALUES FROM (100) TO (200) PARTITION BY LIST (b);
CREATE TABLE pt2a PARTITION OF pt2 FOR VALUES IN (1, 2);
CREATE TABLE pt2b PARTITION OF pt2 FOR VALUES IN (3);
CREATE TABLE pt3 (v text, gone int, b int NOT NULL, a int NOT NULL);
ALTER TABLE pt3 DROP COLUMN gone;
ALTER TABLE pt ATTACH PARTITION pt3 FOR VALUES FROM (200) TO (300);
INSERT INTO pt SELECT g * 50, 1, 'v' || g FROM generate_series(0, 5) g;
INSERT INTO pt SELECT g * 50, 1, 'w' || g FROM generate_series(0, 5) g ON CONFLICT (a, b) DO UPDATE SET v = excluded.v || pt.v;
INSERT INTO pt SELECT g * 50, 1 + g % 3, 'x' || g FROM generate_series(0, 5) g ON CONFLICT DO NOTHING;
INSERT INTO pt VALUES (5, 1, 'y') ON CONFLICT (a, b) DO UPDATE SET v = 'never' RETURNING *;
INSERT INTO pt VALUES (5, 1, 'y') ON CONFLICT (a, b) DO UPDATE SET v = 'now', b = 2 RETURNING tableoid::regclass, *;
INSERT INTO pt VALUES (500, 1, 'y') ON CONFLICT (a, b) DO NOTHING;
INSERT INTO pt VALUES (1, 1, 'in'), (150, 9, 'out') ON CONFLICT (a, b) DO NOTHING;
INSERT INTO pt2 VALUES (1, 1, 'y') ON CONFLICT DO NOTHING;
INSERT INTO pt2 VALUES (150, 1, 'direct') ON CONFLICT (a, b) DO UPDATE SET v = excluded.v RETURNING tableoid::regclass, *;
INSERT INTO pt3 (a, b, v) VALUES (250, 1, 'leaf') ON CONFLICT (a, b) DO UPDATE SET v = excluded.v RETURNING tableoid::regclass, *;
WITH w AS (INSERT INTO pt SELECT g, 1, 'cte' FROM generate_series(0, 250, 50) g ON CONFLICT (a, b) DO UPDATE SET v = excluded.v RETURNING a, v)
SELECT * FROM w ORDER BY 1;
EXPLAIN (COSTS off) INSERT INTO pt VALUES (1, 1, 'q') ON CONFLICT DO NOTHING;
EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) INSERT INTO pt VALUES (0, 1, 'q'), (10, 1, 'r') ON CONFLICT DO NOTHING;
CREATE FUNCTION pt_looks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE 'SELECT count(*) FROM pt WHERE (a, b) < ($1, $2)' INTO new.v USING new.a, new.b;
	RETURN new;
END $$;
CREATE TRIGGER looks BEFORE INSERT ON pt FOR EACH ROW EXECUTE FUNCTION pt_looks();
CREATE TABLE told (what text);
CREATE FUNCTION pt_tells() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO told VALUES (TG_OP || ' ' || TG_TABLE_NAME || ' ' || new.a);
	RETURN NULL;
END $$;
CREATE TRIGGER tells AFTER INSERT OR UPDATE ON pt FOR EACH ROW EXECUTE FUNCTION pt_tells();
INSERT INTO pt SELECT g * 40, 1, 't' FROM generate_series(0, 6) g ON CONFLICT (a, b) DO UPDATE SET v = pt.v || excluded.v;
SELECT * FROM told ORDER BY 1;
DO $$
BEGIN
	FOR i IN 1..3 LOOP
		BEGIN
			INSERT INTO pt SELECT g, 1, (1 / (g - 200))::text FROM generate_series(0, 250, 50) g ON CONFLICT (a, b) DO UPDATE SET v = 'x';
		EXCEPTION WHEN division_by_zero THEN
			INSERT INTO pt VALUES (199, 3, 'caught') ON CONFLICT (a, b) DO UPDATE SET v = pt.v || i;
		END;
	END LOOP;
END $$;
DROP TRIGGER looks ON pt;
SELECT tableoid::regclass, * FROM pt ORDER BY a, b;
UPDATE pt SET a = a + 100 WHERE a = 40;
SELECT tableoid::regclass, * FROM pt WHERE a = 140;
-- indexes that partitions have already are taken, not made again
CREATE INDEX pt1_v ON pt1 (v);
CREATE INDEX pt2a_v ON pt2a (v);
CREATE INDEX pt_v ON pt (v);
SELECT inhrelid::regclass, inhparent::regclass FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE relkind IN ('i', 'I') ORDER BY 1, 2;
\d pt1
CREATE TABLE pt4 (a int NOT NULL, b int NOT NULL, v text, CONSTRAINT its_own PRIMARY KEY (a, b));
CREATE INDEX pt4_other ON pt4 (v);
ALTER TABLE pt ATTACH PARTITION pt4 FOR VALUES FROM (300) TO (400);
\d pt4
ALTER TABLE pt DETACH PARTITION pt4;
ALTER TABLE pt ATTACH PARTITION pt4 FOR VALUES FROM (300) TO (400);
ALTER TABLE pt DETACH PARTITION pt4;
DROP INDEX pt4_other;
ALTER TABLE pt ATTACH PARTITION pt4 FOR VALUES FROM (300) TO (400);
\d pt4
INSERT INTO pt VALUES (300, 1, 'attached'), (300, 1, 'twice') ON CONFLICT DO NOTHING;
-- as pg_dump writes it
CREATE TABLE pd (a int NOT NULL, b text) PARTITION BY RANGE (a);
CREATE TABLE pd1 (a int NOT NULL, b text);
ALTER TABLE ONLY pd ATTACH PARTITION pd1 FOR VALUES FROM (0) TO (100);
ALTER TABLE ONLY pd ADD CONSTRAINT pd_pkey PRIMARY KEY (a);
ALTER TABLE ONLY pd1 ADD CONSTRAINT pd1_pkey PRIMARY KEY (a);
CREATE INDEX pd_b ON ONLY pd USING btree (b);
CREATE INDEX pd1_b ON pd1 USING btree (b);
ALTER INDEX pd_pkey ATTACH PARTITION pd1_pkey;
ALTER INDEX pd_b ATTACH PARTITION pd1_b;
ALTER INDEX pd_b ATTACH PARTITION pd1_pkey;
\d pd
\d pd1
SELECT indexrelid::regclass, indisvalid FROM pg_index WHERE indrelid IN ('pd'::regclass, 'pd1'::regclass) ORDER BY 1;
-- a key for the parent where the child has it
CREATE TABLE pk (a int NOT NULL, b int) PARTITION BY RANGE (a);
CREATE TABLE pk1 PARTITION OF pk (PRIMARY KEY (a)) FOR VALUES FROM (0) TO (100);
CREATE TABLE pk2 PARTITION OF pk (UNIQUE (a, b)) FOR VALUES FROM (100) TO (200);
ALTER TABLE pk ADD PRIMARY KEY (a);
ALTER TABLE pk ADD UNIQUE (a, b);
SELECT inhrelid::regclass, inhparent::regclass FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE relname ~ '^pk' AND relkind IN ('i', 'I') ORDER BY 1, 2;
INSERT INTO pk VALUES (1, 1), (101, 1);
-- dropped and made anew in one statement; and with a rewrite
ALTER TABLE pk DROP CONSTRAINT pk_pkey, ADD PRIMARY KEY (a);
ALTER TABLE pk ADD COLUMN s timestamptz DEFAULT clock_timestamp(), DROP CONSTRAINT pk_pkey, ADD PRIMARY KEY (a), ADD UNIQUE (a);
\d pk1
INSERT INTO pk VALUES (1, 2);
CREATE TABLE refs (a int REFERENCES pk, b int);
INSERT INTO refs VALUES (1, 1);
INSERT INTO refs VALUES (2, 2);
DELETE FROM pk WHERE a = 1;
-- a key and a foreign key, whose check is planned while the key is made
CREATE TABLE pf (a int NOT NULL, b int) PARTITION BY RANGE (a);
CREATE TABLE pf1 PARTITION OF pf (PRIMARY KEY (a)) FOR VALUES FROM (0) TO (100);
INSERT INTO pf VALUES (1, 101);
ALTER TABLE pf ADD PRIMARY KEY (a), ADD FOREIGN KEY (b) REFERENCES pk (a);
INSERT INTO pf VALUES (2, 102);
CREATE TABLE pf2 (a int PRIMARY KEY, b int);
INSERT INTO pf2 VALUES (150, 7);
ALTER TABLE pf ATTACH PARTITION pf2 FOR VALUES FROM (100) TO (200);
UPDATE pf2 SET b = 101;
ALTER TABLE pf ATTACH PARTITION pf2 FOR VALUES FROM (100) TO (200);
\d pf2
CREATE TABLE pl PARTITION OF pk FOR VALUES FROM (300) TO (400);
\d pl
DROP TABLE pf, refs, pk, pd, told;

-- ---------------------------------------------------------------- keys from indexes
CREATE TABLE ki (a int NOT NULL, b text, c int NOT NULL);
INSERT INTO ki SELECT g, 'b' || g, -g FROM generate_series(1, 100) g;
CREATE UNIQUE INDEX ki_a ON ki (a);
CREATE UNIQUE INDEX ki_b ON ki USING btree (b);
CREATE UNIQUE INDEX ki_c ON ki (c);
CREATE INDEX ki_plain ON ki (c);
ALTER TABLE ki ADD CONSTRAINT ki_key PRIMARY KEY USING INDEX ki_a;
ALTER TABLE ki ADD UNIQUE USING INDEX ki_b DEFERRABLE;
ALTER TABLE ki ADD UNIQUE USING INDEX ki_plain;
ALTER TABLE ki ADD UNIQUE USING INDEX nowhere;
ALTER TABLE ki DROP CONSTRAINT ki_key, ADD CONSTRAINT ki_other PRIMARY KEY USING INDEX ki_c;
\d ki
CREATE UNIQUE INDEX ki_again ON ki (a);
ALTER TABLE ki ADD COLUMN d float8 DEFAULT random(), ADD UNIQUE USING INDEX ki_again;
CREATE UNIQUE INDEX ki_typed ON ki (a, c);
CREATE UNIQUE INDEX ki_text ON ki (b, a);
ALTER TABLE ki ADD UNIQUE USING INDEX ki_typed, ALTER a TYPE bigint, ADD CONSTRAINT ki_ba UNIQUE USING INDEX ki_text, ALTER b TYPE varchar;
CREATE UNIQUE INDEX ki_c2 ON ki (c);
ALTER TABLE ki ADD UNIQUE USING INDEX ki_c2, ALTER c TYPE numeric;
\d ki
INSERT INTO ki VALUES (1, 'x', 5);
INSERT INTO ki VALUES (200, 'b1', 5);
INSERT INTO ki VALUES (200, 'x', -1);
ALTER TABLE ki REPLICA IDENTITY USING INDEX ki_other;
ALTER TABLE ki CLUSTER ON ki_other;
CLUSTER ki;
SELECT count(*), min(c) FROM ki;
DROP TABLE ki;

-- ---------------------------------------------------------------- materialized views
CREATE MATERIALIZED VIEW mv AS SELECT a, b, c, CASE WHEN a = 3 THEN (SELECT string_agg(md5(g::text || b), '') FROM generate_series(1, 2000) g) END AS wide
	FROM k1 WHERE a <= 20;
REFRESH MATERIALIZED VIEW CONCURRENTLY mv;
CREATE UNIQUE INDEX mv_a ON mv (a);
UPDATE k1 SET b = 'changed' WHERE a = 5;
DELETE FROM k1 WHERE a = 6;
REFRESH MATERIALIZED VIEW CONCURRENTLY mv;
SELECT * FROM mv WHERE a BETWEEN 4 AND 8 ORDER BY a;
UPDATE k1 SET b = b || '!' WHERE a = 3;
REFRESH MATERIALIZED VIEW CONCURRENTLY mv;
SELECT a, b, length(wide), md5(wide) FROM mv WHERE wide IS NOT NULL;
REFRESH MATERIALIZED VIEW mv;
SELECT count(*) FROM mv;
\d mv
DROP MATERIALIZED VIEW mv;
-- what the caches know of the index is read anew in the middle of it
CREATE FUNCTION mv_analyzes() RETURNS int LANGUAGE plpgsql AS $$
BEGIN
	IF to_regclass('public.mv') IS NOT NULL THEN
		ANALYZE public.mv;
	END IF;
	RETURN 1;
END $$;
CREATE MATERIALIZED VIEW mv AS SELECT a, b FROM k1 WHERE a <= 900 AND mv_analyzes() = 1;
CREATE UNIQUE INDEX mv_a ON mv (a);
DELETE FROM k1 WHERE a BETWEEN 100 AND 800;
REFRESH MATERIALIZED VIEW CONCURRENTLY mv;
DELETE FROM k1 WHERE a BETWEEN 50 AND 850;
REFRESH MATERIALIZED VIEW CONCURRENTLY mv;
SELECT count(*) FROM mv;
DROP MATERIALIZED VIEW mv;
DROP FUNCTION mv_analyzes;

-- ---------------------------------------------------------------- row comparisons
CREATE TABLE rc (a int, b text, c int);
INSERT INTO rc SELECT g / 10, 'b' || g % 10, g FROM generate_series(0, 9999) g;
CREATE INDEX rc_ab ON rc (a, b);
ANALYZE rc;
SELECT uses('SELECT * FROM rc WHERE (a, b) > (500, ''b5'') ORDER BY a, b LIMIT 3');
SELECT * FROM rc WHERE (a, b) > (500, 'b5') ORDER BY a, b LIMIT 3;
SELECT * FROM rc WHERE (a, b) <= (500, 'b5') ORDER BY a DESC, b DESC LIMIT 3;
SELECT * FROM rc WHERE (a, b) > (998, 'b7') ORDER BY a, b LIMIT 20 FOR UPDATE;
UPDATE rc SET c = -c WHERE (a, b) >= (999, 'b8') RETURNING *;
DELETE FROM rc WHERE (a, b) < (0, 'b2') RETURNING *;
PREPARE p AS SELECT * FROM rc WHERE (a, b) > ($1, $2) ORDER BY a, b LIMIT 2;
EXECUTE p (7, 'b7');
SET plan_cache_mode = force_generic_plan;
EXECUTE p (7, 'b7');
RESET plan_cache_mode;
DEALLOCATE p;
SELECT count(*) FROM rc x, LATERAL (SELECT * FROM rc y WHERE (y.a, y.b) > (x.a, x.b) ORDER BY a, b LIMIT 1) z WHERE x.c < 100;
SET enable_indexscan = off; SET enable_seqscan = off;
SELECT count(*) FROM rc WHERE (a, b) > (990, 'b5');
RESET enable_indexscan; RESET enable_seqscan;
-- a cursor keeps the index busy while others are planned and run
BEGIN;
DECLARE c CURSOR FOR SELECT * FROM rc WHERE (a, b) > (3, 'b3') ORDER BY a, b;
FETCH 2 FROM c;
SELECT count(*) FROM rc WHERE a = 5;
SAVEPOINT s;
DECLARE c2 CURSOR FOR SELECT * FROM rc WHERE (a, b) > (4, 'b3') ORDER BY a, b;
FETCH 1 FROM c2;
INSERT INTO rc VALUES (4, (1 / 0)::text);
ROLLBACK TO s;
FETCH 1 FROM c;
DROP INDEX rc_ab;
ROLLBACK TO s;
CLOSE c;
SELECT uses('SELECT * FROM rc WHERE a = 5 ORDER BY a, b');
DROP INDEX rc_ab;
ROLLBACK;
BEGIN;
DECLARE c CURSOR FOR SELECT 1 / (a - 7) FROM rc WHERE (a, b) > (6, 'b8') ORDER BY a, b;
FETCH 1 FROM c;
SAVEPOINT s;
FETCH 1 FROM c;
ROLLBACK TO s;
CLOSE c;
DROP INDEX rc_ab;
ROLLBACK;
DROP TABLE rc;

-- ---------------------------------------------------------------- plans that want an order, a minimum, a unique inner side
SELECT uses('SELECT * FROM k1 ORDER BY a DESC LIMIT 1');
SELECT uses('SELECT max(a) FROM k1');
SELECT uses('SELECT x.* FROM k1 x LEFT JOIN k1 y ON x.c = y.a');
SELECT max(a), min(a) FROM k1;
SELECT a FROM k1 WHERE a = ANY ('{5, 3, 900, 3}') ORDER BY a DESC;
SELECT count(*) FROM k1 WHERE b LIKE 'B99%';
CREATE TABLE child (a int REFERENCES k1 ON DELETE CASCADE ON UPDATE CASCADE, b text REFERENCES k1 (b));
INSERT INTO child VALUES (7, 'B8');
INSERT INTO child VALUES (6, 'B8');
UPDATE k1 SET a = 7000 WHERE a = 7;
DELETE FROM k1 WHERE a = 8;
SELECT * FROM child;
DELETE FROM k1 WHERE a = 7000;
SELECT * FROM child;
TRUNCATE k1 CASCADE;
INSERT INTO k1 VALUES (1, 'a', 1, 'd');
INSERT INTO k1 VALUES (1, 'b', 2, 'd');
VACUUM FULL k1;
SELECT * FROM k1 WHERE a = 1;
DROP TABLE child, k1;
DROP TABLE pt;
DROP FUNCTION u1_looks, pt_looks, pt_tells, uses;
SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1;
-- what an upsert did is told by xmax
create table upsert (id int primary key, n int);
insert into upsert values (1, 1) on conflict (id) do update set n = upsert.n + 1 returning *, xmax = 0 as inserted;
insert into upsert values (1, 1), (2, 2) on conflict (id) do update set n = upsert.n + 1 returning *, xmax = 0 as inserted;
begin; insert into upsert values (3, 3); insert into upsert values (3, 3), (4, 4) on conflict (id) do update set n = upsert.n + 1 returning *, xmax = 0 as inserted; commit;
update upsert set n = 0 returning *, xmax = 0 as plain;
with both as (insert into upsert values (4, 1), (5, 5) on conflict (id) do update set n = excluded.n returning *, xmax = 0 as inserted) select * from both order by id;
insert into upsert values (6, 1), (6, 2) on conflict (id) do update set n = excluded.n;
drop table upsert;
