-- Large values: beside the pages, fetched when they are looked at, flattened by whatever keeps them.
CREATE SCHEMA overflow;
SET search_path = overflow, s3am;
SET client_min_messages = warning;
SET s3am.inline_limit = 0;

CREATE FUNCTION big(seed int, n int) RETURNS text LANGUAGE sql IMMUTABLE AS
	$$ SELECT left(string_agg(md5((seed * 1000000 + g)::text), ''), n) FROM generate_series(1, n / 32 + 1) g $$;
CREATE TABLE docs (i int, t text, b bytea, j jsonb, a text[], small int, d text) USING s3am;
INSERT INTO docs SELECT g, big(g, 100000), convert_to(big(g + 50, 50000), 'UTF8'), jsonb_build_object('k', big(g + 100, 30000)),
	ARRAY[big(g + 150, 20000), 'x'], g * 10, CASE WHEN g % 2 = 0 THEN big(g + 200, 3000000) END FROM generate_series(1, 6) g;
CREATE TABLE expected AS SELECT g AS i, md5(big(g, 100000)) AS t, md5(big(g + 50, 50000)) AS b, md5(big(g + 100, 30000)) AS j,
	md5(big(g + 150, 20000)) AS a, md5(big(g + 200, 3000000)) AS d FROM generate_series(1, 6) g;
CREATE VIEW wrong AS SELECT docs.i FROM docs JOIN expected e USING (i)
	WHERE md5(docs.t) <> e.t OR md5(convert_from(docs.b, 'UTF8')) <> e.b OR md5(docs.j ->> 'k') <> e.j OR md5(docs.a[1]) <> e.a
		OR md5(docs.d) <> e.d OR (docs.d IS NULL) <> (i % 2 = 1);
SELECT * FROM wrong;
SELECT count(*), sum(small), sum(octet_length(t)), sum(octet_length(d)) FROM docs;

-- whatever copies a slot or a value
SELECT i, md5(t) = (SELECT t FROM expected e WHERE e.i = s.i) AS sorted FROM (SELECT * FROM docs ORDER BY t DESC OFFSET 0) s ORDER BY i;
SELECT count(*) FROM (SELECT DISTINCT t, b FROM docs) d JOIN expected e ON md5(d.t) = e.t;
SELECT md5(max(t)) = (SELECT md5(max(t)) FROM (SELECT big(g, 100000) AS t FROM generate_series(1, 6) g) b) AS max FROM docs;
SELECT sum(length(x)) FROM (SELECT unnest(array_agg(t)) AS x FROM docs) u;
SELECT count(*) FROM docs a JOIN docs b USING (t);
SET enable_hashjoin = off; SET enable_nestloop = off;
SELECT count(*) FROM docs a JOIN docs b USING (t);
RESET enable_hashjoin; RESET enable_nestloop;
SELECT i, md5(first) = (SELECT t FROM expected e WHERE e.i = w.i + 1) AS lead FROM (SELECT i, lead(t) OVER (ORDER BY i) AS first FROM docs) w ORDER BY i;
SELECT (docs).small, md5((docs).t) = (SELECT t FROM expected e WHERE e.i = docs.i) AS ok FROM docs ORDER BY i LIMIT 1;
WITH m AS MATERIALIZED (SELECT * FROM docs) SELECT count(*) FROM m JOIN expected e USING (i) WHERE md5(m.t) = e.t AND md5(m.a[1]) = e.a;
CREATE TABLE heap_copy AS SELECT * FROM docs;
SELECT count(*) FROM (SELECT * FROM heap_copy EXCEPT ALL SELECT * FROM docs) x;

-- PL/pgSQL: variables outlive the row, the query and, in a procedure, the transaction
CREATE FUNCTION keeps() RETURNS TABLE (i int, ok bool) LANGUAGE plpgsql AS $$
DECLARE r record; v text; w docs; arr text[] := '{}'; tarr text[];
BEGIN
	FOR r IN SELECT * FROM docs ORDER BY docs.i LOOP
		arr := arr || r.t;
		v := r.t;
		tarr := r.a;
		tarr[3] := 'y';
		IF array_length(tarr, 1) <> 3 OR md5(tarr[1]) <> (SELECT a FROM expected e WHERE e.i = r.i) THEN RAISE 'array'; END IF;
	END LOOP;
	SELECT * INTO w FROM docs WHERE docs.i = 2;
	i := 0; ok := md5(v) = (SELECT t FROM expected e WHERE e.i = 6) AND md5(w.d) = (SELECT d FROM expected e WHERE e.i = 2); RETURN NEXT;
	FOR k IN 1..6 LOOP
		i := k; ok := md5(arr[k]) = (SELECT t FROM expected e WHERE e.i = k); RETURN NEXT;
	END LOOP;
END $$;
SELECT * FROM keeps();
CREATE PROCEDURE outlives() LANGUAGE plpgsql AS $$
DECLARE v text; r docs;
BEGIN
	SELECT t INTO v FROM docs WHERE i = 3;
	SELECT * INTO r FROM docs WHERE i = 4;
	COMMIT;
	IF md5(v) <> (SELECT t FROM expected WHERE i = 3) OR md5(r.d) <> (SELECT d FROM expected WHERE i = 4) THEN RAISE 'lost'; END IF;
END $$;
CALL outlives();
BEGIN;
DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT i, t FROM docs ORDER BY i;
COMMIT;
TRUNCATE docs;
SELECT count(*) FROM docs;
FETCH ABSOLUTE 5 FROM c \gset held_
SELECT md5(:'held_t') = (SELECT t FROM expected WHERE i = :held_i) AS held;
CLOSE c;
INSERT INTO docs SELECT * FROM heap_copy;
SELECT * FROM wrong;

-- triggers, RETURNING, UPDATE of another column
CREATE TABLE log (i int, was text, is_now text);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log VALUES (OLD.i, md5(OLD.t), md5(NEW.t)); RETURN NEW; END $$;
CREATE TRIGGER before BEFORE UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION note();
CREATE TRIGGER after AFTER UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION note();
UPDATE docs SET small = 0 WHERE i <= 2 RETURNING i, small, md5(t) = (SELECT t FROM expected e WHERE e.i = docs.i) AS ok;
SELECT count(*) FROM log JOIN expected e USING (i) WHERE was = t AND is_now = t;
SELECT * FROM wrong;
SELECT i FROM docs WHERE ctid = (SELECT ctid FROM docs WHERE i = 5) FOR UPDATE;
CREATE FUNCTION after_statement() RETURNS trigger LANGUAGE plpgsql AS
	$$ BEGIN INSERT INTO log SELECT i, 'transition', md5(t) FROM old_rows; RETURN NULL; END $$;
CREATE TRIGGER transition AFTER DELETE ON docs REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION after_statement();
DELETE FROM docs WHERE i = 6;
SELECT i, is_now = t AS ok FROM log JOIN expected e USING (i) WHERE was = 'transition';
-- COPY, ALTER TYPE
CREATE TABLE copied (LIKE docs) USING s3am;
\copy docs TO 'overflow.copy'
\copy copied FROM 'overflow.copy'
\! rm -f overflow.copy
SELECT count(*) FROM (SELECT * FROM copied EXCEPT ALL SELECT * FROM docs) x;
ALTER TABLE copied ALTER t TYPE varchar, ALTER b TYPE text USING encode(b, 'escape');
SELECT count(*) FROM copied c JOIN docs d USING (i) WHERE c.t = d.t AND c.b = encode(d.b, 'escape') AND c.a = d.a;
-- parallel workers send them through queues
SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 1;
CREATE TABLE pages (i int, t text) USING s3am;
INSERT INTO pages SELECT g, big(g, 20000) FROM generate_series(1, 300) g;
EXPLAIN (COSTS OFF) SELECT i, t FROM pages;
SELECT count(*), bool_and(md5(t) = md5(big(i, 20000))) AS ok FROM (SELECT i, t FROM pages OFFSET 0) p;
-- rows whose values are many and middling
CREATE TABLE middling (i int, a text, b text, c text, d text, e text, f text, g text, h text) USING s3am;
INSERT INTO middling SELECT g, big(g, 1900), big(g + 1, 2000), big(g + 2, 1999), big(g + 3, 7000), big(g + 4, 4000), '', NULL, big(g + 5, 127) FROM generate_series(1, 100) g;
SELECT count(*) FROM middling WHERE a = big(i, 1900) AND b = big(i + 1, 2000) AND c = big(i + 2, 1999) AND d = big(i + 3, 7000) AND e = big(i + 4, 4000) AND f = '' AND g IS NULL AND h = big(i + 5, 127);
-- a table that leaves gets a TOAST table, and one that comes leaves its own behind
CREATE TABLE moved (i int, t text) USING s3am;
INSERT INTO moved SELECT g, big(g, 300000) FROM generate_series(1, 5) g;
ALTER TABLE moved SET ACCESS METHOD heap;
SELECT count(*) FROM moved WHERE t = big(i, 300000);
SELECT reltoastrelid <> 0 AS toast, reltoastrelid::regclass::text = 'pg_toast.pg_toast_' || oid AS named FROM pg_class WHERE oid = 'moved'::regclass;
INSERT INTO moved VALUES (6, big(6, 300000));
ALTER TABLE moved SET ACCESS METHOD s3am;
SELECT count(*) FROM moved WHERE t = big(i, 300000);
SELECT reltoastrelid <> 0 AS toast FROM pg_class WHERE oid = 'moved'::regclass;
ALTER TABLE moved ALTER t TYPE varchar;
SELECT count(*) FROM moved WHERE t = big(i, 300000);
