#!/bin/bash
# What is wrong is said by name, hurts nothing else, and is over when its cause is.
. "$(dirname "$0")/../lib/tap.sh"

[[ $repository == file://* ]] || { echo "1..0 # SKIP it damages files of a directory"; tap_done=1; exit 0; }
root=${repository#file://}
quiet() { "$@" > /dev/null 2>&1; }
works() { quiet sql -c 'SELECT count(*) FROM t'; }
# refused TEXT NAME: a statement fails with 57P03 and a detail that contains TEXT
refused() { fails_like 57P03 "$1" 'SELECT 1 FROM pg_class LIMIT 1' "$2"; }
says() { local said; said=$(sql -v VERBOSITY=verbose -c "SELECT 1 FROM pg_class LIMIT 1" 2>&1); [[ $said == *"$1"* ]]; }
# byte FILE OFFSET: flips it
flip() { python3 -c 'import sys; f = open(sys.argv[1], "r+b"); f.seek(int(sys.argv[2])); b = f.read(1)[0]; f.seek(int(sys.argv[2])); f.write(bytes([b ^ 255]))' "$1" "$2"; }
manifest() { printf '%s/manifests/%020d' "$root" "$1"; }
short=("s3am.attach_timeout = '8s'")

# fails_like looks at the first error line; the reason is in the detail
detail_like() {						# detail_like SQLSTATE TEXT SQL NAME
	local said
	said=$(sql -v VERBOSITY=verbose -c "$3" 2>&1)
	[[ $said == *"ERROR:  $1: "* && $said == *"$2"* ]]
	ok $? "$4" || { diag "got:      $said" "expected: $1 ... $2"; return 1; }
}

# ---------------------------------------------------------------- the server

dir=$work/plain
cluster_init "$dir" && cluster_start "$dir" && cluster_psql "$dir" -d postgres -c 'CREATE DATABASE test'
fails_like 55000 's3am must be loaded via shared_preload_libraries' 'CREATE EXTENSION s3am' "not preloaded"
cluster_conf "$dir" "shared_preload_libraries = 's3am'" "${short[@]}"
cluster_restart "$dir"
fails_like 55000 's3am.repository is not set' 'CREATE EXTENSION s3am' "no repository"
is "$(sql -c "SELECT count(*) FROM pg_extension WHERE extname = 's3am'")" 0 "nothing is left of the attempt"
sql -c "SET s3am.repository = 'http://x/y'" -c 'CREATE EXTENSION s3am' > /dev/null 2>&1
detail_like 57P03 'is not an address like s3://bucket/prefix or file:///directory' 'SELECT 1 FROM pg_class LIMIT 1' "an address that is none"
cluster_remove "$dir"

# ---------------------------------------------------------------- a prefix that holds something else

node one "${short[@]}"
as_server touch "$root/precious"
sql -c 'CREATE EXTENSION s3am'
detail_like 57P03 'holds other objects and no repository' 'SELECT 1 FROM pg_class LIMIT 1' "a prefix that holds something else"
is "$(find "$root" -type f | grep -v /check/)" "$root/precious" "nothing is made there"
as_server rm "$root/precious"
eventually 20 quiet sql -c 'SELECT 1 FROM pg_class LIMIT 1'
ok $? "it becomes a repository once that is gone"
sql -c 'CREATE TABLE t (i int) USING s3am' -c 'INSERT INTO t SELECT generate_series(1, 10)' -c 'CREATE TABLE other (i int) USING s3am' \
	-c 'INSERT INTO other VALUES (1)' -c "SET s3am.inline_limit = 0; CREATE TABLE seg (i int, x text) USING s3am" \
	-c "SET s3am.inline_limit = 0; INSERT INTO seg SELECT i, md5(i::text) FROM generate_series(1, 20000) i"

# ---------------------------------------------------------------- two databases on one prefix

cluster_psql "$dir" -d postgres -c 'CREATE DATABASE second'
cluster_psql "$dir" -d second -c 'CREATE EXTENSION s3am' > /dev/null 2>&1
said=$(cluster_psql "$dir" -d second -v VERBOSITY=verbose -c 'SELECT 1 FROM pg_class LIMIT 1' 2>&1)
like "$said" '[Aa]nother database of this server' "two databases of one server on one prefix"
is "$(sql -c 'SELECT count(*) FROM t')" 10 "the first one goes on"
cluster_psql "$dir" -d second -c 'DROP EXTENSION s3am CASCADE' -c "ALTER DATABASE second SET s3am.repository = '${repository}2'" > /dev/null 2>&1
as_server mkdir -p "${root}2"
cluster_psql "$dir" -d second -c 'CREATE EXTENSION s3am' > /dev/null 2>&1
second_works() { quiet cluster_psql "$dir" -d second -c 'CREATE TABLE IF NOT EXISTS t (i int) USING s3am'; }
eventually 20 second_works
ok $? "with a prefix of its own it works"

# ---------------------------------------------------------------- encoding and collation

node other_locale "${short[@]}"
cluster_psql "$dir" -d postgres -c 'DROP DATABASE test' -c "CREATE DATABASE test TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'"
sql -c 'CREATE EXTENSION s3am'
detail_like 57P03 'made by a database with collation' 'SELECT 1 FROM pg_class LIMIT 1' "another collation"
cluster_remove "$dir"
node other_encoding "${short[@]}"
cluster_psql "$dir" -d postgres -c 'DROP DATABASE test' -c "CREATE DATABASE test TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'"
sql -c 'CREATE EXTENSION s3am'
detail_like 57P03 'made by a database with encoding UTF8, this one has SQL_ASCII' 'SELECT 1 FROM pg_class LIMIT 1' "another encoding"
cluster_remove "$dir"

# ---------------------------------------------------------------- no free worker

node few "${short[@]}" "max_worker_processes = 2"
sql -c 'CREATE EXTENSION s3am' > /dev/null 2>&1
detail_like 57P03 'raise max_worker_processes' 'SELECT 1 FROM pg_class LIMIT 1' "no free worker slot"
cluster_conf "$dir" "max_worker_processes = 8"
cluster_restart "$dir"
eventually 20 works
ok $? "with enough of them it attaches"
cluster_remove "$dir"

# ---------------------------------------------------------------- the repository object

node two "${short[@]}"
cp -p "$root/repository" "$work/kept"
printf '\x63\x00' | dd of="$root/repository" bs=1 seek=8 conv=notrunc status=none
sql -c 'CREATE EXTENSION s3am'
detail_like 57P03 'object "repository" was written in a newer format: upgrade s3am' 'SELECT 1 FROM pg_class LIMIT 1' "a newer format"
cp -p "$work/kept" "$root/repository"
flip "$root/repository" 80
says_damaged() { says 'object "repository" is damaged'; }
eventually 10 says_damaged
ok $? "a damaged repository object"
truncate -s 30 "$root/repository"
says_cut() { says 'object "repository" is damaged: it is cut off after 30 bytes'; }
eventually 10 says_cut
ok $? "a truncated one"
on one
is "$(sql -c 'INSERT INTO t VALUES (11)' -c 'SELECT count(*) FROM t')" 11 "who is attached goes on"
cp -p "$work/kept" "$root/repository"
on two
eventually 20 works
ok $? "restored: it attaches by itself"

# ---------------------------------------------------------------- a manifest

cluster_stop "$dir"
on one
middle=4
cp -p "$(manifest $middle)" "$work/kept"
flip "$(manifest $middle)" 90
on two
cluster_start "$dir"
is_named() { says "object \"manifests/$(printf %020d $middle)\" is damaged"; }
eventually 10 is_named
ok $? "a damaged manifest is named"
cp -p "$work/kept" "$(manifest $middle)"
eventually 20 works
ok $? "restored: it attaches by itself"

cluster_stop "$dir"
before=$(ls "$root/manifests" | wc -l)
rm "$(manifest $middle)"
cluster_start "$dir"
sleep 2
is_named() { says "manifests/$(printf %020d $middle)"; }
eventually 10 is_named
ok $? "a missing manifest in the middle is named"
is "$(ls "$root/manifests" | wc -l)" "$((before - 1))" "and nothing is written in its place"
cp -p "$work/kept" "$(manifest $middle)"
eventually 20 works
ok $? "restored: it attaches by itself"

# the next one, while a server follows: somebody wrote something that is none
on two
next=$(($(sql -c 'SELECT head FROM s3am.node()') + 1))
echo garbage > "$work/garbage"
chown "$cluster_owner" "$work/garbage"
as_server cp "$work/garbage" "$(manifest $next)"
named_in_log() { grep -q "manifests/$(printf %020d $next)\" is damaged" "$dir/log"; }
eventually 10 named_in_log
ok $? "garbage in the next slot is named in the log"
is "$(sql -c 'SELECT count(*) FROM t')" 11 "reading goes on"
said=$(sql -v VERBOSITY=verbose -c 'INSERT INTO t VALUES (12)' 2>&1)
like "$said" "manifests/$(printf %020d $next)" "a commit fails with the reason"
said=$(sql -v VERBOSITY=verbose -c "SET s3am.freshness = latest; SELECT count(*) FROM t" 2>&1)
like "$said" "manifests/$(printf %020d $next)" "so does a wait for the newest version"
as_server rm "$(manifest $next)"
can_write() { quiet sql -c 'INSERT INTO t VALUES (13)'; }
eventually 20 can_write
ok $? "once it is gone commits work"
is "$(sql -c 'SELECT count(*) FROM t WHERE i > 11')" 1 "the failed one is not there"

# ---------------------------------------------------------------- a segment

segment=$(sql -c "SELECT object FROM s3am.segments WHERE \"table\" = 'seg'::regclass")
size=$(stat -c %s "$root/$segment")
cp -p "$root/$segment" "$work/kept"
for where in 100 $((size / 2)) $((size - 300)); do
	flip "$root/$segment" "$where"
	said=$(sql -v VERBOSITY=verbose -c 'SELECT sum(i), max(x) FROM seg' 2>&1)
	like "$said" "ERROR:  XX001:.*$segment" "a damaged segment is named (byte $where of $size)"
	cp -p "$work/kept" "$root/$segment"
done
truncate -s $((size - 1000)) "$root/$segment"
said=$(sql -v VERBOSITY=verbose -c 'SELECT sum(i), max(x) FROM seg' 2>&1)
like "$said" "ERROR:  XX001:.*$segment" "a truncated segment is named"
rm "$root/$segment"
said=$(sql -v VERBOSITY=verbose -c 'SELECT sum(i), max(x) FROM seg' 2>&1)
like "$said" "ERROR:  XX001:.*$segment" "a missing segment is named"
is "$(sql -c 'SELECT count(*) FROM other' -c "INSERT INTO other VALUES (2)" -c 'SELECT count(*) FROM other')" $'1\n2' "other tables go on"
cp -p "$work/kept" "$root/$segment"
is "$(sql -c 'SELECT sum(i) FROM seg')" 200010000 "restored: it can be read"

# ---------------------------------------------------------------- no room, no permission

committer=$(worker committer)
as_server prlimit --fsize=20000: --pid "$committer"
said=$(sql -v VERBOSITY=verbose -c "INSERT INTO t SELECT 1000 + (random() * 1e9)::int FROM generate_series(1, 8000)" 2>&1)
like "$said" 'ERROR:.*manifests/' "no room for a manifest: the commit fails and names it"
is "$(sql -c 'INSERT INTO t VALUES (14)' -c 'SELECT count(*) FROM t WHERE i > 13')" 1 "smaller ones go on, nothing of the other is there"
as_server prlimit --fsize=unlimited: --pid "$committer"
is "$(find "$root/manifests" -name '*' -type f | grep -vcE '/[0-9]{20}$')" 0 "no half-written file under the manifests"
sql -v VERBOSITY=verbose -v ON_ERROR_STOP=0 -c 'SET s3am.inline_limit = 0' -c 'SELECT pg_sleep(3)' \
	-c 'INSERT INTO seg SELECT i, md5(i::text) FROM generate_series(1, 50000) i' -c 'SELECT count(*) FROM seg' > "$work/said" 2>&1 &
session=$!
sleeper() { sql -c "SELECT pid FROM pg_stat_activity WHERE query ~ 'pg_sleep' AND pid <> pg_backend_pid()" | grep .; }
eventually 3 quiet sleeper
as_server prlimit --fsize=100000: --pid "$(sleeper)"
wait "$session"
said=$(cat "$work/said")
like "$said" 'ERROR:.*segments/.*20000' "no room for a segment: the transaction fails and names it, the session goes on"

if [ "$(id -u)" = 0 ]; then
	chmod 500 "$root/manifests"
	said=$(sql -v VERBOSITY=verbose -c "SET s3am.commit_timeout = '5s'; INSERT INTO t VALUES (15)" 2>&1)
	like "$said" 'ERROR:.*manifests/.*ermission denied' "no permission to write: the commit fails and says so"
	is "$(sql -c 'SELECT count(*) FROM t WHERE i >= 14')" "$(sql -c 'SELECT count(*) FROM t WHERE i = 14')" "reading goes on"
	chmod 700 "$root/manifests"
	can_write() { quiet sql -c 'INSERT INTO t VALUES (16)'; }
	eventually 20 can_write
	ok $? "with it commits work"
fi
done_testing
