#!/bin/bash
# With committer and publisher stopped, reads and uncommitted writes go on, and writers of different rows do not wait for each
# other.  Commits wait, can be cancelled or time out, and are decided when the workers go on.
. "$(dirname "$0")/../lib/tap.sh"

node one "statement_timeout = '10s'"
sql -c 'CREATE EXTENSION s3am' -c 'CREATE TABLE t (id int, n int) USING s3am' -c 'CREATE TABLE u (LIKE t) USING s3am' \
	-c 'INSERT INTO t SELECT i, 0 FROM generate_series(1, 100) i' -c 'INSERT INTO u SELECT * FROM t' \
	-c 'CREATE TABLE h (i int) USING heap' -c 'ANALYZE t'
committer=$(worker committer)
publisher=$(worker publisher)
[ -n "$committer" ] && [ -n "$publisher" ]
ok $? "both workers are there"

# a stopped process does not end with its server
stop() { kill -STOP "$@"; }
go_on() { kill -CONT "$committer" "$publisher"; }
trap 'go_on 2> /dev/null; tap_end' EXIT

# run NAME SQL ...: in the background; its SQLSTATE, or what it returned, ends up in $work/NAME
run() {
	local name=$1 args=() statement
	shift
	for statement; do args+=(-c "$statement"); done
	sql -v VERBOSITY=sqlstate -v ON_ERROR_STOP=0 "${args[@]}" > "$work/$name" 2>&1 &
	pids[$name]=$!
}
declare -A pids
result() { wait "${pids[$1]}"; said=$(tr '\n' ' ' < "$work/$1"); }	# in $said
# waiting REGEX: how many client sessions run a statement that looks like this
waiting() { sql -c "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query ~ '$1' AND pid <> pg_backend_pid()"; }
are_waiting() { [ "$(waiting "$1")" = "$2" ]; }

# ---------------------------------------------------------------- all but commits goes on

stop "$committer" "$publisher"
is "$(sql -c 'SELECT count(*), sum(n) FROM t')" '100|0' "a new session reads"
is "$(sql -c 'SELECT count(*) FROM t JOIN u USING (id)')" 100 "all tables"
is "$(sql -c 'BEGIN ISOLATION LEVEL REPEATABLE READ' -c 'SELECT count(*) FROM u' -c COMMIT)" 100 "with a snapshot of its own"
is "$(sql -c "SELECT count(*) FROM pg_class WHERE relname IN ('t', 'u')")" 2 "and catalogs"
is "$(sql -c BEGIN -c 'INSERT INTO t VALUES (101, 1)' -c 'UPDATE t SET n = n + 1 WHERE id = 1' -c 'DELETE FROM u WHERE id = 2' \
	-c 'SELECT count(*), sum(n) FROM t' -c 'SELECT count(*) FROM u' -c ROLLBACK)" $'101|2\n99' "writes are made and seen"
is "$(sql -c 'SELECT count(*), sum(n) FROM t')" '100|0' "and rolled back"
is "$(sql -c BEGIN -c 'SAVEPOINT s' -c 'DELETE FROM t' -c 'ROLLBACK TO s' -c 'SELECT count(*) FROM t' -c ROLLBACK)" 100 "savepoints"
is "$(sql -c BEGIN -c 'CREATE TABLE x (i int) USING s3am' -c 'INSERT INTO x VALUES (1)' -c 'ALTER TABLE t ADD COLUMN y int DEFAULT 5' \
	-c 'SELECT sum(i) FROM x' -c 'SELECT sum(y) FROM t' -c ROLLBACK)" $'1\n500' "even DDL"
is "$(sql -c 'INSERT INTO h VALUES (1)' -c 'SELECT count(*) FROM h')" 1 "heap tables commit"

start=$SECONDS
for i in 1 2 3 4 5 6 7 8; do
	run w$i BEGIN "UPDATE t SET n = $i WHERE id = $i" "SELECT id FROM t WHERE id = $i + 8 FOR UPDATE" "DELETE FROM u WHERE id = $i" \
		'SELECT pg_sleep(2)' ROLLBACK
done
eventually 5 are_waiting pg_sleep 8
ok $? "eight writers of different rows are in their transactions at once"
all=
for i in 1 2 3 4 5 6 7 8; do result w$i; all+=$said; done
is "$all" '9  10  11  12  13  14  15  16  ' "all of them end"
[ $((SECONDS - start)) -lt 8 ]
ok $? "none waited for another"

# ---------------------------------------------------------------- queued commits

run c1 "INSERT INTO t VALUES (201, 1)"
eventually 5 are_waiting 'VALUES \(201' 1
ok $? "a commit waits"
sql -c "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query ~ 'VALUES \(201' AND pid <> pg_backend_pid()" > /dev/null
result c1
is "$said" 'ERROR:  57014 ' "it can be cancelled"
run c2 "INSERT INTO t VALUES (202, 1)"
eventually 5 are_waiting 'VALUES \(202' 1
sql -c "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ~ 'VALUES \(202' AND pid <> pg_backend_pid()" > /dev/null
result c2
like "$said" '57P01' "and terminated"
run c3 "SET s3am.commit_timeout = '1s'" "INSERT INTO t VALUES (203, 1)"
result c3
is "$said" 'ERROR:  08006 ' "queued until s3am.commit_timeout: 08006, rolled back"
run c4 "INSERT INTO t VALUES (204, 1)"
run c5 BEGIN "INSERT INTO h VALUES (5)" "INSERT INTO t VALUES (205, 1)" COMMIT
run c6 "UPDATE t SET n = 6 WHERE id = 6"
eventually 5 are_waiting 'VALUES \(204|COMMIT|SET n = 6' 3
ok $? "more commits wait"
run c7 "SET statement_timeout = '1s'" "UPDATE t SET n = 7 WHERE id = 6"
result c7
is "$said" 'ERROR:  57014 ' "a writer of the same row waits for its row lock, as ever"
go_on
all=
for i in c4 c5 c6; do result $i; all+=$said; done
is "$all" '' "they are done when the workers go on"
is "$(sql -c "SELECT string_agg(id::text, ' ' ORDER BY id) FROM t WHERE id > 200")" '204 205' "what was given up is not there"
is "$(sql -c 'SELECT n FROM t WHERE id = 6' -c 'SELECT count(*) FROM h WHERE i = 5')" $'6\n1' "the others are"

# ---------------------------------------------------------------- taken ones

# the publisher alone: what is committed in the repository is not told yet
stop "$publisher"
run d1 "SET s3am.commit_timeout = '1s'" BEGIN "INSERT INTO t VALUES (301, 1)" 'SELECT s3am.commit_id()' COMMIT
result d1
like "$said" '^([0-9]+\.[0-9]+) ERROR:  08007 $' "on its way until s3am.commit_timeout: 08007"
id=${said%% *}
is "$(sql -c "SELECT status FROM s3am.commit_status('$id')")" committed "commit_status knows more"
run d2 BEGIN "INSERT INTO t VALUES (302, 1)" COMMIT
eventually 5 are_waiting COMMIT 1
sql -c "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query ~ 'COMMIT' AND state = 'active' AND pid <> pg_backend_pid()" > /dev/null
sleep 0.5
is "$(waiting COMMIT)" 1 "a commit on its way cannot be cancelled"
run d3 BEGIN "INSERT INTO t VALUES (303, 1)" COMMIT
eventually 5 are_waiting COMMIT 2
sql -c "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ~ 'COMMIT' AND state = 'active' AND pid <> pg_backend_pid()
	ORDER BY backend_start DESC LIMIT 1" > /dev/null
result d3
like "$said" '08007|57P01|connection' "its session can be terminated, and is not told an outcome"
run d4 "SET s3am.commit_timeout = '1s'" BEGIN "INSERT INTO h VALUES (4)" "INSERT INTO t VALUES (304, 1)" COMMIT
result d4
is "$said" 'ERROR:  08007 ' "the same with a heap table"
go_on
result d2
is "$said" '' "who waited on is answered"
landed() { [ "$(sql -c "SELECT string_agg(id::text, ' ' ORDER BY id) FROM t WHERE id > 300")" = '301 302 303 304' ]; }
eventually 5 landed
ok $? "all that was on its way is there, once"
is "$(sql -c 'SELECT count(*) FROM h WHERE i = 4')" 0 "the heap part of the one that gave up is not"

# the committer alone
stop "$committer"
is "$(sql -c 'SELECT count(*) FROM t')" 106 "the committer alone: reads"
run e1 "INSERT INTO t VALUES (401, 1)"
eventually 5 are_waiting 'VALUES \(401' 1
go_on
result e1
is "$said" '' "and the commit is done when it goes on"
is "$(sql -c 'SELECT count(*) FROM t WHERE id = 401')" 1 "and there"
done_testing
