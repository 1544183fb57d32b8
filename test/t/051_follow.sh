#!/bin/bash
# A second server follows while the first makes a broad schema; then both change the schema in turn, and at once.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../ddl/schema.sh"
schema=$(cd "$(dirname "$0")/../ddl" && pwd)/schema.sql

roles() { cluster_psql "$dir" -d postgres -c 'CREATE ROLE ddl_a' -c 'CREATE ROLE ddl_b'; }

# follow FROM TO: TO has what FROM has, within a second

node one
roles
sql -c 'CREATE EXTENSION s3am' || exit 1
node two
roles
sql -c 'CREATE EXTENSION s3am' || exit 1

on one
sql -f "$schema" > "$work/output" 2> "$work/errors"
ok $? "the schema is made" || diag "$(tail -n 5 "$work/errors")"
follow one two 2
ok $? "the other server follows within two seconds" || diag "$(sql -c 'TABLE s3am.attach_status')"
on one
schema_keep one
on two
schema_keep two
schema_same two one "followed"
is "$(sql -c "SELECT count(*) FROM app.calls")" "$(on one; sql -c "SELECT count(*) FROM app.calls")" "no function ran again"

# in turn
for i in 1 2 3 4 5; do
	on one
	sql -c "CREATE TABLE turn$i (a int DEFAULT $i, b text) USING s3am" -c "INSERT INTO turn$i VALUES ($i, 'one')" || ok 1 "server one, turn $i"
	follow one two 1 || ok 1 "two follows"
	sql -c "ALTER TABLE turn$i DROP COLUMN b" -c "ALTER TABLE turn$i ADD COLUMN c float8 DEFAULT random()" \
		-c "CREATE VIEW turn_view$i AS SELECT * FROM turn$i" -c "INSERT INTO turn$i DEFAULT VALUES" || ok 1 "server two, turn $i"
	follow two one 1 || ok 1 "one follows"
	sql -c "COMMENT ON VIEW turn_view$i IS 'turn $i'" -c "TRUNCATE turn$i" -c "INSERT INTO turn$i VALUES (7, $i)" || ok 1 "server one again"
done
follow one two 1
ok $? "the schema was changed from both servers in turn"
on one
schema_keep one
on two
schema_keep two
schema_same two one "in turn"

# at once: of two servers one gets the name
on one
sql -c 'CREATE SCHEMA race' -c "CREATE TYPE race.used AS ENUM ('x')"
follow one two 1
# race NAME FIRST SECOND: both begin, server one commits FIRST, server two commits SECOND without having seen it
race() {
	local name=$1 first=$2 second=$3 said
	on two
	# a snapshot of the other server's work must not arrive in between: its publisher is held back by a stopped committer
	said=$(sql -v VERBOSITY=verbose 2>&1 <<SQL
BEGIN;
$second;
\! $cluster_bin/psql -XAtq -v ON_ERROR_STOP=1 -h $work/one -p $(cat "$work/one/port") -U postgres -d test -c "$first" || echo "first failed"
COMMIT;
SQL
)
	local matches=1
	[[ $said == *40001* && $said != *"first failed"* ]] && matches=0
	ok "$matches" "$name" || diag "$said"
	follow one two 1 || ok 1 "two follows after $name"
}
race "the same table twice" "CREATE TABLE race.t (a int) USING s3am" "CREATE TABLE race.t (b int) USING s3am"
race "the same type twice" "CREATE TYPE race.twice AS ENUM ('a')" "CREATE TYPE race.twice AS ENUM ('b')"
race "the same function twice" "CREATE FUNCTION race.f() RETURNS int LANGUAGE sql AS 'SELECT 1'" \
	"CREATE FUNCTION race.f() RETURNS int LANGUAGE sql AS 'SELECT 2'"
race "ALTER and INSERT" "ALTER TABLE race.t ADD COLUMN c int" "INSERT INTO race.t VALUES (1)"
race "INSERT and ALTER" "INSERT INTO race.t VALUES (1)" "ALTER TABLE race.t ADD COLUMN d int"
# the same when server two has shown what was inserted before it commits: its lock keeps no other server's writers out
shown() { # NAME STATEMENT [TYPE OF THE COLUMN [PASSES [OTHER STATEMENT [ROWS]]]]
	local said wanted=$'(^|\n)t\n.*40001'
	[ -z "${4:-}" ] || wanted=$'(^|\n)t$'
	on one
	sql -c 'DROP TABLE IF EXISTS shown' -c "CREATE TABLE shown (a ${3:-int}) USING s3am" -c 'INSERT INTO shown VALUES (1)'
	follow one two 5
	on two
	said=$(sql -v VERBOSITY=verbose 2>&1 <<SQL
BEGIN;
$2;
\! $cluster_bin/psql -XAtq -h $work/one -p $(cat "$work/one/port") -U postgres -d test -c "${5:-INSERT INTO shown VALUES (2000)}"
CREATE FUNCTION pg_temp.arrived() RETURNS bool LANGUAGE plpgsql AS 'BEGIN
	FOR i IN 1 .. 500 LOOP
		IF (SELECT version FROM s3am.node()) >= $(on one; version) + 1 THEN RETURN true; END IF;
		PERFORM pg_sleep(0.01);
	END LOOP;
	RETURN false;
END';
SELECT pg_temp.arrived();
COMMIT;
SQL
	)
	like "$said" "$wanted" "$1, which this server has seen"
	follow one two 5
	follow two one 5
	is "$(on two; sql -c 'SELECT count(*) FROM shown')" "${6:-2}" "$1: and the row is there"
}
shown "INSERT and SET NOT NULL" "ALTER TABLE shown ALTER a SET NOT NULL"
shown "INSERT and CHECK" "ALTER TABLE shown ADD CHECK (a < 1000)"
shown "INSERT and ALTER TYPE" "ALTER TABLE shown ALTER a TYPE bigint"
shown "INSERT and a volatile default" "ALTER TABLE shown ADD COLUMN r float DEFAULT random()"
shown "INSERT and SET ACCESS METHOD" "ALTER TABLE shown SET ACCESS METHOD heap"
on one
sql -c 'CREATE DOMAIN race.small AS int' -c 'CREATE DOMAIN race.smaller AS race.small' \
	-c 'ALTER DOMAIN race.small ADD CONSTRAINT later CHECK (VALUE < 3000) NOT VALID'
shown "INSERT and CHECK of a domain" "ALTER DOMAIN race.small ADD CHECK (VALUE < 1000)" race.small
shown "INSERT and SET NOT NULL of a domain" "ALTER DOMAIN race.small SET NOT NULL" race.small
shown "INSERT and VALIDATE of a domain under that of the column" "ALTER DOMAIN race.small VALIDATE CONSTRAINT later" race.smaller
shown "INSERT and CHECK of a domain that is validated later" "ALTER DOMAIN race.small ADD CHECK (VALUE < 1000) NOT VALID" race.small passes
on one
sql -c 'DROP TABLE shown' -c 'CREATE DOMAIN race.d AS int' -c 'CREATE TABLE race.of_domain (a race.d) USING s3am'
follow one two 5
race "ALTER DOMAIN and INSERT" "ALTER DOMAIN race.d ADD CHECK (VALUE < 1000)" "INSERT INTO race.of_domain VALUES (2000)"
race "INSERT and ALTER DOMAIN" "INSERT INTO race.of_domain VALUES (500)" "ALTER DOMAIN race.d ADD CHECK (VALUE < 100)"
# nothing locks the domain itself
on one
sql -c 'CREATE DOMAIN race.e AS int' -c 'CREATE DOMAIN race.ee AS race.e'
shown "a new column of a domain and its CHECK" "ALTER DOMAIN race.e ADD CHECK (VALUE < 1000)" int "" \
	"ALTER TABLE shown ADD COLUMN b race.ee DEFAULT 2000" 1
race "CREATE TABLE with a domain and its CHECK" "CREATE TABLE race.of_e (a race.e) USING s3am" "ALTER DOMAIN race.e ADD CHECK (VALUE < 5000)"
# a new partition takes a part from the default one
on one
sql -c 'DROP TABLE shown' -c 'CREATE TABLE race.p (a int) PARTITION BY RANGE (a)' \
	-c 'CREATE TABLE race.p0 PARTITION OF race.p FOR VALUES FROM (0) TO (10) USING s3am' \
	-c 'CREATE TABLE race.rest PARTITION OF race.p DEFAULT PARTITION BY RANGE (a)' \
	-c 'CREATE TABLE race.rest0 PARTITION OF race.rest DEFAULT USING s3am'
p1="CREATE TABLE race.p1 PARTITION OF race.p FOR VALUES FROM (2000) TO (2001) USING s3am"
shown "INSERT and a new partition for the row" "$p1" int "" "INSERT INTO race.p VALUES (2000)" 1
is "$(sql -c 'SELECT tableoid::regclass FROM race.p')" race.rest0 "it is in the default partition"
shown "INSERT into a partition beside the new one" "CREATE TABLE race.p2 PARTITION OF race.p FOR VALUES FROM (20) TO (30) USING s3am" int passes \
	"INSERT INTO race.p0 VALUES (5)" 1
on one
sql -c 'TRUNCATE race.p'
# it locks the partitioned table: who holds that must lose, or he would wait for the replay that waits for him
race "a new partition and INSERT" "$p1" "INSERT INTO race.p VALUES (5)"
race "a new partition and COPY" "CREATE TABLE race.p3 PARTITION OF race.p FOR VALUES FROM (30) TO (40) USING s3am" "COPY race.p FROM PROGRAM 'echo 5'"
race "DROP of a partition and INSERT" "DROP TABLE race.p1" "INSERT INTO race.p VALUES (5)"
race "DROP of a partition and INSERT into the default one" "DROP TABLE race.p2" "INSERT INTO race.rest VALUES (5000)"
race "DETACH and INSERT" "ALTER TABLE race.p DETACH PARTITION race.p3" "INSERT INTO race.p VALUES (5)"
on one
sql -c 'CREATE TABLE race.leaf (a int) PARTITION BY RANGE (a)' -c 'CREATE TABLE race.leaf0 PARTITION OF race.leaf FOR VALUES FROM (0) TO (10) USING s3am'
follow one two 5
race "a new partition and INSERT into another one" "CREATE TABLE race.leaf1 PARTITION OF race.leaf FOR VALUES FROM (10) TO (20) USING s3am" \
	"INSERT INTO race.leaf0 VALUES (5)"
on one
race "DROP and INSERT" "DROP TABLE race.t" "INSERT INTO race.t VALUES (1)"
race "DROP SCHEMA and CREATE in it" "DROP SCHEMA race CASCADE" "CREATE TABLE race.late (a int) USING s3am"
on one
sql -c "CREATE TYPE used AS ENUM ('x')" -c "CREATE TABLE commented (a int) USING s3am"
follow one two 1
sql -c "CREATE TABLE only_read (a int) USING s3am" -c "INSERT INTO only_read VALUES (1)" -c "CREATE TABLE written (a int) USING s3am"
follow two one 1
race "ALTER and a transaction that only read the table" "ALTER TABLE only_read DROP COLUMN a" "INSERT INTO written SELECT a FROM only_read"
race "DROP TYPE and its use" "DROP TYPE used" "CREATE TABLE uses (u used) USING s3am"
on two
sql > "$work/said" 2>&1 <<SQL
BEGIN;
INSERT INTO commented VALUES (1);
\! $cluster_bin/psql -XAtq -h $work/one -p $(cat "$work/one/port") -U postgres -d test -c "COMMENT ON TABLE commented IS 'x'"
COMMIT;
SQL
ok $? "a comment lets writers pass" || diag "$(cat "$work/said")"
follow two one 1
on one
schema_keep one
on two
follow one two 1
schema_keep two
schema_same two one "after races"

done_testing
