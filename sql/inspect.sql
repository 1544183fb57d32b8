-- What the objects of the repository hold.
CREATE SCHEMA looked_at;
SET search_path = looked_at, s3am;
SET client_min_messages = warning;
CREATE TYPE color AS ENUM ('red', 'green');
CREATE TABLE seen (i int, t text, c color, p point, dropped int, n numeric) USING s3am;
ALTER TABLE seen DROP COLUMN dropped;
INSERT INTO seen VALUES (1, 'one', 'red', '(1,2)', 1.5), (2, NULL, 'green', NULL, NULL);
SELECT version AS inline FROM node() \gset
SET s3am.inline_limit = 0;
INSERT INTO seen SELECT g, repeat('x', 1000) || g, 'green', NULL, g FROM generate_series(1, 200) g;
INSERT INTO seen SELECT 0, string_agg(md5(g::text), ''), 'red', NULL, 0 FROM generate_series(1, 40000) g;
SELECT max(object) FILTER (WHERE rows = 200) AS segment, max(object) FILTER (WHERE rows = 1) AS large FROM segments WHERE "table" = 'seen'::regclass \gset

SELECT path, value FROM inspect('repository') WHERE path IN ('format_level', 'encoding', 'little_endian', 'damaged');
SELECT path, value FROM inspect('manifests/' || :inline, 0) WHERE path LIKE '%batches%' AND path !~ 'extent';
SELECT regexp_replace(path, '.*batches', 'batches') AS path, value FROM inspect('manifests/' || :inline) WHERE path ~ 'extent|rows$';
SELECT path, value FROM inspect(:'segment') WHERE path ~ 'header.(level|min|enc|mac)|footer.(nrows|schema|columns)' AND path !~ 'name$';
SELECT count(*), sum(substring(value FROM 'rows (\d+) to')::int IS NOT NULL::int) > 0 AS rows FROM inspect(:'segment') WHERE path LIKE 'extent%';
SELECT path, value FROM inspect(:'segment', 1) WHERE path LIKE 'row[%' LIMIT 5;
SELECT path, value FROM inspect(:'segment', 99) WHERE path = 'damaged';
SELECT path, value FROM inspect(:'large') WHERE path = 'extent[0]' OR path = 'footer.columns[1].min';
SELECT path, regexp_replace(value, '\d+ stored at 64', 'n stored at 64') AS value FROM inspect(:'large', 0) WHERE path LIKE 'row[%';
SELECT count(*) > 0 AS rows FROM inspect('manifests/1');
-- what is not there, or is none
\set VERBOSITY terse
SELECT * FROM inspect('manifests/123456789');
SELECT * FROM inspect('../secret');
SELECT * FROM inspect('segments/nonsense');
