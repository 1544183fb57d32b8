#!/bin/bash
# An S3 server that answers 503 for long, a bucket that can only be read, and one that is full: commits wait or fail and say why, what is
# there is read, nothing acknowledged is lost, and all goes on by itself afterwards.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/s3.sh"

s3_start rgw && s3_proxy || { echo "Bail out! no S3 server"; exit 1; }
repository=$S3AM_REPOSITORY
node one "s3am.retry_timeout = '2s'" "s3am.node_timeout = '6s'"
sql -c 'CREATE EXTENSION s3am' -c 'CREATE TABLE t (i int, x text) USING s3am' -c "INSERT INTO t SELECT i, 'inline' FROM generate_series(1, 100) i" \
	-c "SET s3am.inline_limit = 0; INSERT INTO t SELECT i, md5(i::text) FROM generate_series(101, 5000) i" -c 'RESET s3am.inline_limit' -c 'CREATE TABLE small (i int) USING s3am' \
	-c 'INSERT INTO small VALUES (1)' || exit 1
said() { sql -v VERBOSITY=verbose -c "$1" 2>&1; }
acknowledged=5000
count() { sql -c 'SELECT count(*) FROM t'; }
works() { sql -c "INSERT INTO t VALUES (0, 'works')" > /dev/null 2>&1; }
goes_on() {						# goes_on NAME
	eventually 30 works
	ok $? "$1: afterwards commits work by themselves"
	acknowledged=$((acknowledged + 1))
	is "$(count)" "$acknowledged" "$1: all that was acknowledged is there, and nothing else"
}
whole() { is "$(grep -c 'terminating any other active server processes\|PANIC' "$dir/log")" 0 "$1: no process died"; }

# ---------------------------------------------------------------- 503

s3_refuse -1
is "$(sql -c 'SELECT * FROM small')" 1 "503: what is in memory is read"
like "$(said "SET s3am.commit_timeout = '2s'; INSERT INTO t VALUES (-1, 'lost?')")" 'ERROR:  (08007|08006): ' "503: a commit gives up at its time-out"
(said "INSERT INTO t VALUES (-2, 'patient')" > "$work/patient"; echo done >> "$work/patient") &
writer=$!
waiting() { sql -c "SELECT string_agg(waits_for, ' ' ORDER BY process) FROM s3am.activity WHERE process IN ('committer', 'session')" | grep -q 'its commit'; }
eventually 5 waiting
ok $? "503: another one waits, as s3am.activity says"
# behind it nothing is sent any more: who gives up then knows it, and leaves nothing behind
like "$(said "SET s3am.commit_timeout = '1s'; INSERT INTO t VALUES (-5, 'never')")" \
	'ERROR:  08006: the transaction could not reach the repository within s3am.commit_timeout' "503: one that nobody has sent fails for certain"
(said "INSERT INTO t VALUES (-5, 'never')" > "$work/uncommitted") &
committing=$!
taken_back() { sql -c "SELECT pg_cancel_backend(pid) FROM s3am.activity WHERE waits_for = 'its commit' AND query ~ 'never'" | grep -q t; }
eventually 5 taken_back
sleep 0.5
is "$(sql -c "SELECT count(*) FROM s3am.activity WHERE query ~ 'never' AND pid <> pg_backend_pid()")" 0 "503: one that nobody has sent can be cancelled"
wait "$committing"
like "$(cat "$work/uncommitted")" 'ERROR:  57014: ' "503: and says so"
is "$(sql -c 'SELECT queued + taken <= 2 FROM s3am.node()')" t "503: they wait no more" || diag "$(sql -c 'SELECT queued, taken FROM s3am.node()')"
like "$(said "SET s3am.upload_timeout = '1s'; SET s3am.inline_limit = 0; INSERT INTO t SELECT i, 'x' FROM generate_series(1, 20000) i")" \
	'ERROR:  08006: cannot write a segment to the repository.*segments/.*503' "503: an upload fails after s3am.upload_timeout, and names the object"
(said "SET s3am.inline_limit = 0; INSERT INTO t SELECT i, 'cancelled' FROM generate_series(1, 20000) i" > "$work/cancelled") &
loader=$!
cancelled() { sql -c "SELECT pg_cancel_backend(pid) FROM s3am.activity WHERE waits_for IN ('the store', 'uploads') AND query ~ 'cancelled'" | grep -q t; }
eventually 3 cancelled
wait "$loader"
like "$(cat "$work/cancelled")" 'ERROR:  57014: ' "503: it can be cancelled before"
is "$(sql -c "SELECT sum(errors) > 3 FROM s3am.store_requests")" t "503: s3am.store_requests counts errors"
kill -0 "$writer"
ok $? "503: the commit waits still"
s3_refuse 0
wait "$writer"
is "$(cat "$work/patient")" "done" "503: it is acknowledged when the store is back"
acknowledged=$((acknowledged + 1))
is "$(sql -c 'SELECT count(*) FROM t WHERE i = -5')" 0 "503: what was not sent is not there"
lost=$(sql -c 'SELECT count(*) FROM t WHERE i = -1')
ok "$((lost <= 1 ? 0 : 1))" "503: the one that gave up is there once or not at all ($lost)"
acknowledged=$((acknowledged + lost))
goes_on 503

# for longer than all but one of the time-outs: a load waits, and no server takes the other's silence for its end
epoch() { sql -c 'SELECT epoch FROM s3am.node()'; }
node two "s3am.retry_timeout = '2s'" "s3am.node_timeout = '6s'"
sql -c 'CREATE EXTENSION s3am' -c 'SELECT * FROM small' > /dev/null || exit 1
epochs=$(epoch; on one; epoch)
committers=$(worker committer; on one; worker committer)
s3_refuse -1
cold=$(said 'SELECT count(x) FROM t')
on one
(sql -v VERBOSITY=verbose -c "SET s3am.inline_limit = 0" -c "SET s3am.transaction_memory = '1MB'" -c "SET s3am.segment_size = '256kB'" \
	-c "INSERT INTO t SELECT i, 'loaded' || md5(i::text) FROM generate_series(1, 60000) i" > "$work/loaded" 2>&1; echo "status $?" >> "$work/loaded") &
loader=$!
warned() { grep -q 'WARNING:  08006: the repository does not take segments at present.*waits' "$work/loaded"; }
eventually 20 warned
ok $? "503: a load that waits says so" || diag "$(cat "$work/loaded")"
waiting() { [ "$(sql -c "SELECT count(*) FROM s3am.activity WHERE waits_for = 'uploads'")" = 1 ]; }
eventually 5 waiting
ok $? "503: and s3am.activity does"
sleep 10
is "$(sql -c 'SELECT count(*) FROM small'; on two; sql -c 'SELECT count(*) FROM small')" $'1\n1' "503: what is in memory is read on both servers"
errors() { on one; sql -c 'SELECT error FROM s3am.node()'; on two; sql -c 'SELECT error FROM s3am.node()'; }
told() { [ "$(errors | grep -c ' 503 ')" = 2 ]; }
eventually 10 told
ok $? "503: s3am.node() says why on both" || diag "$(errors)"
like "$cold" 'ERROR:  08006: cannot read object "segments/.*503' "503: what is not fails after s3am.retry_timeout, and names the object"
kill -0 "$loader"
ok $? "503: the load waits still"
# server two is heard a little later; the load may try again later still
kill -STOP "$(on two; worker committer)"
s3_refuse 0
sleep 3
kill -CONT "$(on two; worker committer)"
wait "$loader"
is "$(tail -n 1 "$work/loaded")" "status 0" "503: the load ends well" || diag "$(cat "$work/loaded")"
acknowledged=$((acknowledged + 60000))
sleep 7
on two
is "$(epoch; on one; epoch)" "$epochs" "503: both servers are in the epochs that they were in"
is "$(worker committer; on one; worker committer)" "$committers" "503: with the processes that they had"
well() { [ -z "$(errors | tr -d '\n')" ]; }
eventually 10 well
ok $? "503: and s3am.node() has no error any more" || diag "$(errors)"
on two
cluster_stop "$dir"
on one
goes_on "503 on two servers"
whole 503

# ---------------------------------------------------------------- a bucket that can only be read

s3_admin user modify --uid=s3am --op-mask=read || diag "$(tail -n 3 "$s3_dir/log")"
read_only() { ! sql -c "SET s3am.commit_timeout = '2s'; INSERT INTO t VALUES (-3, 'no')" > /dev/null 2>&1; }
eventually 20 read_only
got=$(said "SET s3am.commit_timeout = '10s'; INSERT INTO t VALUES (-3, 'no')")
like "$got" 'ERROR:  42501: the repository did not take the transaction.*manifests/[0-9]+' "read only: a commit fails and names the object"
like "$got" '(AccessDenied|403)' "read only: and why" || diag "$got"
like "$(said "SET s3am.inline_limit = 0; INSERT INTO t SELECT i, 'x' FROM generate_series(1, 20000) i")" \
	'ERROR:  42501: cannot write a segment to the repository.*segments/' "read only: so does an upload"
is "$(sql -c 'SELECT count(*) > 0, sum(length(x)) > 0 FROM t WHERE i > 0')" 't|t' "read only: tables are read, from the store, too"
is "$(sql -c "SELECT count(*) FROM s3am.verify() WHERE problem IS NOT NULL" 2> /dev/null)" 0 "read only: verify works"
s3_admin user modify --uid=s3am --op-mask='read, write, delete'
eventually 30 works
ok $? "read only: afterwards commits work by themselves"
got=$(sql -c "SELECT count(*) FROM t WHERE i = -3")
ok "$((got <= 30 ? 0 : 1))" "read only: ($got of those that failed had landed before)"
acknowledged=$(count)
whole "read only"

# ---------------------------------------------------------------- a full bucket

s3_admin quota set --quota-scope=bucket --uid=s3am --max-objects=1 && s3_admin quota enable --quota-scope=bucket --uid=s3am
full() { ! sql -c "SET s3am.commit_timeout = '2s'; INSERT INTO small VALUES (-3)" > /dev/null 2>&1; }
eventually 20 full
got=$(said "SET s3am.commit_timeout = '10s'; INSERT INTO t VALUES (-4, 'no')")
like "$got" 'ERROR:  53100: the repository did not take the transaction.*manifests/[0-9]+.*QuotaExceeded.*raise the quota' "full: a commit fails, names the object, and says why" || diag "$got"
like "$got" 'HINT:  ' "full: with what to do"
like "$(said "SET s3am.inline_limit = 0; INSERT INTO t SELECT i, 'x' FROM generate_series(1, 20000) i")" 'ERROR:  53100: .*segments/.*QuotaExceeded' "full: an upload, too"
is "$(count)" "$acknowledged" "full: reading goes on"
s3_admin quota disable --quota-scope=bucket --uid=s3am
goes_on full
whole full
cluster_kill "$dir"
node three
sql -c 'CREATE EXTENSION s3am'
is "$(count)" "$acknowledged" "another server has all that was acknowledged"
done_testing
