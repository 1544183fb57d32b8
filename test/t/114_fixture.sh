#!/bin/bash
# Repositories that earlier builds made (test/fixture): they are opened with every row and definition, are sound, can be written, compacted
# and collected, and another server has all of it.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../ddl/schema.sh"
fixtures=$(cd "$(dirname "$0")/../fixture" && pwd)

attach() {						# NAME [LINE ...]: a server that has nothing but the repository's address
	node "$1" "timezone = 'UTC'" "s3am.node_timeout = '2s'" "s3am.pin_timeout = '4s'" "s3am.checkpoint_interval = 20" "${@:2}"
	cluster_psql "$dir" -d postgres -c 'CREATE ROLE ddl_a' -c 'CREATE ROLE ddl_b'
	sql -c 'CREATE EXTENSION s3am'
	eventually 30 attached
}
attached() { [ "$(sql -c 'SELECT phase FROM s3am.node()' 2> /dev/null)" = ready ]; }
# every index says what its table says
indexes() {
	local index n=0 said=
	for index in $(sql -c "SELECT i.indexrelid::regclass FROM pg_index i JOIN pg_class t ON t.oid = indrelid JOIN pg_am a ON a.oid = t.relam
			WHERE amname = 's3am' AND indisvalid ORDER BY 1"); do
		said+=$(sql -c "SELECT s3am.check_index('$index', true)" 2>&1 > /dev/null)
		n=$((n + 1))
	done
	is "$said" "" "$1 ($n)"
}
# where there are keys: rows by key, by each index
keys="SELECT count(*), sum(id), md5(string_agg(name, ',' ORDER BY name DESC)) FROM fixture.keyed WHERE name > '';
SELECT count(*), sum(id), sum(n) FROM fixture.keyed WHERE n > 5 AND n < 40;
SELECT count(*), sum(id) FROM fixture.keyed WHERE lower(body) LIKE 'a%';
SELECT count(*), sum(id) FROM fixture.keyed WHERE body = md5('77') OR body = 'late' OR body = 'small';
SELECT count(*), max(day) FROM fixture.keyed WHERE day BETWEEN '2020-03-01' AND '2022-02-01';
SELECT count(*), sum(keyed) FROM fixture.refers WHERE id BETWEEN 10 AND 200;
SELECT count(*), sum(a) FROM fixture.keyed_parts WHERE b = 'x' AND a > 10"
keys_by() { sql -c "SET enable_$1 = off" -c "SET enable_bitmapscan = off" -c "${2:-SELECT}" -c "$keys" | grep -v '^SET$\|^$'; }
keyed() { [ "$(sql -c "SELECT to_regclass('fixture.keyed') IS NOT NULL")" = t ]; }
sound() { is "$(sql -c 'SELECT count(*) FROM s3am.verify() WHERE problem IS NOT NULL')" 0 "$1"; }
draws() { sql -c "SELECT nextval('fixture.$1')" > "$work/number" 2> /dev/null; }

try() {							# FIXTURE
	local name up down root=$work/repository-$1 wanted old
	repository=file://$root
	as_server mkdir "$root" && as_server tar -xzf - -C "$root" < "$fixtures/$1/repository.tar.gz" || exit 1
	mkdir -p "$work/schema"
	for name in dump columns data; do cp "$fixtures/$1/$name" "$work/schema/$1.$name"; done

	attach "$1-one" "s3am.collect_interval = 0"
	ok $? "$1: a server attaches" || return 1
	schema_keep "$1-read"
	schema_same "$1-read" "$1" "$1: what is read"
	sound "$1: it is sound"
	if keyed; then
		indexes "$1: so are indexes"
		is "$(keys_by seqscan)" "$(keys_by indexscan "SET enable_indexonlyscan = off")" "$1: and they are used"
		is "$(keys_by seqscan | grep -c '^[1-9]')" 7 "$1: and find something"
		fails_like 23505 keyed_pkey "INSERT INTO fixture.keyed VALUES (17)" "$1: a key that is there"
		fails_like 23505 keyed_name_key "INSERT INTO fixture.keyed VALUES (-1, 'small 44')" "$1: one of a small commit"
		fails_like 23503 refers_keyed_fkey "INSERT INTO fixture.refers VALUES (-1, 21)" "$1: a key that is gone"
		fails_like 23P01 refers_day "INSERT INTO fixture.refers VALUES (-1, 1, '2020-02-03')" "$1: one that is excluded"
	fi

	# numbers go on; one sequence belongs to a server that was killed
	up=$(sed -n 's/^up|//p' "$fixtures/$1/sequences") down=$(sed -n 's/^down|//p' "$fixtures/$1/sequences")
	eventually 20 draws theirs
	ok "$([ "$(cat "$work/number")" -gt 20 ]; echo $?)" "$1: a sequence of a server that died goes on ($(cat "$work/number"))"
	draws up
	ok "$([ "$(cat "$work/number")" -gt "$up" ]; echo $?)" "$1: so do others"
	draws down
	ok "$([ "$(cat "$work/number")" -lt "$down" ]; echo $?)" "$1: downwards too"

	sql > "$work/output" 2>&1 <<'SQL'
SET search_path = fixture;
INSERT INTO small VALUES (13, 'now');
UPDATE small SET s = 'changed now' WHERE i IN (5, 12);
DELETE FROM wide WHERE i % 3 = 0;
INSERT INTO lately VALUES ('b', 4);
ALTER TYPE late ADD VALUE 'd';
INSERT INTO lately VALUES ('d', 5);
ALTER TABLE wide ADD COLUMN added int DEFAULT 7;
SET s3am.inline_limit = 0;
INSERT INTO wide (i, s) SELECT i, md5(i::text) FROM generate_series(4001, 5000) i;
INSERT INTO large SELECT i + 100, s FROM large;
DROP TABLE added;
TRUNCATE emptied;
VACUUM wide;
VACUUM FULL commits;
INSERT INTO app.t (a, b, m) VALUES (1, 'now', 'great');
DELETE FROM types.stored WHERE i = 1;
SQL
	ok $? "$1: it is written" || diag "$(tail -n 3 "$work/output")"
	if keyed; then
		sql > "$work/output" 2>&1 <<'SQL'
SET search_path = fixture;
INSERT INTO keyed SELECT g, 'now ' || g, g % 50, '2023-01-01', 'now' FROM generate_series(40001, 42000) g;
INSERT INTO keyed VALUES (21, 'came again', 1, '2023-01-01', 'now');
INSERT INTO refers VALUES (1000, 21, '2023-01-01');
UPDATE keyed SET id = -id WHERE id < 100;
DELETE FROM keyed WHERE id BETWEEN 3000 AND 3999;
INSERT INTO keyed VALUES (1, 'late 1') ON CONFLICT (name) DO UPDATE SET n = 77;
REINDEX INDEX keyed_pkey;
VACUUM keyed;
VACUUM refers;
REFRESH MATERIALIZED VIEW CONCURRENTLY keyed_view;
CREATE INDEX keyed_now ON keyed (n, id);
SQL
		ok $? "$1: with keys, too" || diag "$(tail -n 3 "$work/output")"
		indexes "$1: and its indexes follow"
	fi
	is "$(sql -c "SELECT string_agg(s, ',' ORDER BY i) FROM fixture.small WHERE i IN (5, 11, 12, 13)" \
		-c 'SELECT count(*), count(s), sum(added) / 7 FROM fixture.wide WHERE i > 600' \
		-c 'SELECT string_agg(l::text, chr(44) ORDER BY l, i) FROM fixture.lately')" \
		$'changed now,kept,changed now,now\n2774|2774|2774\na,b,b,c,d' "$1: what was there and what is new fit"
	schema_keep "$1-written"

	# what was old when it was stored goes, once a checkpoint has the rest
	old=$(find "$root/manifests" -type f | sort | head -n 1)
	wanted=$(find "$root/segments" -type f | wc -l)
	cluster_conf "$dir" "s3am.collect_interval = '200ms'"
	sql -c 'SELECT pg_reload_conf()' > /dev/null
	collected() {
		sql -c "INSERT INTO fixture.small VALUES (0, '')" -c 'DELETE FROM fixture.small WHERE i = 0' &&
			[ ! -e "$old" ] && [ "$(find "$root/segments" -type f | wc -l)" = "$(sql -c 'SELECT sum(segments) FROM (SELECT count(DISTINCT object) AS segments FROM s3am.segments WHERE object LIKE $$segments/%$$) s')" ] &&
			[ "$(find "$root/nodes" -type f | wc -l)" = 1 ]
	}
	eventually 40 collected
	ok $? "$1: what nobody needs any more is collected" || diag "$(ls "$root/nodes"), of $wanted segments $(find "$root/segments" -type f | wc -l)"
	sound "$1: and it is sound still"
	cluster_kill "$dir"
	attach "$1-two"
	schema_keep "$1-again"
	schema_same "$1-again" "$1-written" "$1: another server has all of it"
	if keyed; then
		indexes "$1: with sound indexes"
		is "$(keys_by seqscan)" "$(keys_by indexscan "SET enable_indexonlyscan = off")" "$1: which are used"
	fi
	cluster_stop "$dir"
}

n=0
for fixture in "$fixtures"/*/repository.tar.gz; do
	[ -e "$fixture" ] || continue
	try "$(basename "$(dirname "$fixture")")"
	n=$((n + 1))
done
ok "$((n > 0 ? 0 : 1))" "there are fixtures ($n)"
done_testing
