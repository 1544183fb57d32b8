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
