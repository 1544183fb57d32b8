#!/bin/bash
# Two servers on one repository: each follows the other, both write, conflicts are 40001 and nothing else fails, nothing is lost.
# TWO_SERVERS_N: transactions on disjoint rows of one table (1000; 10000 is the full form).
. "$(dirname "$0")/../lib/tap.sh"

n=${TWO_SERVERS_N:-1000}
node one
sql -c 'CREATE EXTENSION s3am' -c 'CREATE TABLE t (id int, n int) USING s3am' \
	-c 'INSERT INTO t SELECT i, 0 FROM generate_series(1, 20) i'
node two
sql -c 'CREATE EXTENSION s3am'
has_table() { [ "$(sql -c "SELECT count(*) FROM pg_class WHERE relname = '$1'")" = 1 ]; }
eventually 20 has_table t
ok $? "a second server attaches while the first runs"
is "$(sql -c 'SELECT count(*), sum(n) FROM t')" '20|0' "and has the rows"

# ---------------------------------------------------------------- following

sees() { [ "$(sql -c "SELECT count(*) FROM t WHERE id = $1")" = 1 ]; }
follows() {
	local from=$1 to=$2 id=$3 start
	on "$from"
	sleep 1.2						# polling has slowed down by now
	sql -c "INSERT INTO t VALUES ($id, 0)"
	on "$to"
	start=${EPOCHREALTIME/./}
	eventually 5 sees "$id"
	took=$((${EPOCHREALTIME/./} - start))
	diag "$from -> $to: $((took / 1000)) ms"
	[ "$took" -lt 1000000 ]
}
follows one two 101
ok $? "the second follows the first within a second"
follows two one 102
ok $? "and the first the second"
on two
sql -c 'DELETE FROM t WHERE id > 100'
sql -c 'CREATE TABLE made_on_two (i int) USING s3am' -c 'INSERT INTO made_on_two VALUES (7)'
on one
eventually 5 has_table made_on_two
is "$(sql -c 'SET s3am.freshness = latest; SELECT i FROM made_on_two')" 7 "a table made on the second is on the first"

# ---------------------------------------------------------------- sessions that stay open, one on each server

session() {							# session NAME: a psql that reads from fd, writes to a file
	local fifo=$work/$1.fifo
	mkfifo "$fifo"
	sql -v ON_ERROR_STOP=0 -v VERBOSITY=sqlstate < "$fifo" >> "$work/$1.out" 2>&1 &
	sessions+=($!)
	eval "exec {$1}> $fifo"
}
marks=0
# say NAME SQL ...: sends it and waits for the end; its output is in $said.  say_only does not wait.
say_only() { local fd=${!1}; shift; printf '%s;\n' "$@" >&"$fd"; }
finish() {
	local mark=mark$((++marks)) fd=${!1}
	printf '\\echo %s\n' "$mark" >&"$fd"
	eventually 30 grep -qx "$mark" "$work/$1.out" || { diag "$1 does not answer"; return 1; }
	said=$(sed '/^mark/d' "$work/$1.out")
	: > "$work/$1.out"
}
say() { say_only "$@"; finish "$1"; }
sessions=()
on one; session a
on two; session b
both() { say a "$@"; say b "$@"; }
settle() { both 'SET s3am.freshness = latest' 'SELECT 1' 'RESET s3am.freshness'; }

for level in 'READ COMMITTED' 'REPEATABLE READ' SERIALIZABLE; do
	settle
	both "BEGIN ISOLATION LEVEL $level"
	both 'UPDATE t SET n = n + 1 WHERE id = 1'
	say a COMMIT
	first=$said
	say b COMMIT
	is "$first/$said" '/ERROR:  40001' "$level: of two conflicting updates the second gets 40001"
	say b ROLLBACK
done
settle
say a 'SELECT n FROM t WHERE id = 1'
is "$said" 3 "three of them are there"
say b 'SELECT n FROM t WHERE id = 1'
is "$said" 3 "on the other server, too"

settle
both 'BEGIN'
say a 'DELETE FROM t WHERE id = 2'
say b 'UPDATE t SET n = 5 WHERE id = 2'
say a COMMIT
say b COMMIT
is "$said" 'ERROR:  40001' "update of a row that the other server deleted"
say b ROLLBACK

# a long transaction is doomed as soon as the other version is here, not only at COMMIT
settle
say b BEGIN 'UPDATE t SET n = 1 WHERE id = 3'
say a 'UPDATE t SET n = 2 WHERE id = 3'
sleep 1
say b 'UPDATE t SET n = 1 WHERE id = 4'
is "$said" 'ERROR:  40001' "who has lost learns it before COMMIT"
say b ROLLBACK

# ---------------------------------------------------------------- snapshots

settle
both 'BEGIN ISOLATION LEVEL REPEATABLE READ' 'SELECT sum(n) FROM t WHERE id BETWEEN 5 AND 9'
on one; sql -c 'UPDATE t SET n = n + 10 WHERE id = 5'
on two; sql -c 'SET s3am.freshness = latest; UPDATE t SET n = n + 100 WHERE id = 6'
sleep 1
both 'SELECT sum(n) FROM t WHERE id BETWEEN 5 AND 9'
say a 'SELECT sum(n) FROM t WHERE id BETWEEN 5 AND 9'
is "$said" 0 "REPEATABLE READ keeps its snapshot on one server"
say b 'SELECT sum(n) FROM t WHERE id BETWEEN 5 AND 9'
is "$said" 0 "and on the other"
both COMMIT 'SELECT sum(n) FROM t WHERE id BETWEEN 5 AND 9'
say a 'SELECT sum(n) FROM t WHERE id BETWEEN 5 AND 9'
is "$said" 110 "afterwards it sees both changes"

# ---------------------------------------------------------------- row locks

settle
say b BEGIN 'SELECT FROM t WHERE id = 7 FOR UPDATE'
say a 'UPDATE t SET n = 70 WHERE id = 7'
is "$said" '' "a row lock does not hold up another server"
say b 'COMMIT'
is "$said" 'ERROR:  40001' "but is validated: FOR UPDATE"
settle
say b BEGIN 'SELECT FROM t WHERE id = 7 FOR KEY SHARE' 'UPDATE t SET n = 1 WHERE id = 8'
say a 'UPDATE t SET n = 71 WHERE id = 7'
say b COMMIT
is "$said" '' "FOR KEY SHARE goes well with an update of other columns"
settle
say b BEGIN 'SELECT FROM t WHERE id = 7 FOR SHARE' 'UPDATE t SET n = 2 WHERE id = 8'
say a 'UPDATE t SET n = 72 WHERE id = 7'
say b COMMIT
is "$said" 'ERROR:  40001' "FOR SHARE does not"
settle
say b BEGIN 'SELECT FROM t WHERE id = 9 FOR KEY SHARE' 'UPDATE t SET n = 3 WHERE id = 8'
say a 'DELETE FROM t WHERE id = 9'
say b COMMIT
is "$said" 'ERROR:  40001' "FOR KEY SHARE does not go with a delete"
settle
say b BEGIN 'SELECT FROM t WHERE id = 10 FOR UPDATE' COMMIT
settle
say a BEGIN 'SELECT FROM t WHERE id = 10 FOR UPDATE' 'UPDATE t SET n = 1 WHERE id = 10' COMMIT
is "$said" '' "a lock that has ended, and is known to have, conflicts with nothing later"

# ---------------------------------------------------------------- write skew

on one
sql -c 'CREATE TABLE duty (who text, on_call bool) USING s3am' -c "INSERT INTO duty VALUES ('x', true), ('y', true)"
on two
eventually 5 has_table duty
lost=0
for round in 1 2 3 4 5; do
	settle
	both 'BEGIN ISOLATION LEVEL SERIALIZABLE' 'SELECT count(*) FROM duty WHERE on_call'
	say a "UPDATE duty SET on_call = false WHERE who = 'x'"
	say b "UPDATE duty SET on_call = false WHERE who = 'y'"
	say_only a COMMIT
	say_only b COMMIT
	finish a; sa=$said
	finish b; sb=$said
	[[ "$sa/$sb" == */ERROR:*40001 || $sa == ERROR:*40001 ]] || { diag "round $round: a '$sa' b '$sb'"; lost=1; }
	both ROLLBACK
	settle
	say a 'SELECT count(*) FROM duty WHERE on_call'
	[ "$said" -ge 1 ] || { diag "round $round: nobody is on call"; lost=1; }
	say a 'UPDATE duty SET on_call = true'
done
is "$lost" 0 "SERIALIZABLE: no write skew over two servers"
settle
both 'BEGIN ISOLATION LEVEL REPEATABLE READ' 'SELECT count(*) FROM duty WHERE on_call'
say a "UPDATE duty SET on_call = false WHERE who = 'x'" COMMIT
say b "UPDATE duty SET on_call = false WHERE who = 'y'" COMMIT
is "$said" '' "REPEATABLE READ has it, as PostgreSQL does: the test can fail"
say a '\q'; say b '\q'
exec {a}>&- {b}>&-
wait "${sessions[@]}"

# ---------------------------------------------------------------- disjoint rows of one table

on one
sql -c 'CREATE TABLE d (id int, n int) USING s3am' -c 'INSERT INTO d SELECT i, 0 FROM generate_series(1, 16) i'
on two
eventually 5 has_table d
sql -c 'SET s3am.freshness = latest; SELECT count(*) FROM d' > /dev/null
each=$((n / 2 / 4))
bench() {							# four clients, each with a row of its own
	cluster_use "$work/$1"
	echo "UPDATE d SET n = n + 1 WHERE id = $2 + :client_id" > "$work/$1.sql"
	exec "$cluster_bin/pgbench" -n -c 4 -j 1 -t "$each" -f "$work/$1.sql" test > "$work/$1.bench" 2>&1
}
start=${EPOCHREALTIME/./}
(bench one 1) & first=$!
(bench two 9) & second=$!
wait $first; first=$?
wait $second; second=$?
seconds=$(((${EPOCHREALTIME/./} - start) / 1000))
failed=$(grep -ch 'ERROR\|aborted' "$work/one.bench" "$work/two.bench" | awk '{ n += $1 } END { print n + 0 }')
is "$first/$second/$failed" 0/0/0 "disjoint rows of one table: none of $((each * 8)) transactions fails"
grep -h 'ERROR' "$work"/{one,two}.bench | head -n 5 | sed 's/^/# /'
diag "$((each * 8)) transactions in $seconds ms"
for server in one two; do
	on $server
	is "$(sql -c 'SET s3am.freshness = latest; SELECT sum(n), count(*), count(DISTINCT id), max(n) FROM d')" \
		"$((each * 8))|16|16|$each" "nothing is lost and nothing doubled on server $server"
done
is "$(sql -c 'SELECT count(*) FROM t')" 18 "no row of the other table either"
done_testing
