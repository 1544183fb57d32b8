#!/bin/bash
# Parallel plans and rows that only this transaction knows: no worker may miss one that was added, or see one that was removed.
. "$(dirname "$0")/../lib/tap.sh"

node server "parallel_setup_cost = 0" "parallel_tuple_cost = 0" "min_parallel_table_scan_size = 0" \
	"max_parallel_workers_per_gather = 2"
sql -c 'CREATE EXTENSION s3am' -c 'ALTER DATABASE test SET default_table_access_method = s3am' || exit 1
sql -c 'CREATE TABLE t AS SELECT i, i % 100 AS g FROM generate_series(1, 300000) i' -c 'ANALYZE t' || exit 1

launched="SELECT (regexp_match(string_agg(l, ' '), 'Workers Launched: (\d)'))[1] FROM explained('SELECT count(*) FROM t') l"
sql <<'SQL'
CREATE FUNCTION explained(q text) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN RETURN QUERY EXECUTE 'EXPLAIN (ANALYZE, TIMING off) ' || q; END $$;
CREATE FUNCTION counted() RETURNS bigint LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT count(*) FROM t';
CREATE FUNCTION has(int) RETURNS bigint LANGUAGE plpgsql STABLE PARALLEL SAFE AS
	$$ DECLARE n bigint; BEGIN SELECT count(*) INTO n FROM t WHERE i = $1; RETURN n; END $$;
CREATE FUNCTION writes() RETURNS int LANGUAGE plpgsql PARALLEL SAFE AS
	$$ BEGIN INSERT INTO t VALUES (0, 0); RETURN 1; END $$;
SQL
is "$(sql -c "$launched")" 2 "workers run while there is nothing of our own"
is "$(sql -c 'CREATE TABLE all_of_it AS SELECT * FROM t' -c 'CREATE MATERIALIZED VIEW seen AS SELECT * FROM t' -c 'REFRESH MATERIALIZED VIEW seen' \
	-c 'SELECT (SELECT count(*) FROM all_of_it), (SELECT count(*) FROM seen)')" "300000|300000" "the leader of a parallel plan fills a table"
said=$(sql <<SQL
PREPARE q AS SELECT count(*), sum(i) FROM t;
EXECUTE q; EXECUTE q; EXECUTE q; EXECUTE q; EXECUTE q; EXECUTE q;
BEGIN;
DELETE FROM t WHERE i <= 10;
INSERT INTO t SELECT -i, 1 FROM generate_series(1, 5) i;
EXECUTE q;
$launched;
CREATE TABLE copied AS SELECT * FROM t;
SELECT count(*), sum(i) FROM copied;
CREATE MATERIALIZED VIEW m AS SELECT g, count(*) AS c FROM t GROUP BY g;
REFRESH MATERIALIZED VIEW m;
SELECT sum(c) FROM m;
DECLARE c CURSOR FOR SELECT count(*) FROM t;
DELETE FROM t WHERE i < 100;
FETCH c;
CLOSE c;
SELECT counted(), has(5), has(100), has(-3);
SELECT sum(has(i)) FROM t WHERE i BETWEEN 95 AND 105;
SAVEPOINT a;
TRUNCATE t;
SELECT count(*) FROM t;
ROLLBACK TO a;
SELECT count(*) FROM t;
ROLLBACK;
SELECT count(*) FROM t;
$launched;
SQL
)
is "$(tr '\n' ' ' <<< "$said")" "$(printf '300000|45000150000 %.0s' 1 2 3 4 5 6)299995|45000149930 0 299995|45000149930 299995 299995 \
299901|0|1|0 6 0 299901 300000 2 " "cached plans, EXPLAIN ANALYZE, CREATE TABLE AS, REFRESH, cursors, functions"
said=$(sql <<'SQL'
BEGIN;
DECLARE c CURSOR FOR SELECT i FROM t;
FETCH 1 FROM c;
DELETE FROM t WHERE i > 5;
SELECT count(*) FROM t;
FETCH 2 FROM c;
COMMIT;
SELECT count(*) FROM t;
SQL
)
is "$(tr '\n' ' ' <<< "$said")" "1 5 2 3 5 " "a cursor that was open before"
sql -c 'INSERT INTO t SELECT i, 0 FROM generate_series(6, 300000) i' -c 'ANALYZE t'

# ---------------------------------------------------------------- tables that the transaction has not changed

sql <<'SQL' > /dev/null
CREATE TABLE other (i int PRIMARY KEY, n int);
INSERT INTO other SELECT i, i % 10 FROM generate_series(1, 1000) i;
CREATE TABLE part (i int, n int) PARTITION BY LIST (n);
CREATE TABLE part0 PARTITION OF part FOR VALUES IN (0);
CREATE TABLE part1 PARTITION OF part FOR VALUES IN (1);
INSERT INTO part SELECT i, i % 2 FROM generate_series(1, 20000) i;
CREATE FUNCTION of_other(int) RETURNS int LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$ BEGIN RETURN (SELECT n FROM other WHERE i = $1); END $$;
CREATE FUNCTION is_new(int) RETURNS bool LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$ BEGIN RETURN EXISTS (SELECT FROM other WHERE n = -$1); END $$;
CREATE DOMAIN known AS int CHECK (is_new(VALUE));
-- an order that is looked up in a table: the plan does not tell of its function
CREATE FUNCTION by_other(int, int) RETURNS int LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS
	$$ DECLARE place int = (SELECT max(n) FROM other); BEGIN RETURN CASE WHEN place > 500 THEN $2 - $1 ELSE $1 - $2 END; END $$;
CREATE OPERATOR <<< (FUNCTION = int4lt, LEFTARG = int, RIGHTARG = int);
CREATE OPERATOR >>> (FUNCTION = int4gt, LEFTARG = int, RIGHTARG = int);
CREATE OPERATOR CLASS by_other FOR TYPE int USING btree AS
	OPERATOR 1 <<< (int, int), OPERATOR 3 = (int, int), OPERATOR 5 >>> (int, int), FUNCTION 1 by_other(int, int);
ANALYZE other, part;
SQL
# workers QUERY: how many ran
workers() { echo "SELECT coalesce((regexp_match(string_agg(l, ' '), 'Workers Launched: (\d)'))[1], 'none') FROM explained(\$q\$$1\$q\$) l;"; }
both() { echo "$1;"; workers "$1"; }
changes="INSERT INTO other VALUES (-1, -1), (1001, 1001); UPDATE other SET n = -n WHERE i = 7; DELETE FROM other WHERE i = 8;"
said=$(sql <<SQL
BEGIN;
$changes
$(both 'SELECT count(*), max(i) FROM t WHERE g >= 0')
$(both 'SELECT count(*) FROM part')
$(both 'SELECT count(*), sum(n), min(n) FROM other')
$(both 'SELECT count(*) FROM t JOIN other USING (i)')
$(both 'SELECT count(*) FROM t WHERE i < 1000 AND EXISTS (SELECT FROM other WHERE other.i = t.i AND n < 0)')
$(both 'SELECT sum(of_other(i)) FROM t WHERE i BETWEEN 5 AND 9')
$(both 'SELECT count(*) FROM t WHERE i = 7 AND i::known > 0')
SAVEPOINT a;
UPDATE part0 SET i = -i WHERE i = 2;
$(both 'SELECT count(*), min(i) FROM part')
$(both 'SELECT count(*) FROM part1')
ROLLBACK TO a;
$(both 'SELECT count(*), min(i) FROM part')
ROLLBACK;
$(both 'SELECT count(*), sum(n) FROM other')
SQL
)
is "$(tr '\n' ' ' <<< "$said")" "300000|300000 2 20000 2 1001|5478|-7 0 1000 0 1 0 13 0 1 none 20000|-2 0 10000 2 20000|1 2 1000|4500 2 " \
	"a transaction that has changed one table reads others by workers"
ordered='SELECT i FROM t WHERE i < 30 ORDER BY i USING <<< LIMIT 1'
is "$(sql -c "UPDATE other SET n = 501 WHERE i = 1000" -c "$ordered" -c "UPDATE other SET n = 0 WHERE i = 1000" -c "$ordered" | tr '\n' ' ')" "29 1 " "an order that a function looks up"
# all of the plan in one worker
forced="SET min_parallel_table_scan_size = '1GB'; SET force_parallel_mode = on"
is "$(sql -q -c "$forced" -c "$(workers "$ordered")")" 1 "in a worker"
fails_like 0A000 'a function in a parallel worker cannot read s3am table "other"' "$forced; BEGIN; UPDATE other SET n = 501 WHERE i = 1000; $ordered" \
	"in one that does not see what the transaction has changed it fails"
is "$(sql -q -c "$forced" -c "SET max_parallel_workers_per_gather = 0" -c BEGIN -c "UPDATE other SET n = 501 WHERE i = 1000" -c "$ordered" -c ROLLBACK)" 29 "and does as the hint says"
fails_like 25000 'cannot execute INSERT during a parallel operation' \
	"SET force_parallel_mode = on; SELECT sum(writes()) FROM t" "a function that is not what it says it is"
done_testing
