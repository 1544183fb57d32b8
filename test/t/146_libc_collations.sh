#!/bin/bash
# Servers with another version of glibc, which sorts text otherwise: what 140_collations.sh shows of ICU in full holds for the collations of
# the C library, and for a database whose own collation is one of them.
. "$(dirname "$0")/../lib/tap.sh"

lib=$(cd "$(dirname "$0")/../lib" && pwd)
gcc -O1 -Wall -Werror -shared -fPIC -DGLIBC -o "$work/glibc.so" "$lib/collate.c" || exit 1
# a locale of the test's own: a system may have none but C and POSIX
mkdir "$work/locale" && localedef -i en_US -f UTF-8 "$work/locale/en_US.UTF-8" || exit 1
chmod -R a+rX "$work/locale" "$work/glibc.so"
export LOCPATH=$work/locale
quiet="log_min_messages = error"
unusable() { sql -c "SELECT string_agg(index::text, ' ' ORDER BY index::text COLLATE \"C\") FROM s3am.indexes WHERE unusable IS NOT NULL" 2> /dev/null; }

# ---------------------------------------------------------------- a collation
node one "$quiet" "s3am.compaction = off"
sql -c 'CREATE EXTENSION s3am' || exit 1
here=$(getconf GNU_LIBC_VERSION)
here=${here#glibc }
sql <<'SQL' || exit 1
SET default_table_access_method = s3am;
CREATE COLLATION english (provider = libc, locale = 'en_US.UTF-8');
CREATE TABLE t (i int PRIMARY KEY, x text COLLATE english);
INSERT INTO t SELECT g, 'text ' || g FROM generate_series(1, 3000) g;
CREATE UNIQUE INDEX t_x ON t (x);
CREATE INDEX t_c ON t (x COLLATE "C");
CREATE INDEX t_hash ON t USING hash (x);
SQL
S3AM_SERVER_PRELOAD=$work/glibc.so node two "$quiet" "s3am.compaction = off"
sql -c 'CREATE EXTENSION s3am' || exit 1
follow one two 20
is "$(sql -c "SELECT 'a' COLLATE english > 'b', 'a' COLLATE \"C\" > 'b'")" "t|f" "the second server's library sorts otherwise"
is "$(unusable)" t_x "s3am.indexes says which indexes it cannot use: those whose order goes by the collation"
is "$(sql -c "SELECT unusable FROM s3am.indexes WHERE index = 't_x'::regclass")" \
	"ordered by version $here of collation \"english\", and this server has 7.7" "and why"
said=$(sql -c "SELECT i FROM t WHERE x = 'text 77'" 2>&1)
like "$said" "WARNING:  index \"t_x\" is ordered by another version of collation \"english\"" "who plans is told"
like "$said" $'\n77$' "what is asked for is found"
is "$(sql -c "SELECT x FROM t ORDER BY x LIMIT 1" 2> /dev/null)|$(on one; sql -c "SELECT x FROM t ORDER BY x DESC LIMIT 1")" "text 999|text 999" "each server has the order of its library"
fails_like 55000 'index "t_x" is ordered by another version' "INSERT INTO t VALUES (5000, 'new')" "who would have to look for a key there fails"
is "$(sql -c "SELECT s3am.check_index('t_hash', true), s3am.check_index('t_c', true)")" "|" "the others are sound here, too"
sql -c 'REINDEX INDEX t_x' 2> /dev/null
is "$(unusable)|$(sql -c "INSERT INTO t VALUES (5000, 'new') RETURNING i" -c "SELECT s3am.check_index('t_x', true)")" $'|5000' "REINDEX mends it"
fails_like 23505 't_x' "INSERT INTO t VALUES (5001, 'text 7')" "and no key comes twice"
follow two one 20
is "$(unusable)" t_x "now the first server does without it"
fails_like 55000 'index "t_x"' "INSERT INTO t VALUES (5002, 'text 7')" "and does not add to it"

# ---------------------------------------------------------------- the database's own
repository=$repository-default
S3AM_INITDB=--locale=en_US.UTF-8 node three "$quiet"
sql -c 'CREATE EXTENSION s3am' -c "CREATE TABLE d (x text PRIMARY KEY, j jsonb UNIQUE, b name UNIQUE, i int UNIQUE) USING s3am" \
	-c 'CREATE INDEX d_h ON d USING hash (x)' -c "INSERT INTO d SELECT 'text ' || g, to_jsonb('j' || g), 'b' || g, g FROM generate_series(1, 100) g" || exit 1
is "$(sql -c "SELECT datcollate FROM pg_database WHERE datname = current_database()")|$(unusable)" "en_US.UTF-8|" "a server uses what it wrote"
cluster_stop "$dir"
S3AM_SERVER_PRELOAD=$work/glibc.so cluster_start "$dir" || exit 1
is "$(unusable)" "d_j_key d_pkey" "after an upgrade it does without the keys of text, and of strings in jsonb"
is "$(sql -c "SELECT i FROM d WHERE x = 'text 50'" -c "SELECT i FROM d WHERE j = '\"j51\"'" 2> /dev/null)" $'50\n51' "rows are found"
fails_like 55000 'index "d_pkey"' "INSERT INTO d VALUES ('text 50')" "who adds a row fails"
sql -c 'REINDEX TABLE d' 2> /dev/null
is "$(unusable)|$(sql -c "SELECT s3am.check_index('d_pkey', true), s3am.check_index('d_j_key', true)")" "||" "until REINDEX"
fails_like 23505 d_pkey "INSERT INTO d VALUES ('text 50')" "which has a key only once"
done_testing
