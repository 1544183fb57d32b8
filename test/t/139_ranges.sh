#!/bin/bash
# SERIALIZABLE by ranges of keys: what an index scan read is claimed, and no more, against the other server and against a session of one's own.
# RANGES_N: transactions on disjoint ranges of one table (1000; 10000 is the full form).
. "$(dirname "$0")/../lib/tap.sh"

n=${RANGES_N:-1000}
small=("s3am.compaction = off" "s3am.collect_interval = 0" "s3am.poll_max = 100ms" "autovacuum = off")
node one "${small[@]}"
sql -c 'CREATE EXTENSION s3am' || exit 1
node two "${small[@]}"
sql -c 'CREATE EXTENSION s3am' || exit 1
on one

refused="ERROR:  could not serialize access due to read/write dependencies among transactions"
writer=two

# outcome READ WRITE: a transaction on server one reads, somebody else writes and commits, then the transaction writes elsewhere and commits.
# It may read by indexes alone, unless READ says otherwise.
outcome() {
	cluster_psql "$work/one" -At -d test > "$work/said" 2>&1 <<SQL
SET enable_seqscan = off; SET enable_sort = off; SET enable_bitmapscan = off;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT count(*) FROM u WHERE i = 0;
$1;
\! "$cluster_bin/psql" -XqAt -h "$work/$writer" -p $(cat "$work/$writer/port") -d test -c "SET s3am.freshness = latest" -c "$2"
INSERT INTO u VALUES (1);
COMMIT;
SELECT 'committed';
SQL
	grep '^committed\|ERROR: ' "$work/said" | tail -n 1 | sed 's/^psql:.*ERROR:/ERROR:/'
}
# apart READ WRITE NAME: they do not meet.  together READ WRITE NAME: they do.  The writer is at the other server and here in turn.
turn() { [ $writer = one ] && writer=two || writer=one; }
apart() { turn; is "$(outcome "$1" "$2")" committed "$3 ($writer writes)" || diag "$1" "$2" "$(cat "$work/said")"; }
together() { turn; is "$(outcome "$1" "$2")" "$refused" "$3 ($writer writes)" || diag "$1" "$2"; }

sql <<'SQL' || exit 1
CREATE TABLE u (i int) USING s3am;
CREATE TABLE t (a int, b int, n int DEFAULT 0, x int, PRIMARY KEY (a, b)) USING s3am;
CREATE INDEX t_n ON t (n DESC NULLS LAST, b) INCLUDE (a);
INSERT INTO t SELECT a, b, a * 10 + b FROM generate_series(1, 20) a, generate_series(1, 9) b;
CREATE TABLE ref (id int PRIMARY KEY, note int) USING s3am;
INSERT INTO ref SELECT i, 0 FROM generate_series(1, 50) i;
CREATE TABLE refers (id int PRIMARY KEY, ref int REFERENCES ref ON DELETE CASCADE) USING s3am;
INSERT INTO refers SELECT i, i + 10 FROM generate_series(1, 20) i;
SQL
follow one two
on one

# ---------------------------------------------------------------- kinds of scans
apart    "SELECT * FROM t WHERE a = 1 AND b = 1" "INSERT INTO t VALUES (1, 10)" "a key that was found, and another one"
together "SELECT * FROM t WHERE a = 1 AND b = 11" "INSERT INTO t VALUES (1, 11)" "a key that was not found comes"
together "SELECT * FROM t WHERE a = 1 AND b = 1" "UPDATE t SET n = n WHERE a = 1 AND b = 1" "the row that was found is changed"
together "SELECT * FROM t WHERE a = 1 AND b = 2" "DELETE FROM t WHERE a = 1 AND b = 2" "the row that was found goes"
together "SELECT * FROM t WHERE a = 1 AND b = 12" "UPDATE t SET a = 1, b = 12 WHERE a = 2 AND b = 1" "a row is given the key"
apart    "SELECT * FROM t WHERE a = 3 AND b < 5" "INSERT INTO t VALUES (3, 12); UPDATE t SET n = 1 WHERE a = 3 AND b = 5" "beside a range below"
together "SELECT * FROM t WHERE a = 3 AND b < 5" "INSERT INTO t VALUES (3, 0)" "in a range below"
apart    "SELECT * FROM t WHERE a = 4 AND b > 5" "UPDATE t SET n = 1 WHERE a = 4 AND b = 5" "beside a range above"
together "SELECT * FROM t WHERE a = 4 AND b > 5" "INSERT INTO t VALUES (4, 20)" "in a range above"
apart    "SELECT * FROM t WHERE a = 5 AND b BETWEEN 20 AND 30" "INSERT INTO t VALUES (5, 19), (5, 31), (4, 25), (6, 25)" "beside an empty range"
together "SELECT * FROM t WHERE a = 5 AND b BETWEEN 20 AND 30" "INSERT INTO t VALUES (5, 30)" "in an empty range"
together "SELECT * FROM t WHERE a > 18" "INSERT INTO t VALUES (21, 1)" "a range of the first column"
apart    "SELECT * FROM t WHERE a >= 18::bigint AND a < 20::smallint" "INSERT INTO t VALUES (17, 30), (20, 30)" "values of other integers' types, beside"
together "SELECT * FROM t WHERE a >= 18::bigint AND a < 20::smallint" "INSERT INTO t VALUES (18, 30)" "and within"
apart    "SELECT * FROM t WHERE a > 30 AND a < 20" "INSERT INTO t VALUES (25, 1), (31, 1)" "keys that contradict themselves"
apart    "SELECT * FROM t WHERE (a, b) > (19, 5)" "INSERT INTO t VALUES (19, 0)" "a row comparison, before"
together "SELECT * FROM t WHERE (a, b) > (19, 5)" "INSERT INTO t VALUES (40, 0)" "a row comparison, behind"
apart    "SELECT * FROM t WHERE a = ANY('{6,8}') AND b = 20" "INSERT INTO t VALUES (7, 20), (6, 21), (8, 19)" "array keys, between them"
together "SELECT * FROM t WHERE a = ANY('{6,8}') AND b = 20" "INSERT INTO t VALUES (8, 20)" "one of array keys"
apart    "SELECT * FROM t WHERE a >= 9 ORDER BY a, b LIMIT 3" "INSERT INTO t VALUES (9, 14), (30, 1)" "LIMIT: what was not come to"
together "SELECT * FROM t WHERE a >= 9 ORDER BY a, b LIMIT 3" "INSERT INTO t VALUES (9, 0)" "LIMIT: what was passed"
apart    "SELECT * FROM t WHERE a <= 9 ORDER BY a DESC, b DESC LIMIT 3" "INSERT INTO t VALUES (8, 30), (0, 1)" "backward, LIMIT: what was not come to"
together "SELECT * FROM t WHERE a <= 9 ORDER BY a DESC, b DESC LIMIT 3" "INSERT INTO t VALUES (9, 15)" "backward, LIMIT: what was passed"
apart    "SELECT max(a) FROM t" "INSERT INTO t VALUES (11, 17)" "max, and a key below it"
together "SELECT max(a) FROM t" "INSERT INTO t VALUES (50, 1)" "max, and one above"
apart    "SELECT min(n) FROM t" "INSERT INTO t VALUES (12, 17, 800)" "min of a descending index, and a key above it"
together "SELECT min(n) FROM t" "INSERT INTO t VALUES (13, 17, -800)" "min, and one below"
apart    "SELECT n FROM t WHERE n BETWEEN 5000 AND 6000" "INSERT INTO t VALUES (13, 18, 4999), (13, 19, 6001), (13, 20, NULL)" "descending, beside"
together "SELECT n FROM t WHERE n BETWEEN 5000 AND 6000" "INSERT INTO t VALUES (13, 21, 5000)" "descending, within"
together "SELECT n FROM t WHERE n > 9000" "INSERT INTO t VALUES (13, 22, 9001)" "descending, at its beginning"
together "SELECT n FROM t WHERE n IS NULL" "INSERT INTO t VALUES (13, 23, NULL)" "IS NULL"
apart    "SELECT n FROM t WHERE n IS NULL" "INSERT INTO t VALUES (13, 24, 9)" "IS NULL, and a value"
apart    "EXPLAIN SELECT n FROM t WHERE n IS NOT NULL ORDER BY n DESC NULLS LAST; SELECT n FROM t WHERE n IS NOT NULL ORDER BY n DESC NULLS LAST" "INSERT INTO t VALUES (13, 25, NULL)" "IS NOT NULL, and NULL"
together "SELECT n FROM t WHERE n IS NOT NULL ORDER BY n DESC NULLS LAST" "INSERT INTO t VALUES (13, 26, 77)" "IS NOT NULL, and a value"
together "SET LOCAL enable_indexscan = off; SET LOCAL enable_indexonlyscan = off; SET LOCAL enable_bitmapscan = on; SELECT count(*) FROM t WHERE a = 60 OR (a = 61 AND b > 3)" \
	"INSERT INTO t VALUES (61, 4)" "a bitmap"
apart    "SET LOCAL enable_indexscan = off; SET LOCAL enable_indexonlyscan = off; SET LOCAL enable_bitmapscan = on; SELECT count(*) FROM t WHERE a = 60 OR (a = 61 AND b > 3)" \
	"INSERT INTO t VALUES (61, 3), (59, 1), (62, 1)" "beside a bitmap"
together "SELECT n FROM t WHERE n = 61" "UPDATE t SET b = b + 40 WHERE a = 6 AND b = 1" "an index-only scan, and its row"
apart    "SELECT count(*) FROM ref r JOIN t ON t.a = r.id AND t.b = 50 WHERE r.id BETWEEN 40 AND 45" "INSERT INTO t VALUES (39, 50), (42, 51)" "a join by keys, beside"
together "SELECT count(*) FROM ref r JOIN t ON t.a = r.id AND t.b = 50 WHERE r.id BETWEEN 40 AND 45" "INSERT INTO t VALUES (42, 50)" "a join by keys, within"
apart    "SELECT * FROM ref WHERE id = 30 FOR UPDATE" "UPDATE ref SET note = 1 WHERE id = 31" "FOR UPDATE, another row"
together "SELECT * FROM ref WHERE id = 70 FOR UPDATE" "INSERT INTO ref VALUES (70)" "FOR UPDATE of a key that is not there"
together "DECLARE c SCROLL CURSOR FOR SELECT * FROM t WHERE a >= 14 ORDER BY a, b; FETCH 5 FROM c; FETCH BACKWARD 4 FROM c" "INSERT INTO t VALUES (14, 0)" "a cursor, open at COMMIT"
together "DECLARE c SCROLL CURSOR FOR SELECT * FROM t WHERE a >= 15 ORDER BY a, b; FETCH 5 FROM c; FETCH BACKWARD 4 FROM c; CLOSE c" "INSERT INTO t VALUES (15, 0)" \
	"a cursor that went back: what it had passed"
together "SAVEPOINT s; SELECT * FROM t WHERE a = 16 AND b > 40; ROLLBACK TO s" "INSERT INTO t VALUES (16, 41)" "what a rolled back savepoint read"
together "SAVEPOINT s; DECLARE c CURSOR FOR SELECT * FROM t WHERE a = 16 AND b < 9; FETCH 1 FROM c; ROLLBACK TO s" "INSERT INTO t VALUES (16, 0)" "a cursor of a rolled back savepoint"
together "DO 'BEGIN PERFORM 1 / (b - 2) + coalesce(x, 0) FROM t WHERE a = 17 AND b > 1; EXCEPTION WHEN division_by_zero THEN END'" "INSERT INTO t VALUES (17, 50)" "a scan that ended by an error"
together "SET LOCAL enable_indexscan = off; SET LOCAL enable_seqscan = on; SELECT count(*) FROM t WHERE a = 1" "INSERT INTO t VALUES (77, 1)" "a sequential scan has the table"
together "SELECT * FROM t WHERE a = 90" "BEGIN; TRUNCATE t; INSERT INTO t SELECT a, b, a * 10 + b FROM generate_series(1, 20) a, generate_series(1, 9) b; COMMIT" \
	"an empty range, and a table that is made anew"

# ---------------------------------------------------------------- keys that are looked for by core
apart    "INSERT INTO refers VALUES (101, 30)" "UPDATE ref SET note = 2 WHERE id = 30" "a foreign key's check, and another column of its row"
apart    "INSERT INTO refers VALUES (102, 31)" "INSERT INTO ref VALUES (80)" "and another key"
writer=two				# here it would wait
is "$(outcome "INSERT INTO refers VALUES (103, 32)" "DELETE FROM ref WHERE id = 32" | sed 's/ due to.*//')" "ERROR:  could not serialize access" "and its row that goes"
apart    "DELETE FROM ref WHERE id = 33" "INSERT INTO refers VALUES (104, 34)" "a cascade, and a row that refers to another key"
apart    "INSERT INTO ref VALUES (81)" "INSERT INTO ref VALUES (82)" "looking for a duplicate claims the key alone"
together "INSERT INTO ref VALUES (35) ON CONFLICT DO NOTHING" "DELETE FROM ref WHERE id = 35" "ON CONFLICT DO NOTHING relies on the row in its way"
together "DO 'BEGIN INSERT INTO ref VALUES (36); EXCEPTION WHEN unique_violation THEN END'" "DELETE FROM ref WHERE id = 36" "so does who goes on after a duplicate"
apart    "DO 'BEGIN INSERT INTO ref VALUES (36); EXCEPTION WHEN unique_violation THEN END'" "DELETE FROM ref WHERE id = 37" "which is no other one's row"
sql -c "CREATE FUNCTION counts() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM count(*) FROM t WHERE a = 95; RETURN OLD; END'" \
	-c "CREATE TRIGGER looks BEFORE DELETE ON refers FOR EACH ROW EXECUTE FUNCTION counts()"
writer=two
together "DELETE FROM ref WHERE id = 12" "INSERT INTO t VALUES (95, 1)" "what a trigger reads within a cascade is claimed"

# a duplicate that came since the key was looked for says that it may be retried, one that was there is a duplicate
sql -c "INSERT INTO ref VALUES (121)"
is "$(cluster_psql "$work/one" -At -d test -v VERBOSITY=sqlstate 2>&1 <<SQL | grep ERROR | head -n 1 | sed 's/^psql:.*: //'
SET enable_seqscan = off;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT count(*) FROM ref WHERE id = 122;
\! "$cluster_bin/psql" -XqAt -d test -c "INSERT INTO ref VALUES (122)"
INSERT INTO ref VALUES (122);
SQL
)" "ERROR:  40001" "a duplicate that came after it was looked for"
is "$(cluster_psql "$work/one" -At -d test -v VERBOSITY=sqlstate 2>&1 <<SQL | grep ERROR | head -n 1 | sed 's/^psql:.*: //'
SET enable_seqscan = off;
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT count(*) FROM ref WHERE id = 121;
\! "$cluster_bin/psql" -XqAt -d test -c "INSERT INTO ref VALUES (123)"
INSERT INTO ref VALUES (121);
SQL
)" "ERROR:  23505" "and one that was there"

# ---------------------------------------------------------------- types of keys
# type INDEX_COLUMN LOW INSIDE HIGH OUTSIDE...: a range from LOW up to HIGH, which is not in it
ranges() {
	local type=$1 column=$2 low=$3 inside=$4 high=$5 literal
	shift 5
	sql -c "DROP TABLE IF EXISTS k" -c "CREATE TABLE k (v $type) USING s3am" -c "CREATE INDEX ON k ($column)" \
		-c "INSERT INTO k (v) VALUES ('$low'), ('$high')" 2> /dev/null
	on one; follow one two; on one
	together "SELECT count(*) FROM k WHERE v >= '$low' AND v < '$high'" "INSERT INTO k (v) VALUES ('$inside')" "$type, $column: a key in a range"
	together "SELECT count(*) FROM k WHERE v > '$low' AND v <= '$high'" "INSERT INTO k (v) VALUES ('$high')" "$type, $column: at its end"
	literal=$(printf ", ('%s')" "$@")
	apart "SELECT count(*) FROM k WHERE v >= '$low' AND v < '$high'" "INSERT INTO k (v) VALUES (NULL), ('$high')$literal" "$type, $column: keys beside it"
	apart "SELECT count(*) FROM k WHERE v > '$low' AND v < '$high'" "INSERT INTO k (v) VALUES ('$low')" "$type, $column: at a beginning that is not in it"
	together "SELECT count(*) FROM k WHERE v = '$inside'" "INSERT INTO k (v) VALUES ('$inside')" "$type, $column: a key that was looked for"
	apart "SELECT count(*) FROM k WHERE v = '$inside'" "INSERT INTO k (v) VALUES ('$low')" "$type, $column: another one"
}
ranges smallint v -5 0 7 -6 8
ranges int 'v DESC' -50000 -1 1 -2147483648 2147483647
ranges bigint 'v NULLS FIRST' -5000000000 17 5000000000 -9223372036854775808 9223372036854775807
ranges oid v 3000000000 3000000001 3000000002 5 4294967295
ranges '"char"' v b c e a f
ranges date v 1999-12-31 2000-01-01 2000-02-01 -infinity infinity '0044-01-01 BC'
ranges time v 10:00 10:00:00.000001 11:00 09:00 12:00
ranges timestamp 'v DESC NULLS LAST' '1999-12-31 23:59' '2000-01-01' '2000-01-02' -infinity infinity
ranges timestamptz v '1969-12-31 23:59Z' '1970-01-01 00:00Z' '1970-01-02 00:00Z' -infinity infinity
ranges money v -1 0 1 -2 2
ranges real v -1.5 0 1e10 -2 NaN infinity -infinity
ranges 'double precision' 'v DESC' -1e-300 0 1e-300 -1 NaN infinity -infinity
ranges numeric v -0.5 0 0.50001 -0.6 -10000 0.6 1e30 -1e30 NaN
ranges numeric 'v DESC' -20000.7 -20000.65 -0.0001 -20000.8 0 NaN
ranges numeric v 9999.9999 10000 10000.0001 9999.9998 10001 10000.01
ranges uuid v 00000000-0000-0000-0000-0000000000ff 00000000-0000-0000-0000-000000000100 00000000-0000-0000-0000-000000000200 00000000-0000-0000-0000-000000000000 ffffffff-ffff-ffff-ffff-ffffffffffff
ranges bytea v '\x61' '\x6100' '\x610001' '\x60ff' '\x62' '\x610002'
ranges 'text COLLATE "C"' v a ab b A Z 'ba' é
ranges 'varchar(20) COLLATE "C"' 'v DESC' a ab b '' c
ranges 'char(8) COLLATE "C"' v a ab b A c
ranges name v a ab b A c
sql -c "DROP TABLE IF EXISTS k" -c "CREATE TABLE k (v text, b bool) USING s3am" -c "CREATE INDEX ON k (v text_pattern_ops)" -c "CREATE INDEX ON k (b)"
on one; follow one two; on one
together "SELECT count(*) FROM k WHERE v LIKE 'ab%'" "INSERT INTO k VALUES ('abc')" "LIKE"
apart "SELECT count(*) FROM k WHERE v LIKE 'ab%'" "INSERT INTO k VALUES ('ac'), ('aa'), (NULL)" "LIKE, beside"
together "SELECT count(*) FROM k WHERE NOT b" "INSERT INTO k VALUES ('x', false)" "boolean"
apart "SELECT count(*) FROM k WHERE NOT b" "INSERT INTO k VALUES ('x', true), ('x', NULL)" "boolean, the other one"
long=$(printf 'x%.0s' {1..100})
together "SELECT count(*) FROM k WHERE v LIKE '${long}m%'" "INSERT INTO k VALUES ('${long}mm')" "a key that is longer than what counts of it"
apart "SELECT count(*) FROM k WHERE v LIKE '${long}m%'" "INSERT INTO k VALUES ('y$long')" "and one that differs early"

# types without an order of their own: single keys
keys() {
	local type=$1 key=$2 other=$3
	sql -c "DROP TABLE IF EXISTS k" -c "CREATE TABLE k (v $type, n int) USING s3am" -c "CREATE INDEX ON k (v, n)" 2> /dev/null
	on one; follow one two; on one
	together "SELECT count(*) FROM k WHERE v = '$key'" "INSERT INTO k (v) VALUES ('$key')" "$type: a key that was looked for"
	apart "SELECT count(*) FROM k WHERE v = '$key'" "INSERT INTO k (v) VALUES ('$other'), (NULL)" "$type: another one"
	apart "SELECT count(*) FROM k WHERE v = '$key' AND n > 5" "INSERT INTO k (v, n) VALUES ('$key', 5), ('$other', 6)" "$type: and a second column"
	together "SELECT count(*) FROM k WHERE v >= '$key'" "INSERT INTO k (v) VALUES ('$other'), ('$key')" "$type: a range has the index"
	together "SELECT v FROM k ORDER BY v LIMIT 1" "INSERT INTO k (v) VALUES ('$key'), ('$other')" "$type: so has LIMIT"
}
sql -c "CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy')"
keys text b a
keys inet 10.0.0.1 10.0.0.2
keys interval '1 month' '29 days'
keys jsonb '[1]' '[2]'
keys 'int[]' '{1,2}' '{1,3}'
keys int4range '[1,5)' '[1,6)'
keys mood ok sad
keys macaddr 08:00:2b:01:02:03 08:00:2b:01:02:04
sql -c "DROP TABLE IF EXISTS k" -c "CREATE TABLE k (v text, n numeric) USING s3am" -c "CREATE INDEX ON k USING hash (v)" -c "CREATE INDEX ON k USING hash (n)"
on one; follow one two; on one
together "SELECT count(*) FROM k WHERE v = 'b'" "INSERT INTO k VALUES ('b')" "a hash index: a key that was looked for"
apart "SELECT count(*) FROM k WHERE v = 'b'" "INSERT INTO k VALUES ('a', 1), (NULL, 2)" "a hash index: others"
together "SELECT count(*) FROM k WHERE n = 1.50" "INSERT INTO k VALUES ('c', 1.5)" "a hash index: equal numbers"
sql -c "DROP TABLE IF EXISTS k" -c "CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false)" -c "CREATE TABLE k (v text COLLATE blind, n int) USING s3am" \
	-c "CREATE INDEX k_v ON k (v, n)"
on one; follow one two; on one
together "SELECT count(*) FROM k WHERE v = 'a'" "INSERT INTO k VALUES ('A')" "a collation that is blind: equal strings that differ"
sql -c "DROP INDEX k_v" -c "CREATE INDEX ON k (n, v)"
on one; follow one two; on one
together "SELECT count(*) FROM k WHERE n = 1 AND v = 'a'" "INSERT INTO k VALUES ('A', 1)" "behind another column, too"
apart "SELECT count(*) FROM k WHERE n = 1 AND v = 'a'" "INSERT INTO k VALUES ('a', 2)" "which tells"

# ---------------------------------------------------------------- many of them
sql -c "CREATE TABLE many (k int, v int) USING s3am" -c "INSERT INTO many SELECT g * 10, 0 FROM generate_series(1, 30000) g" -c "CREATE INDEX ON many (k)" -c "CREATE TABLE probes (k int) USING s3am" \
	-c "INSERT INTO probes SELECT g * 20 + 5 FROM generate_series(1, 15000) g" -c "ANALYZE" 2> /dev/null
on one; follow one two; on one
loop="SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL enable_seqscan = on; SELECT count(*) FROM probes p JOIN many m ON m.k = p.k"
together "$loop" "INSERT INTO many VALUES (299985)" "very many keys that were looked for: one of them comes"
apart "$loop" "INSERT INTO many VALUES (0), (400000)" "and others do not meet them"
apart "SELECT count(*) FROM many WHERE k = 300005" "INSERT INTO many SELECT g * 100 + 7 FROM generate_series(1, 2000) g" "very many keys are added elsewhere"
together "SELECT count(*) FROM many WHERE k = 177707" "INSERT INTO many SELECT g * 100 + 7 FROM generate_series(1, 2000) g" "and one of them is where somebody looked"
together "SELECT count(*) FROM many WHERE k = 1777001" "INSERT INTO many SELECT 1000001 + g * 100 FROM generate_series(1, 20000) g ORDER BY random()" "in no order, more than are told one by one"
apart "SELECT count(*) FROM many WHERE k = 5000000" "INSERT INTO many SELECT 1000002 + g * 100 FROM generate_series(1, 20000) g ORDER BY random()" "and beside them"

# ---------------------------------------------------------------- disjoint ranges, from two servers
clients=4
each=$((n / 2 / clients))
sql -c "CREATE TABLE d (k int PRIMARY KEY, n int, v int) USING s3am" -c "CREATE INDEX ON d (n, k)" -c "INSERT INTO d SELECT g, g / 100, 0 FROM generate_series(0, 799, 2) g"
on one; follow one two
bench() {							# clients with a hundred keys each, from $2 hundred on
	cluster_use "$work/$1"
	cat > "$work/$1.sql" <<SQL
\set low 100 * ($2 + :client_id)
\set high :low + 100
\set key :low + 2 * random(0, 49)
\set new :low + 1 + 2 * random(0, 49)
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT sum(v) FROM d WHERE k >= :low AND k < :high;
UPDATE d SET v = v + 1 WHERE k = :key;
SELECT count(*) FROM d WHERE n = :low / 100 AND k > :low;
SELECT max(k) FROM d WHERE k < :high;
INSERT INTO d VALUES (:new, :low / 100, 0) ON CONFLICT (k) DO UPDATE SET n = excluded.n;
DELETE FROM d WHERE k = :new;
COMMIT;
SELECT count(*) FROM d WHERE k BETWEEN :low AND :low + 99;
SQL
	# the last statement is a transaction of its own, which has its snapshot before it can wait for a newer one
	PGOPTIONS="-c enable_seqscan=off -c default_transaction_isolation=serializable" exec "$cluster_bin/pgbench" -n -c $clients -j 1 -t "$each" -f "$work/$1.sql" test > "$work/$1.bench" 2>&1
}
(bench one 0) & first=$!
(bench two 4) & second=$!
wait $first; first=$?
wait $second; second=$?
failed=$(grep -ch 'ERROR\|aborted' "$work/one.bench" "$work/two.bench" | awk '{ n += $1 } END { print n + 0 }')
is "$first/$second/$failed" 0/0/0 "SERIALIZABLE on disjoint ranges from two servers: none of $((each * 2 * clients)) transactions fails"
grep -h 'ERROR' "$work"/{one,two}.bench | head -n 5 | sed 's/^/# /'
for server in one two; do
	on $server
	is "$(sql -c 'SET s3am.freshness = latest; SELECT sum(v), count(*), count(DISTINCT k) FROM d WHERE k >= 0')" \
		"$((each * 2 * clients))|400|400" "nothing is lost and nothing doubled on server $server"
done
done_testing
