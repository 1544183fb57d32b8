-- Sizes of relations by core's functions: what is stored in the repository, in whole blocks.
CREATE SCHEMA sized;
SET search_path = sized;
SET client_min_messages = warning;
CREATE TABLE t (i int PRIMARY KEY, x text) USING s3am;
CREATE INDEX t_x ON t USING hash (x);
CREATE TABLE other (i int PRIMARY KEY) USING heap;
SELECT pg_total_relation_size('t') AS empty, pg_table_size('other') AS heap, pg_indexes_size('other') AS heap_key;
INSERT INTO t VALUES (1, 'inline');
INSERT INTO other VALUES (1);
SELECT pg_relation_size('t'), pg_relation_size('t_pkey'), pg_relation_size('other');
SET s3am.inline_limit = 0;
INSERT INTO t SELECT i, md5(i::text) FROM generate_series(2, 20000) i;
-- what the views say; a merge between the two answers may change it a little
CREATE FUNCTION near(size int8, bytes numeric) RETURNS bool LANGUAGE sql AS 'SELECT size % 8192 = 0 AND abs(size - bytes) < 65536';
SELECT pg_table_size('t') > 300000 AS enough, near(pg_table_size('t'), bytes) FROM s3am.tables WHERE "table" = 't'::regclass;
SELECT pg_indexes_size('t') > 100000 AS enough, near(pg_indexes_size('t'), sum(bytes)) FROM s3am.indexes WHERE "table" = 't'::regclass;
SELECT "index", near(pg_table_size("index"), bytes), near(pg_relation_size("index"), pg_relation_size("index", 'main')) AS main,
       pg_indexes_size("index") AS of_its_own FROM s3am.indexes WHERE "table" = 't'::regclass ORDER BY 1;
SELECT near(pg_total_relation_size('t'), pg_table_size('t') + pg_indexes_size('t')) AS total, pg_relation_size('t', 'vm') AS vm, near(pg_relation_size('t', 'main'), pg_table_size('t')) AS main;
-- whoever asks, and wherever
SELECT relname FROM pg_class WHERE relnamespace = 'sized'::regnamespace AND relkind = 'r' AND pg_table_size(oid) > 100000;
CREATE VIEW v AS SELECT relname, pg_table_size(oid) > 100000 AS large FROM pg_class WHERE relnamespace = 'sized'::regnamespace AND relkind = 'r';
SELECT * FROM v ORDER BY 1;
SELECT pg_get_viewdef('v') ~ 's3am' AS changed;
DO $$ BEGIN ASSERT pg_total_relation_size('t') > (SELECT pg_table_size('t')); END $$;
PREPARE p AS SELECT pg_size_pretty(pg_total_relation_size($1)) <> '0 bytes';
EXECUTE p ('t');
SELECT s FROM pg_table_size('t') s WHERE s < 100000;
SELECT pg_table_size('other') = s3am.table_size('other') AS heap, s3am.relation_size('other') AS heap_main, s3am.total_relation_size('pg_class') = pg_total_relation_size('pg_class') AS catalog;
-- what is not there, and what may not be asked
SELECT pg_table_size(1), pg_total_relation_size(1), s3am.relation_size(1);
SELECT pg_relation_size('t', 'nonsense');
CREATE ROLE sized_asks;
GRANT USAGE ON SCHEMA sized TO sized_asks;
SET ROLE sized_asks;
SELECT pg_table_size('sized.t') > 300000 AS as_core;
RESET ROLE;
REVOKE EXECUTE ON FUNCTION pg_table_size(regclass) FROM PUBLIC;
SET ROLE sized_asks;
SELECT pg_table_size('sized.t');
SELECT s3am.table_size('sized.t');
RESET ROLE;
GRANT EXECUTE ON FUNCTION pg_table_size(regclass) TO PUBLIC;
-- what goes
DELETE FROM t;
TRUNCATE t;
SELECT pg_total_relation_size('t');
DROP SCHEMA sized CASCADE;
DROP ROLE sized_asks;
