# schema.sh: what a database looks like, to be compared with another server's.  To be sourced after tap.sh.
#
#   schema_dump         pg_dump -s of the current server's database, without what differs from run to run
#   schema_columns      number, name and missing value of every column, dropped ones too
#   schema_data         rows and checksum of every s3am table, and where every sequence is at least
#   same_schema A B     three tests: the servers A and B agree in all of these

schema_dump() {
	(cluster_use "$dir" && "$cluster_bin/pg_dump" -s -d test "$@") |
		sed -e '/^\\restrict/d' -e '/^\\unrestrict/d' -e '/^--/d' -e '/^$/d'
}

schema_columns() {
	sql -F ' ' -c "SET search_path = pg_catalog" -c "SELECT c.oid::regclass, a.attnum, a.attname, a.attisdropped, a.attnotnull,
			a.attmissingval, a.atttypmod, a.attlen
		FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
		JOIN pg_namespace n ON n.oid = c.relnamespace
		LEFT JOIN pg_am m ON m.oid = c.relam
		WHERE a.attnum > 0 AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 's3am')
			AND (c.relkind NOT IN ('r', 'm') OR m.amname = 's3am')
		ORDER BY c.oid::regclass::text COLLATE \"C\", 2"
}

schema_data() {
	sql -F ' ' <<'SQL'
SET search_path = pg_catalog;
SET row_security = off;
SELECT format('SELECT %L, count(*), md5(string_agg(t::text, chr(10) ORDER BY t::text)) FROM ONLY %s t', c.oid::regclass, c.oid::regclass)
FROM pg_class c JOIN pg_am m ON m.oid = c.relam
WHERE m.amname = 's3am' AND c.relkind = 'r' ORDER BY c.oid::regclass::text \gexec
SELECT format('SELECT %L, count(*), md5(string_agg(t::text, chr(10) ORDER BY t::text)) FROM %s t', c.oid::regclass, c.oid::regclass)
FROM pg_class c JOIN pg_am m ON m.oid = c.relam
WHERE m.amname = 's3am' AND c.relkind = 'm' AND c.relispopulated ORDER BY c.oid::regclass::text \gexec
SQL
}

# same GOT WANTED NAME: files; shows how they differ
same_file() {
	local said
	if said=$(diff "$2" "$1"); then
		ok 0 "$3 ($(wc -l < "$2") lines)"
	else
		ok 1 "$3"
		diag "< expected, > got:" "$(head -n "${SCHEMA_DIFF_LINES:-40}" <<< "$said")"
		return 1
	fi
}

# schema_keep NAME: notes how the current server looks
schema_keep() {
	mkdir -p "$work/schema"
	schema_dump > "$work/schema/$1.dump"
	schema_columns > "$work/schema/$1.columns"
	schema_data > "$work/schema/$1.data"
}

# schema_same NAME WANTED
schema_same() {
	local what
	for what in dump columns data; do
		same_file "$work/schema/$1.$what" "$work/schema/$2.$what" "$3: $what"
	done
}
