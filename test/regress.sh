#!/bin/bash
# regress.sh [TEST ...]: core's pg_regress over sql/*.sql (but for the extension's script), compared with expected/, on a server of its own.
# What differs stands in build/regress/regression.diffs; results/ beside it has what a new expected file is made of.
. "$(dirname "$0")/lib/tap.sh"

here=$(cd "$(dirname "$0")/.." && pwd)
pg_regress=$(dirname "$("$PG_CONFIG" --pgxs)")/../test/regress/pg_regress
out=${REGRESS_OUTPUT:-$here/build/regress}
tests=("$@")
if [ ${#tests[@]} = 0 ]; then
	mapfile -t tests < <(cd "$here/sql" && ls -- *.sql | grep -v '^s3am--' | sed 's/\.sql$//')
fi

node one "timezone = 'UTC'" "datestyle = 'ISO, MDY'"
sql -c 'CREATE EXTENSION s3am'
cluster_use "$dir"
export PGDATABASE=test
mkdir -p "$out"
rm -rf "$out/results" "$out/regression.diffs"
"$pg_regress" --use-existing --dbname=test --inputdir="$here" --outputdir="$out" --bindir="$cluster_bin" \
	--host="$PGHOST" --port="$PGPORT" --user=postgres "${tests[@]}" > "$out/output" 2>&1
for test in "${tests[@]}"; do
	grep -Eq "^(test|ok|not ok).* $test +\.\.\. ok|^ok .* $test " "$out/output"
	ok $? "$test"
done
if [ "$tap_failed" -gt 0 ]; then
	diag "$(cat "$out/output")"
	[ ! -f "$out/regression.diffs" ] || diag "$(head -n 200 "$out/regression.diffs")"
fi
done_testing
