-- What an index of an s3am table cannot be, and what is none of s3am's business.
CREATE TABLE flip_t (a int, b int[], c text, d tsvector, p point, r int4range) USING s3am;
\set SHOW_CONTEXT never
CREATE INDEX ON flip_t USING gin (b);
\echo :LAST_ERROR_SQLSTATE
CREATE INDEX ON flip_t USING gist (p);
\echo :LAST_ERROR_SQLSTATE
CREATE INDEX ON flip_t USING spgist (p);
\echo :LAST_ERROR_SQLSTATE
CREATE INDEX ON flip_t USING brin (a);
\echo :LAST_ERROR_SQLSTATE
CREATE INDEX CONCURRENTLY ON flip_t USING brin (a);
\echo :LAST_ERROR_SQLSTATE
ALTER TABLE flip_t ADD EXCLUDE USING gist (r WITH &&);
\echo :LAST_ERROR_SQLSTATE
ALTER TABLE flip_t ADD EXCLUDE (r WITH &&);
\echo :LAST_ERROR_SQLSTATE
CREATE UNIQUE INDEX CONCURRENTLY ON flip_t USING hash (a);
\echo :LAST_ERROR_SQLSTATE
CREATE UNIQUE INDEX ON flip_t USING hash (a) NULLS NOT DISTINCT;
\echo :LAST_ERROR_SQLSTATE
-- core has none of these: it is made as a constraint
CREATE UNIQUE INDEX flip_t_a ON flip_t USING hash (a) WHERE a > 0;
SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'flip_t_a';
INSERT INTO flip_t VALUES (1), (0), (0), (NULL), (NULL);
INSERT INTO flip_t VALUES (1);
\echo :LAST_ERROR_SQLSTATE
INSERT INTO flip_t VALUES (1) ON CONFLICT DO NOTHING;
DELETE FROM flip_t;
ALTER TABLE flip_t DROP CONSTRAINT flip_t_a;
-- an operator class with another operator that commutes
CREATE FUNCTION flip_apart(int, int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT $1 <> $2';
CREATE OPERATOR <=> (LEFTARG = int, RIGHTARG = int, FUNCTION = flip_apart, COMMUTATOR = <=>);
CREATE OPERATOR CLASS flip_ops FOR TYPE int USING btree AS OPERATOR 1 <=>, OPERATOR 3 =, FUNCTION 1 btint4cmp(int, int);
ALTER TABLE flip_t ADD CONSTRAINT flip_apart EXCLUDE (c WITH =, a flip_ops WITH <=>);
\echo :LAST_ERROR_SQLSTATE
DROP OPERATOR FAMILY flip_ops USING btree;
DROP OPERATOR <=> (int, int);
DROP FUNCTION flip_apart(int, int);
SELECT count(*) FROM pg_index WHERE indrelid = 'flip_t'::regclass;
-- a partition takes part in what its parent has
CREATE TABLE flip_p (a int, b int[]) PARTITION BY RANGE (a);
CREATE INDEX flip_p_b ON flip_p USING gin (b);
CREATE TABLE flip_p1 PARTITION OF flip_p FOR VALUES FROM (0) TO (10) USING s3am;
\echo :LAST_ERROR_SQLSTATE
DROP TABLE flip_p;
-- heap tables have what they always had, temporary ones that would be s3am tables by default too
CREATE TABLE flip_h (a int PRIMARY KEY, b int[], r int4range, EXCLUDE USING gist (r WITH &&)) USING heap;
CREATE INDEX flip_h_b ON flip_h USING gin (b);
CREATE INDEX flip_h_a ON flip_h USING hash (a);
CREATE INDEX flip_h_s ON flip_h USING s3btree (a DESC);
SET default_table_access_method = s3am;
CREATE TEMP TABLE flip_temp (a int PRIMARY KEY, b int[], CONSTRAINT flip_temp_excl EXCLUDE USING hash (b WITH =));
CREATE INDEX ON flip_temp USING gin (b);
RESET default_table_access_method;
SELECT c.relname, a.amname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
WHERE i.indrelid IN ('flip_h'::regclass, 'flip_temp'::regclass) ORDER BY 1;
-- a table that would take along what s3am tables cannot have
ALTER TABLE flip_h SET ACCESS METHOD s3am;
\echo :LAST_ERROR_SQLSTATE
ALTER TABLE flip_h DROP CONSTRAINT flip_h_r_excl;
ALTER TABLE flip_h SET ACCESS METHOD s3am;
\echo :LAST_ERROR_SQLSTATE
DROP INDEX flip_h_b;
ALTER TABLE flip_h SET ACCESS METHOD s3am;
\echo :LAST_ERROR_SQLSTATE
SELECT a FROM flip_h WHERE a = 1;
-- names
SELECT amname, amtype FROM pg_am WHERE amname LIKE 's3%' ORDER BY 1;
SELECT c.relname, a.amname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
WHERE i.indrelid = 'flip_h'::regclass ORDER BY 1;
\d flip_h_a
DROP TABLE flip_t, flip_h, flip_temp;
