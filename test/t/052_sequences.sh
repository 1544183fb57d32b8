#!/bin/bash
# Sequences: on one live server they just work; no number comes twice, whatever is killed; another server may not draw while the
# first lives, and goes on after it.
. "$(dirname "$0")/../lib/tap.sh"

node one "s3am.node_timeout = '4s'"
sql -c 'CREATE EXTENSION s3am' || exit 1
sql <<'SQL' || exit 1
SET default_table_access_method = s3am;
CREATE SEQUENCE plain;
CREATE SEQUENCE cached CACHE 7;
CREATE SEQUENCE down INCREMENT -3 START 1000 MAXVALUE 1000;
CREATE SEQUENCE cycling AS smallint MINVALUE 1 MAXVALUE 5 CYCLE;
CREATE SEQUENCE short AS smallint MAXVALUE 40;
CREATE TABLE t (id serial, i bigint GENERATED ALWAYS AS IDENTITY, v int);
CREATE TABLE here (id serial, v int) USING heap;
CREATE TEMP SEQUENCE passing;
SELECT nextval('passing');
SQL
versions() { sql -c "SELECT version FROM s3am.node()"; }

before=$(versions)
is "$(sql -c "SELECT nextval('plain') FROM generate_series(1, 5)" -c "SELECT currval('plain')" 2>&1 | tr '\n' ' ')" "1 2 3 4 5 5 " "nextval and currval"
is $(($(versions) - before)) 1 "the first draw is a commit"
before=$(versions)
for i in {1..20}; do echo "SELECT nextval('plain');"; done | sql > /dev/null
is $(($(versions) - before)) 0 "the next twenty are not"
before=$(versions)
for i in {1..400}; do echo "SELECT nextval('plain');"; done | sql > /dev/null
n=$(($(versions) - before))
[ "$n" -ge 1 ] && [ "$n" -le 8 ]
ok $? "four hundred more take $n commits: with the demand positions go further ahead"
is "$(sql -c "SELECT nextval('plain')")" 426 "none was skipped"
is "$(sql -c "SELECT string_agg(nextval('cycling')::text, ' ') FROM generate_series(1, 12)")" "1 2 3 4 5 1 2 3 4 5 1 2" "CYCLE"
is "$(sql -c "SELECT string_agg(nextval('down')::text, ' ') FROM generate_series(1, 4)")" "1000 997 994 991" "downwards"
sql -c "SELECT nextval('short') FROM generate_series(1, 40)" > /dev/null
fails_like 2200H 'reached maximum value' "SELECT nextval('short')" "a short range ends where it ends"
sql -c "INSERT INTO t (v) SELECT generate_series(1, 100)" -c "BEGIN" -c "INSERT INTO t (v) VALUES (0)" -c "ROLLBACK" \
	-c "INSERT INTO t (v) VALUES (101)" || exit 1
is "$(sql -c 'SELECT max(id), max(i), count(*) FROM t')" "102|102|101" "a rolled back draw is gone"
printf '1\n2\n3\n' | sql -c 'COPY t (v) FROM STDIN'
is "$(sql -c 'SELECT max(id), max(i) FROM t')" "105|105" "COPY"
sql -c "BEGIN" -c "SAVEPOINT a" -c "SELECT nextval('cached')" -c "ROLLBACK TO a" -c "COMMIT" > /dev/null
sql -c 'SELECT nextval($$here_id_seq$$)' > /dev/null

# a second server lives: it may look, not draw
node two "s3am.node_timeout = '4s'"
sql -c 'CREATE EXTENSION s3am' || exit 1
sql -c 'SELECT 1' > /dev/null
fails_like 0A000 'sequence "plain" is in use by another server' "SELECT nextval('plain')" "the second server may not draw"
fails_like 0A000 'sequence "t_id_seq" is in use by another server' "INSERT INTO t (v) VALUES (0)" "nor insert what draws"
fails_like 0A000 'sequence "plain" is in use by another server' "SELECT setval('plain', 1)" "nor set"
sql -c 'CREATE SEQUENCE of_two' -c "SELECT nextval('of_two')" > /dev/null
ok $? "it draws from its own"
follow two one
fails_like 0A000 'sequence "of_two" is in use by another server' "SELECT nextval('of_two')" "from which the first may not"

# looking is not drawing: pg_sequences answers on both, and nobody is refused, or commits, for it
for name in one two; do
	on "$name"
	before=$(versions)
	is "$(sql -c "SELECT count(*) > 5, count(last_value) > 5 FROM pg_sequences" -c "SELECT last_value >= 426 FROM pg_sequences WHERE sequencename = 'plain'" 2>&1)" $'t|t\nt' \
		"server $name shows all sequences"
	is "$(sql -c "SELECT last_value = pg_sequence_last_value('plain') FROM plain")" t "server $name shows the position that the sequence has"
	is $(($(versions) - before)) 0 "server $name commits nothing for it"
done
sql -c 'CREATE ROLE looks' -c 'CREATE SEQUENCE untouched' > /dev/null
is "$(sql -c "SELECT pg_sequence_last_value('untouched') IS NULL")" t "one that was never drawn from has no last value"
is "$(sql -c 'SET ROLE looks; SELECT count(last_value) FROM pg_sequences')" 0 "who has no right to a sequence sees none"
fails_like 42501 'permission denied for sequence plain' "SET ROLE looks; SELECT pg_sequence_last_value('plain')" "nor may he ask for it"
fails_like 42809 '"t" is not a sequence' "SELECT pg_sequence_last_value('t')" "a table has none"

# setval and RESTART move exactly, also back
on one
sql -c "SELECT setval('plain', 20)" -c "ALTER SEQUENCE cached RESTART WITH 5000" -c "SELECT setval('down', 50, false)" > /dev/null
sql -c 'CREATE SEQUENCE moved' -c "SELECT nextval('moved') FROM generate_series(1, 30)" -c "SELECT setval('moved', 25)" > /dev/null
sql -c 'TRUNCATE t RESTART IDENTITY' -c 'ALTER SEQUENCE t_i_seq INCREMENT 10 RESTART'
sql -c 'ALTER SEQUENCE moved RENAME TO moved_on'
cluster_restart "$dir"
is "$(sql -c "SELECT nextval('plain'), nextval('cached'), nextval('down'), nextval('moved_on')")" "21|5000|50|26" "after a restart"
sql -c 'INSERT INTO t (v) VALUES (1)'
is "$(sql -c 'SELECT id, i FROM t')" "1|1" "identity columns that were restarted"
is "$(sql -c "SELECT setval('plain', 20), setval('moved_on', 3, false)")" "20|3" "back again"

# what was handed out with a commit does not come again, on no server: kill -9 in the middle, ten times over
on two
cluster_stop "$dir"
on one
sql -c 'CREATE TABLE drawn (kind text, n int8, m int8 GENERATED ALWAYS AS IDENTITY) USING s3am' -c 'CREATE SEQUENCE killed' \
	-c 'CREATE SEQUENCE killed_cached CACHE 5' -c 'CREATE SEQUENCE left_open' -c 'CREATE SEQUENCE restarted' -c 'CREATE SEQUENCE retyped'
drawer() {
	while :; do
		echo "INSERT INTO drawn (kind, n) VALUES ('killed', nextval('killed'));"
		echo "INSERT INTO drawn (kind, n) SELECT 'killed_cached', nextval('killed_cached') FROM generate_series(1, 3);"
		echo "SELECT 'said', nextval('killed');"
	done | sql 2> /dev/null
}
for round in 1 2 3 4 5; do
	pids=()
	for i in 1 2 3; do
		drawer >> "$work/said.$i" &
		pids+=($!)
	done
	sleep 0.$((RANDOM % 5 + 4))
	cluster_kill "$dir"
	for pid in "${pids[@]}"; do wait "$pid"; done 2> /dev/null
	cluster_start "$dir"
done
is "$(sql -c "SELECT count(*) FROM (SELECT FROM drawn GROUP BY kind, n HAVING count(*) > 1) d")" 0 \
	"no number twice among $(sql -c 'SELECT count(*) FROM drawn') rows"
is "$(sql -c "SELECT count(*) - count(DISTINCT m) FROM drawn")" 0 "nor in the identity column"
cat "$work"/said.* | sed -n 's/^said|//p' | sort -n > "$work/numbers"
is "$(uniq -d "$work/numbers" | head -n 3)" "" "nor among $(wc -l < "$work/numbers") that were only selected"
sql -c "SELECT n FROM drawn WHERE kind = 'killed'" | sort > "$work/inserted"
is "$(sort "$work/numbers" | comm -12 - "$work/inserted" | head -n 3)" "" "nor among both"

# another server goes on after the first is gone for good: once it has been silent for s3am.node_timeout
sql -c "SELECT nextval('killed')" >> "$work/numbers"
sql -c "SELECT nextval('left_open'), nextval('restarted'), nextval('retyped') FROM generate_series(1, 300)" > /dev/null
largest=$(sql -c "SELECT max(n) FROM drawn WHERE kind = 'killed'")
largest_m=$(sql -c 'SELECT max(m) FROM drawn')
cluster_kill "$dir"
on two
cluster_start "$dir"
fails_like 0A000 'sequence "killed" is in use by another server' "SELECT nextval('killed')" "not at once: the first may only be slow"
# numbers that a server set or drew while it might not are nobody's, whether that was refused, rolled back, or is still open
fails_like 0A000 'sequence "killed" is in use by another server' "SELECT setval('killed', 1)" "nor may it be set"
sql -c BEGIN -c "SELECT setval('drawn_m_seq', 1)" -c ROLLBACK > /dev/null
sql -c BEGIN -c "SELECT setval('left_open', 1)" -c 'SELECT pg_sleep(60)' > /dev/null 2>&1 &
left_open() { [ "$(sql -c 'SELECT last_value FROM left_open')" = 1 ]; }
eventually 5 left_open
ok $? "it is on the page, though"
draw() { sql -c "SELECT nextval('killed')" > "$work/number" 2> "$work/errors"; }
eventually 30 draw
ok $? "another server draws once the first is fenced" || diag "$(cat "$work/errors")"
[ "$(cat "$work/number")" -gt "$largest" ] && [ "$(cat "$work/number")" -ge "$(tail -n 1 "$work/numbers")" ]
ok $? "past all that was drawn"
# at most one try is in vain, until the page is put back
like "$(sql -v VERBOSITY=verbose -c "SELECT nextval('left_open')" 2>&1)" 'ERROR:  40001: ' "a number that came after what is still open is none"
more() { sql -c "INSERT INTO drawn (kind, n) VALUES ('killed', nextval('killed'))" -c "SELECT nextval('left_open')" > "$work/number" 2> "$work/errors"; }
eventually 5 more
ok $? "tried again it works" || diag "$(cat "$work/errors")"
[ "$(cat "$work/number")" -gt 300 ]
ok $? "past all that was drawn, although somebody set it back meanwhile ($(cat "$work/number"))"
sql -c "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query ~ '^SELECT pg_sleep.60'" > /dev/null
wait $!
is "$(sql -c "SELECT setval('left_open', 7)" -c "SELECT nextval('left_open')" | tr '\n' ' ')" "7 8 " "who owns it sets it back"
[ "$(sql -c 'SELECT max(m) FROM drawn')" -gt "$largest_m" ]
ok $? "identity columns, too"
is "$(sql -c "ALTER SEQUENCE restarted RESTART WITH 5" -c "SELECT nextval('restarted')" -c "ALTER SEQUENCE retyped AS int" -c "SELECT nextval('retyped') > 300" 2>&1 | tr '\n' ' ')" "5 t " \
	"RESTART and a new type need no second try"
is "$(sql -c "SELECT nextval('plain'), nextval('moved_on')")" "21|3" "and where setval put it exactly"
done_testing
