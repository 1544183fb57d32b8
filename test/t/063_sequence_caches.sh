#!/bin/bash
# Sequences with CACHE: what a session took ahead in a transaction that was refused, or rolled back, may be another server's by the time it is back.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/session.sh"

node one "s3am.node_timeout = '4s'"
sql -c 'CREATE EXTENSION s3am' || exit 1
node two "s3am.node_timeout = '4s'"
sql -c 'CREATE EXTENSION s3am' -c 'CREATE SEQUENCE s CACHE 5' -c "CREATE TABLE t (n int8 DEFAULT nextval('s'), who text) USING s3am" || exit 1
sql -c "INSERT INTO t (who) SELECT 'two' FROM generate_series(1, 50)"
on one
exists() { sql -c 'SELECT count(*) FROM t' 2> /dev/null | grep -qx 50; }
eventually 10 exists
for s in refused rolled_back copied in_part; do session "$s"; done
# do SESSION STATEMENTS: and wait until it has done them
do_in() {
	local fd=${!1} mark=$((++marks))
	echo "$2" >&"$fd"
	echo "\\echo mark $mark" >&"$fd"
	marked() { said "$1" "^mark $mark\$"; }
	eventually 10 marked "$1"
}
marks=0
do_in refused "INSERT INTO t (who) VALUES ('refused');"
do_in rolled_back "BEGIN; SELECT nextval('s'); ROLLBACK;"
do_in copied "COPY t (who) FROM stdin;
copied
\\."
do_in in_part "BEGIN; SAVEPOINT a; SELECT nextval('s'); ROLLBACK TO a; COMMIT;"
for s in refused copied in_part; do
	said "$s" 'ERROR:  0A000: sequence "s" is in use by another server'
	ok $? "a session that draws meanwhile: $s" || diag "$(cat "$work/$s.out")"
done
said rolled_back '^[0-9]*$'
ok $? "one that rolls back is told a number"
on two
sql -c "INSERT INTO t (who) SELECT 'two' FROM generate_series(1, 200)"
is "$(sql -c 'SELECT max(n), count(DISTINCT n) FROM t')" "250|250" "the owner draws on"
cluster_stop "$dir"
on one
draw() { sql -c "INSERT INTO t (who) VALUES ('one')" > /dev/null 2>&1; }
eventually 20 draw
ok $? "when it has ended others may"
for s in refused rolled_back in_part; do
	for _ in {1..7}; do do_in "$s" "INSERT INTO t (who) VALUES ('$s');"; done
done
for _ in {1..7}; do
	do_in copied "COPY t (who) FROM stdin;
copied
\\."
done
for s in refused rolled_back copied in_part; do finish "$s"; done
is "$(sql -c "SELECT count(*) - count(DISTINCT n), bool_and(n > 250) FROM t WHERE who <> 'two'")" "0|t" "nobody draws what the other server has drawn"
is "$(sql -c "SELECT string_agg(who || ' ' || n, ', ' ORDER BY who) FROM (SELECT who, count(*) AS n FROM t WHERE who NOT IN ('one', 'two') GROUP BY who) x")" \
	"copied 7, in_part 7, refused 7, rolled_back 7" "and everybody draws at once"
is "$(sql -c "SELECT nextval('s') FROM generate_series(1, 2)" -c "SELECT currval('s') > 250" -c BEGIN -c ROLLBACK -c "SELECT currval('s') > 250" | tail -n 2 | tr '\n' ' ')" "t t " \
	"a transaction that did not draw costs nobody his currval"
done_testing
