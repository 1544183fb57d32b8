#!/bin/bash
# CREATE INDEX puts entries in order, however they are sorted: keys of one integer, date or timestamp, codes and all others, up or down,
# with NULLs first or last; in memory, with temporary files, and by several processes.
. "$(dirname "$0")/../lib/tap.sh"

node one "autovacuum = off" "jit = off" "min_parallel_table_scan_size = 0" "max_parallel_maintenance_workers = 0"
sql -c 'CREATE EXTENSION s3am' || exit 1
# each value often, the ends of its type, NULLs
types="int4:2147483647 int8:9223372036854775807 int2:32767 oid:4294967295 date:'infinity'::date timestamp:'infinity'::timestamp timestamptz:'infinity'::timestamptz numeric:'Infinity'::numeric text:'zzz'"
{
	echo "CREATE TABLE t (i int$(for type in $types; do echo ", ${type%%:*}_ ${type%%:*}"; done)) USING s3am;"
	echo "CREATE FUNCTION fill(first int, last int) RETURNS void LANGUAGE sql AS \$\$"
	echo "INSERT INTO t SELECT g$(for type in $types; do
		name=${type%%:*} high=${type#*:}
		case $name in
		int4 | int8 | int2) value="(hashint4(g) % 1000)::$name" low="-$high - 1" ;;
		oid) value="(4000000000 * (g % 2) + abs(hashint4(g)) % 1000)::oid" low=0 ;;
		date) value="'2000-01-01'::date + hashint4(g) % 1000" low="'-infinity'" ;;
		timestamp | timestamptz) value="'2000-01-01'::$name + hashint4(g) % 1000 * interval '1 hour'" low="'-infinity'" ;;
		numeric) value="hashint4(g) % 1000" low="'-Infinity'" ;;
		text) value="md5((g % 1000)::text)" low="''" ;;
		esac
		echo ", CASE g % 50 WHEN 0 THEN NULL WHEN 1 THEN ($low)::$name WHEN 2 THEN ($high)::$name ELSE ($value)::$name END"
	done) FROM generate_series(first, last) g \$\$;"
	echo "SELECT fill(1, 20000);"
} | sql > /dev/null || exit 1
is "$(sql -c "SELECT count(*), count(int4_), count(text_) FROM t")" "20000|19600|19600" "rows"

# the order of the index, for all types and ways; what else must hold is check_index()'s to say
orders() { # SETTINGS
	local type name way wrong=()
	for type in $types; do
		name=${type%%:*}_
		for way in "ASC NULLS LAST" "ASC NULLS FIRST" "DESC NULLS LAST" "DESC NULLS FIRST"; do
			[ "$(sql -c "SET enable_seqscan = off; SET enable_sort = off; SET enable_bitmapscan = off; SET client_min_messages = warning; $1" -c "DROP INDEX IF EXISTS built" -c "CREATE INDEX built ON t ($name $way)" \
				-c "SELECT s3am.check_index('built', true)" \
				-c "WITH found AS (SELECT $name AS x, row_number() OVER () AS n FROM (SELECT $name FROM t ORDER BY $name $way) s),
					sorted AS (SELECT x, row_number() OVER (ORDER BY x $way, n) AS m, n FROM found)
					SELECT count(*), count(*) FILTER (WHERE n = m) FROM sorted" \
				-c "EXPLAIN (COSTS off) SELECT $name FROM t ORDER BY $name $way" -c "DROP INDEX built" | tr '\n' ' ')" = \
				" $2|$2 Index Only Scan using built on t " ] || wrong+=("$name $way")
		done
	done
	echo "${wrong[*]}"
}
is "$(orders "" 20000)" "" "in memory"
is "$(orders "SET maintenance_work_mem = '1MB'" 20000)" "" "with temporary files"
is "$(orders "SET max_parallel_maintenance_workers = 2; SET maintenance_work_mem = '96MB'; ALTER TABLE t SET (parallel_workers = 2)" 20000)" "" "by three processes"

# rows of the transaction itself, and of others
sql -c "BEGIN" -c "SELECT fill(20001, 21000)" -c "CREATE INDEX b_int4 ON t (int4_ DESC)" -c "CREATE INDEX b_int8 ON t (int8_ NULLS FIRST)" -c "CREATE INDEX b_hash ON t USING hash (text_)" \
	-c "CREATE INDEX b_stamp ON t (timestamptz_ DESC NULLS LAST)" -c "COMMIT" > /dev/null || exit 1
is "$(sql -c "SELECT s3am.check_index('b_int4', true), s3am.check_index('b_int8', true), s3am.check_index('b_hash', true), s3am.check_index('b_stamp', true)")" "|||" \
	"rows that the transaction has added before"
fails_like 23505 'could not create unique index "b_unique"' "CREATE UNIQUE INDEX b_unique ON t (int4_)" "a key that is there twice is found"
like "$(sql -c "CREATE UNIQUE INDEX b_unique ON t (int8_ DESC)" 2>&1)" "Key \(int8_\)=\(-?[0-9]+\) is duplicated" "and named"
sql -c "CREATE UNIQUE INDEX b_unique ON t (i DESC)" && is "$(sql -c "SELECT s3am.check_index('b_unique', true)")" "" "one that is not makes a unique index"
fails_like 23505 'could not create unique index "b_nulls"' "CREATE UNIQUE INDEX b_nulls ON t ((CASE WHEN i > 2 THEN i END)) NULLS NOT DISTINCT" "NULLs are one key, if they are said to be"
sql -c "CREATE UNIQUE INDEX b_nulls ON t ((CASE WHEN i > 2 THEN i END) DESC)" && is "$(sql -c "SELECT s3am.check_index('b_nulls', true)")" "" "and else are not"
done_testing
