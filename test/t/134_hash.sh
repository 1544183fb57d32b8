#!/bin/bash
# Hash indexes and EXCLUDE on three servers: a value's code is the same everywhere, what an index says is what its table says, after restarts, kills,
# checkpoints and merging, and no two rows exclude each other, whoever of two servers or two sessions comes first.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/session.sh"

small=("s3am.compaction = off" "s3am.checkpoint_interval = 25" "s3am.collect_interval = 0" "s3am.poll_max = 100ms" "autovacuum = off")
node one "${small[@]}"
# types have other OIDs there, and enum labels, too
sql -c 'CREATE EXTENSION s3am' -c "CREATE TYPE pg_temp.shifts AS ENUM ('a', 'b', 'c')" || exit 1
sql <<'SQL' || exit 1
SET default_table_access_method = s3am;
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TYPE pair AS (a int, m mood);
CREATE TABLE t (id int, n int8, k text, m mood, ms mood[], v numeric, e int, CONSTRAINT t_excl EXCLUDE USING hash (id WITH =),
	CONSTRAINT t_both EXCLUDE (n WITH =, k WITH =) WHERE (e > 0));
CREATE INDEX t_k ON t USING hash (k);
CREATE INDEX t_m ON t USING hash (m);
CREATE INDEX t_ms ON t USING hash (ms);
CREATE INDEX t_v ON t USING hash (v) WHERE e >= 0;
CREATE TABLE later (a int CONSTRAINT later_a CHECK (a < 1000), EXCLUDE USING hash (a WITH =) DEFERRABLE INITIALLY DEFERRED);
INSERT INTO t SELECT g, g, 'k' || g % 20, (ARRAY['sad', 'ok', 'happy'])[g % 3 + 1]::mood, ARRAY[(ARRAY['sad', 'ok', NULL])[g % 3 + 1]]::mood[], g % 10 / 2.0, 1
FROM generate_series(1, 200) g;
SQL
node two "${small[@]}"
sql -c 'CREATE EXTENSION s3am' || exit 1

tell() { echo "$2" >&"${!1}"; }
waits() { [ "$(sql -c "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = 'test'")" -ge 1 ]; }

# what the tables are, by sequential scans, by indexes, and by bitmaps
questions="SELECT k, count(*), sum(id) FROM generate_series(0, 25) g, LATERAL (SELECT * FROM t WHERE k = 'k' || g OFFSET 0) t GROUP BY 1 ORDER BY 1;
SELECT count(*), sum(id) FROM t WHERE m = 'sad';
SELECT count(*), sum(id) FROM t WHERE m = 'happy';
SELECT count(*), sum(id) FROM t WHERE ms = '{ok}';
SELECT count(*), sum(id) FROM t WHERE v = 2.50 AND e >= 0;
SELECT g, n, k FROM generate_series(1, 5) g, LATERAL (SELECT * FROM t WHERE id = g OFFSET 0) t ORDER BY 1;
SELECT count(*) - count(DISTINCT id) FROM t;"
answers() {
	sql -c "SET enable_indexscan = off; SET enable_bitmapscan = off" -c "$questions" | grep -v SET > "$work/by_scan"
	sql -c "SET enable_seqscan = off; SET enable_bitmapscan = off" -c "$questions" | grep -v SET > "$work/by_index"
	sql -c "SET enable_seqscan = off; SET enable_indexscan = off" -c "$questions" | grep -v SET > "$work/by_bitmap"
	[ -s "$work/by_scan" ] && cmp "$work/by_scan" "$work/by_index" && cmp "$work/by_scan" "$work/by_bitmap" && [ "$(tail -n 1 "$work/by_scan")" = 0 ]
}
defined() {
	sql -c "SELECT c.relname, a.amname, pg_get_indexdef(c.oid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
			WHERE c.relnamespace = 'public'::regnamespace ORDER BY 1" \
		-c "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace ORDER BY 1"
}

on one
wanted=$(defined)
like "$wanted" 't_k\|s3hash\|CREATE INDEX t_k ON public.t USING hash \(k\)' "hash is s3hash's"
follow one two
is "$(defined)" "$wanted" "on the other server, too"
answers
ok $? "another server's indexes say what its tables say"
like "$(sql -c 'SET enable_seqscan = off' -c 'SET enable_bitmapscan = off' -c "EXPLAIN SELECT * FROM t WHERE m = 'ok'")" 'Index Scan using t_m' "which are used"
sql -c "INSERT INTO t VALUES (300, 300, 'k1', 'ok', '{ok}', 2.5, 1)" || exit 1
follow two one
is "$(sql -c 'SET enable_seqscan = off' -c "SELECT id FROM t WHERE m = 'ok' AND id > 200" | tail -n 1)" 300 "a value has the same code on both"
fails_like 0A000 'values of type pair cannot be in a hash index' "CREATE TABLE pairs (p pair) USING s3am; CREATE INDEX ON pairs USING hash (p)" "one that has not is refused"
fails_like 0A000 'values of type regtype[] cannot be in a hash index' "CREATE TABLE types (r regtype[]) USING s3am; CREATE INDEX ON types USING hash (r)" "so is an array of such"

# ---------------------------------------------------------------- a key twice
fails_like 23P01 t_excl "INSERT INTO t VALUES (7)" "a key of the table's is excluded"
fails_like 23P01 t_excl "INSERT INTO t VALUES (300)" "so is one of another server's"
fails_like 23P01 t_both "INSERT INTO t VALUES (1001, 7, 'k7', NULL, NULL, NULL, 1)" "and one of two columns"
is "$(sql -c "INSERT INTO t (id, n, k, e) VALUES (1001, 7, 'k7', 0), (300, 7, 'k7', 0) ON CONFLICT DO NOTHING RETURNING id")" 1001 "where the predicate says so, and ON CONFLICT finds it"
follow one two
# race NAME FIRST SECOND: two sessions of one server; the second one has to wait
race() {
	session first
	session second
	tell first "BEGIN; $2; SELECT 'added';"
	eventually 5 said first added
	tell second "$3;"
	eventually 5 waits
	ok $? "$1: the second one waits"
	tell first "${4:-COMMIT};"
	finish first
	finish second
}
# two_servers NAME FIRST SECOND: the first one commits after the second one
two_servers() {
	on one
	session late
	tell late "BEGIN; $2; SELECT 'added';"
	eventually 5 said late added
	on two
	sql -c "$3" > /dev/null || diag "$3 failed"
	on one
	tell late "COMMIT;"
	finish late
	like "$(cat "$work/late.out")" '40001' "$1: of two servers the later one fails"
	follow two one
}
two_servers "hash" "INSERT INTO t VALUES (2001)" "INSERT INTO t VALUES (2001)"
two_servers "btree" "INSERT INTO t VALUES (2002, 1, 'two', NULL, NULL, NULL, 1)" "INSERT INTO t VALUES (2003, 1, 'two', NULL, NULL, NULL, 1)"
two_servers "an update" "UPDATE t SET id = 2004 WHERE id = 1" "UPDATE t SET id = 2004 WHERE id = 2"
two_servers "deferred" "INSERT INTO later VALUES (1)" "INSERT INTO later VALUES (1)"
two_servers "nothing" "INSERT INTO t VALUES (2005) ON CONFLICT DO NOTHING" "INSERT INTO t VALUES (2005) ON CONFLICT DO NOTHING"
on one
race "hash" "INSERT INTO t VALUES (3001)" "INSERT INTO t VALUES (3001)"
like "$(cat "$work/second.out")" '23P01' "and is told of the other one"
race "rolled back" "INSERT INTO t VALUES (3002)" "INSERT INTO t VALUES (3002) RETURNING 'mine'" ROLLBACK
like "$(cat "$work/second.out")" 'mine' "and goes on if it was undone"
race "btree" "INSERT INTO t VALUES (3003, 3, 'three', NULL, NULL, NULL, 1)" "INSERT INTO t VALUES (3004, 3, 'three', NULL, NULL, NULL, 1)"
like "$(cat "$work/second.out")" '23P01' "and is told of the other one"
race "nothing" "INSERT INTO t VALUES (3005)" "INSERT INTO t VALUES (3005), (3006) ON CONFLICT DO NOTHING RETURNING id"
is "$(grep -c '^3006$' "$work/second.out") $(grep -c ERROR "$work/second.out")" "1 0" "and does nothing of it"
race "by constraint" "INSERT INTO t VALUES (3007)" "INSERT INTO t VALUES (3007), (3008) ON CONFLICT ON CONSTRAINT t_excl DO NOTHING RETURNING id"
is "$(grep -c '^3008$' "$work/second.out") $(grep -c ERROR "$work/second.out")" "1 0" "and does nothing of it"
race "removed" "DELETE FROM t WHERE id = 10" "INSERT INTO t VALUES (10) RETURNING 'mine'"
like "$(cat "$work/second.out")" 'mine' "and has it then"
race "changed" "UPDATE t SET id = 3011 WHERE id = 11" "INSERT INTO t VALUES (11) RETURNING 'mine'"
like "$(cat "$work/second.out")" 'mine' "and has it then"
race "changed, and undone" "UPDATE t SET id = 3012 WHERE id = 12" "INSERT INTO t VALUES (12) RETURNING 'mine'" ROLLBACK
like "$(cat "$work/second.out")" '23P01' "and is told of the row that stayed"
race "deferred" "INSERT INTO later VALUES (2)" "BEGIN; INSERT INTO later VALUES (2); SELECT 'waited'; COMMIT"
like "$(cat "$work/second.out")" '23P01' "and is told of the other one"
# a deadlock of two keys is seen
session first
session second
tell first "SET deadlock_timeout = '50ms'; BEGIN; INSERT INTO t VALUES (3021); SELECT 'added';"
tell second "SET deadlock_timeout = '50ms'; BEGIN; INSERT INTO t VALUES (3022); SELECT 'added';"
eventually 5 said first added
eventually 5 said second added
tell first "INSERT INTO t VALUES (3022); COMMIT;"
eventually 5 waits
tell second "INSERT INTO t VALUES (3021); COMMIT;"
finish second
finish first
is "$(cat "$work/first.out" "$work/second.out" | grep -c 40P01)" 1 "a deadlock over two keys is seen"
follow one two
answers
ok $? "all is as the tables say"
on one
answers
ok $? "on both"

# ---------------------------------------------------------------- merging, with older snapshots
session old
tell old "SET enable_seqscan = off; SET enable_bitmapscan = off; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 'began', count(*), sum(id) FROM t WHERE k = 'k13';"
eventually 5 said old began
{
	for i in {1..40}; do
		echo "UPDATE t SET k = 'k' || $i % 20, v = v + 1 WHERE id = $((i + 20)); INSERT INTO t VALUES ($((4000 + i)), $((4000 + i)), 'k$((i % 26))', 'sad', '{sad,ok}', 2.5, 1);"
	done
	echo "DELETE FROM t WHERE k = 'k13';"
} | sql || exit 1
runs() { sql -c "SELECT count(*) FROM s3am.batches() b JOIN s3am.storage s USING (storage) JOIN pg_class c USING (relfilenode) WHERE relname = 't_k'"; }
many=$(runs)
sql -c "ALTER SYSTEM SET s3am.compaction = on" -c 'SELECT pg_reload_conf()' > /dev/null
few() { [ "$(runs)" -lt 10 ]; }
eventually 20 few
ok $? "runs are merged ($many, then $(runs))"
answers
ok $? "the merged ones say what the tables say"
tell old "SELECT 'again', count(*), sum(id) FROM t WHERE k = 'k13';"
finish old
is "$(sed -n 's/^again|//p' "$work/old.out")" "$(sed -n 's/^began|//p' "$work/old.out")" "a snapshot from before finds what it found"

# ---------------------------------------------------------------- starting anew
made() { [ -n "$(ls "${repository#file://}/checkpoints" 2> /dev/null)" ]; }
eventually 20 made
ok $? "there is a checkpoint"
answers
before=$(cat "$work/by_index")
cluster_restart "$dir"
answers && [ "$(cat "$work/by_index")" = "$before" ]
ok $? "a restarted server has the same"
session dies
tell dies "BEGIN; INSERT INTO t (id, k) SELECT g, 'k1' FROM generate_series(5001, 5100) g; SELECT 'added';"
eventually 5 said dies added
cluster_kill "$dir"
finish dies
cluster_start "$dir"
answers && [ "$(cat "$work/by_index")" = "$before" ]
ok $? "so has one that was killed"
sql -c 'INSERT INTO t (id) VALUES (5001)' -c 'REINDEX TABLE t' -c "ALTER TABLE t ADD CONSTRAINT t_added EXCLUDE USING hash ((id + 1) WITH =)" > /dev/null
ok $? "indexes are built anew, and added"
node three "${small[@]}"
sql -c 'CREATE EXTENSION s3am'
follow one three 10
answers
ok $? "a new server has them"
fails_like 23P01 t_excl "INSERT INTO t VALUES (5001)" "and knows all keys"
fails_like 23P01 'could not create exclusion constraint "t_dup"' "ALTER TABLE t ADD CONSTRAINT t_dup EXCLUDE (k WITH =)" "those that are there twice can be in no constraint"
fails_like 23P01 'could not create exclusion constraint "t_dup"' "ALTER TABLE t ADD CONSTRAINT t_dup EXCLUDE USING hash (k WITH =)" "of neither kind"
sql -c "INSERT INTO t (id, k) VALUES (9002, 'of three')"
follow three two 10
is "$(sql -c 'SET enable_seqscan = off' -c "SELECT id FROM t WHERE k = 'of three'" | tail -n 1)" 9002 "others follow"
answers
ok $? "and have what their tables have"

# a unique hash index is made as such a constraint
like "$(sql -c "CREATE UNIQUE INDEX t_unique ON t USING hash ((id % 100000))" 2>&1)" "NOTICE:  a unique hash index is made as a constraint" "CREATE UNIQUE INDEX USING hash"
follow two one 10
is "$(sql -c "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 't_unique'")" "EXCLUDE USING hash (((id % 100000)) WITH =)" "is the same on every server"
fails_like 23P01 t_unique "INSERT INTO t (id) VALUES (109002)" "where a key comes once"
sql -c "ALTER TABLE t DROP CONSTRAINT t_unique"
ok $? "until the constraint is dropped"
follow one two 10
follow one three 10
for server in one two three; do
	on "$server"
	is "$(sql -c "SELECT x::regclass, problem FROM pg_index i, s3am.index_problems(indexrelid, true) p, LATERAL (SELECT indexrelid x) x
		WHERE indrelid IN ('t'::regclass, 'later'::regclass)" 2>&1)" "" "check_index() finds nothing on $server"
done
is "$(sql -c "SELECT count(*) FROM s3am.verify() WHERE problem IS NOT NULL" 2>&1)" 0 "verify() finds nothing"
done_testing
