#!/bin/bash
# Databases come to a repository and leave it: DROP EXTENSION, DROP DATABASE and its like, no free worker, one prefix twice, the
# library not loaded, a standby.
. "$(dirname "$0")/../lib/tap.sh"

on_database() { local name=$1; shift; cluster_psql "$dir" -At -d "$name" "$@"; }

node one
sql -c 'CREATE EXTENSION s3am' || exit 1
sql -c 'CREATE TABLE t (a int, s serial) USING s3am' -c 'INSERT INTO t VALUES (1), (2)' -c 'CREATE TABLE here (a int) USING heap'
sql -c 'CREATE VIEW v AS SELECT a FROM t'

# DROP EXTENSION detaches; what is in the repository stays
fails_like 2BP01 'cannot drop extension s3am' 'DROP EXTENSION s3am' "not while there are s3am tables"
sql -c 'DROP EXTENSION s3am CASCADE' 2> "$work/errors"
ok $? "DROP EXTENSION CASCADE" || diag "$(cat "$work/errors")"
workers() { on_database postgres -c "SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('s3am publisher', 's3am committer')"; }
no_workers() { [ "$(workers)" = 0 ]; }
eventually 5 no_workers
ok $? "the workers end"
is "$(sql -c "SELECT count(*) FROM pg_db_role_setting WHERE setconfig::text ~ 's3am.repository'")" 0 "the binding is gone"
is "$(sql -c 'SELECT count(*) FROM here')" 0 "other tables work"
sql -c 'CREATE EXTENSION s3am' || exit 1
is "$(sql -c 'SELECT a FROM t ORDER BY a' | tr '\n' ' ')" "1 2 " "CREATE EXTENSION again: the tables are back"
is "$(sql -c 'SELECT count(*) FROM v')" 2 "and the view"
sql -c 'INSERT INTO t VALUES (3)'
# a session that lives through it
said=$(sql 2>&1 <<'SQL'
SELECT count(*) FROM t;
DROP EXTENSION s3am CASCADE;
CREATE EXTENSION s3am;
SELECT count(*) FROM t;
INSERT INTO t VALUES (4);
SELECT count(*) FROM t;
SQL
)
like "$said" $'3\n.*3\n4' "in one session"
# the same while the old entry's processes take their time
stopped=$(worker committer)
kill -STOP "$stopped"
sql -c 'DROP EXTENSION s3am CASCADE' -c 'CREATE EXTENSION s3am' -c 'SELECT count(*) FROM t' > "$work/said" 2>&1 &
session=$!
sleep 1
kill -CONT "$stopped"
wait "$session"
is "$(tail -n 1 "$work/said")" 4 "and while the committer is slow to end"

# databases
on_database postgres -c 'ALTER DATABASE test RENAME TO renamed' 2> "$work/errors"
ok $? "ALTER DATABASE RENAME" || diag "$(cat "$work/errors")"
is "$(on_database renamed -c 'SELECT count(*) FROM t')" 4 "it goes on under the other name"
on_database postgres -c 'ALTER DATABASE renamed RENAME TO test'
ok $? "and back"
(echo 'SELECT 1;'; sleep 7) | sql > /dev/null &
client=$!
sleep 0.5
on_database postgres -c 'DROP DATABASE test' > "$work/said" 2>&1
[ $? != 0 ]
ok $? "DROP DATABASE fails while a session is there"
wait "$client"
is "$(sql -c 'SELECT count(*) FROM t')" 4 "and the database goes on"

# two databases, one prefix
on_database postgres -c 'CREATE DATABASE twice'
on_database twice -c 'CREATE EXTENSION s3am'
refused() { on_database twice -v VERBOSITY=verbose -c "SET s3am.attach_timeout = '3s'" -c 'SELECT 1 FROM pg_class LIMIT 1' > "$work/said" 2>&1; grep -q 'Another database' "$work/said"; }
eventually 5 refused
ok $? "the second database of a prefix is told so" || diag "$(cat "$work/said")"
like "$(cat "$work/said")" '57P03' "with the state for it"
on_database postgres -c 'DROP DATABASE test' 2> "$work/errors"
ok $? "DROP DATABASE does not wait for the workers" || diag "$(cat "$work/errors")"
attached() { on_database twice -c 'SELECT 1 FROM pg_class LIMIT 1' > /dev/null 2>&1; }
eventually 5 attached
is "$(on_database twice -c 'SELECT count(*) FROM t')" 4 "the second database works once the first is gone"
on_database postgres -c 'DROP DATABASE twice'
ok $? "it can be dropped, too"
eventually 5 no_workers
ok $? "no worker is left"

# no free worker
cluster_stop "$dir"
cluster_conf "$dir" 'max_worker_processes = 2'
cluster_start "$dir"
on_database postgres -c 'CREATE DATABASE test'
sql -c 'CREATE EXTENSION s3am'
full() { sql -v VERBOSITY=verbose -c "SET s3am.attach_timeout = '3s'" -c 'SELECT 1 FROM pg_class LIMIT 1' > "$work/said" 2>&1; grep -q 'no free background worker' "$work/said"; }
eventually 8 full
ok $? "no free worker: sessions are told" || diag "$(cat "$work/said")"
cluster_stop "$dir"
cluster_conf "$dir" 'max_worker_processes = 8'
cluster_start "$dir"
is "$(sql -c 'SELECT count(*) FROM t')" 4 "with more workers it works"

# the library is not loaded
cluster_stop "$dir"
cluster_conf "$dir" "shared_preload_libraries = ''"
cluster_start "$dir"
is "$(sql -c 'SELECT 1')" 1 "without the library the server runs"
fails_like 55000 'must be loaded via shared_preload_libraries' 'SELECT * FROM t' "s3am tables say what is missing"
on_database postgres -c 'CREATE DATABASE plain'
said=$(on_database plain -c 'CREATE EXTENSION s3am' 2>&1)
like "$said" 'shared_preload_libraries' "so does CREATE EXTENSION"
cluster_stop "$dir"
cluster_conf "$dir" "shared_preload_libraries = 's3am'"
cluster_start "$dir"
is "$(sql -c 'SELECT count(*) FROM t')" 4 "and with it all is well"

# a standby
(cluster_use "$dir" && cd / && as_server env PGHOST="$dir" PGPORT="$PGPORT" PGUSER=postgres "$cluster_bin/pg_basebackup" -D "$dir/standby-data" -R -c fast -X stream) > "$work/said" 2>&1
ok $? "a standby is made" || diag "$(cat "$work/said")"
mkdir -p "$work/standby"
chown "$cluster_owner:$cluster_group" "$work/standby"
chmod 700 "$work/standby"
mv "$dir/standby-data" "$work/standby/data"
primary=$dir
dir=$work/standby
cluster_all+=("$dir")
cluster_conf "$dir" "unix_socket_directories = '$dir'"
cluster_start "$dir"
ok $? "it starts"
fails_like 0A000 'cannot be read on a standby' 'SELECT * FROM t' "s3am tables refuse there"
is "$(sql -c 'SELECT count(*) FROM pg_class WHERE relname = $$t$$')" 1 "other tables do not"
dir=$primary
done_testing
