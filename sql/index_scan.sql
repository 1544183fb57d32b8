-- Index scans of s3am tables give what a sequential scan of heap gives, in the order of the index, whichever bounds their conditions make.
SET client_min_messages = warning;
SET jit = off;
CREATE TABLE scan_heap (id int, a int, b bigint, c text COLLATE "C", d timestamptz, e numeric) USING heap;
INSERT INTO scan_heap SELECT g, NULLIF(g % 17, 3), NULLIF(g % 5, 1), NULLIF('k' || g % 7, 'k2'), NULLIF('2020-01-01'::timestamptz + (g % 11) * interval '1 day', '2020-01-05'),
	NULLIF(g % 4, 2) FROM generate_series(1, 700) g;
CREATE TABLE scan_s3am (LIKE scan_heap) USING s3am;

-- Queries on T with a total order: how many differ, and which.  Conditions are tried on every index that can serve them.
CREATE TABLE scan_query (q text) USING heap;
INSERT INTO scan_query SELECT format('SELECT id FROM T WHERE %s ORDER BY %s', w, o) FROM unnest(ARRAY[
	'a = 5', 'a = 5::bigint', 'a = 5::smallint', 'a < 5', 'a <= 5', 'a > 5', 'a >= 5', 'a > 3 AND a < 9 AND a > 5', 'a IS NULL', 'a IS NOT NULL', 'a = NULL',
	'a = 4 AND b > 1', 'a = 4 AND b <= 2', 'a = 4 AND b = 2::smallint AND c < ''k5''', 'a = 4 AND b IS NULL', 'a = 4 AND b IS NOT NULL', 'a IS NULL AND b > 2',
	'a IS NULL AND b IS NULL', 'a IS NOT NULL AND b = 2', 'a > 100', 'a < -100', 'a < 5 AND a > 9', 'b = 3', 'b < 3::int', 'b > 2::smallint',
	'c = ''k3''', 'c > ''k3''', 'c <= ''k4'' AND c > ''k''', 'c < ''k33''', 'c IS NULL', 'd >= ''2020-01-04''', 'd < ''2020-01-06'' AND d IS NOT NULL', 'e = 1', 'e > 0.5', 'e < 3',
	'(a, b) > (4, 2)', '(a, b) >= (4, 2)', '(a, b) < (4, 2)', '(a, b) <= (4, 2)', '(a, b, c) > (4, 2, ''k3'')', '(a, b, c) <= (4, 2, ''k3'')', 'a = 4 AND (b, c) > (2, ''k3'')',
	'(a, c) > (4, ''k3'')', '(a, b) > (4, NULL)', '(a, b) < (4, NULL)', '(a, b) > (4, 2) AND a < 9', '(a, b) > (4::bigint, 2::int)', '(a, b) > (4, 2) AND (a, b) <= (9, 1)',
	'a = ANY (''{3,5,NULL,5,-1,12}'')', 'a = ANY (''{}''::int[])', 'a = ANY (NULL::int[])', 'a = ANY (''{4,7}'') AND b = ANY (''{0,2,9}'')', 'a = ANY (''{4,7}'') AND b > 1',
	'a = 4 AND b = ANY (''{3,2}''::int[])', 'a < ANY (''{4,7}'')', 'a >= ALL (''{4,7}'')', 'c = ANY (''{k3,k5,zz}'')', 'a = ANY (''{5,6}'') AND a < 6', 'a > 2 AND a = ANY (''{9,1,4}''::bigint[])'
	]) w, unnest(ARRAY['a, b, c, id', 'a DESC, b DESC, c DESC, id', 'id']) o;

CREATE FUNCTION scan_compare() RETURNS TABLE (queries bigint, by_index bool, different text[]) LANGUAGE plpgsql AS $$
DECLARE
	r record;
	line text;
	wanted int[];
	got int[];
	used bool;
BEGIN
	queries := 0; by_index := false; different := '{}';
	FOR r IN SELECT q FROM scan_query LOOP
		SET LOCAL enable_indexscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_indexonlyscan = off; SET LOCAL enable_seqscan = on;
		EXECUTE format('SELECT array_agg(id) FROM (%s) x', replace(r.q, ' T ', ' scan_heap ')) INTO wanted;
		SET LOCAL enable_seqscan = off;
		FOR how IN 1..2 LOOP
			PERFORM set_config('enable_indexscan', CASE how WHEN 1 THEN 'on' ELSE 'off' END, true), set_config('enable_bitmapscan', CASE how WHEN 2 THEN 'on' ELSE 'off' END, true);
			used := false;
			FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || replace(r.q, ' T ', ' scan_s3am ') LOOP
				used := used OR line ~ 'Index.* Scan';
			END LOOP;
			EXECUTE format('SELECT array_agg(id) FROM (%s) x', replace(r.q, ' T ', ' scan_s3am ')) INTO got;
			queries := queries + 1;
			by_index := by_index OR used;
			IF got IS DISTINCT FROM wanted THEN
				different := different || r.q;
			END IF;
		END LOOP;
	END LOOP;
	RETURN NEXT;
END $$;

-- runs of several commits, of one that is built, and own entries
INSERT INTO scan_s3am SELECT * FROM scan_heap WHERE id <= 300;
CREATE INDEX scan_index ON scan_s3am (a, b, c, id);
INSERT INTO scan_s3am SELECT * FROM scan_heap WHERE id > 300 AND id <= 400;
INSERT INTO scan_s3am SELECT * FROM scan_heap WHERE id > 400 AND id <= 500;
BEGIN;
INSERT INTO scan_s3am SELECT * FROM scan_heap WHERE id > 500;
SELECT * FROM scan_compare();
COMMIT;
SELECT * FROM scan_compare();
CREATE FUNCTION scan_index(definition text) RETURNS TABLE (queries bigint, by_index bool, different text[]) LANGUAGE plpgsql AS $$
BEGIN
	DROP INDEX scan_index;
	EXECUTE 'CREATE INDEX scan_index ON scan_s3am ' || definition;
	RETURN QUERY SELECT * FROM scan_compare();
END $$;
SELECT * FROM scan_index('(a DESC, b DESC, c DESC, id)');
SELECT * FROM scan_index('(a NULLS FIRST, b DESC, c)');
SELECT * FROM scan_index('(a DESC NULLS LAST, b NULLS FIRST, id)');
SELECT * FROM scan_index('(b, a)');
SELECT * FROM scan_index('(c, d) INCLUDE (a)');
SELECT * FROM scan_index('(d DESC, c)');
SELECT * FROM scan_index('(e, a)');

-- the lowest and highest value, beside NULLs
CREATE INDEX scan_ends ON scan_s3am (a, id);
SET enable_seqscan = off;
SELECT min(a), max(a) FROM scan_s3am;
EXPLAIN (COSTS OFF) SELECT max(a) FROM scan_s3am;

-- there and back
CREATE FUNCTION scan_turns(table_name text, condition text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	c refcursor;
	n int;
	said text := '';
BEGIN
	OPEN c SCROLL FOR EXECUTE format('SELECT id FROM %s WHERE %s ORDER BY a, id', table_name, condition);
	FOR i IN 1..60 LOOP
		IF (i * 7919 / 13) % 5 < 3 THEN
			FETCH NEXT FROM c INTO n;
		ELSE
			FETCH PRIOR FROM c INTO n;
		END IF;
		said := said || coalesce(n::text, '-') || ' ';
	END LOOP;
	FETCH LAST FROM c INTO n;
	said := said || coalesce(n::text, '-') || ' ';
	FETCH ABSOLUTE 3 FROM c INTO n;
	said := said || coalesce(n::text, '-') || ' ';
	CLOSE c;
	RETURN said;
END $$;
DROP INDEX scan_index;
SET enable_sort = off;
SET enable_bitmapscan = off;
SELECT w, scan_turns('scan_heap', w) = scan_turns('scan_s3am', w) AS same FROM unnest(ARRAY['a = 5 AND id < 200', 'a > 5', 'a IS NULL', 'true', '(a, id) > (9, 100) AND a <= 12',
	'a = ANY (''{3,9,7,11}'')', 'a = ANY (''{9,7}'') AND id = ANY (''{24,26,7,400}'')']) w;
RESET enable_sort;
EXPLAIN (COSTS OFF) SELECT id FROM scan_s3am WHERE a = ANY ('{3,9,7,11}') ORDER BY a DESC;

-- marks: a merge join goes back where keys occur several times
SET enable_hashjoin = off;
SET enable_nestloop = off;
SELECT count(*), sum(x.id), sum(y.id) FROM scan_s3am x JOIN scan_s3am y USING (a);
SELECT count(*), sum(x.id), sum(y.id) FROM scan_heap x JOIN scan_heap y USING (a);
SELECT count(*), sum(x.id), sum(y.id) FROM scan_heap x JOIN scan_s3am y USING (a) WHERE y.a = ANY ('{9,3,4,5}');
SELECT count(*), sum(x.id), sum(y.id) FROM scan_heap x JOIN scan_heap y USING (a) WHERE y.a = ANY ('{9,3,4,5}');
RESET enable_hashjoin;
RESET enable_nestloop;
-- the same scan again and again, under one snapshot, with other keys
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SELECT count(*), sum(y.id) FROM scan_heap x JOIN scan_s3am y ON y.a = x.id % 25 AND y.id > x.id;
SELECT count(*), sum(y.id) FROM scan_heap x JOIN scan_heap y ON y.a = x.id % 25 AND y.id > x.id;
-- what is wide, or not in one piece, in an index-only scan
CREATE TABLE scan_wide (k text COLLATE "C", n int2, f bool, v varchar(10), i interval, w text) USING s3am;
CREATE INDEX ON scan_wide (k, n, f, v, i) INCLUDE (w);
INSERT INTO scan_wide SELECT repeat(md5(g::text), 1 + g % 40), g, g % 2 = 0, NULLIF('v' || g % 3, 'v1'), g * interval '1 hour', CASE WHEN g % 4 > 0 THEN repeat('w', g * 13) END FROM generate_series(1, 60) g;
EXPLAIN (COSTS OFF) SELECT k, n, f, v, i, w FROM scan_wide ORDER BY k;
CREATE FUNCTION scan_digest() RETURNS TABLE (plan text, rows bigint, digest text) LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE 'EXPLAIN (COSTS OFF) SELECT k, n, f, v, i, w FROM scan_wide' INTO plan;
	SELECT count(*), md5(string_agg(concat_ws(',', k, n, f, v, i, w), ';' ORDER BY n)) INTO rows, digest FROM scan_wide;
	RETURN NEXT;
END $$;
SELECT plan, rows FROM scan_digest();
SELECT count(DISTINCT digest) FROM (SELECT digest FROM scan_digest() UNION ALL
	SELECT md5(string_agg(concat_ws(',', repeat(md5(g::text), 1 + g % 40), g, g % 2 = 0, NULLIF('v' || g % 3, 'v1'), g * interval '1 hour', CASE WHEN g % 4 > 0 THEN repeat('w', g * 13) END), ';' ORDER BY g))
	FROM generate_series(1, 60) g) x;
DROP FUNCTION scan_digest;
DROP TABLE scan_heap, scan_s3am, scan_query, scan_wide;
DROP FUNCTION scan_compare, scan_index, scan_turns;
