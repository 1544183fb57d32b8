#!/bin/bash
# Values of every kind of type mean the same on another server, whose OIDs differ: attached afterwards, and while rows are written.
. "$(dirname "$0")/../lib/tap.sh"

here=$(cd "$(dirname "$0")/../.." && pwd)
settings=("timezone = 'UTC'")

node two "${settings[@]}"
# other OIDs from here on
sql -c 'CREATE SCHEMA junk' -c "DO \$\$ BEGIN FOR i IN 1..50 LOOP EXECUTE format('CREATE TYPE junk.t%s AS ENUM (''a'', ''b'')', i); END LOOP; END \$\$"

node one "${settings[@]}"
sql -c 'CREATE EXTENSION s3am'
sed '/^-- rows in the manifest/,$d' "$here/sql/types.sql" | sql > /dev/null
tables=$(sql -c "SELECT relname FROM pg_class WHERE relname LIKE 'h\\_%' AND relnamespace = 'types'::regnamespace ORDER BY 1")
tables=${tables//h_/}
[ "$(wc -w <<< "$tables")" -gt 9 ]
ok $? "there are tables"
for table in $tables; do
	sql -c "SET search_path = types, public" -c "CREATE TABLE inline_$table USING s3am AS SELECT * FROM h_$table" \
		-c "SET s3am.inline_limit = 0" -c "CREATE TABLE segment_$table USING s3am AS SELECT * FROM h_$table"
done

digest() { sql -c "SET search_path = types, public" -c "SELECT md5(string_agg(x::text, ';' ORDER BY x::text)), count(*) FROM $1 x"; }
# names are looked up before a statement waits for the database to be attached
attach() { sql -c 'CREATE EXTENSION s3am' && eventually 30 attached; }
attached() { [ "$(sql -c 'SELECT phase FROM s3am.node()')" = ready ]; }
caught_up() { [ "$(version)" -ge "$1" ]; }

wanted=()
for table in $tables; do wanted+=("$(digest "h_$table")"); done
# numbers that mean something else on the other server are not what this test is about
sql -c "SET search_path = types" -c "SELECT oid FROM pg_type WHERE oid = 'mood'::regtype" > "$work/oid.one"

on two
attach
sql -c "SET search_path = types" -c "SELECT oid FROM pg_type WHERE oid = 'mood'::regtype" > "$work/oid.two"
! cmp -s "$work/oid.one" "$work/oid.two"
ok $? "OIDs differ"
n=0
for table in $tables; do
	for place in inline segment; do
		is "$(digest "${place}_$table")" "${wanted[$n]}" "$place: $table"
	done
	n=$((n + 1))
done

# rows go both ways while types change
sql -c "SET search_path = types" -c "CREATE TABLE stored (i int, m mood, ms mood[], c inner_type, r mood_range, w with_regs) USING s3am" \
	-c "INSERT INTO stored VALUES (1, 'sad', '{ok}', '(1,happy,t,,)', '[sad,ok]', '(segment_enums,postgres)')"
sql -c "SET search_path = types" -c "ALTER TYPE mood ADD VALUE 'meh' BEFORE 'ok'" -c "ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'" \
	-c "ALTER TYPE inner_type ADD ATTRIBUTE later text" -c "ALTER TYPE inner_type DROP ATTRIBUTE t"
sql -c "SET search_path = types" -c "INSERT INTO stored VALUES (2, 'meh', '{fine,meh}', '(2,meh,,,late)', '[meh,fine]')"
to=$(version)
on one
eventually 20 caught_up "$to"
rows="SELECT i, m, ms, c, r, w FROM types.stored ORDER BY m, i"
is "$(sql -c 'SET search_path = types' -c "$rows")" $'1|sad|{fine}|(1,happy,,,)|[sad,fine]|(segment_enums,postgres)\n2|meh|{fine,meh}|(2,meh,,,late)|[meh,fine]|' "what the other one wrote"
sql -c "SET search_path = types" -c "ALTER TYPE mood RENAME VALUE 'meh' TO 'x'" -c "ALTER TYPE mood RENAME VALUE 'sad' TO 'meh'" \
	-c "ALTER TYPE mood ADD VALUE 'sad' AFTER 'x'" -c "ALTER TABLE stored ADD COLUMN later int DEFAULT 5"
sql -c "SET search_path = types" -c "SET s3am.inline_limit = 0" -c "INSERT INTO stored VALUES (3, 'sad', '{x,meh}', NULL, '[x,sad]')"
want=$(sql -c 'SET search_path = types' -c "TABLE types.stored ORDER BY m, i")
is "$(cut -d'|' -f1-3 <<< "$want")" $'1|meh|{fine}\n2|x|{fine,x}\n3|sad|{x,meh}' "names changed hands"
to=$(version)
on two
eventually 20 caught_up "$to"
is "$(sql -c 'SET search_path = types' -c "TABLE types.stored ORDER BY m, i")" "$want" "and on the other one"
is "$(sql -c "SELECT string_agg(label.number || enumlabel, ' ' ORDER BY label.number) FROM s3am.enum_label label JOIN pg_enum e ON e.oid = label")" \
	"1meh 2fine 3happy 4x" "the same numbers"

# a third one knows nothing but the repository; what it writes the first one reads
node three "${settings[@]}"
sql -c "CREATE TYPE other AS ENUM ('x')"
attach
is "$(sql -c 'SET search_path = types' -c "TABLE types.stored ORDER BY m, i")" "$want" "a server that was not there"
sql -c "SET search_path = types" -c "INSERT INTO stored SELECT i + 10, m, ms, c, r, w FROM stored"
want=$(sql -c 'SET search_path = types' -c "TABLE types.stored ORDER BY m, i")
to=$(version)
on one
eventually 20 caught_up "$to"
is "$(sql -c 'SET search_path = types' -c "TABLE types.stored ORDER BY m, i")" "$want" "what it wrote"

# names that are missing on a server: a table that only one has, a role
sql -c 'CREATE TABLE here (i int)' -c 'CREATE ROLE only_here' -c "CREATE TABLE names (c regclass, a aclitem) USING s3am" \
	-c "INSERT INTO names VALUES ('here', NULL)" -c "INSERT INTO names VALUES (NULL, makeaclitem('only_here'::regrole, 10, 'SELECT', false))"
is "$(sql -c 'SELECT c FROM names WHERE c IS NOT NULL')" here "a local table, where it is"
to=$(version)
on two
eventually 20 caught_up "$to"
like "$(sql -c 'SELECT c FROM names WHERE c IS NOT NULL')" '^([0-9]+|-)$' "where it is not: a number"
is "$(sql -c 'SELECT count(*) FROM names')" 2 "columns that nobody asks for are not looked at"
fails_like 42704 'role "only_here" does not exist' 'SELECT a FROM names' "a role that is missing"
done_testing
