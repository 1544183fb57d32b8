#!/bin/bash
# What was in a database before the extension s3am came: other servers do not have it.  An s3am table cannot need it, and says so;
# schemas are brought along by the first thing that travels in them.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../ddl/schema.sh"

refused() { fails_like 0A000 "${3:-which stays on this server}" "$1" "refused: $2"; }

node one
cluster_psql "$dir" -d postgres -c 'CREATE ROLE owner' -c 'CREATE ROLE reader'
sql <<'SQL' || exit 1
CREATE SCHEMA app AUTHORIZATION owner;
GRANT USAGE ON SCHEMA app TO reader;
COMMENT ON SCHEMA app IS 'here before';
CREATE SCHEMA "Old One";
CREATE SCHEMA unused;
CREATE TYPE app.mood AS ENUM ('sad', 'ok');
CREATE TYPE app.comp AS (a int, b text);
CREATE TYPE app.span AS RANGE (subtype = int4);
CREATE DOMAIN app.positive AS int CHECK (VALUE > 0);
CREATE FUNCTION app.f() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION app.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE SEQUENCE app.numbers;
CREATE VIEW app.view AS SELECT 1 AS a;
CREATE COLLATION app.coll FROM "C";
CREATE OPERATOR app.!!! (PROCEDURE = int4um, RIGHTARG = int);
CREATE TEXT SEARCH CONFIGURATION app.conf (COPY = simple);
CREATE TABLE app.heap (a int, m app.mood);
CREATE TABLE app.plain (a int);
CREATE TABLE app.watched (a int);
CREATE TRIGGER touch BEFORE INSERT ON app.watched FOR EACH ROW EXECUTE FUNCTION app.touch();
CREATE TABLE app.tree (a int) PARTITION BY LIST (a);
CREATE TABLE app.counted (a int, s serial);
INSERT INTO app.plain VALUES (1), (2);
SQL
sql -c 'CREATE EXTENSION s3am' || exit 1
before=$(version)
sql <<'SQL' || exit 1
ALTER TYPE app.mood ADD VALUE 'happy';
ALTER DOMAIN app.positive ADD CHECK (VALUE < 100);
COMMENT ON TYPE app.mood IS 'of this server';
COMMENT ON SCHEMA app IS 'still here';
GRANT USAGE ON SCHEMA app TO reader;
GRANT SELECT ON ALL TABLES IN SCHEMA app TO reader;
GRANT EXECUTE ON FUNCTION app.f() TO reader;
CREATE FUNCTION app.g(app.mood) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE VIEW app.view2 AS SELECT * FROM app.view;
CREATE OR REPLACE FUNCTION app.f() RETURNS int LANGUAGE sql AS 'SELECT 2';
CREATE TABLE app.more (m app.mood) USING heap;
ALTER TABLE app.more ADD p app.positive;
ALTER SEQUENCE app.numbers RESTART 10;
CREATE SCHEMA gone;
SQL
is "$(version)" "$((before + 1))" "what is done with it makes no version, but a new schema does"

refused 'CREATE TABLE app.bad (m app.mood) USING s3am' "a column of an enum type"
refused 'CREATE TABLE app.bad (m app.mood[]) USING s3am' "an array of it"
refused 'CREATE TABLE app.bad (m app.comp) USING s3am' "a composite type"
refused 'CREATE TABLE app.bad (m app.span) USING s3am' "a range type"
refused 'CREATE TABLE app.bad (m app.span_multirange) USING s3am' "its multirange"
refused 'CREATE TABLE app.bad (m app.positive) USING s3am' "a domain"
refused 'CREATE TABLE app.bad (m int DEFAULT app.f()) USING s3am' "a default that calls a function"
refused 'CREATE TABLE app.bad (m int CHECK (m > app.f())) USING s3am' "a check that calls one"
refused "CREATE TABLE app.bad (m int DEFAULT nextval('app.numbers')) USING s3am" "a sequence"
refused 'CREATE TABLE app.bad (m text COLLATE app.coll) USING s3am' "a collation"
refused 'CREATE TABLE app.bad PARTITION OF app.tree FOR VALUES IN (1) USING s3am' "a partition of a table"
refused 'CREATE TABLE app.bad (LIKE app.heap) USING s3am' "LIKE a table with such a column"
refused 'CREATE TABLE app.bad USING s3am AS SELECT * FROM app.heap' "CREATE TABLE AS from it"
refused 'CREATE MATERIALIZED VIEW app.bad USING s3am AS SELECT * FROM app.view' "a materialized view of a view"
refused 'ALTER TABLE app.heap SET ACCESS METHOD s3am' "a table with such a column comes to the repository"
refused 'ALTER TABLE app.watched SET ACCESS METHOD s3am' "a table with a trigger of such a function"
said=$(sql -c 'CREATE TABLE app.bad (m app.mood) USING s3am' 2>&1)
like "$said" 'there before the extension.*anew' "the error says why, and what to do"

node two
cluster_psql "$dir" -d postgres -c 'CREATE ROLE owner' -c 'CREATE ROLE reader'
sql -c 'CREATE SCHEMA "Old One"' -c 'CREATE TABLE "Old One".own (a int)' -c 'CREATE EXTENSION s3am' || exit 1
is "$(sql -c "SELECT count(*) FROM pg_namespace WHERE nspname IN ('app', 'unused')")" 0 "schemas that nothing travels in are not there"
on one
sql <<'SQL' || exit 1
CREATE TABLE "Old One".t (a int) USING s3am;
BEGIN;
CREATE TABLE app.undone (a int) USING s3am;
ROLLBACK;
CREATE TYPE app.fresh AS ENUM ('a', 'b');
CREATE TABLE app.t (f app.fresh, i int) USING s3am;
INSERT INTO app.t VALUES ('b', 1);
ALTER TABLE app.plain SET ACCESS METHOD s3am;
ALTER TABLE app.counted SET ACCESS METHOD s3am;
GRANT CREATE ON SCHEMA app TO reader;
SQL
followed "schemas come along"
is "$(sql -c "SELECT f, i FROM app.t")" "b|1" "with what is in them"
is "$(sql -c "SELECT count(*) FROM app.plain")" 2 "a table that came to the repository"
is "$(sql -c "SELECT nspowner::regrole, has_schema_privilege('reader', 'app', 'USAGE'), has_schema_privilege('reader', 'app', 'CREATE'),
	obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = 'app'")" "owner|t|t|still here" "owner, privileges and comment"
is "$(sql -c 'SELECT count(*) FROM "Old One".own')" 0 "a schema that was there already is as good"
sql -c 'CREATE TYPE "Old One".two AS ENUM ()' -c 'CREATE TABLE "Old One".u (t "Old One".two) USING s3am' || exit 1

# dropped and made anew, it is as any other
on one
sql <<'SQL' || exit 1
DROP TYPE app.mood CASCADE;
CREATE TYPE app.mood AS ENUM ('sad', 'ok');
CREATE TABLE app.now (m app.mood) USING s3am;
DROP SCHEMA unused;
SQL
followed "made anew it travels"
is "$(sql -c 'SELECT count(*) FROM app.now')" 0 "and s3am tables can use it"
node three
cluster_psql "$dir" -d postgres -c 'CREATE ROLE owner' -c 'CREATE ROLE reader'
sql -c 'CREATE EXTENSION s3am' || exit 1
schema_dump -T '"Old One".own' > "$work/three.dump"
on two
schema_dump -T '"Old One".own' > "$work/two.dump"
same_file "$work/three.dump" "$work/two.dump" "a server that comes later has the same"
done_testing
