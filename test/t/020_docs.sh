#!/bin/bash
# What is documented is there, and what is there is documented.
. "$(dirname "$0")/../lib/tap.sh"
top=$(cd "$(dirname "$0")/../.." && pwd)

# missing NAME LIST FILE: every line of LIST stands in FILE between backquotes
missing() {
	local item lost=
	[ -n "$2" ] || { ok 1 "$1: there are none"; return; }
	for item in $2; do
		grep -qF "\`$item" "$3" || lost+=" $item"
	done
	is "$lost" "" "$1"
}

# examples FILE: what stands there as SQL
examples() { sed -n '/^```sql$/,/^```$/p' "$1" | grep -v '^```'; }

node one
examples "$top/README.md" | sql > "$work/said" 2>&1
ok $? "README.md's example runs" || diag "$(tail -n 3 "$work/said")"
is "$(sql -c 'SELECT count(*) FROM customer')" 1 "and has done something"
{ echo 'CREATE SCHEMA examples; SET search_path = examples;'; examples "$top/docs/indexes.md"; } | sql > "$work/said" 2>&1
ok $? "so does that of docs/indexes.md" || diag "$(tail -n 3 "$work/said")"
missing "every setting is in docs/settings.md" \
	"$(sql -c "SELECT name FROM pg_settings WHERE name LIKE 's3am.%' UNION SELECT unnest('{s3am.access_key,s3am.secret_key}'::text[])")" \
	"$top/docs/settings.md"
is "$(grep -o '`s3am\.[a-z_]*`' "$top/docs/settings.md" | tr -d '`' | sort -u |
	while read -r name; do sql -c "SHOW $name" > /dev/null 2>&1 || echo "$name"; done)" "" "and every one there exists"
missing "every function and view for users is in docs/functions.md" \
	"$(sql -c "SELECT DISTINCT proname::text FROM pg_proc WHERE pronamespace = 's3am'::regnamespace
		AND prorettype NOT IN ('table_am_handler'::regtype, 'index_am_handler'::regtype, 'internal'::regtype)
		UNION SELECT relname FROM pg_class WHERE relnamespace = 's3am'::regnamespace AND relkind = 'v'")" \
	"$top/docs/functions.md"
is "$(sql -c "SELECT string_agg(proname, ' ') FROM pg_proc WHERE pronamespace = 's3am'::regnamespace
	AND prorettype NOT IN ('table_am_handler'::regtype, 'index_am_handler'::regtype, 'internal'::regtype) AND obj_description(oid, 'pg_proc') IS NULL")" "" \
	"every function has a comment"
is "$(sql -c "SELECT string_agg(relname, ' ') FROM pg_class WHERE relnamespace = 's3am'::regnamespace AND relkind IN ('v', 'r')
	AND obj_description(oid, 'pg_class') IS NULL")" "" "every view and table has one"
is "$(sql -c "SELECT string_agg(proname, ' ') FROM pg_proc WHERE pronamespace = 's3am'::regnamespace
	AND has_function_privilege('public', oid, 'EXECUTE')
	AND proname NOT IN ('s3am_handler', 'commit_id', 'commit_status', 'relation_size', 'table_size', 'indexes_size',
		'total_relation_size', 'sequence_last_value')")" "" "no other function may be called by everybody"
is "$(for d in "$top"/src/*/; do [ -f "$d/README.md" ] || basename "$d"; done)" "" "every part has a README"
done_testing
