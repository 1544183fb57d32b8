#!/bin/bash
# s3am.verify(): any byte of any object changed, any object cut, missing or in another's place is named, and nothing else is; who reads what
# is sound goes on.
. "$(dirname "$0")/../lib/tap.sh"

[[ $repository == file://* ]] || { echo "1..0 # SKIP it damages files of a directory"; tap_done=1; exit 0; }
root=${repository#file://}
flips=${VERIFY_FLIPS:-10}				# random bytes of each object, besides those of each part
# nothing may change by itself while bytes are changed
node one "s3am.compaction = off" "s3am.node_timeout = '1h'" "s3am.checkpoint_interval = 8" "s3am.retention = '1s'" "s3am.collect_grace = '50ms'" \
	"s3am.collect_interval = '1s'"
sql -c 'CREATE EXTENSION s3am' -c 'CREATE TABLE t (i int, x text) USING s3am' -c 'CREATE TABLE large (i int, x text) USING s3am' \
	-c "INSERT INTO t SELECT i, 'inline' FROM generate_series(1, 300) i" -c 'DELETE FROM t WHERE i % 7 = 0' \
	-c "UPDATE t SET x = 'again' WHERE i < 50" -c "SET s3am.inline_limit = 0; INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 5000) i" \
	-c "SET s3am.inline_limit = 0; INSERT INTO large SELECT i, (SELECT string_agg(md5((i * j)::text), '') FROM generate_series(1, 3000) j) FROM generate_series(1, 3) i" \
	-c 'INSERT INTO large SELECT i, repeat(md5(i::text), 1000) FROM generate_series(1, 2) i' || exit 1

# a checkpoint with pages of its own, a boundary, and manifests on both sides of the newest checkpoint
for i in {1..30}; do echo "INSERT INTO t SELECT $i, md5(j::text) FROM generate_series(1, 20) j;"; done | sql > /dev/null || exit 1
collected() { [ -e "$root/gc/boundary" ] && [ ! -e "$root/manifests/00000000000000000003" ] && [ -n "$(ls "$root/pages" 2> /dev/null)" ]; }
eventually 30 collected
ok $? "there are checkpoints with pages, and the first manifests were collected" || exit 1
cluster_conf "$dir" "s3am.collect_interval = 0" "s3am.checkpoint_interval = 12"
sql -c 'SELECT pg_reload_conf()' > /dev/null
for i in {1..17}; do echo "INSERT INTO t VALUES ($i, 'z');"; done | sql || exit 1
sql -c "SET s3am.inline_limit = 0; INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 5000) i"
sleep 2

boundary=$(sql -c "SELECT value FROM s3am.inspect('gc/boundary') WHERE path = 'boundary'")
needed() { (cd "$root" && find . -type f -not -name '.*' -not -path './.*' -not -path './pins/*' | cut -c3- | awk -F/ -v b="$boundary" '$1 != "manifests" || $2 + 0 > b'); }
problems() { sql -F ' ' -c "SELECT coalesce(string_agg(DISTINCT object, ' ' ORDER BY object), '-') FROM s3am.verify() WHERE problem IS NOT NULL" 2>&1; }
is "$(problems)" - "nothing is wrong with a sound repository" || exit 1
is "$(sql -c "SELECT what, objects > 0, bytes > 0 FROM s3am.verify() WHERE what IN ('manifests', 'segments') ORDER BY what")" \
	$'manifests|t|t\nsegments|t|t' "it says how much it has read"
is "$(sql -c "SELECT sum(objects) FROM s3am.verify() WHERE what IN ('manifests', 'segments', 'checkpoints', 'checkpoint pages', 'other objects')")" \
	"$(needed | wc -l)" "which is all there is, but for manifests under the boundary"
is "$(sql -c "SELECT sum(objects) FROM s3am.verify() WHERE what ~ 'nothing refers|none of|not published'")" 0 "and nothing is superfluous"

# ---------------------------------------------------------------- bytes, lengths, places

# Changes objects one way after the other and asks verify each time, in one session; a line for each test: name, what was wrong.
cat > "$work/damage" << 'PYTHON'
import os, random, shutil, struct, subprocess, sys
root, flips, current, psql = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:]
server = subprocess.Popen(psql, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

def problems():
    server.stdin.write("SELECT coalesce(string_agg(DISTINCT object, ' '), '') FROM s3am.verify() WHERE problem IS NOT NULL;\n")
    server.stdin.flush()
    return set(server.stdout.readline().split())

def write(key, data):
    with open(os.path.join(root, key), 'r+b') as f:
        f.write(data)
        f.truncate()

# some bytes of each part of the object, and random ones
def offsets(data):
    size = len(data)
    some = set(random.sample(range(size), min(flips, size))) | {0, size - 1, size // 2}
    if data[:8] != b'S3AMSEG1':
        return some | set(range(0, 64, 5))
    some |= set(range(8, 64, 4)) | {56, 63}
    offset, footer = 64, struct.unpack('<I', data[-8:-4])[0]
    end, count = size - 16 - footer, 0
    while offset < end:
        last = offset + 24 + struct.unpack('<I', data[offset + 8:offset + 12])[0]
        after = (last + 7) // 8 * 8
        if count < 2 or after >= end:
            some |= set(range(offset, offset + 24, 3)) | {offset + 24, last - 1} | set(range(last, after))
        offset, count = after, count + 1
    return some | set(range(size - 16, size, 2)) | {end, end + footer // 2}

random.seed(1)
keys = sorted(sys.stdin.read().split())
kept = {key: open(os.path.join(root, key), 'rb').read() for key in keys}
for key in keys:
    missed, blamed = [], []
    for offset in sorted(o for o in offsets(kept[key]) if o < len(kept[key])):
        data = bytearray(kept[key])
        data[offset] ^= 1 << random.randrange(8)
        write(key, data)
        found = problems()
        if key not in found:
            missed.append(str(offset))
        if found - {key}:
            blamed.append(f'{offset}: {found}')
        write(key, kept[key])
    print(f'each changed byte of {key} is noticed|{" ".join(missed)}')
    print(f'and nothing else is blamed|{" ".join(blamed)}')
    size = len(kept[key])
    missed = []
    for length in (0, 1, size // 2, size - 1, size + 1, size + 5000):
        write(key, (kept[key] + bytes(5000))[:length])
        if key not in problems():
            missed.append(str(length))
        write(key, kept[key])
    # these need not be there: hints, and checkpoints of before
    if not key.startswith('nodes/') and key not in ('root', 'gc/boundary') and (not key.startswith('checkpoints/') or current in key):
        os.rename(os.path.join(root, key), os.path.join(root, '.tmp', 'kept'))
        if key not in problems():
            missed.append('missing')
        os.rename(os.path.join(root, '.tmp', 'kept'), os.path.join(root, key))
    print(f'so is another length of it, and that it is missing|{" ".join(missed)}')
missed = []
first = next(key for key in keys if key.startswith('manifests/'))
for i, a in enumerate(keys):
    for j in range(i + 1, len(keys)):
        # neighbours, the first manifest with every other one, since it may publish what the boundary names, and some of the others
        if j > i + 1 and a != first and (i * 31 + j) % 4:
            continue
        b = keys[j]
        write(a, kept[b])
        write(b, kept[a])
        # what one names alone is not known while that one is damaged
        found = problems()
        if not ({a, b} <= found if a.split('/')[0] == b.split('/')[0] else {a, b} & found):
            missed.append(f'{a} <> {b} (found: {" ".join(found)})')
        write(a, kept[a])
        write(b, kept[b])
print(f'two objects in each other\'s place|{", ".join(missed)}')
print(f'all is well again|{" ".join(problems())}')
PYTHON
is "$(sql -c 'SELECT count(*) > 0 FROM s3am.manifests')" t "s3am.manifests shows those that are left"
current=$(sql -c "SELECT max(value) FROM s3am.manifests m, s3am.inspect('manifests/' || m.version) i WHERE i.path = 'checkpoint.version'")
cluster_use "$dir"
while IFS='|' read -r name wrong; do
	is "$wrong" "" "$name"
done < <(needed | python3 "$work/damage" "$root" "$flips" "$current" "$cluster_bin/psql" -XqAt -v VERBOSITY=terse -d test)
flip() { python3 -c 'import sys; f = open(sys.argv[1], "r+b"); f.seek(int(sys.argv[2])); b = f.read(1)[0]; f.seek(int(sys.argv[2])); f.write(bytes([b ^ 255]))' "$1" "$2"; }

# ---------------------------------------------------------------- beside it

segment=$(sql -c "SELECT object FROM s3am.segments WHERE \"table\" = 't'::regclass LIMIT 1")
flip "$root/$segment" 200
is "$(sql -c "SELECT count(*) FROM large" -c "INSERT INTO large VALUES (9, 'x')" -c 'SELECT count(*) FROM large')" $'5\n6' "other tables are read and written"
is "$(sql -c "SELECT object, what FROM s3am.verify() WHERE problem IS NOT NULL")" "$segment|segment" "it is named alone"
like "$(sql -c "SELECT problem FROM s3am.verify() WHERE problem IS NOT NULL")" 'a checksum does not fit' "with what is wrong"
flip "$root/$segment" 200
is "$(problems)" - "all is well again"
fails_like 57014 'statement timeout' "SET statement_timeout = '1ms'; SELECT count(*) FROM s3am.verify()" "it can be cancelled"
unpinned() { [ -z "$(ls "$root/pins" 2> /dev/null)" ]; }
eventually 5 unpinned
ok $? "which leaves no pin behind"
is "$(sql -c 'SELECT count(*) FROM s3am.progress')" 0 "and no progress"
sql -c 'CREATE ROLE plain IN ROLE pg_monitor'
fails_like 42501 'permission denied' 'SET ROLE plain; SELECT * FROM s3am.verify()' "it is the superuser's"
is "$(sql -c 'SET ROLE plain; SELECT count(*) FROM s3am.progress')" 0 "pg_monitor sees the progress"

# ---------------------------------------------------------------- a database that cannot be attached

manifest=$(ls "$root/manifests" | tail -n 1)
flip "$root/manifests/$manifest" 100
fails_like XX001 "nothing was removed, because \"manifests/$manifest\" is damaged" 'SELECT * FROM s3am.recovery_scan(false)' \
	"nothing is removed while what it may refer to is not known"
cluster_conf "$dir" "s3am.attach_timeout = '2s'"
cluster_restart "$dir"
fails_like 57P03 'is not attached' 'SELECT 1 FROM pg_class LIMIT 1' "the database cannot be attached"
is "$(problems)" "manifests/$manifest" "verify names what is damaged there, too"
flip "$root/manifests/$manifest" 100
attached() { sql -c 'SELECT count(*) FROM t' > /dev/null 2>&1; }
eventually 20 attached
ok $? "mended: it attaches"

# ---------------------------------------------------------------- a copy, made while somebody writes, as docs/operations.md says

attached || exit 1
before=$(sql -c 'SELECT count(*) FROM t')
(for i in {1..60}; do echo "INSERT INTO t SELECT $i, 'copy' FROM generate_series(1, 10);"; echo "SET s3am.inline_limit = 0; INSERT INTO t SELECT $i, 'copy' FROM generate_series(1, 90); RESET s3am.inline_limit;"; done | sql) &
writer=$!
sleep 0.5
as_server mkdir "$root.copy"
for part in repository gc manifests checkpoints pages segments; do
	[ ! -e "$root/$part" ] || as_server cp -r "$root/$part" "$root.copy/"
	sleep 0.2
done
wait "$writer"
repository=file://$root.copy
node copy
sql -c 'CREATE EXTENSION s3am'
n=$(sql -c 'SELECT count(*) FROM t')
ok "$((n >= before && (n - before) % 10 == 0 ? 0 : 1))" "a server attaches to a copy ($before rows before, $n in it)"
is "$(problems)" - "which is whole"
done_testing
