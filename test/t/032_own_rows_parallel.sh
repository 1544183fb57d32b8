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
fails_like 25000 'cannot execute INSERT during a parallel operation' \
	"SET force_parallel_mode = on; SELECT sum(writes()) FROM t" "a function that is not what it says it is"
done_testing
