#!/bin/bash
# The committer is refused memory again and again while sessions write: its process ends and another one takes over.  No session ends, what was
# acknowledged is there, what was rolled back is not, and what a session was told nothing certain about is there once or not at all.
. "$(dirname "$0")/../lib/tap.sh"

statements=${MEMORY_STATEMENTS:-1200}
writers=3
gcc -std=gnu11 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -shared -fPIC -o "$work/refuse.so" "$(dirname "$0")/../lib/refuse.c" || exit 1
truncate -s 64 "$work/control"
chown "$cluster_owner" "$work/control" "$work/refuse.so"
chmod 755 "$work/refuse.so"
export S3AM_SERVER_PRELOAD=$work/refuse.so S3AM_SERVER_OPTIONS="REFUSE_CONTROL=$work/control"

set_control() { dd of="$work/control" conv=notrunc status=none "$@"; }
whom() { printf '%s\0' "$1" | set_control bs=8 seek=1; }
number() { printf '%b' "$(printf '\\x%02x' $(($1 & 255)) $(($1 >> 8 & 255)) $(($1 >> 16 & 255)) $(($1 >> 24 & 255)))"; }
refuse() { number "$1" | set_control bs=4 count=1; } # one of so many allocations
refusals() { od -An -tu4 -j4 -N4 "$work/control" | tr -d ' '; }

node one "s3am.checkpoint_interval = 50" "s3am.collect_interval = '2s'" "s3am.collect_grace = '1s'" "s3am.retention = '1s'"
sql -c 'CREATE EXTENSION s3am' -c 'CREATE TABLE t (writer int, i int) USING s3am' -c 'CREATE TABLE u (i int, n int) USING s3am' \
	-c 'INSERT INTO u SELECT i, 0 FROM generate_series(1, 30) i' || exit 1

write() { # WRITER
	for ((i = 1; i <= statements; i++)); do
		case $((i % 4)),$((i % 50)) in
			*,25) echo "CREATE TABLE d_$1_$i (i int) USING s3am;" ;;
			0,*) echo "INSERT INTO t VALUES ($1, $i)\\; UPDATE u SET n = n + 1 WHERE i = $1 * 10 - $((i % 10));" ;;
			*) echo "INSERT INTO t VALUES ($1, $i);" ;;
		esac
		printf '\\echo %s :SQLSTATE\n' "$i"
	done | "$cluster_bin/psql" -X -q -d test -v ON_ERROR_STOP=0 > "$work/said$1" 2> "$work/errors$1"
}
cluster_use "$dir"
whom 's3am committer'
refuse "${MEMORY_ONE_OF:-80000}"
pids=()
for ((w = 1; w <= writers; w++)); do
	write $w &
	pids+=($!)
done
for pid in "${pids[@]}"; do wait "$pid" || diag "a session ended"; done
refuse 0
n=$(grep -c 'FATAL:  out of memory' "$dir/log")
diag "$(grep -o 'under way [1-9][0-9]* were committed' "$dir/log" | awk '{ n += $3 } END { print n + 0 }') transactions were committed by one committer and told of by the next"
diag "$(refusals) allocations were refused; the committer ended $n times in src/manifest, $(grep -c 'ERROR:  out of memory' "$dir/log") times elsewhere"
[ "$n" -ge 3 ]
ok $? "memory was refused $(refusals) times"
! grep -Eq 'terminated by signal|reinitializing|PANIC' "$dir/log"
ok $? "no process died of it, and the server went on"
is "$(cat "$work"/said? | wc -l)" $((writers * statements)) "every session lived to its last statement"
writes() { sql -c 'INSERT INTO t VALUES (0, 0)' > /dev/null 2>&1; }
eventually 15 writes
ok $? "it writes again"

for ((w = 1; w <= writers; w++)); do sed "s/^/$w /" "$work/said$w"; done > "$work/said"
cut -d' ' -f3 "$work/said" | sort | uniq -c | sed 's/^/# SQLSTATE/'
is "$(awk '$3 !~ /^(00000|08006|08007|40001|25006|53200)$/ { print $3 }' "$work/said" | sort | uniq -c)" "" \
	"sessions were told nothing else than that all is well, to try again, or to ask"
check() { # NAME
	sql -F ' ' -c "SELECT writer::text, i::text, count(*) FROM t WHERE writer > 0 GROUP BY 1, 2 UNION ALL
		SELECT split_part(relname, '_', 2), split_part(relname, '_', 3), 1 FROM pg_class WHERE relname LIKE 'd\\_%'" > "$work/there"
	awk 'NR == FNR { n[$1 " " $2] = $3; next }
		$3 == "00000" && n[$1 " " $2] != 1 { print "lost: " $0 }
		$3 != "00000" && $3 != "08007" && n[$1 " " $2] > 0 { print "there, and rolled back: " $0 }
		n[$1 " " $2] > 1 { print "twice: " $0 }' "$work/there" "$work/said" > "$work/wrong"
	is "$(head -3 "$work/wrong")" "" "$1: $(wc -l < "$work/there") rows and tables, each acknowledged one and none that was rolled back"
	is "$(sql -c 'SELECT sum(n) FROM u')" "$(sql -c 'SELECT count(*) FROM t WHERE writer > 0 AND i % 4 = 0')" "$1: transactions are whole"
}
check "the server"
is "$(sql -c 'SELECT object, problem FROM s3am.verify() WHERE problem IS NOT NULL')" "" "verify has nothing to say"

# a session that reads everything
whom 'test [local]'
number "${MEMORY_ONE_OF_SESSION:-10000}" > "$work/rate"
before=$(refusals)
{
	echo 'SELECT 1;'
	echo "\\! dd if=$work/rate of=$work/control bs=4 count=1 conv=notrunc status=none"
	for _ in {1..25}; do
		echo 'SELECT count(*) FROM s3am.verify() WHERE problem IS NOT NULL;'
		echo '\echo :SQLSTATE'
	done
	echo "\\! dd if=/dev/zero of=$work/control bs=4 count=1 conv=notrunc status=none"
} | "$cluster_bin/psql" -X -q -At -d test -v ON_ERROR_STOP=0 > "$work/verified" 2> "$work/verify-errors"
refuse 0
diag "$(($(refusals) - before)) allocations of a session were refused" "$(sort "$work/verified" | uniq -c)"
is "$(grep -c '^[0-9A-Z]\{5\}$' "$work/verified")" 25 "a session that reads everything, and is refused memory, lives"
is "$(grep -vE '^(0|1|00000|53200|08006)$' "$work/verified")" "" "it never takes that for damage"
is "$(grep -vE 'ERROR:  (out of memory|cannot (list|read|write))|^DETAIL:  .*(Failed on request of size|[Cc]annot allocate memory|out of memory)' "$work/verify-errors" | head -4)" "" "and is told that memory is out"
! grep -Eq 'terminated by signal|reinitializing|PANIC' "$dir/log"
ok $? "no process died of it"

node two
sql -c 'CREATE EXTENSION s3am' || exit 1
check "another one"
done_testing
