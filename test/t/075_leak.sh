#!/bin/bash
# One connection, many statements: neither its memory nor the workers' grows.  What the node keeps of each commit is reported.
# LEAK_STATEMENTS: 50000; a million is the full form.
. "$(dirname "$0")/../lib/tap.sh"

statements=${LEAK_STATEMENTS:-50000}
# Each quarter begins with an ANALYZE.  Autovacuum's might be the first one and come in the last quarter, and what the planner then keeps of
# statistics, once and for good, would look like growth.
node one "autovacuum = off"
sql -c 'CREATE EXTENSION s3am' -c 'CREATE TABLE r (id int, n int, body text) USING s3am' -c 'CREATE TABLE log (i int) USING s3am' \
	-c "INSERT INTO r SELECT i, 0, repeat(md5(i::text), 10) FROM generate_series(1, 300) i" \
	-c "SET s3am.inline_limit = 0; CREATE TABLE seg (id int, body text) USING s3am" \
	-c "SET s3am.inline_limit = 0; INSERT INTO seg SELECT i, md5(i::text) FROM generate_series(1, 5000) i"
committer=$(worker committer)
publisher=$(worker publisher)

# ten statements: reads by scan and by ctid, cursors, errors in subtransactions, writes that are undone, and one commit
cat > "$work/round.sql" <<'E2'
SELECT count(*) FROM r WHERE id < 50;
SELECT id FROM seg WHERE ctid = '(3,5)';
BEGIN;
UPDATE r SET n = n + 1 WHERE id = 7;
SAVEPOINT s;
DELETE FROM r WHERE id = 8;
ROLLBACK TO s;
SELECT id FROM r WHERE id = 9 FOR UPDATE;
ROLLBACK;
INSERT INTO log VALUES (1);
E2
rounds=$((statements / 10 / 4))
{
	echo "\\o /dev/null"
	for part in 1 2 3 4; do
		echo "ANALYZE;"
		for ((i = 0; i < rounds; i++)); do cat "$work/round.sql"; done
		echo "\\o $work/memory.$part"
		for pid in self "$committer" "$publisher"; do
			echo "SELECT substring(pg_read_file('/proc/$pid/status') FROM 'RssAnon:\\s+(\\d+)');"
		done
		echo "SELECT (sum(total_bytes) / 1024)::int FROM pg_backend_memory_contexts;"
		echo "\\o $work/contexts.$part"
		echo "SELECT parent, name, ident, total_bytes FROM pg_backend_memory_contexts WHERE name <> 'MessageContext' ORDER BY 1, 2, 3, 4;"
		echo "\\! cat /proc/$publisher/maps | sed -n 's,.* \\(/dev/shm/PostgreSQL[^ ]*\\).*,\\1,p' | sort -u | xargs du -ck | tail -n 1 | cut -f1 > $work/shared.$part"
		echo "\\o /dev/null"
	done
} > "$work/all.sql"
sql -f "$work/all.sql"
ok $? "$((rounds * 40)) statements on one connection"
at() { cat "$work"/memory.$1 | sed -n "$2p"; }
grown() { echo $(($(at 4 "$1") - $(at 2 "$1"))); }
diag "kB of the session after each quarter: $(for p in 1 2 3 4; do at $p 1; done | xargs); its memory contexts: $(for p in 1 2 3 4; do at $p 4; done | xargs)"
diag "kB of the committer: $(for p in 1 2 3 4; do at $p 2; done | xargs); of the publisher: $(for p in 1 2 3 4; do at $p 3; done | xargs)"
# it grows by segments of a megabyte, so few commits show nothing
diag "kB of the node's shared memory: $(cat "$work"/shared.* | xargs), with one commit of one row in each of $((rounds * 3)) rounds between the first and the last"
[ "$(grown 1)" -lt 300 ]
ok $? "the session does not grow in the second half ($(grown 1) kB)"
is "$(grown 4)" 0 "nor do its memory contexts" || diag "$(diff "$work/contexts.2" "$work/contexts.4")"
[ "$(grown 3)" -lt 300 ]
ok $? "nor does the publisher ($(grown 3) kB)"
# claims of the last 4096 versions are kept, so this one is full only after that many commits
[ "$(grown 2)" -lt $((1000 + rounds * 2 * 2)) ]
ok $? "the committer grows by less than 2 kB a commit ($(grown 2) kB for $((rounds * 2)))"
is "$(sql -c 'SELECT count(*) FROM log' -c 'SELECT sum(n) FROM r')" "$((rounds * 4))"$'\n0' "all was done"
done_testing
