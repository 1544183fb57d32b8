#!/bin/bash
# What test/compat/regress_compare must tell from each other, in outputs made up for it.
. "$(dirname "$0")/../lib/tap.sh"
here=$(cd "$(dirname "$0")" && pwd)

mkdir "$work"/{sql,heap,other,lists}
touch "$work"/{heap,other}/log
printf '%s\n' 'all order plan : for this test' 'some /listed/ : for this test' > "$work/lists/regress.allowed"
echo 'gin /follows/ : gin' > "$work/lists/regress.refused"

# table NAME ROW ...: what psql prints of a column
table() {
	local name=$1
	shift
	printf ' %s \n---\n' "$name"
	printf ' %s\n' "$@"
	if [ $# = 1 ]; then echo '(1 row)'; else echo "($# rows)"; fi
	echo
}

# answers FILE STATEMENT HEAP OTHER: a file of two statements, and what the first is answered on both sides
answers() {
	printf '%s\n' '-- a comment' "$2" 'SELECT 7 AS seven;' > "$work/sql/$1.sql"
	{ printf '%s\n' '-- a comment' "$2" "$3" 'SELECT 7 AS seven;'; table seven 7; } > "$work/heap/$1.out"
	{ printf '%s\n' '-- a comment' "$2" "$4" 'SELECT 7 AS seven;'; table seven 7; } > "$work/other/$1.out"
}
verdict() { "$here/../compat/regress_compare" "$work/sql" "$work/heap" "$work/other" "$work/lists" "$@" | cut -f 1-3 | tr '\t' ' '; }
# is_told FILE STATEMENT HEAP OTHER VERDICT NAME
is_told() {
	answers "$1" "$2" "$3" "$4"
	is "$(verdict "$1" | head -n 1)" "$5" "$6"
}

is_told none 'SELECT a FROM t;' "$(table a 1 2)" "$(table a 1 2)" 'ok none same' "the same"
is_told all 'SELECT a FROM t;' "$(table a 1 2)" "$(table a 2 1)" 'ok all 1 order as listed: for this test' "another order"
is_told none 'SELECT a FROM t;' "$(table a 1 2)" "$(table a 2 1)" 'bad none 1 order' "which must be in the list"
is_told all 'SELECT a FROM t ORDER BY a;' "$(table a 1 2)" "$(table a 2 1)" 'bad all 1 other' "and is wrong with ORDER BY"
is_told all 'SELECT a FROM t;' "$(table a 1 2)" "$(table a 1 3)" 'bad all 1 other' "another row"
is_told all 'SELECT a FROM t;' "$(table a 1 2)" "$(table a 1)" 'bad all 1 other' "a missing row"
is_told all 'SELECT a FROM t;' "$(table a 1 1 2)" "$(table a 1 2 2)" 'bad all 1 other' "a row twice"
is_told all 'SELECT a FROM t;' "$(table a 1 2)" "ERROR:  no" 'bad all 1 other' "an error"
is_told all 'SELECT a FROM t;' "ERROR:  no" "$(table a 1 2)" 'bad all 1 other' "the lack of one"
is_told all 'SELECT a FROM t;' "NOTICE:  a"$'\n'"NOTICE:  b" "NOTICE:  b"$'\n'"NOTICE:  a" 'bad all 1 other' "notices in another order"
is_told all 'EXPLAIN SELECT a FROM t;' "$(table 'QUERY PLAN' 'Seq Scan')" "$(table 'QUERY PLAN' 'Index Scan' ' Index Cond')" \
	'ok all 1 plan as listed: for this test' "another plan"
is_told all 'EXPLAIN ANALYZE SELECT a FROM t;' "$(table 'QUERY PLAN' 'Seq Scan (actual rows=2 loops=1)')" \
	"$(table 'QUERY PLAN' 'Index Scan (actual rows=3 loops=1)')" 'bad all 1 other' "a plan that gave another number of rows"
is_told all 'EXPLAIN SELECT a FROM t;' "$(table 'QUERY PLAN' 'Seq Scan')" "ERROR:  no" 'bad all 1 other' "no plan"
is_told some 'SELECT listed();' "$(table a 1)" "$(table a 2)" 'ok some 1 listed as listed: for this test' "a statement of the list"
is_told some 'SELECT listed();' "$(table a 1)" "ERROR:  no" 'bad some 1 other' "which may not fail"
is_told some 'SELECT another();' "$(table a 1)" "$(table a 2)" 'bad some 1 other' "nor any other differ"

refusal='ERROR:  s3am tables cannot have indexes of access method "gin"'
is_told gin 'CREATE INDEX i ON t USING gin (a);' '' "$refusal" 'ok gin 1 refused as listed: gin' "a refusal"
is_told gin 'CREATE INDEX i ON t USING gin (a);' '' 'ERROR:  no' 'bad gin 1 other' "another error"
is_told all 'CREATE INDEX i ON t USING gin (a);' '' "$refusal" 'bad all 1 refused' "a refusal in a file that should have none"
answers gin $'CREATE INDEX idx ON t USING gin (a);\nDROP INDEX idx;' '' "$refusal"$'\n''ERROR:  index "idx" does not exist'
printf '%s\n' '-- a comment' 'CREATE INDEX idx ON t USING gin (a);' "$refusal" 'DROP INDEX idx;' 'ERROR:  index "idx" does not exist' 'SELECT 7 AS seven;' > "$work/other/gin.out"
table seven 7 >> "$work/other/gin.out"
is "$(verdict gin | head -n 1)" 'ok gin 1 after, 1 refused as listed: gin' "what comes of it"
answers gin 'SELECT a FROM t;' "$(table a 1)" "$(table a 2)"
is "$(verdict gin | head -n 1)" 'bad gin 1 other' "what does not"

answers none 'SELECT a FROM t;' "$(table a 1)" "$(table a 1)"
printf '%s\n' '-- a comment' 'SELECT a FROM t;' > "$work/other/none.out"
like "$(verdict none)" '^bad none [12] other' "psql that ended early"
answers none 'SELECT a FROM t;' "$(table a 1)" "$(table a 1)"
echo "2026-01-01 00:00:00.000 UTC [1] XX000 regress/none ERROR:  unexpected 7" > "$work/other/log"
like "$(verdict none)" 'bad log 1 internal errors, 0 crashes' "an internal error in the log"
echo "2026-01-01 00:00:00.000 UTC [1] XX000 regress/none ERROR:  unexpected 8" > "$work/heap/log"
like "$(verdict none)" 'ok log' "unless heap has the same"
echo "2026-01-01 00:00:00.000 UTC [1] 00000 LOG:  server process (PID 1) was terminated by signal 11" > "$work/other/log"
like "$(verdict none)" 'bad log 0 internal errors, 1 crashes' "a crash"
printf '%s\n' '-- a comment' 'SELECT a FROM t;' > "$work/sql/none.sql"
printf '%s\n' '-- a comment' | tee "$work/heap/none.out" > "$work/other/none.out"
like "$(verdict none)" '^bad none 1 other' "psql that ended early on both sides"
for quiet in '\quit' '\set ECHO none'; do
	printf '%s\n' "$quiet" 'SELECT a FROM t;' > "$work/sql/none.sql"
	echo "$quiet" | tee "$work/heap/none.out" > "$work/other/none.out"
	like "$(verdict none)" '^ok none same' "unless it was told to: $quiet"
done
printf '%s\n' '\set ECHO none' 'SELECT 1;' '\set ECHO all' 'SELECT a FROM t;' 'SELECT b FROM t;' > "$work/sql/none.sql"
printf '%s\n' '\set ECHO none' 'SELECT b FROM t;' | tee "$work/heap/none.out" > "$work/other/none.out"
like "$(verdict none)" '^bad none 1 other' "and only as long"

# ---------------------------------------------------------------- other plans
# planned EXPLAIN QUERY HEAP OTHER: a file of these two statements, planned otherwise on each side, and what the query was answered
planned() {
	printf '%s\n' "$1" '-- a comment' "$2" > "$work/sql/plans.sql"
	{ printf '%s\n' "$1"; table 'QUERY PLAN' 'Seq Scan'; printf '%s\n' '-- a comment' "$2" "$3"; } > "$work/heap/plans.out"
	{ printf '%s\n' "$1"; table 'QUERY PLAN' 'Index Scan'; printf '%s\n' '-- a comment' "$2" "$4"; } > "$work/other/plans.out"
	verdict plans
}
echo 'plans order plan : for this test' >> "$work/lists/regress.allowed"
query='SELECT a FROM t WHERE b = 1;'
said=$(planned "explain (costs off) $query" "$query" "$(table a 1 2)" "$(table a 2 1)")
like "$said" '^ok plans 1 order, 1 proven.*ok files 0 differ' "another plan that gives the same rows, in another order"
said=$(planned "EXPLAIN (COSTS OFF)"$'\n'"  select a  FROM t WHERE b = 1;" "$query" "$(table a 1 2)" "$(table a 1 2)")
like "$said" '^ok plans 1 proven' "written in another way"
like "$said" 'ok files 0 differ, and 0 that ask for TOAST; 1 only in plans' "the file does not count as different"
for other in 'SELECT a FROM t WHERE b = 2;' "SELECT a FROM t WHERE b = '1';" 'SELECT a FROM t;'; do
	said=$(planned "EXPLAIN $query" "$other" "$(table a 1)" "$(table a 1)")
	like "$said" '^ok plans 1 plan .*ok files 1 differ' "another query proves nothing: $other"
done
said=$(planned "EXPLAIN $query" "$query" "$(table a 1)" "$(table a 2)")
like "$said" '^bad plans 1 other, 1 plan' "nor do other rows"
said=$(planned "EXPLAIN $query" "$query" 'ERROR:  no' 'ERROR:  no')
like "$said" '^ok plans 1 plan' "nor does an error"
said=$(planned "EXPLAIN SELECT a FROM t ORDER BY a;" "SELECT a FROM t ORDER BY a;" "$(table a 1 2)" "$(table a 2 1)")
like "$said" '^bad plans 1 other, 1 plan' "nor another order with ORDER BY"
said=$(planned "EXPLAIN ANALYZE $query" "$query" "$(table a 1)" "$(table a 1)")
like "$said" '^ok plans 1 plan' "EXPLAIN ANALYZE is none that is proven so"
sed -i 's/^plans .*/plans toast : for this test/' "$work/lists/regress.allowed"
said=$(planned "EXPLAIN $query" "$query" "$(table a 1)" "$(table a 1)")
like "$said" '^bad plans 1 proven' "it must be in the list nevertheless"

# ---------------------------------------------------------------- files are prepared
# prepared TEXT: what becomes of it
prepared() {
	printf '%s\n' "$1" > "$work/sql/plans.sql"
	"$here/../compat/regress_compare" --prepare "$work/sql" "$work/lists" plans
	cat "$work/sql/plans.sql"
}
rows=$'COPY t FROM stdin;\n1\n\\.\nSELECT 1;'
is "$(prepared "$rows")" "$rows" "rows for COPY stay"
is "$(prepared $'COPY t FROM stdin; -- fails\n\n'"$rows")" $'COPY t FROM stdin; -- fails\n\\.\n\n'"$rows" "where there are none is the end of them"
is "$(prepared $'copy t from stdin (format csv);')" $'copy t from stdin (format csv);\n\\.' "at the end of a file"
is "$(prepared $'-- COPY t FROM stdin;\nCOPY t TO stdout;')" $'-- COPY t FROM stdin;\nCOPY t TO stdout;' "other COPY is left alone"
plans=$'EXPLAIN (COSTS OFF)\nSELECT a FROM t;\nEXPLAIN UPDATE t SET a = 1;\nEXPLAIN ANALYZE SELECT b FROM t;\nEXPLAIN SELECT c FROM t;\n-- a comment\nSELECT c FROM t;'
is "$(prepared "$plans")" "$plans" "EXPLAIN is, too"
sed -i 's/^plans .*/plans plan run : for this test/' "$work/lists/regress.allowed"
is "$(prepared "$plans")" "${plans/EXPLAIN UPDATE/$'SELECT a FROM t;\nEXPLAIN UPDATE'}" "but if the list says so, its query follows, once"
sed -i '/^plans /d' "$work/lists/regress.allowed"

names=()
for n in {1..21}; do
	answers "f$n" 'SELECT listed();' "$(table a 1)" "$(table a 2)"
	echo "f$n /listed/ : for this test" >> "$work/lists/regress.allowed"
	names+=("f$n")
done
like "$(verdict "${names[@]}")" 'bad files 21 differ' "too many files of the list"
sed -i 's,^f1 /,f1 toast /,' "$work/lists/regress.allowed"
like "$(verdict "${names[@]}")" 'bad files 20 differ, and 1 that ask for TOAST' "those that ask for TOAST are among them"
like "$(verdict "${names[@]:1}")" 'ok files 20 differ, and 0 that' "20 are not too many"
done_testing
