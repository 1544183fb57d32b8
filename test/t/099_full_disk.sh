#!/bin/bash
# A repository's directory on a file system that is full, and one for temporary files that is: transactions fail and say why, what is there
# is read, nothing acknowledged is lost, and all goes on by itself once there is room.
. "$(dirname "$0")/../lib/tap.sh"

mounts=()
small_disk() {						# small_disk DIRECTORY SIZE
	mkdir -p "$1" && mount -t tmpfs -o "size=$2,uid=$(id -u "$cluster_owner"),gid=$(id -g "$cluster_owner"),mode=700" tmpfs "$1" 2> /dev/null || return 1
	mounts+=("$1")
}
unmount() {
	local status=$? m
	cluster_remove_all
	for m in "${mounts[@]}"; do umount -l "$m"; done
	(exit "$status")
	tap_end
}
{ [ "$(id -u)" = 0 ] && small_disk "$work/disk" 12m; } || { echo "1..0 # SKIP no file system can be mounted here"; tap_done=1; exit 0; }
trap unmount EXIT
repository=file://$work/disk/repository
node one
sql -c 'CREATE EXTENSION s3am' -c 'CREATE TABLE t (i int, x text) USING s3am' \
	-c "SET s3am.inline_limit = 0; INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 20000) i" || exit 1
said() { sql -v VERBOSITY=verbose -c "$1" 2>&1; }
count() { sql -c 'SELECT count(*) FROM t'; }
fill() { as_server dd if=/dev/zero of="$1/ballast" bs=64k status=none 2> /dev/null; as_server dd if=/dev/zero of="$1/ballast2" bs=1k status=none 2> /dev/null; }
works() { sql -c "INSERT INTO t VALUES (0, 'works')" > /dev/null 2>&1; }

# ---------------------------------------------------------------- the repository

got=$(said "SET s3am.inline_limit = 0; INSERT INTO t SELECT i, (SELECT string_agg(md5((i * j)::text), '') FROM generate_series(1, 10) j) FROM generate_series(1, 80000) i")
like "$got" 'ERROR:  53100: cannot write a segment to the repository.*segments/.*make room' "a load that does not fit fails, and says what to do"
is "$(count)" 20000 "nothing of it is there"
gone() { [ "$(find "$work/disk/repository/segments" -type f | wc -l)" = 1 ]; }
eventually 10 gone
ok $? "nor in the directory" || diag "$(find "$work/disk/repository/segments" -type f)"
fill "$work/disk"
got=$(said "INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 200) i")
like "$got" 'ERROR:  53100: the repository did not take the transaction.*manifests/[0-9]+.*make room' "a commit, too" || diag "$got"
like "$got" 'HINT:  Nothing was committed' "and what became of it"
is "$(sql -c 'SELECT count(*), count(DISTINCT x) FROM t')" '20000|20000' "reading goes on"
is "$(sql -c 'SELECT count(*) FROM s3am.verify() WHERE problem IS NOT NULL' 2> /dev/null)" 0 "what is there is sound"
like "$(grep -c 'No space left on device' "$dir/log")" '^[1-9]' "the log says so"
rm "$work/disk/ballast" "$work/disk/ballast2"
eventually 20 works
ok $? "with room commits work again by themselves"
is "$(count)" 20001 "and all that was acknowledged is there"

# ---------------------------------------------------------------- temporary files

if small_disk "$work/spill" 1m; then
	sql -c "CREATE TABLESPACE spill LOCATION '$work/spill'" || exit 1
	fill "$work/spill"
	got=$(said "SET temp_tablespaces = spill; SET s3am.transaction_memory = '64kB'; BEGIN; DELETE FROM t WHERE i % 2 = 0; UPDATE t SET x = 'y'; COMMIT")
	like "$got" '(ERROR:  53100: |^$)' "a transaction that needs temporary files fails, or did without"
	[ -n "$got" ] && is "$(count)" 20001 "nothing of it is there"
	rm "$work/spill/ballast" "$work/spill/ballast2"
	eventually 10 works
	ok $? "the session's server goes on"
else
	skip "temporary files" "no second file system"
fi
is "$(grep -c 'terminating any other active server processes\|PANIC' "$dir/log")" 0 "no process died"
all=$(count)
cluster_kill "$dir"
node two
sql -c 'CREATE EXTENSION s3am'
is "$(count)" "$all" "another server has all of it"
done_testing
