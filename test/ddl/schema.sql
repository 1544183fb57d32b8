-- A broad schema, for tests of how it travels: all kinds of statements, holes in attribute numbers, names chosen by the
-- server, changes of the clock and the settings.  Roles ddl_a and ddl_b exist.  Nothing here stays on one server, except what
-- is temporary or is dropped again.

SET default_table_access_method = s3am;
CREATE SCHEMA app;
COMMENT ON SCHEMA app IS 'where it all is';
CREATE SCHEMA aside AUTHORIZATION ddl_a;
SET search_path = app, public;

-- ---------------------------------------------------------------- extensions
CREATE EXTENSION hstore WITH SCHEMA public;
CREATE EXTENSION citext WITH SCHEMA app VERSION '1.5';
ALTER EXTENSION citext UPDATE;
CREATE EXTENSION earthdistance CASCADE;
DROP EXTENSION earthdistance;
DROP EXTENSION cube;

-- ---------------------------------------------------------------- types
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
ALTER TYPE mood ADD VALUE 'great' AFTER 'happy';
ALTER TYPE mood ADD VALUE 'fine' BEFORE 'happy';
ALTER TYPE mood ADD VALUE IF NOT EXISTS 'ok';
ALTER TYPE mood RENAME VALUE 'sad' TO 'blue';
CREATE TYPE addr AS (street text, no int);
ALTER TYPE addr ADD ATTRIBUTE zip text;
ALTER TYPE addr RENAME ATTRIBUTE no TO number;
ALTER TYPE addr ADD ATTRIBUTE gone int;
ALTER TYPE addr DROP ATTRIBUTE gone;
CREATE DOMAIN posint AS int CHECK (value > 0);
CREATE DOMAIN mail AS text COLLATE "C" DEFAULT 'nobody' CONSTRAINT at CHECK (value ~ '@' OR value = 'nobody');
ALTER DOMAIN posint SET DEFAULT 1;
ALTER DOMAIN posint ADD CONSTRAINT small CHECK (value < 1000000) NOT VALID;
ALTER DOMAIN posint VALIDATE CONSTRAINT small;
ALTER DOMAIN mail RENAME CONSTRAINT at TO has_at;
CREATE FUNCTION float_diff(float8, float8) RETURNS float8 LANGUAGE sql IMMUTABLE STRICT AS 'SELECT $1 - $2';
CREATE TYPE frange AS RANGE (subtype = float8, subtype_diff = float_diff);
CREATE TYPE shl;
CREATE FUNCTION shl_in(cstring) RETURNS shl LANGUAGE internal IMMUTABLE STRICT AS 'int4in';
CREATE FUNCTION shl_out(shl) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'int4out';
CREATE TYPE shl (input = shl_in, output = shl_out, like = int4);
ALTER TYPE shl SET (storage = plain);
CREATE TYPE doomed AS (x int);
DROP TYPE doomed;
COMMENT ON TYPE mood IS 'how one feels';
COMMENT ON DOMAIN posint IS 'above zero';
GRANT USAGE ON TYPE mood TO ddl_b;
ALTER TYPE addr OWNER TO ddl_a;

-- ---------------------------------------------------------------- functions
CREATE TABLE calls (n int);
CREATE FUNCTION vol() RETURNS int LANGUAGE plpgsql VOLATILE AS $$ BEGIN INSERT INTO app.calls VALUES (1); RETURN 1; END $$;
CREATE FUNCTION later(int) RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM app.calls WHERE n > $1';
CREATE OR REPLACE FUNCTION later(int) RETURNS bigint LANGUAGE sql COST 77 AS 'SELECT count(*) FROM app.calls WHERE n >= $1';
CREATE FUNCTION atomic(int) RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM calls WHERE n > $1; END;
CREATE FUNCTION setted() RETURNS text LANGUAGE sql SET search_path = app SET work_mem = '5MB' AS 'SELECT 1::text';
CREATE FUNCTION gone(int) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION gone(text) RETURNS int LANGUAGE sql AS 'SELECT 2';
DROP FUNCTION gone(int);
ALTER FUNCTION gone(text) RENAME TO stayed;
ALTER FUNCTION stayed(text) OWNER TO ddl_a;
ALTER FUNCTION stayed(text) SET SCHEMA aside;
ALTER FUNCTION vol() STABLE;
ALTER FUNCTION vol() VOLATILE PARALLEL UNSAFE;
REVOKE EXECUTE ON FUNCTION later(int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION later(int) TO ddl_a WITH GRANT OPTION;
CREATE PROCEDURE proc() LANGUAGE plpgsql AS $$
BEGIN
    CREATE TABLE app.made_by_proc (x int);
    COMMIT;
    CREATE TABLE app.not_made (x int);
    ROLLBACK;
    CREATE TABLE app.made_too (x int);
END $$;
CALL proc();
CREATE FUNCTION mk(n text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE 'CREATE TABLE ' || n || ' (a int, b text DEFAULT ''x'')';
    PERFORM app.vol();
    EXECUTE 'COMMENT ON TABLE ' || n || ' IS ''made''';
END $$;
SELECT mk('m1'), mk('m2');
CREATE AGGREGATE agg(int) (sfunc = int4pl, stype = int, initcond = '0');
COMMENT ON AGGREGATE agg(int) IS 'a sum';
CREATE OPERATOR === (leftarg = int, rightarg = int, procedure = int4eq, commutator = ===);
CREATE FUNCTION mood_rank(mood) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE CAST (mood AS int) WITH FUNCTION mood_rank(mood) AS ASSIGNMENT;
CREATE OPERATOR FAMILY fam USING btree;
CREATE OPERATOR CLASS cls FOR TYPE int USING btree FAMILY fam AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=,
    OPERATOR 5 >, FUNCTION 1 btint4cmp(int, int);
CREATE COLLATION german (provider = icu, locale = 'de');
CREATE COLLATION copied FROM "C";
ALTER COLLATION copied RENAME TO plain_c;
CREATE TEXT SEARCH DICTIONARY dict (template = simple);
CREATE TEXT SEARCH CONFIGURATION conf (copy = simple);
ALTER TEXT SEARCH CONFIGURATION conf ALTER MAPPING FOR asciiword WITH dict;
CREATE FUNCTION to_latin() RETURNS text LANGUAGE sql AS $$ SELECT 'semi;colon' $$;
CREATE TRANSFORM FOR int LANGUAGE sql (FROM SQL WITH FUNCTION prsd_lextype(internal), TO SQL WITH FUNCTION int4recv(internal));
CREATE CONVERSION conv FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
CREATE FOREIGN DATA WRAPPER wrapper;
CREATE SERVER srv FOREIGN DATA WRAPPER wrapper OPTIONS (host 'nowhere');
CREATE FOREIGN TABLE ft (a int OPTIONS (x 'y'), b text) SERVER srv OPTIONS (t 'u');
ALTER FOREIGN TABLE ft ADD COLUMN c date, DROP COLUMN b;

-- ---------------------------------------------------------------- tables
CREATE TABLE t (
    id serial, a int, b text DEFAULT 'b', m mood DEFAULT 'ok', ad addr, p posint, d date DEFAULT 'today',
    ts timestamptz DEFAULT 'now', h hstore, ci citext, r frange, arr int[], tags text[] DEFAULT '{x,y}',
    g int GENERATED ALWAYS AS (a * 2) STORED, CHECK (a > 0 OR a IS NULL)
);
INSERT INTO t (a, b, p, m, ad, h, ci, r) SELECT i, 'row ' || i, i, 'happy', ROW('street', i, 'zip')::addr, 'k=>v', 'CI', '[1,2)'
    FROM generate_series(1, 50) i;
CREATE TABLE c (id int GENERATED ALWAYS AS IDENTITY (START 100 INCREMENT 3), v int, w text COLLATE german);
INSERT INTO c (v) SELECT generate_series(1, 20);
CREATE TABLE by_default (id bigint GENERATED BY DEFAULT AS IDENTITY, s smallserial, v text);
INSERT INTO by_default (v) SELECT 'x' FROM generate_series(1, 10);
CREATE TABLE "We ird" ("Co l" int CHECK ("Co l" > 0), "sel""ect" text);
INSERT INTO "We ird" VALUES (1, 'one');
CREATE TABLE lk (LIKE t INCLUDING ALL);
CREATE TABLE lk2 (LIKE c INCLUDING IDENTITY INCLUDING COMMENTS, extra int);
CREATE TABLE parent (z int, y text DEFAULT 'y');
CREATE TABLE child (x int) INHERITS (parent);
CREATE TABLE other (z int, y text, w int);
ALTER TABLE other DROP COLUMN w;
ALTER TABLE other INHERIT parent;
ALTER TABLE parent ADD COLUMN u int DEFAULT 7;
ALTER TABLE parent ADD CHECK (u > 0);
INSERT INTO child VALUES (1, 'a', 2, 3);
INSERT INTO other VALUES (5, 'b', 4);
CREATE TYPE rowish AS (k int, v text);
CREATE TABLE typed OF rowish (v DEFAULT 'w');
INSERT INTO typed VALUES (1);
CREATE TABLE IF NOT EXISTS t (other int);
CREATE TABLE with_options (a int, b text) WITH (fillfactor = 50, autovacuum_enabled = off);
ALTER TABLE with_options SET (fillfactor = 60), RESET (autovacuum_enabled);
CREATE TABLE two_a (a int); CREATE TABLE two_b (b int);
CREATE TABLE dropped (a int);
INSERT INTO dropped VALUES (1);
DROP TABLE dropped;
DROP TABLE IF EXISTS dropped, never_there;
CREATE TABLE missing (a int);
INSERT INTO missing VALUES (1), (2);
ALTER TABLE missing ADD COLUMN n int DEFAULT 5;
ALTER TABLE missing ADD COLUMN now timestamptz DEFAULT now();
ALTER TABLE missing ADD COLUMN nul text;
INSERT INTO missing VALUES (3);

-- ---------------------------------------------------------------- changes
ALTER TABLE t DROP COLUMN r;
ALTER TABLE t ADD COLUMN rnd float8 DEFAULT random();
ALTER TABLE t ADD COLUMN vv int DEFAULT vol();
ALTER TABLE t ADD COLUMN st timestamptz DEFAULT now();
ALTER TABLE t ADD COLUMN p2 posint DEFAULT 5;
ALTER TABLE t DROP COLUMN g;
ALTER TABLE t ALTER COLUMN a TYPE bigint USING a + vol();
ALTER TABLE t ALTER COLUMN b TYPE varchar(20);
ALTER TABLE t ALTER COLUMN b SET NOT NULL, ALTER COLUMN b DROP DEFAULT, ADD CONSTRAINT ck CHECK (a > 0 AND p > 0);
ALTER TABLE t ADD CONSTRAINT late CHECK (a < 1000) NOT VALID;
ALTER TABLE t VALIDATE CONSTRAINT late;
ALTER TABLE t RENAME CONSTRAINT late TO not_so_late;
ALTER TABLE t RENAME COLUMN ad TO address;
ALTER TABLE t DROP COLUMN p;
ALTER TABLE t ALTER COLUMN a SET STATISTICS 77, ALTER COLUMN b SET STORAGE PLAIN;
ALTER TABLE t REPLICA IDENTITY FULL;
ALTER TABLE t RENAME TO tt;
ALTER TABLE tt SET SCHEMA aside;
ALTER TABLE aside.tt SET SCHEMA app;
ALTER TABLE tt RENAME TO t;
ALTER TABLE t OWNER TO ddl_a;
ALTER TABLE t OWNER TO postgres;
ALTER TABLE IF EXISTS nowhere ADD COLUMN x int;
INSERT INTO t (a, b) VALUES (1, 'after');
COMMENT ON TABLE t IS 'a table';
COMMENT ON COLUMN t.a IS 'a column';
COMMENT ON CONSTRAINT not_so_late ON t IS 'a constraint';
ALTER TABLE c ALTER id SET GENERATED BY DEFAULT;
ALTER TABLE c ALTER id RESTART WITH 500;
ALTER TABLE c ADD COLUMN twice int GENERATED ALWAYS AS (v * 2) STORED;
ALTER TABLE c ALTER twice DROP EXPRESSION;
ALTER TABLE lk ALTER COLUMN a DROP NOT NULL;

-- ---------------------------------------------------------------- partitions
CREATE TABLE part (k int, v text, ts timestamptz) PARTITION BY RANGE (k);
CREATE TABLE part1 PARTITION OF part FOR VALUES FROM (1) TO (10);
CREATE TABLE part2 PARTITION OF part (v DEFAULT 'two') FOR VALUES FROM (10) TO (20);
CREATE TABLE part3 (gone int, ts timestamptz, v text, k int);
ALTER TABLE part3 DROP COLUMN gone;
ALTER TABLE part ATTACH PARTITION part3 FOR VALUES FROM (20) TO (30);
CREATE TABLE part_rest PARTITION OF part DEFAULT;
INSERT INTO part SELECT i, 'v' || i FROM generate_series(1, 40) i;
ALTER TABLE part ADD COLUMN extra text DEFAULT 'e';
ALTER TABLE part DROP COLUMN ts;
ALTER TABLE part ADD CONSTRAINT pos CHECK (k > 0);
ALTER TABLE part DETACH PARTITION part1;
ALTER TABLE part ALTER COLUMN v SET DEFAULT 'vv';
CREATE TABLE by_day (ts timestamptz) PARTITION BY RANGE (ts);
CREATE TABLE by_day1 PARTITION OF by_day FOR VALUES FROM (now()) TO (now() + interval '1 day');
CREATE TABLE by_list (m mood, i int) PARTITION BY LIST (m);
CREATE TABLE by_list1 PARTITION OF by_list FOR VALUES IN ('blue', 'ok') PARTITION BY HASH (i);
CREATE TABLE by_list1a PARTITION OF by_list1 FOR VALUES WITH (modulus 2, remainder 0);
CREATE TABLE by_list1b PARTITION OF by_list1 FOR VALUES WITH (modulus 2, remainder 1);
CREATE TABLE by_list2 PARTITION OF by_list FOR VALUES IN ('great', NULL);
INSERT INTO by_list VALUES ('ok', 1), ('ok', 2), ('great', 3), (NULL, 4);

-- ---------------------------------------------------------------- new storage
CREATE TABLE ct AS SELECT vol() AS x, a, b, m FROM t;
CREATE TABLE ct_named (one, two) AS SELECT 1, 'two'::text COLLATE german;
SELECT vol() AS z INTO into_table;
PREPARE ps AS SELECT vol() AS e;
CREATE TABLE from_execute AS EXECUTE ps;
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) CREATE TABLE from_explain AS SELECT 1 AS one;
CREATE TABLE IF NOT EXISTS ct AS SELECT 1;
CREATE TABLE no_data AS SELECT a FROM t WITH NO DATA;
CREATE MATERIALIZED VIEW mv AS SELECT vol() AS w, count(*) AS n FROM t;
CREATE MATERIALIZED VIEW mv_empty AS SELECT a FROM t WITH NO DATA;
CREATE MATERIALIZED VIEW mv_later AS SELECT count(*) FROM c WITH NO DATA;
REFRESH MATERIALIZED VIEW mv;
REFRESH MATERIALIZED VIEW mv_later;
CREATE MATERIALIZED VIEW mv_emptied AS SELECT 1 AS one;
REFRESH MATERIALIZED VIEW mv_emptied WITH NO DATA;
CREATE TABLE cut (a int, s serial);
INSERT INTO cut SELECT generate_series(1, 10);
TRUNCATE cut RESTART IDENTITY;
INSERT INTO cut VALUES (1);
TRUNCATE part2, part3;
INSERT INTO part VALUES (15, 'again');
VACUUM FULL c;
VACUUM FULL t;
ALTER TABLE two_a ALTER a TYPE text;
BEGIN;
CREATE TABLE in_txn (a int);
INSERT INTO in_txn VALUES (1);
TRUNCATE in_txn;
INSERT INTO in_txn VALUES (2);
ALTER TABLE in_txn ADD COLUMN b float8 DEFAULT random();
COMMIT;

-- ---------------------------------------------------------------- transactions
BEGIN;
CREATE TABLE s1 (x int);
SAVEPOINT a;
CREATE TABLE s2 (x int);
ROLLBACK TO a;
CREATE TABLE s3 (x int);
SAVEPOINT b;
ALTER TABLE s3 ADD y text;
RELEASE b;
INSERT INTO s3 VALUES (1, 'y');
COMMIT;
BEGIN; CREATE TABLE rolled_back (x int); ROLLBACK;
DO $$
DECLARE i int;
BEGIN
    FOR i IN 1..3 LOOP
        EXECUTE format('CREATE TABLE dyn%s (id bigserial, x int DEFAULT %s)', i, i);
        EXECUTE format('INSERT INTO dyn%s (x) VALUES (%s)', i, i);
    END LOOP;
    BEGIN
        CREATE TABLE lost (x int);
        PERFORM 1/0;
    EXCEPTION WHEN division_by_zero THEN
        CREATE TABLE kept (y int);
    END;
    CREATE TABLE from_variable AS SELECT i AS q;
END $$;
CREATE SCHEMA sub
    CREATE TABLE e1 (id int)
    CREATE VIEW ev AS SELECT * FROM e1
    CREATE SEQUENCE es
    GRANT SELECT ON e1 TO ddl_b;

-- ---------------------------------------------------------------- views, rules, triggers, policies
CREATE VIEW vw AS SELECT id, m FROM t WHERE m > 'ok';
CREATE OR REPLACE VIEW vw AS SELECT id, m, a FROM t WHERE m > 'ok';
CREATE VIEW vw2 WITH (security_barrier) AS SELECT * FROM vw;
CREATE RECURSIVE VIEW nums (n) AS VALUES (1) UNION ALL SELECT n + 1 FROM nums WHERE n < 5;
ALTER VIEW vw2 RENAME TO vw3;
ALTER VIEW vw3 ALTER COLUMN m SET DEFAULT 'ok';
CREATE VIEW gone_view AS SELECT * FROM vw;
DROP VIEW gone_view;
CREATE RULE rr AS ON INSERT TO vw DO INSTEAD INSERT INTO t (a, b, m) VALUES (1, 'by rule', new.m);
INSERT INTO vw (m) VALUES ('great');
CREATE FUNCTION trgf() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN new.b := new.b || ''!''; RETURN new; END';
CREATE TRIGGER trg BEFORE INSERT ON t FOR EACH ROW WHEN (new.a > 3) EXECUTE FUNCTION trgf();
CREATE TRIGGER trg_off BEFORE UPDATE OF b ON t FOR EACH ROW EXECUTE FUNCTION trgf();
ALTER TABLE t DISABLE TRIGGER trg_off;
ALTER TRIGGER trg ON t RENAME TO trg_named;
CREATE FUNCTION stmtf() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM app.vol(); RETURN NULL; END';
CREATE TRIGGER stmt AFTER INSERT ON c REFERENCING NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION stmtf();
INSERT INTO c (v) VALUES (77);
INSERT INTO t (a, b) VALUES (5, 'five');
CREATE TRIGGER on_part AFTER INSERT ON part FOR EACH ROW EXECUTE FUNCTION stmtf();
CREATE POLICY pol ON t FOR SELECT TO ddl_b USING (a > 1);
ALTER POLICY pol ON t USING (a > 2);
CREATE POLICY pol2 ON t AS RESTRICTIVE WITH CHECK (a < 100000);
ALTER TABLE t ENABLE ROW LEVEL SECURITY;
ALTER TABLE t FORCE ROW LEVEL SECURITY;
CREATE STATISTICS stt (ndistinct, dependencies) ON a, b FROM t;
ALTER STATISTICS stt SET STATISTICS 50;
CREATE STATISTICS ste ON (a + 1), b FROM t;
COMMENT ON STATISTICS stt IS 'together';
COMMENT ON TRIGGER trg_named ON t IS 'a trigger';
COMMENT ON POLICY pol ON t IS 'a policy';

-- ---------------------------------------------------------------- sequences
CREATE SEQUENCE sq START 10 INCREMENT 5 CACHE 3;
SELECT nextval('sq') FROM generate_series(1, 4);
CREATE SEQUENCE down AS smallint INCREMENT -1 MAXVALUE 100 MINVALUE -100 CYCLE;
SELECT nextval('down') FROM generate_series(1, 7);
CREATE SEQUENCE restarted;
SELECT nextval('restarted') FROM generate_series(1, 9);
ALTER SEQUENCE restarted RESTART WITH 1000 INCREMENT 7;
CREATE SEQUENCE placed;
SELECT setval('placed', 4711);
ALTER SEQUENCE sq OWNED BY m1.a;
CREATE SEQUENCE gone_seq;
DROP SEQUENCE gone_seq;
ALTER SEQUENCE down RENAME TO downwards;

-- ---------------------------------------------------------------- privileges
GRANT USAGE ON SCHEMA app TO ddl_a, ddl_b;
GRANT SELECT, INSERT (a, b) ON t TO ddl_a;
GRANT UPDATE (b) ON t TO ddl_b WITH GRANT OPTION;
REVOKE SELECT ON t FROM ddl_a;
GRANT ALL ON ALL TABLES IN SCHEMA aside TO ddl_b;
GRANT SELECT ON ALL SEQUENCES IN SCHEMA app TO ddl_b;
ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT SELECT ON TABLES TO ddl_b;
ALTER DEFAULT PRIVILEGES FOR ROLE ddl_a REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
CREATE TABLE with_defaults (x int);
GRANT CREATE ON SCHEMA aside TO ddl_b;
SET ROLE ddl_a;
CREATE TABLE aside.by_a (x int, y serial);
INSERT INTO aside.by_a VALUES (1);
RESET ROLE;
SET SESSION AUTHORIZATION ddl_b;
CREATE TABLE aside.by_b (x int);
CREATE FUNCTION aside.secure() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';
RESET SESSION AUTHORIZATION;
GRANT USAGE ON FOREIGN SERVER srv TO ddl_b;

-- ---------------------------------------------------------------- temporary objects, mixed
CREATE TEMP TABLE tmp (LIKE t);
CREATE TEMP TABLE tmp2 (a int, s serial) ON COMMIT DELETE ROWS;
CREATE INDEX ON tmp (a);
CREATE TEMP VIEW tmp_view AS SELECT * FROM t;
CREATE TABLE from_temp (LIKE tmp2 INCLUDING DEFAULTS EXCLUDING ALL, more int NOT NULL DEFAULT 3 CHECK (more > 0));
COMMENT ON TABLE tmp IS 'not for long';
GRANT SELECT ON tmp TO ddl_a;
CREATE VIEW on_temp AS SELECT * FROM tmp;
CREATE TABLE perm (a int);
DROP TABLE tmp2, perm;
DROP TABLE tmp CASCADE;
DROP VIEW tmp_view;

-- ---------------------------------------------------------------- settings that matter
SET timezone = 'Asia/Tokyo';
CREATE TABLE tz (t timestamptz DEFAULT '2020-01-01 00:00');
SET datestyle = 'SQL, DMY';
CREATE TABLE dst (d date DEFAULT '02/03/2020');
SET intervalstyle = 'sql_standard';
CREATE TABLE iv (i interval DEFAULT '1 2:03:04');
SET standard_conforming_strings = off;
SET escape_string_warning = off;
CREATE TABLE scs (s text DEFAULT 'a\tb');
RESET ALL;
SET default_table_access_method = s3am;
SET search_path = app, public;
SET quote_all_identifiers = on;
CREATE TABLE quoted ("a b" int);
RESET quote_all_identifiers;
SET default_toast_compression = lz4;
CREATE TABLE compressed (x text);
RESET default_toast_compression;
SET check_function_bodies = off;
CREATE FUNCTION broken() RETURNS int LANGUAGE sql AS 'SELECT nothing FROM nowhere';
RESET check_function_bodies;

-- ---------------------------------------------------------------- event triggers fire where the statement ran, only
CREATE TABLE log_et (tag text);
CREATE FUNCTION etf() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    IF tg_tag = 'CREATE TABLE' AND NOT EXISTS (SELECT FROM pg_tables WHERE tablename = 'et_made') THEN
        CREATE TABLE app.et_made (x int);
    END IF;
    INSERT INTO app.log_et VALUES (tg_tag);
END $$;
CREATE EVENT TRIGGER et ON ddl_command_end EXECUTE FUNCTION etf();
CREATE TABLE fires (x int);
ALTER EVENT TRIGGER et DISABLE;
COMMENT ON EVENT TRIGGER et IS 'off';

-- ---------------------------------------------------------------- away again
DROP TABLE dyn1, dyn2;
DROP TYPE frange CASCADE;
DROP SCHEMA sub CASCADE;
DROP DOMAIN mail;
DROP OPERATOR === (int, int);
DROP FUNCTION float_diff;
DROP TABLE part1;
DROP MATERIALIZED VIEW mv_empty;
DROP OWNED BY ddl_b;
DROP TRIGGER on_part ON part;
DROP STATISTICS ste;
DROP POLICY pol2 ON t;
