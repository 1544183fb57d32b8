#!/bin/bash
# REASSIGN OWNED and DROP OWNED: what travels changes hands or goes everywhere, what a server alone has is its own affair.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../ddl/schema.sh"

owner() { sql -c "SELECT relowner::regrole FROM pg_class WHERE oid = '$1'::regclass"; }
roles=(-c 'CREATE ROLE giver' -c 'CREATE ROLE taker' -c 'CREATE ROLE reader')

node one
cluster_psql "$dir" -d postgres "${roles[@]}"
sql -c 'CREATE EXTENSION s3am' || exit 1
node two
cluster_psql "$dir" -d postgres "${roles[@]}"
sql -c 'CREATE EXTENSION s3am' || exit 1
sql -c 'CREATE TABLE here_two (a int) USING heap' -c 'ALTER TABLE here_two OWNER TO giver' -c 'GRANT SELECT ON here_two TO reader' || exit 1
on one
sql <<'SQL' || exit 1
GRANT CREATE ON SCHEMA public TO giver, taker;
CREATE TABLE here_one (a int) USING heap;
ALTER TABLE here_one OWNER TO giver;
SET ROLE giver;
CREATE TABLE t (a int, s serial) USING s3am;
CREATE TABLE parts (a int) PARTITION BY LIST (a);
CREATE TABLE part PARTITION OF parts FOR VALUES IN (1) USING s3am;
CREATE VIEW v AS SELECT a FROM t;
CREATE MATERIALIZED VIEW m USING s3am AS SELECT a FROM t;
CREATE SEQUENCE q;
CREATE TYPE comp AS (a int);
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TYPE span AS RANGE (subtype = int4);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT $1';
CREATE PROCEDURE p() LANGUAGE sql AS 'SELECT 1';
CREATE AGGREGATE total(*) (SFUNC = int8inc, STYPE = int8, INITCOND = '0');
CREATE COLLATION coll FROM "C";
CREATE TEXT SEARCH DICTIONARY dict (TEMPLATE = simple);
CREATE TEXT SEARCH CONFIGURATION conf (COPY = simple);
CREATE STATISTICS stats ON a, s FROM t;
CREATE OPERATOR !!! (PROCEDURE = f, RIGHTARG = int);
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO reader;
RESET ROLE;
CREATE SCHEMA owned AUTHORIZATION giver;
REASSIGN OWNED BY giver TO taker;
SQL
schema_dump -T here_one > "$work/one.dump"
followed "REASSIGN OWNED is followed"
schema_dump -T here_two > "$work/two.dump"
same_file "$work/two.dump" "$work/one.dump" "and all that travels has the new owner"
is "$(owner here_two) $(owner t)" "giver taker" "what that server alone has keeps its own"
on one
is "$(owner here_one)" taker "the first server's own table changed hands there"

# privileges alone, from a role that owns nothing that travels: no event tells of that
sql -c 'GRANT SELECT ON t TO reader' -c 'GRANT UPDATE (a) ON t TO reader' -c 'CREATE TABLE here_three (a int) USING heap' \
	-c 'ALTER TABLE here_three OWNER TO reader' -c 'CREATE POLICY single ON t TO reader USING (true)' \
	-c 'CREATE POLICY shared ON t TO reader, taker USING (true)' -c 'DROP OWNED BY reader' || exit 1
schema_dump -T here_one > "$work/one.dump"
followed "DROP OWNED of privileges is followed"
schema_dump -T here_two > "$work/two.dump"
same_file "$work/two.dump" "$work/one.dump" "they are gone everywhere, with the policies"
is "$(sql -c "SELECT has_table_privilege('reader', 'here_two', 'SELECT')")" t "but not on what that server alone has"

# everything goes; a role that is not there has nothing to lose
sql -c 'ALTER TABLE here_two OWNER TO taker'
cluster_psql "$dir" -d postgres -c 'CREATE ROLE other'
on one
cluster_psql "$dir" -d postgres -c 'CREATE ROLE stranger'
sql -c 'DROP OWNED BY taker, stranger CASCADE' || exit 1
schema_dump > "$work/one.dump"
followed "DROP OWNED of objects is followed"
is "$(owner here_two)" taker "what that server alone has stays"
schema_dump -T here_two > "$work/two.dump"
same_file "$work/two.dump" "$work/one.dump" "all that travels is gone"

# two servers at the same time: a role's belongings and what is made with it
sql -c 'CREATE TABLE x (a int) USING s3am' -c 'SELECT 1' > /dev/null
version=$(version)
on one
eventually 5 reached "$version"
(
	sql <<'SQL'
BEGIN;
GRANT SELECT ON x TO reader;
SELECT pg_sleep(2);
COMMIT;
SQL
) > "$work/slow" 2>&1 &
sleep 0.7
on two
sql -c 'DROP OWNED BY reader'
wait $!
like "$(cat "$work/slow")" 'could not serialize|conflict' "a grant does not miss DROP OWNED of another server"

node three
cluster_psql "$dir" -d postgres "${roles[@]}"
sql -c 'CREATE EXTENSION s3am' || exit 1
schema_dump > "$work/three.dump"
on one
schema_dump > "$work/one.dump"
same_file "$work/three.dump" "$work/one.dump" "a server that comes later has the same"
done_testing
