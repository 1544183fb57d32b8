#!/bin/bash
# Row locks alone, on a server of their own:  test/rowlock/run.sh [BUILD [test ...]]
# Tests: isolation, bulk, keys, stress; all of them unless named.  Without BUILD a temporary directory is used and removed; a given
# one must be writable by the user who runs the server (SERVER_USER if run as root).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
build=${1:-}
temporary=
if [ -z "$build" ]; then
	temporary=$(mktemp -d /tmp/s3am-rowlock.XXXXXX)
	chmod 755 "$temporary"
	build=$temporary/build
fi
shift || true
tests=${*:-isolation bulk keys stress}
bin=$(${PG_CONFIG:-pg_config} --bindir)
pgxs=$(dirname "$(${PG_CONFIG:-pg_config} --pgxs)")/../..
port=${PORT:-5571}
work=$build/run
user=${SERVER_USER:-postgres}

mkdir -p "$build"
make -s -C "$build" -f "$here/Makefile" with_llvm=no clean all
rm -rf "$work"
mkdir -p "$work"
if [ "$(id -u)" = 0 ]; then
	chown -R "$user" "$work"
	as() { setpriv --reuid="$user" --regid="$user" --init-groups "$@"; }
else
	as() { "$@"; }
fi
export PGHOST=$work PGPORT=$port PGUSER=postgres PGDATABASE=postgres PGOPTIONS='-c client_min_messages=warning'

as "$bin/initdb" -D "$work/data" -U postgres -A trust --no-sync -E UTF8 --locale=C > "$work/initdb.log"
cat >> "$work/data/postgresql.conf" <<CONF
listen_addresses = ''
unix_socket_directories = '$work'
port = $port
shared_preload_libraries = '$build/rowlock_test.so'
dynamic_library_path = '$build:\$libdir'
fsync = off
max_connections = 40
CONF
stop() {
	as "$bin/pg_ctl" -D "$work/data" -m immediate -s stop || true
	[ -z "$temporary" ] || rm -rf "$temporary"
}
trap stop EXIT
as "$bin/pg_ctl" -D "$work/data" -l "$work/server.log" -s -w start

failed=0
for test in $tests; do
	psql -qX -c "DROP DATABASE IF EXISTS $test" -c "CREATE DATABASE $test"
	psql -qX -d "$test" -v ON_ERROR_STOP=1 -f "$here/functions.sql"
	case $test in
	isolation)
		# a checkout in root's home is for root alone
		mkdir -p "$work/out" "$work/in"
		cp -r "$here/specs" "$here/expected" "$work/in"
		chown -R "$user" "$work/out" "$work/in" 2> /dev/null || true
		(
			cd "$work"
			as "$pgxs/src/test/isolation/pg_isolation_regress" --inputdir="$work/in" --outputdir="$work/out" --bindir="$bin" \
				--use-existing --dbname="$test" matrix wait queue deadlock savepoint publish
		) || failed=1
		;;
	bulk)
		psql -X -d "$test" -f "$here/bulk.sql" > "$work/bulk.out" 2>&1 || true
		grep -E ' ns a row|kB|^Time' "$work/bulk.out" | sed 's/^/    /' || true
		sed -E '/ ns a row$|kB|^Time/d; s/psql:[^ ]*: //; /^LOCATION/d; s/(DETAIL:  ).*/\1.../' "$work/bulk.out" > "$work/bulk.cmp"
		if diff -u "$here/expected/bulk.out" "$work/bulk.cmp"; then echo "bulk ok"; else echo "bulk FAILED"; failed=1; fi
		;;
	keys)
		bash "$here/keys.sh" || failed=1
		;;
	stress)
		bash "$here/stress.sh" || failed=1
		;;
	esac
done
[ $failed = 0 ] && echo "all ok"
exit $failed
