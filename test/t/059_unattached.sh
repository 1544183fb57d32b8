#!/bin/bash
# A database that cannot be attached: a superuser finds out why, and mends it, in that very database.
. "$(dirname "$0")/../lib/tap.sh"

node one "s3am.attach_timeout = '2s'"
sql -c 'CREATE EXTENSION s3am' -c 'CREATE TABLE t (i int) USING s3am' -c 'INSERT INTO t VALUES (1)' -c 'CREATE SEQUENCE s' || exit 1
sql -c 'CREATE ROLE plain LOGIN' -c "CREATE FUNCTION mine() RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 1'" || exit 1
s=$(sql -c "SELECT 's'::regclass::oid")
good=$repository
sql -c "ALTER DATABASE test SET s3am.repository = 'nonsense'" || exit 1
cluster_restart "$dir"
refused() { ! sql -c 'SELECT 1' > /dev/null 2>&1; }
eventually 10 refused
ok $? "the database cannot be attached"

like "$(sql -c 'SELECT phase, error FROM s3am.node()' 2>&1)" '^(failed|starting)\|' "s3am.node() answers"
like "$(sql -c 'SELECT count(*) FROM s3am.attach_status' 2>&1)" '^[0-9]+$' "so does a view of s3am"
is "$(sql -c "SELECT setting FROM pg_settings WHERE name = 's3am.repository'" 2>&1)" nonsense "so does pg_settings"
like "$(sql -c 'SELECT pid, state FROM pg_stat_activity ORDER BY pid LIMIT 1' 2>&1)" '^[0-9]+\|' "and pg_stat_activity"
is "$(sql -c "SELECT current_setting('s3am.attach_timeout')" 2>&1)" 2s "and functions of the system"
is "$(sql -c "ALTER SYSTEM SET work_mem = '5MB'" -c 'SELECT pg_reload_conf()' 2>&1)" t "settings can be changed"

why='is not attached to its repository'
fails_like 57P03 "$why" 'SELECT i FROM t' "a table is refused"
fails_like 57P03 "$why" 'SELECT count(*) FROM pg_class' "so is a catalog that may lack something"
fails_like 57P03 "$why" "SELECT nextval($s)" "a draw"
fails_like 57P03 "$why" "SELECT 1 FROM pg_database LIMIT (SELECT nextval($s))" "wherever it stands"
fails_like 57P03 "$why" 'SELECT mine()' "a function of one's own"
fails_like 57P03 "$why" 'SELECT 1' "and who asks whether the database can be used"
fails_like 57P03 "$why" 'SET ROLE plain; SELECT pg_backend_pid()' "others than superusers wait"

sql -c "ALTER DATABASE test SET s3am.repository = '$good'"
ok $? "the address can be mended"
cluster_restart "$dir"
reads() { [ "$(sql -c 'SELECT i FROM t' 2> /dev/null)" = 1 ]; }
eventually 20 reads
ok $? "and the database is attached"
done_testing
