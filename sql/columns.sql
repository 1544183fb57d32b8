-- Columns: none, many, dropped, added; what a scan reads of them.
CREATE SCHEMA columns;
SET search_path = columns, s3am;
SET client_min_messages = warning;

CREATE TABLE none () USING s3am;
INSERT INTO none DEFAULT VALUES;
INSERT INTO none SELECT FROM generate_series(1, 20000);
SELECT count(*) FROM none;
ALTER TABLE none ADD COLUMN a int DEFAULT 7, ADD COLUMN t text;
SELECT count(*), sum(a), count(t) FROM none;
INSERT INTO none VALUES (1, 'x');
SELECT count(*), sum(a), count(t) FROM none;
ALTER TABLE none DROP COLUMN a, DROP COLUMN t;
SELECT count(*) FROM none;
SET s3am.inline_limit = 0;
INSERT INTO none SELECT FROM generate_series(1, 20000);
SELECT count(*) FROM none;

-- 1600 columns: of a row, and nulls among them; rows larger than a page
DO $$ DECLARE
	defs text; vals text;
BEGIN
	SELECT string_agg('c' || i || CASE i % 4 WHEN 0 THEN ' int' WHEN 1 THEN ' text' WHEN 2 THEN ' float8' ELSE ' name' END, ',' ORDER BY i) INTO defs
		FROM generate_series(1, 1600) i;
	EXECUTE 'CREATE TABLE many (' || defs || ') USING s3am';
	SELECT string_agg(CASE i % 4 WHEN 0 THEN i::text WHEN 1 THEN quote_literal(repeat('x', i)) WHEN 2 THEN (i / 8.0)::text
		ELSE 'NULL' END, ',' ORDER BY i) INTO vals FROM generate_series(1, 1600) i;
	EXECUTE 'INSERT INTO many VALUES (' || vals || ')';
	EXECUTE 'INSERT INTO many (c1600, c3) VALUES (1, ''n'')';
	EXECUTE 'INSERT INTO many SELECT * FROM many';
END $$;
SELECT c1, c2, c3, c4, length(c1597) AS l, c1598, c1600 FROM many ORDER BY c1600 DESC;
SELECT c1600, md5(many::text) FROM many ORDER BY c1600 DESC;
SELECT sum(length(c5)), sum(c8), sum(c1594) FROM many;

-- dropped and added ones
CREATE TABLE moving (a int, b text, c numeric, d int DEFAULT 4) USING s3am;
INSERT INTO moving SELECT g, 'b' || g, g / 2.0 FROM generate_series(1, 3) g;
ALTER TABLE moving DROP COLUMN b;
INSERT INTO moving SELECT g, g / 2.0 FROM generate_series(4, 5) g;
ALTER TABLE moving ADD COLUMN e text DEFAULT 'eee', ADD COLUMN f int[] DEFAULT '{1,2}', ADD COLUMN b text;
INSERT INTO moving VALUES (6, 3, 6, 'six', NULL, 'new b');
SELECT * FROM moving ORDER BY a;
SELECT b, f FROM moving ORDER BY a;
SELECT f FROM moving WHERE a = 1;
UPDATE moving SET b = e WHERE a < 3;
SELECT * FROM moving ORDER BY a;
ALTER TABLE moving DROP COLUMN e, ALTER c TYPE text;
SELECT * FROM moving ORDER BY a;
BEGIN;
INSERT INTO moving (a) VALUES (7);
ALTER TABLE moving ADD COLUMN g int DEFAULT 70;
INSERT INTO moving (a, g) VALUES (8, 80);
SELECT a, g FROM moving WHERE a > 5 ORDER BY a;
COMMIT;
SELECT a, g FROM moving WHERE a > 5 ORDER BY a;
