#!/bin/bash
# pg_stat_user_tables and autoanalyze: own writes count as on heap, rolled back ones too, and so do another server's.
. "$(dirname "$0")/../lib/tap.sh"

settings=("autovacuum_naptime = '1s'" "autovacuum_analyze_threshold = 1000" "autovacuum_analyze_scale_factor = 0" "autovacuum_vacuum_threshold = 1000000000"
	"autovacuum_vacuum_insert_threshold = -1")
node one "${settings[@]}" "autovacuum = off"
sql -c 'CREATE EXTENSION s3am' -c 'CREATE TABLE h (i int, x text)' -c 'CREATE TABLE s (i int, x text) USING s3am' || exit 1
columns='n_tup_ins, n_tup_upd, n_tup_del, n_live_tup, n_dead_tup, n_mod_since_analyze'
counts() { sql -c "SELECT $columns FROM pg_stat_user_tables WHERE relname = '$1'"; }
both() {						# both NAME STATEMENT ...: T is the table
	local name=$1 table statement commands
	shift
	for table in h s; do
		commands=()
		for statement; do commands+=(-c "${statement//@/$table}"); done
		sql -v ON_ERROR_STOP=0 "${commands[@]}" > /dev/null 2>&1
	done
	is "$(counts s)" "$(counts h)" "$name: $(counts h)"
}
both "INSERT" 'INSERT INTO @ SELECT i, i::text FROM generate_series(1, 1000) i'
both "COPY" "COPY @ FROM PROGRAM 'seq -f \"%g	x\" 500'"
both "UPDATE" 'UPDATE @ SET i = i + 10000 WHERE i <= 100'
both "DELETE" 'DELETE FROM @ WHERE i BETWEEN 200 AND 299'
both "a subtransaction" 'BEGIN; INSERT INTO @ VALUES (1); SAVEPOINT a; INSERT INTO @ SELECT 2 FROM generate_series(1, 5); DELETE FROM @ WHERE i = 300; ROLLBACK TO a; INSERT INTO @ VALUES (3); COMMIT'
both "a rolled back transaction" 'BEGIN; INSERT INTO @ SELECT i FROM generate_series(1, 50) i; UPDATE @ SET x = $$y$$ WHERE i = 400; DELETE FROM @ WHERE i = 401; ROLLBACK'
both "rows that come and go" 'BEGIN; INSERT INTO @ SELECT -1 FROM generate_series(1, 10); DELETE FROM @ WHERE i = -1; COMMIT'
# what was rolled back left nothing here, and dead rows in heap, which ANALYZE finds
all=$columns
columns=${columns/n_dead_tup, /}
both "ANALYZE" 'ANALYZE @'
is "$(sql -c "SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 's'")" "$(sql -c "SELECT dead FROM s3am.tables WHERE \"table\" = 's'::regclass")" \
	"dead rows are those that there are"
is "$(sql -c "SELECT n_tup_hot_upd, n_mod_since_analyze, last_analyze IS NOT NULL FROM pg_stat_user_tables WHERE relname = 's'")" '0|0|t' "no HOT updates; analyzed"
both "after ANALYZE" 'INSERT INTO @ SELECT i FROM generate_series(1, 7) i'
columns=$all
both "TRUNCATE" 'TRUNCATE @'
both "COPY after it" "COPY @ FROM PROGRAM 'seq -f \"%g	x\" 300'"
scans() { sql -c "SELECT seq_scan > 0, seq_tup_read > 0 FROM pg_stat_user_tables WHERE relname = '$1'"; }
is "$(scans s)" "$(scans h)" "scans: $(scans h)"

# ---------------------------------------------------------------- another server

node two "${settings[@]}"
sql -c 'CREATE EXTENSION s3am'
is "$(sql -c 'SELECT count(*) FROM s')" 300 "another server"
live() { [ "$(sql -c "SELECT n_live_tup, n_tup_ins FROM pg_stat_user_tables WHERE relname = 's'")" = "$1" ]; }
eventually 10 live '300|0'
ok $? "knows how many rows there were when it came" || diag "$(counts s)"
on one
sql -c 'INSERT INTO s SELECT i FROM generate_series(1, 200) i' -c 'UPDATE s SET i = i + 1000 WHERE i <= 20' -c 'DELETE FROM s WHERE i > 1000' \
	-c 'BEGIN; INSERT INTO s VALUES (5); ROLLBACK' > /dev/null
follow one two
has() { [ "$(counts s)" = "$1" ]; }
# 40 rows of 1 to 20 were there, twice: 40 updated, then all of them deleted
eventually 10 has '200|40|40|460|80|580'
ok $? "is told what the first one does" || diag "$(counts s)"
is "$(sql -c "SELECT count(*) FROM pg_stats WHERE tablename = 's'")" 0 "it has not analyzed the table yet"
on one
sql -c 'INSERT INTO s SELECT i FROM generate_series(1, 1000) i'
on two
analyzed() { [ "$(sql -c "SELECT autoanalyze_count > 0, last_autoanalyze IS NOT NULL, n_mod_since_analyze, n_live_tup FROM pg_stat_user_tables WHERE relname = 's'")" = 't|t|0|1460' ]; }
eventually 20 analyzed
ok $? "and autoanalyze runs where nobody wrote" || diag "$(counts s)"
is "$(sql -c "SELECT count(*) > 0 FROM pg_stats WHERE tablename = 's'")" t "so that there are statistics"
done_testing
