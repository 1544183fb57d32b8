#!/bin/bash
# A broad schema on one server, which dies with its data directory; a fresh server has all of it.  Then the same while another
# server follows.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../ddl/schema.sh"
schema=$(cd "$(dirname "$0")/../ddl" && pwd)/schema.sql

roles() { cluster_psql "$dir" -d postgres -c 'CREATE ROLE ddl_a' -c 'CREATE ROLE ddl_b'; }

node one
roles
sql -c 'CREATE EXTENSION s3am' || exit 1
sql -f "$schema" > "$work/output" 2> "$work/errors"
ok $? "the schema is made" || diag "$(tail -n 5 "$work/errors")"
is "$(grep -v -e NOTICE -e DETAIL "$work/errors" | grep -v '^drop cascades\|^and ')" "" "without a complaint"
schema_keep one
cluster_kill "$dir"
rm -rf "$dir/data"

node two
roles
sql -c 'CREATE EXTENSION s3am' || exit 1
sql -c 'SELECT 1' > "$work/said" 2>&1
ok $? "a fresh server attaches" || { diag "$(cat "$work/said")"; done_testing; exit 1; }
schema_keep two
schema_same two one "attached"
is "$(sql -c "SELECT count(*) FROM app.calls")" "$(sed -n 's/^app.calls|\{0,1\} *\([0-9]*\).*/\1/p' "$work/schema/one.data")" "no function ran again"

done_testing
