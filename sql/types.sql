-- Every kind of type: what comes back from the transaction's own rows, from rows in a manifest and from a segment is what heap gives.
CREATE SCHEMA types;
SET search_path = types, public, s3am;
SET client_min_messages = warning;

-- How many rows of the heap table come back otherwise, and which; the s3am table stays.
CREATE FUNCTION mirror(tab regclass, OUT place text, OUT missing bigint, OUT wrong bigint) RETURNS SETOF record
LANGUAGE plpgsql AS $$
DECLARE
	copy text := replace(tab::text, 'h_', 's_');
	same text := format('SELECT count(*) FROM (SELECT x::text FROM %s x EXCEPT ALL SELECT x::text FROM %s x) d', tab, copy);
	back text := format('SELECT count(*) FROM (SELECT x::text FROM %s x EXCEPT ALL SELECT x::text FROM %s x) d', copy, tab);
BEGIN
	EXECUTE format('CREATE TABLE IF NOT EXISTS %s (LIKE %s) USING s3am', copy, tab);
	IF current_setting('mirror.place') = 'own' THEN
		EXECUTE format('INSERT INTO %s SELECT * FROM %s', copy, tab);
	END IF;
	place := current_setting('mirror.place');
	EXECUTE same INTO missing;
	EXECUTE back INTO wrong;
	RETURN NEXT;
END $$;

CREATE TABLE h_numbers AS
	SELECT i2::int2, i4::int4, i8::int8, f4::float4, f8::float8, n::numeric, n2::numeric(10,3), m::money, b::bool, c::"char", o::oid
	FROM (VALUES
		(0, 0, 0, 0::float4, 0::float8, 0::numeric, 0::numeric, 0::numeric, true, 'a'::"char", 0::oid),
		(-32768, -2147483648, -9223372036854775808, '-infinity', 'infinity', 'NaN', 1.5, -92233720368547758.08, false, '\377', 4294967295::oid),
		(32767, 2147483647, 9223372036854775807, 'nan', '1e-300', 'infinity', -1.125, 92233720368547758.07, NULL, '', 16384),
		(1, -1, 1, '1e-30', 0.1, '-123456789012345678901234567890.000000000000000000001', NULL, 1, true, NULL, 1),
		(NULL, NULL, NULL, NULL, NULL, 1e-30::numeric, NULL, NULL, NULL, NULL, NULL)) v(i2, i4, i8, f4, f8, n, n2, m, b, c, o);
CREATE TABLE h_texts AS
	SELECT t::text, v::varchar(10), p::char(5), nm::name, by::bytea, bi::bit(3), vb::varbit, u::uuid, x::xml, j::json, jb::jsonb,
		jp::jsonpath, tv::tsvector, tq::tsquery
	FROM (VALUES
		('', '', '', '', '\x', B'000', B'', '00000000-0000-0000-0000-000000000000', '', '0', '{}', '$', '', ''),
		('ä€😀', 'kurz', 'ab', 'name', '\x00ff00', B'101', B'10101010101', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '<a>b</a>',
			'{"a" : [1, 2.50]}', '{"b": null, "a": [1.50, "x"]}', '$.a[*] ? (@ > 1)', 'fat:2A cat:3', 'fat & !cat:*'),
		(repeat('x', 126), repeat('y', 10), 'abcde', repeat('n', 63), decode(repeat('ab', 127), 'hex'), NULL, repeat('1', 1000)::varbit, NULL,
			NULL, '[]', '[]', 'strict $', NULL, NULL),
		(repeat('x', 3000), NULL, NULL, NULL, decode(repeat('cd', 200000), 'hex'), NULL, NULL, NULL, NULL, NULL,
			('["' || repeat('q', 100000) || '"]')::jsonb, NULL, NULL, NULL)) v(t, v, p, nm, by, bi, vb, u, x, j, jb, jp, tv, tq);
CREATE TABLE h_times AS
	SELECT d::date, t::time, tz::timetz, ts::timestamp, tt::timestamptz, i::interval, i2::interval hour to minute
	FROM (VALUES
		('2000-01-01', '00:00', '00:00+00', '2000-01-01', '2000-01-01 00:00+00', '0', '0'),
		('infinity', '24:00', '23:59:59.999999-15:59', '-infinity', 'infinity', '1 year -2 mons 3 days -04:05:06.789', '10:20'),
		('4713-01-01 BC', '12:34:56.789', '12:00+05:30', '294276-12-31 23:59:59.999999', '4713-01-01 00:00+00 BC', '-178000000 years', NULL),
		(NULL, NULL, NULL, NULL, NULL, NULL, NULL)) v(d, t, tz, ts, tt, i, i2);
CREATE TABLE h_places AS
	SELECT p::point, l::lseg, b::box, pa::path, po::polygon, c::circle, li::line, i::inet, ci::cidr, m::macaddr, m8::macaddr8,
		lsn::pg_lsn, x::xid, x8::xid8, ti::tid, rf::refcursor, iv::int2vector, ov::oidvector, sn::pg_snapshot
	FROM (VALUES
		('(1,2)', '[(0,0),(1,1)]', '(1,1),(0,0)', '[(0,0),(1,1)]', '((0,0),(1,1),(2,0))', '<(1,2),3>', '{1,2,3}', '10.0.0.1/24',
			'10.0.0.0/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05', '16/B374D848', '100', '10000000000', '(1,2)', 'cursor', '1 2 3', '4 5',
			'10:20:10,14,15'),
		('(nan,inf)', NULL, NULL, '((0,0))', '((1,1))', '<(0,0),0>', NULL, '::1', 'fe80::/10', NULL, NULL, '0/0', '0', '0', '(0,0)', '', '',
			'', NULL)) v(p, l, b, pa, po, c, li, i, ci, m, m8, lsn, x, x8, ti, rf, iv, ov, sn);
CREATE TABLE h_ranges AS
	SELECT i4::int4range, i8::int8range, n::numrange, d::daterange, ts::tsrange, tt::tstzrange, im::int4multirange, nm::nummultirange,
		ir::int4range[]
	FROM (VALUES
		('empty', '(,)', '[1.50,2)', '[2000-01-01,2001-01-01)', '(,2000-01-01]', 'empty', '{}', '{[1,2),(3,]}', '{"[1,2)",NULL}'),
		('[1,10)', '[5,5]', '(,)', '(,)', '(,)', '[2000-01-01 00:00+00,)', '{[1,3),[5,7)}', '{(,)}', '{}'),
		(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)) v(i4, i8, n, d, ts, tt, im, nm, ir);
CREATE TABLE h_arrays AS
	SELECT i::int[], t::text[], n::numeric[], d::date[], b::bool[], p::point[], bx::box[], j::jsonb[], nn::name[]
	FROM (VALUES
		('{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}'),
		('{1,NULL,3}', '{"",NULL,"a,b"}', '{1.50,NaN}', '{infinity}', '{t,f,NULL}', '{"(1,2)"}', '{(1,1),(0,0);(2,2),(1,1)}', '{"{\"a\": 1}"}', '{x}'),
		('[2:3][0:1]={{1,2},{3,4}}', '{{a},{b}}', '[-5:-5]={7}', NULL, NULL, NULL, NULL, NULL, NULL),
		((SELECT array_agg(g) FROM generate_series(1, 100000) g), (SELECT array_agg(repeat('z', g)) FROM generate_series(1, 300) g),
			NULL, NULL, NULL, NULL, NULL, NULL, NULL)) v(i, t, n, d, b, p, bx, j, nn);

-- types of users: enums, domains, composites, ranges, and all of them inside each other
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE DOMAIN good AS mood CHECK (value <> 'sad');
CREATE DOMAIN short AS varchar(20);
CREATE TYPE mood_range AS RANGE (subtype = mood);
CREATE TYPE text_range AS RANGE (subtype = text, collation = "C");
CREATE DOMAIN moods AS mood[];
CREATE TYPE inner_type AS (i int, m mood, t text, d good, n numeric);
CREATE TYPE outer_type AS (a inner_type, b inner_type[], r mood_range, mr mood_multirange, x point, e "char", l int8, arr int[], ms moods);
CREATE DOMAIN outer_domain AS outer_type;
CREATE TABLE h_enums AS
	SELECT m::mood, g::good, s::short, ms::mood[], gs::good[], md::moods, mds::moods[], ss::short[]
	FROM (VALUES
		('sad', 'ok', '', '{}', '{}', '{}', '{}', '{}'),
		('ok', 'happy', 'short', '{sad,NULL,happy}', '{ok,NULL}', '{{sad,ok},{ok,happy}}', '{}', '{a,"",NULL}'),
		('happy', NULL, NULL, '[0:1]={ok,ok}', NULL, NULL, NULL, NULL),
		(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)) v(m, g, s, ms, gs, md, mds, ss);
CREATE TABLE h_userranges AS
	SELECT r::mood_range, mr::mood_multirange, rs::mood_range[], mrs::mood_multirange[], t::text_range, tm::text_multirange
	FROM (VALUES
		('empty', '{}', '{}', '{}', 'empty', '{}'),
		('[sad,ok)', '{[sad,ok),(ok,happy]}', '{"[sad,happy]",NULL,"(,)"}', '{"{[sad,ok)}",NULL}', '[a,b)', '{[a,b),[c,d]}'),
		('(,ok]', '{(,)}', NULL, NULL, '(,)', '{(,a),[b,)}'),
		(NULL, NULL, NULL, NULL, NULL, NULL)) v(r, mr, rs, mrs, t, tm);
CREATE TABLE h_composites AS
	SELECT i::inner_type, o::outer_type, od::outer_domain, ia::inner_type[], oa::outer_type[], oda::outer_domain[]
	FROM (VALUES
		('(,,,,)', '(,,,,,,,,)', '(,,,,,,,,)', '{}', '{}', '{}'),
		('(1,ok,text,happy,1.50)', '("(1,sad,"""",ok,2)","{""(2,,,,)"",NULL}","[sad,ok)","{[sad,ok)}","(1,2)",e,5,"{1,2}","{sad,ok}")',
			'("(1,sad,"""",ok,2)",,,,,,,,)', '{"(1,ok,x,,)",NULL,"(,,,,)"}', '{"(,,,,\"(3,4)\",,,,)"}', '{"(,,,,,,7,,)"}'),
		(ROW(1, 'ok', repeat('big', 100000), 'ok', 1)::inner_type, NULL, NULL,
			(SELECT array_agg(ROW(g, 'sad', repeat('x', g % 100), NULL, g / 7.0)::inner_type) FROM generate_series(1, 3000) g), NULL, NULL),
		(NULL, NULL, NULL, NULL, NULL, NULL)) v(i, o, od, ia, oa, oda);
CREATE FUNCTION fun(int, text) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION fun(int) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE TABLE "Quoted.name" (i int) USING s3am;
CREATE TYPE with_regs AS (c regclass, r regrole);
CREATE TABLE h_names AS
	SELECT c::regclass, p::regproc, pp::regprocedure, o::regoper, oo::regoperator, t::regtype, r::regrole, n::regnamespace, cf::regconfig,
		d::regdictionary, co::regcollation, cs::regclass[], w::with_regs, ws::with_regs[]
	FROM (VALUES
		('pg_class', 'pg_catalog.now', 'fun(int)', 'pg_catalog.||/', '+(int,int)', 'mood', 'postgres', 'types', 'english', 'simple', '"C"',
			'{"\"Quoted.name\"",NULL}', '("types.""Quoted.name""",postgres)', '{"(pg_type,pg_monitor)",NULL}'),
		('"Quoted.name"', NULL, 'fun(int,text)', NULL, NULL, 'mood[]', 'pg_monitor', 's3am', 'pg_catalog.german', NULL, NULL, '{}', NULL, NULL),
		(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)) v(c, p, pp, o, oo, t, r, n, cf, d, co, cs, w, ws);
INSERT INTO h_names SELECT o, o, o, o, o, o, o, o, o, o, o, ARRAY[o::regclass] FROM (VALUES (0::oid), (4000000000)) v(o);
CREATE TABLE h_acls AS
	SELECT a, array_agg(a) OVER () AS s FROM (VALUES (makeaclitem(0, 10, 'SELECT', false)), (makeaclitem(10, 10, 'UPDATE', true)),
		(makeaclitem('pg_monitor'::regrole, 10, 'USAGE', false)), (NULL)) v(a);

SELECT * FROM h_numbers;
SELECT * FROM h_enums;
SELECT * FROM h_userranges;
SELECT i, o, od, oa, oda FROM h_composites WHERE i IS NULL OR (i).t IS NULL OR length((i).t) < 100;
SELECT * FROM h_names;
SELECT * FROM h_acls;

CREATE VIEW mirrored AS SELECT oid::regclass AS tab FROM pg_class WHERE relname LIKE 'h\_%' AND relnamespace = 'types'::regnamespace;
-- rows in the manifest
BEGIN;
SET mirror.place = 'own';
SELECT tab, m.* FROM mirrored, mirror(tab) m ORDER BY tab::text;
COMMIT;
SET mirror.place = 'inline';
SELECT tab, m.* FROM mirrored, mirror(tab) m ORDER BY tab::text;
-- a transaction of more than s3am.inline_limit makes segments: with 0 they all do
DO $$ DECLARE t regclass; BEGIN
	FOR t IN SELECT tab FROM mirrored LOOP EXECUTE format('DROP TABLE %s', replace(t::text, 'h_', 's_')); END LOOP;
END $$;
SET s3am.inline_limit = 0;
BEGIN;
SET mirror.place = 'own';
SELECT count(*), sum(missing), sum(wrong) FROM mirrored, mirror(tab) m;
COMMIT;
SET mirror.place = 'segment';
SELECT tab, m.* FROM mirrored, mirror(tab) m ORDER BY tab::text;
SELECT count(*) = (SELECT count(*) FROM mirrored) AS all_in_segments, count(DISTINCT object) = count(*) AS each_in_one FROM segments
	WHERE "table"::text LIKE 's\_%';
-- settings do not matter
SELECT md5(string_agg(x::text, ',' ORDER BY x::text)) AS was FROM s_times x \gset
BEGIN;
SET LOCAL datestyle = 'German';
SET LOCAL intervalstyle = 'sql_standard';
SET LOCAL timezone = 'Asia/Tokyo';
SET LOCAL extra_float_digits = -10;
SET LOCAL search_path = types, pg_catalog;
CREATE TABLE again (LIKE types.s_times) USING s3am;
INSERT INTO again SELECT * FROM s_times;
CREATE TABLE again_names (LIKE s_names) USING s3am;
INSERT INTO again_names SELECT * FROM s_names;
COMMIT;
SELECT md5(string_agg(x::text, ',' ORDER BY x::text)) = :'was' AS same FROM again x;
SELECT count(*) FROM (SELECT x::text FROM again_names x EXCEPT ALL SELECT x::text FROM h_names x) d;
-- what no column can have is refused by core, what cannot be stored by us
CREATE TABLE refused (r record) USING s3am;

-- changes of types after rows were stored
CREATE TABLE stored (i int, m mood, ms mood[], c inner_type, r mood_range) USING s3am;
INSERT INTO stored SELECT g, v, ARRAY[v, 'happy'::mood], ROW(g, v, 'x', NULL, 0)::inner_type, mood_range(v, NULL)
	FROM (VALUES (1, 'sad'::mood), (2, 'ok'), (3, 'happy')) t(g, v);
ALTER TYPE mood ADD VALUE 'meh' BEFORE 'ok';
ALTER TYPE mood RENAME VALUE 'ok' TO 'fine';
SELECT * FROM stored ORDER BY m;
-- a label takes over the name that another one had
ALTER TYPE mood ADD VALUE 'ok' AFTER 'happy';
INSERT INTO stored VALUES (4, 'meh', '{meh,ok}', '(4,ok,x,,1)', '[meh,ok]'), (5, 'ok', '{fine}', NULL, NULL);
SELECT * FROM stored ORDER BY m;
-- two labels swap their names
ALTER TYPE mood RENAME VALUE 'sad' TO 'x';
ALTER TYPE mood RENAME VALUE 'happy' TO 'sad';
ALTER TYPE mood RENAME VALUE 'x' TO 'happy';
SELECT i, m, ms FROM stored ORDER BY m;
-- so many in one gap that PostgreSQL renumbers the order
DO $$ BEGIN FOR i IN 1..40 LOOP EXECUTE format('ALTER TYPE mood ADD VALUE %L BEFORE %L', 'v' || i, CASE i WHEN 1 THEN 'fine' ELSE 'v' || i - 1 END); END LOOP; END $$;
SELECT max(enumsortorder) > 20 AS renumbered FROM pg_enum WHERE enumtypid = 'mood'::regtype;
INSERT INTO stored VALUES (6, 'v40', '{v1}', NULL, '[v40,v1]');
SELECT i, m, ms, r FROM stored ORDER BY m;
-- undone with its transaction
BEGIN; ALTER TYPE mood ADD VALUE 'never'; ROLLBACK;
ALTER TYPE mood ADD VALUE 'ever';
INSERT INTO stored (i, m) VALUES (7, 'ever');
SELECT i, m FROM stored ORDER BY m;
SELECT label.number, enumlabel FROM pg_enum JOIN enum_label label ON label = pg_enum.oid WHERE enumlabel !~ '^v' AND label.type = 'mood'::regtype ORDER BY 1;
-- attributes of composite types
ALTER TYPE inner_type ADD ATTRIBUTE later text;
ALTER TYPE inner_type DROP ATTRIBUTE t;
ALTER TYPE inner_type RENAME ATTRIBUTE i TO renamed;
SELECT i, c FROM stored WHERE (c).m IS NOT NULL ORDER BY i;
INSERT INTO stored (i, c) VALUES (8, '(8,meh,,,late)');
SELECT i, (c).later, (c).renamed FROM stored WHERE (c).m IS NOT NULL ORDER BY i;
\set VERBOSITY sqlstate
ALTER TYPE inner_type ALTER ATTRIBUTE renamed TYPE text;
\set VERBOSITY default
ALTER TYPE inner_type RENAME TO other_name;
ALTER TYPE other_name SET SCHEMA public;
ALTER TYPE mood_range RENAME TO range_of_moods;
SELECT i, c, r FROM stored ORDER BY i;
ALTER TYPE public.other_name SET SCHEMA types;
-- a column of another type without a rewrite
CREATE TABLE coerced (i int, a varchar(5), b regclass, c oid, m mood) USING s3am;
INSERT INTO coerced VALUES (1, 'a', 'pg_class', 1259, 'meh');
SELECT storage AS before FROM tables WHERE "table" = 'coerced'::regclass \gset
ALTER TABLE coerced ALTER a TYPE text, ALTER b TYPE oid, ALTER c TYPE regclass;
SELECT storage = :before AS no_rewrite FROM tables WHERE "table" = 'coerced'::regclass;
CREATE DOMAIN any_mood AS mood;
ALTER TABLE coerced ALTER m TYPE any_mood;
SELECT * FROM coerced;
ALTER TABLE coerced ALTER m TYPE text, ALTER i TYPE numeric;
SELECT * FROM coerced;
-- names follow what has them; what has gone shows its number
CREATE TABLE gone (i int);
CREATE TABLE audit (what regclass, n oid) USING s3am;
INSERT INTO audit VALUES ('gone', 'gone'::regclass), ('h_enums', 'h_enums'::regclass);
ALTER TABLE h_enums RENAME TO h_enum_values;
ALTER TABLE h_enum_values RENAME TO h_enums;
DROP TABLE gone;
SELECT CASE WHEN what = n THEN 'number' END, what = 'h_enums'::regclass FROM audit;
-- the row of a table as a type
CREATE TABLE rows_of (s stored, n int) USING s3am;
INSERT INTO rows_of SELECT stored, i FROM stored;
SELECT n, (s).m, (s).c FROM rows_of ORDER BY n LIMIT 3;
ALTER TABLE stored ADD COLUMN more int;
SELECT n, (s).m, (s).more FROM rows_of ORDER BY n LIMIT 3;
