#!/bin/bash
# A snapshot that is held open sees the same rows however many versions come after it, and a new one sees them all.
. "$(dirname "$0")/../lib/tap.sh"

node one "synchronous_commit = off"
sql -c 'CREATE EXTENSION s3am' -c 'CREATE TABLE t (i int) USING s3am' -c 'INSERT INTO t SELECT generate_series(1, 10)'

cluster_use "$dir"
coproc old { exec "$cluster_bin/psql" -X -q -At -d test 2>&1; }
# ask SQL: one line from the old session
ask() {
	echo "$1" >&"${old[1]}"
	IFS= read -r -t 60 answer <&"${old[0]}" || answer="no answer"
	echo "$answer"
}
echo 'BEGIN ISOLATION LEVEL REPEATABLE READ;' >&"${old[1]}"
is "$(ask 'SELECT count(*) FROM t;')" 10 "a snapshot"

# more versions than the first rings of stamps hold, in several steps; the old session looks in between
for step in 1 2 3; do
	for i in {1..900}; do
		echo "INSERT INTO t VALUES ($((step * 1000 + i)));"
	done > "$work/inserts"
	sql -f "$work/inserts"
	is "$(ask 'SELECT count(*) FROM t;')" 10 "it sees the same after $((step * 900)) more commits"
	is "$(sql -c 'SELECT count(*) FROM t')" $((10 + step * 900)) "a new one sees them"
done
sql -c 'DELETE FROM t WHERE i <= 10'
is "$(ask 'SELECT sum(i) FROM t;')" 55 "nor are deleted rows gone"
is "$(ask 'COMMIT; SELECT count(*) FROM t;')" 2700 "after its end it sees all"
done_testing
