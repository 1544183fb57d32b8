#!/bin/bash
# Sequences and the publisher: it never waits for a session that holds a lock on what it notes, since that session may wait for it.
# Nobody is ended here by s3am.max_apply_delay: what hangs, hangs.
. "$(dirname "$0")/../lib/tap.sh"

# bounded SECONDS FILE ...: the scripts at once, each in a session of its own; false if one has not ended, or failed
bounded() {
	local limit=$1 file pid pids=() bad=0
	shift
	cluster_use "$dir"
	for file; do
		timeout "$limit" "$cluster_bin/psql" -X -q -At -v ON_ERROR_STOP=1 -d test -f "$file" > "$file.out" 2>&1 &
		pids+=($!)
	done
	for pid in "${pids[@]}"; do wait "$pid" || bad=1; done
	[ $bad = 0 ] || { for file; do diag "$(tail -n 2 "$file.out")"; done; return 1; }
}

node one "s3am.max_apply_delay = -1" "s3am.commit_timeout = 0" "s3am.node_timeout = '4s'"
sql -c 'CREATE EXTENSION s3am' -c 'CREATE SEQUENCE s' -c 'CREATE TABLE t (i int) USING s3am' -c "SELECT nextval('s')" > /dev/null || exit 1

# a session holds what the publisher would write, and then waits for a version behind the one that the publisher is at
hold() {
	cluster_use "$dir"
	coproc holder { exec "$cluster_bin/psql" -X -q -At -d test 2>&1; }
	printf '%s\n' "BEGIN;" "$1" '\echo held' >&"${holder[1]}"
	until IFS= read -r -t 20 line <&"${holder[0]}" && [ "$line" = held ]; do [ -n "$line" ] || return 1; done
}
# let_go SQL: and ends the transaction; what the session said is in $answer
let_go() {
	printf '%s\n' "$1" '\echo ended' >&"${holder[1]}"
	answer=
	while IFS= read -r -t 20 line <&"${holder[0]}"; do
		answer+="$line "
		[ "$line" != ended ] || break
	done
	kill "$holder_PID"
	wait "$holder_PID" 2> /dev/null
}
settled() { [ "$(sql -c "SELECT last_value >= $1 FROM s3am.sequences WHERE seqrelid = 's'::regclass")" = t ]; }

echo "SELECT nextval('s') FROM generate_series(1, 2000);" > "$work/draw"
hold "SELECT FROM s3am.sequences FOR UPDATE;"
bounded 20 "$work/draw"
ok $? "a draw is noted, though the row is locked"
let_go 'INSERT INTO t VALUES (1); COMMIT;'
is "$answer" "ended " "its holder commits behind it"
eventually 5 settled 2001
ok $? "and the row follows"
hold "LOCK TABLE s3am.sequences IN SHARE MODE;"
bounded 20 "$work/draw"
ok $? "the same with the whole table"
let_go 'INSERT INTO t VALUES (2); COMMIT;'
is "$answer" "ended " "its holder commits"
eventually 5 settled 4001
ok $? "and the row follows again"

# sequences that come and go in one session, in several at once
rounds=${SEQUENCE_ROUNDS:-100}
for k in 1 2 3; do
	for ((i = 0; i < rounds; i++)); do
		echo "CREATE SEQUENCE x$k; BEGIN; SELECT nextval('x$k'); CREATE TABLE x${k}_$i (i int) USING s3am; COMMIT; DROP SEQUENCE x$k;"
		case $((i % 4)) in
			0) echo "CREATE SEQUENCE y$k; BEGIN; SELECT setval('y$k', $i + 1); INSERT INTO t VALUES ($i); COMMIT; DROP SEQUENCE y$k;" ;;
			1) echo "CREATE SEQUENCE y$k; SELECT nextval('y$k'); ALTER SEQUENCE y$k RESTART WITH 7; DROP SEQUENCE y$k;" ;;
			2) echo "CREATE SEQUENCE y$k; BEGIN; SELECT nextval('y$k'); ALTER SEQUENCE y$k RENAME TO z$k; COMMIT; DROP SEQUENCE z$k;" ;;
			3) echo "CREATE TABLE y$k (i serial) USING s3am; INSERT INTO y$k DEFAULT VALUES; TRUNCATE y$k RESTART IDENTITY; DROP TABLE y$k, x${k}_$i;" ;;
		esac
	done > "$work/loop$k"
done
began=$SECONDS
bounded 150 "$work"/loop[123]
ok $? "three sessions make, draw from, move and drop sequences $rounds times, in $((SECONDS - began)) s"
is "$(sql -c 'SELECT count(*) FROM s3am.sequences')" 1 "none is left"

# another server's draws do not wait for a session here either, and its numbers do not come again
epoch() { sql -c 'SELECT epoch FROM s3am.node()'; }
sql -c 'CREATE SEQUENCE other' -c "SELECT nextval('other')" > /dev/null
node two "s3am.max_apply_delay = -1" "s3am.commit_timeout = 0" "s3am.node_timeout = '4s'"
sql -c 'CREATE EXTENSION s3am' || exit 1
hold "ALTER SEQUENCE other OWNER TO CURRENT_USER; ALTER SEQUENCE other RENAME TO other_name;"
on one
sql -c "SELECT nextval('other') FROM generate_series(1, 2000)" > /dev/null
sql -c 'INSERT INTO t VALUES (-7)'
on two
sees() { [ "$(sql -c 'SELECT count(*) FROM t WHERE i = -7')" = 1 ]; }
eventually 10 sees
ok $? "a server goes on though a sequence that another one draws from is locked"
let_go 'ROLLBACK;'
is "$answer" "ended " "its holder rolls back"
on one
cluster_kill "$dir"
on two
draw() { number=$(sql -c "SELECT nextval('other')" 2> /dev/null); }
eventually 30 draw
[ "${number:-0}" -gt 2001 ]
ok $? "and the next number is past all of the other's: ${number:-none}"
done_testing
