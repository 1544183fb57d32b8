#!/bin/bash
# Indexes on three servers: what an index says is what its table says, after restarts, kills, checkpoints and merging; a key is there once
# and no row refers to nothing, whoever of two servers or two sessions comes first.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/session.sh"

small=("s3am.compaction = off" "s3am.checkpoint_interval = 25" "s3am.collect_interval = 0" "s3am.poll_max = 100ms" "autovacuum = off")
node one "${small[@]}"
sql -c 'CREATE EXTENSION s3am' || exit 1
sql <<'SQL' || exit 1
SET default_table_access_method = s3am;
CREATE TABLE parent (id int PRIMARY KEY, n int DEFAULT 0, name text COLLATE "C" UNIQUE);
CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent, n int DEFAULT 0);
CREATE INDEX ON child (parent, id DESC) INCLUDE (n);
CREATE INDEX ON parent ((n % 5), name DESC NULLS LAST) WHERE n >= 0;
INSERT INTO parent SELECT g, g, 'name ' || g FROM generate_series(1, 200) g;
INSERT INTO child SELECT g, g % 100 + 1 FROM generate_series(1, 1000) g;
SQL
node two "${small[@]}"
sql -c 'CREATE EXTENSION s3am' || exit 1

waits() { [ "$(sql -c "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = 'test'")" -ge 1 ]; }

# what the tables are, by sequential scans, by indexes, and by bitmaps
questions="SELECT count(*), sum(id), sum(n), md5(string_agg(id || ' ' || n || ' ' || name, ',' ORDER BY id)) FROM parent WHERE id > -1000000;
SELECT md5(string_agg(id || ' ' || parent || ' ' || n, ',' ORDER BY parent, id DESC)) FROM child WHERE parent >= 0;
SELECT count(*), min(name), max(name) FROM parent WHERE name > 'name 15';
SELECT count(*), sum(id) FROM parent WHERE n % 5 = 3 AND n >= 0;
SELECT count(*) FROM child c LEFT JOIN parent p ON p.id = c.parent WHERE p.id IS NULL AND c.parent IS NOT NULL;"
answers() {
	sql -c "SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off" -c "$questions" | grep -v SET > "$work/by_scan"
	sql -c "SET enable_seqscan = off; SET enable_sort = off; SET enable_bitmapscan = off" -c "$questions" | grep -v SET > "$work/by_index"
	sql -c "SET enable_seqscan = off; SET enable_indexscan = off; SET enable_indexonlyscan = off" -c "$questions" | grep -v SET > "$work/by_bitmap"
	[ -s "$work/by_scan" ] && cmp "$work/by_scan" "$work/by_index" && cmp "$work/by_scan" "$work/by_bitmap" && [ "$(tail -n 1 "$work/by_scan")" = 0 ]
}

follow one two
answers
ok $? "another server's indexes say what its tables say"

# ---------------------------------------------------------------- a key twice
fails_like 23505 parent_pkey "INSERT INTO parent VALUES (7)" "a key of another server's is a duplicate"
is "$(sql -c "INSERT INTO parent AS p VALUES (7) ON CONFLICT (id) DO UPDATE SET n = p.n + 1000 RETURNING n")" 1007 "ON CONFLICT finds it"
follow two one
session late
echo "BEGIN; INSERT INTO parent VALUES (1001, 1, 'late'); SELECT 'added';" >&"$late"
eventually 5 said late added
on two
sql -c "INSERT INTO parent VALUES (1002, 2, 'late')"
on one
echo "COMMIT;" >&"$late"
finish late
like "$(cat "$work/late.out")" '40001' "of two servers that add a key at once the later one fails"
follow two one
is "$(sql -c "SELECT id FROM parent WHERE name = 'late'")" 1002 "and the other one's is there"
# the same on one server: the second one waits
session first
session second
echo "BEGIN; INSERT INTO parent VALUES (1003, 1, 'first'); SELECT 'added';" >&"$first"
eventually 5 said first added
echo "INSERT INTO parent VALUES (1004, 1, 'first');" >&"$second"
eventually 5 waits
ok $? "who adds a key that another session has added waits"
echo "COMMIT;" >&"$first"
finish first
finish second
like "$(cat "$work/second.out")" '23505' "and is told of the duplicate"

# ---------------------------------------------------------------- rows that refer to others
on two
session child
echo "BEGIN; INSERT INTO child VALUES (2001, 150); SELECT 'added';" >&"$child"
eventually 5 said child added
on one
sql -c 'DELETE FROM parent WHERE id = 150'
echo "COMMIT;" >&"$child"
finish child
like "$(cat "$work/child.out")" '40001' "a row comes here while the one it refers to goes there: it fails"
session parent
echo "BEGIN; DELETE FROM parent WHERE id = 151; SELECT 'removed';" >&"$parent"
eventually 5 said parent removed
on two
sql -c 'INSERT INTO child VALUES (2002, 151)'
on one
echo "COMMIT;" >&"$parent"
finish parent
like "$(cat "$work/parent.out")" '40001' "the other way round the removal fails"
# a key that changes in the second step only
session parent
echo "BEGIN; UPDATE parent SET n = -1 WHERE id = 152; UPDATE parent SET id = 1152 WHERE id = 152; SELECT 'changed';" >&"$parent"
eventually 5 said parent changed
on two
sql -c 'INSERT INTO child VALUES (2003, 152)'
on one
echo "COMMIT;" >&"$parent"
finish parent
like "$(cat "$work/parent.out")" '40001' "so does a change of the key, on two servers"
follow two one
session parent
session child
echo "BEGIN; UPDATE parent SET n = -1 WHERE id = 153; UPDATE parent SET id = 1153 WHERE id = 153; SELECT 'changed';" >&"$parent"
eventually 5 said parent changed
echo "INSERT INTO child VALUES (2004, 153);" >&"$child"
eventually 5 waits
echo "COMMIT;" >&"$parent"
finish parent
finish child
like "$(cat "$work/child.out")" '23503' "and on one the new row, which has waited"
session parent
session child
echo "BEGIN; UPDATE parent SET id = 1154 WHERE id = 154; SELECT 'changed';" >&"$parent"
eventually 5 said parent changed
echo "INSERT INTO child VALUES (2005, 154);" >&"$child"
eventually 5 waits
echo "COMMIT;" >&"$parent"
finish parent
finish child
like "$(cat "$work/child.out")" '23503' "also when the key changed at once"
# another column may change meanwhile, on both sides
session parent
echo "BEGIN; UPDATE parent SET n = n + 1 WHERE id = 155; SELECT 'changed';" >&"$parent"
eventually 5 said parent changed
sql -c 'INSERT INTO child VALUES (2006, 155)'
on two
sql -c 'INSERT INTO child VALUES (2007, 155)'
on one
echo "COMMIT;" >&"$parent"
finish parent
is "$(grep -c ERROR "$work/parent.out")" 0 "a change of another column is in nobody's way"
session remover
session child
echo "BEGIN; DELETE FROM parent WHERE id = 156; SELECT 'removed';" >&"$remover"
eventually 5 said remover removed
echo "INSERT INTO parent VALUES (156, 5, 'again') ON CONFLICT DO NOTHING RETURNING 'again', name;" >&"$child"
eventually 5 waits
ok $? "ON CONFLICT DO NOTHING waits for who removes the row with its key"
echo "COMMIT;" >&"$remover"
finish remover
finish child
like "$(cat "$work/child.out")" 'again\|again' "and adds its own then"
# who adds a key is waited for before another key of the row is looked at
sql -c 'CREATE TABLE two_keys (id int PRIMARY KEY, u int UNIQUE NULLS NOT DISTINCT, n int) USING s3am' -c 'INSERT INTO two_keys VALUES (1, 1, 0)'
for u in 2 NULL; do
	session adder
	session other
	echo "BEGIN; INSERT INTO two_keys VALUES (${u/NULL/3}, $u, 0); SELECT 'added';" >&"$adder"
	eventually 5 said adder added
	echo "INSERT INTO two_keys VALUES (1, $u, 0) ON CONFLICT (u) DO UPDATE SET n = 7 RETURNING two_keys.u, 'changed', two_keys.n;" >&"$other"
	eventually 5 waits
	ok $? "ON CONFLICT (u) DO UPDATE waits for who adds the key $u, whatever else is in the way"
	echo "COMMIT;" >&"$adder"
	finish adder
	finish other
	like "$(cat "$work/other.out")" "${u/NULL/}|changed|7" "and changes the row"
done
# FOR KEY SHARE goes on with the newest version if it had to wait, and with the one that it sees if it had not
for lock in "FOR UPDATE" "FOR NO KEY UPDATE"; do
	session holder
	session reader
	echo "BEGIN; SELECT 'held' FROM two_keys WHERE id = 1 $lock; UPDATE two_keys SET n = n + 10 WHERE id = 1; SELECT 'changed';" >&"$holder"
	eventually 5 said holder changed
	echo "SELECT 'read', n FROM two_keys WHERE id = 1 FOR KEY SHARE;" >&"$reader"
	if [ "$lock" = "FOR UPDATE" ]; then eventually 5 waits; else eventually 5 said reader read; fi
	echo "COMMIT;" >&"$holder"
	finish holder
	finish reader
	like "$(cat "$work/reader.out")" 'read|10' "what FOR KEY SHARE reads beside $lock"
done
# what was rolled back waits for nobody at COMMIT
session undone
session dropper
echo "BEGIN; SAVEPOINT a; INSERT INTO two_keys VALUES (8, 8, 0); ROLLBACK TO a; SELECT 'undone';" >&"$undone"
eventually 5 said undone undone
echo "BEGIN; DROP TABLE two_keys; SELECT 'dropped';" >&"$dropper"
eventually 5 said dropper dropped
echo "SET statement_timeout = '5s'; COMMIT; SELECT 'committed';" >&"$undone"
finish undone
is "$(grep -c 'ERROR\|committed' "$work/undone.out")$(grep -c ERROR "$work/undone.out")" 10 "who has rolled back what he added to a table commits while another one drops it" || diag "$(cat "$work/undone.out")"
echo "ROLLBACK;" >&"$dropper"
finish dropper
# what is refused at once waits for nobody
session writer
echo "BEGIN; INSERT INTO two_keys VALUES (9, 9, 0); SELECT 'added';" >&"$writer"
eventually 5 said writer added
fails_like 25006 "ALTER TABLE" "BEGIN READ ONLY; SET LOCAL lock_timeout = '5s'; ALTER TABLE two_keys DROP CONSTRAINT two_keys_pkey, ADD PRIMARY KEY (id) INCLUDE (n)" \
	"ALTER TABLE in a read-only transaction is refused without a lock"
echo "ROLLBACK;" >&"$writer"
finish writer
# an UPDATE has locked its row, and meets with what another server has made of that before it comes to the key
sql -c "CREATE TABLE slow (id int, n int) USING s3am" -c "CREATE FUNCTION waits(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS
	'BEGIN IF current_setting(''application_name'') = ''slow'' THEN PERFORM pg_advisory_xact_lock(1); END IF; RETURN \$1; END'" \
	-c "CREATE INDEX ON slow (waits(n))" -c "ALTER TABLE slow ADD PRIMARY KEY (id)" -c "INSERT INTO slow VALUES (1, 1), (2, 1)"
follow one two
on one
session holder
session slow
echo "SELECT 'held' FROM pg_advisory_lock(1);" >&"$holder"
eventually 5 said holder held
echo "SET application_name = slow; UPDATE slow SET n = 2 WHERE id = 1;" >&"$slow"
eventually 5 waits
on two
sql -c 'UPDATE slow SET n = 3 WHERE id = 1'
follow two one
finish holder
finish slow
like "$(cat "$work/slow.out")" 'ERROR: *40001' "a row that another server changed meanwhile is a conflict, and its key no duplicate"
follow one two
follow two one
answers
ok $? "all is as the tables say"

# ---------------------------------------------------------------- savepoints
sql <<'SQL' > "$work/savepoints"
BEGIN;
INSERT INTO parent VALUES (3001, 1, 's1');
SAVEPOINT a;
INSERT INTO parent VALUES (3002, 1, 's2');
UPDATE parent SET id = 3003 WHERE id = 3001;
ROLLBACK TO a;
INSERT INTO parent VALUES (3003, 1, 's3'), (3002, 1, 's2 again');
SAVEPOINT b;
DELETE FROM parent WHERE id = 3001;
RELEASE b;
INSERT INTO parent VALUES (3001, 1, 's1') ON CONFLICT DO NOTHING;
COMMIT;
SELECT id, name FROM parent WHERE id BETWEEN 3001 AND 3010 ORDER BY id;
SQL
is "$(grep '|' "$work/savepoints")" $'3001|s1\n3002|s2 again\n3003|s3' "what a savepoint takes back leaves no key"

# ---------------------------------------------------------------- merging, with older snapshots
session old
# shellcheck disable=SC2154
echo "SET enable_seqscan = off; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 'began', count(*), sum(n) FROM parent WHERE id BETWEEN 1 AND 100;" >&"$old"
eventually 5 said old began
{
	for i in {1..40}; do
		echo "UPDATE parent SET n = n + 1 WHERE id = $i; INSERT INTO child VALUES ($((4000 + i)), $i); UPDATE parent SET name = 'new ' || id WHERE id = $((i + 40));"
	done
	echo "DELETE FROM child WHERE parent BETWEEN 90 AND 95; DELETE FROM parent WHERE id BETWEEN 90 AND 95;"
} | sql || exit 1
runs() { sql -c "SELECT count(*) FROM s3am.batches() b JOIN s3am.storage s USING (storage) JOIN pg_class c USING (relfilenode) WHERE relname = 'parent_pkey'"; }
many=$(runs)
sql -c "ALTER SYSTEM SET s3am.compaction = on" -c 'SELECT pg_reload_conf()' > /dev/null
few() { [ "$(runs)" -lt 10 ]; }
eventually 20 few
ok $? "runs are merged ($many, then $(runs))"
answers
ok $? "the merged ones say what the tables say"
echo "SELECT 'again', count(*), sum(n) FROM parent WHERE id BETWEEN 1 AND 100;" >&"$old"
echo "SELECT 'one', name FROM parent WHERE id = 41; SELECT 'gone', id FROM parent WHERE name = 'name 92';" >&"$old"
finish old
is "$(sed -n 's/^again|//p' "$work/old.out")" "$(sed -n 's/^began|//p' "$work/old.out")" "a snapshot from before finds what it found"
is "$(grep -E '^(one|gone)' "$work/old.out")" $'one|name 41\ngone|92' "by keys that are gone"

# ---------------------------------------------------------------- building anew
# REINDEX leaves out what has ended; snapshots from before, which know nothing of the tables yet, do without it
follow one two 10
session there
echo "SET enable_seqscan = off; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 'began' FROM pg_class LIMIT 1;" >&"$there"
eventually 5 said there began
on one
session here
echo "SET enable_seqscan = off; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 'began' FROM pg_class LIMIT 1;" >&"$here"
eventually 5 said here began
sql -c 'DELETE FROM parent WHERE id = 199' -c 'REINDEX TABLE parent' -c "INSERT INTO parent VALUES (199, 1, 'anew')"
follow one two 10
for name in here there; do
	echo "SELECT 'kept', name FROM parent WHERE id = 199;" >&"${!name}"
	finish "$name"
	is "$(grep kept "$work/$name.out")" 'kept|name 199' "a snapshot from before REINDEX finds what is gone: $name"
done
answers
ok $? "another server has what was built anew, and what came after"
on one

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
echo "BEGIN; INSERT INTO parent SELECT g, 1, 'lost ' || g FROM generate_series(5001, 5100) g; SELECT 'added';" >&"$dies"
eventually 5 said dies added
cluster_kill "$dir"
finish dies
cluster_start "$dir"
answers && [ "$(cat "$work/by_index")" = "$before" ]
ok $? "so has one that was killed"
sql -c "INSERT INTO parent VALUES (5001, 1, 'lost 5002')"
node three "${small[@]}"
sql -c 'CREATE EXTENSION s3am'
follow one three 10
answers
ok $? "and a new one"
fails_like 23505 parent_name_key "INSERT INTO parent VALUES (9001, 1, 'lost 5002')" "which knows all keys"
fails_like 23503 child_parent_fkey "INSERT INTO child VALUES (9001, 5099)" "and those that are not there"
sql -c "UPDATE parent SET name = 'three' WHERE id = 1" -c 'REINDEX TABLE parent' -c "INSERT INTO parent VALUES (9002, 1, 'of three')" > /dev/null
ok $? "it builds them anew"
follow three two 10
answers
ok $? "which others follow"
is "$(sql -c 'SET enable_seqscan = off' -c "SELECT id FROM parent WHERE name IN ('three', 'of three') ORDER BY 1" | grep -v SET)" $'1\n9002' "with what came after"
# ---- an index that ALTER TABLE makes anew with its storage has what the transaction added before
on one
sql -c 'CREATE TABLE retyped (id int PRIMARY KEY, n int, t varchar(9)) USING s3am' -c 'CREATE INDEX retyped_n ON retyped (n, t)' -c 'INSERT INTO retyped SELECT i, i FROM generate_series(1, 9) i'
for end in "" "SAVEPOINT a; ALTER TABLE retyped ALTER t TYPE varchar; ROLLBACK TO a;"; do
	sql -c "BEGIN; INSERT INTO retyped SELECT max(id) + 1, 0, 'x' FROM retyped; UPDATE retyped SET n = -1 WHERE id = 1; ${end:-ALTER TABLE retyped ALTER n TYPE int, ALTER t TYPE text;} COMMIT"
	is "$(sql -c 'SET enable_seqscan = off; SET enable_bitmapscan = off' -c "SELECT string_agg(id || ' ' || n || t, ', ') FROM (SELECT id, n, t FROM retyped ORDER BY n, t) x")" \
		"$(sql -c 'SET enable_indexscan = off; SET enable_indexonlyscan = off' -c "SELECT string_agg(id || ' ' || n || t, ', ') FROM (SELECT id, n, t FROM retyped ORDER BY n, t) x")" \
		"what was added before ALTER TYPE${end:+, which was rolled back}, is in the index"
	sql -c "SELECT s3am.check_index('retyped_n', true)" > "$work/said" 2>&1
	ok $? "what was added before ALTER TYPE${end:+, which was rolled back}, is in the index" || diag "$(cat "$work/said")"
done
sql -c 'DROP TABLE retyped'
done_testing
