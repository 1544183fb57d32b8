#!/bin/bash
# s3am.commit_status tells what became of a transaction, on any server and after a restart; s3am.freshness = latest and
# SERIALIZABLE see what another server has committed.
. "$(dirname "$0")/../lib/tap.sh"

# polls so seldom that nothing is seen in time by polling
slow=("s3am.poll_min = '60s'" "s3am.poll_max = '60s'")
node one "${slow[@]}"
sql -c 'CREATE EXTENSION s3am' -c 'CREATE TABLE t (i int) USING s3am'
node two "${slow[@]}"
sql -c 'CREATE EXTENSION s3am'
eventually 20 sql -c 'SELECT count(*) FROM t' > /dev/null 2>&1
ok $? "a second server has the table"

# ---------------------------------------------------------------- commit_status

on one
id=$(sql -c 'BEGIN' -c 'INSERT INTO t VALUES (1)' -c 'SELECT s3am.commit_id()' -c 'COMMIT')
like "$id" '^[0-9]+\.[0-9]+$' "an id before COMMIT"
version=$(sql -c "SELECT version FROM s3am.commit_status('$id') WHERE status = 'committed'")
like "$version" '^[0-9]+$' "committed, in a version"
on two
is "$(sql -c "SELECT * FROM s3am.commit_status('$id')")" "committed|$version" "another server knows it, too"
is "$(sql -c "SELECT * FROM s3am.commit_status('$id', resolve => true)")" "committed|$version" "resolving changes nothing"
on one
never=$(sql -c 'BEGIN' -c 'SELECT s3am.commit_id()' -c 'ROLLBACK')
is "$(sql -c "SELECT * FROM s3am.commit_status('$never')")" "undecided|" "absent is not aborted"
on two
is "$(sql -c "SELECT * FROM s3am.commit_status('$never', true)")" "aborted|" "resolved by another server"
on one
is "$(sql -c "SELECT * FROM s3am.commit_status('$never')")" "aborted|" "so it stays"
is "$(sql -c "SELECT status FROM s3am.commit_status('$id')")" committed "the other one, too"

# a mark comes before the commit: the commit loses
late=$(sql -v ON_ERROR_STOP=0 -v VERBOSITY=verbose 2>&1 <<- 'SQL'
	BEGIN;
	INSERT INTO t VALUES (2);
	SELECT s3am.commit_id() AS id \gset
	SELECT status FROM s3am.commit_status(:'id', true);
	COMMIT;
	SQL
)
like "$late" 'aborted.*ERROR:  40001:' "a transaction that was marked cannot commit"
is "$(sql -c 'SELECT count(*) FROM t WHERE i = 2')" 0 "nor is it there"

fails_like 22P02 'invalid commit id: "x"' "SELECT s3am.commit_status('x')" "not an id"
fails_like 22P02 'invalid commit id: "1."' "SELECT s3am.commit_status('1.')" "half an id"
fails_like 22P02 'invalid commit id: "-1.1"' "SELECT s3am.commit_status('-1.1')" "a negative one"
fails_like 22P02 'invalid commit id' "SELECT s3am.commit_status('1.99999999999999999999')" "one out of range"
fails_like 22023 'no server has begun epoch 999' "SELECT s3am.commit_status('999.1', true)" "one of the future"
sql -c 'CREATE ROLE somebody'
is "$(sql -c 'SET ROLE somebody' -c "SELECT status FROM s3am.commit_status('$id')")" committed "anybody may ask"
fails_like 42501 'must be superuser' "SET ROLE somebody; SELECT s3am.commit_status('$id', true)" "but not resolve"

open=$(sql -c 'BEGIN' -c 'SELECT s3am.commit_id()' -c 'ROLLBACK')
cluster_kill "$dir"
cluster_start "$dir"
is "$(sql -c "SELECT status FROM s3am.commit_status('$id')")" committed "after a restart"
is "$(sql -c "SELECT status FROM s3am.commit_status('$open')")" aborted "what an earlier run left open cannot come any more"

# ---------------------------------------------------------------- freshness

both() { on one; sql -c "INSERT INTO t VALUES ($1)"; on two; }
has="SELECT count(*) FROM t WHERE i ="

both 10
is "$(sql -c "$has 10")" 0 "local: not seen yet"
is "$(sql -c "SET s3am.freshness = latest; $has 10")" 1 "latest: a single statement"
both 11
is "$(sql -c 'SET s3am.freshness = latest' -c 'BEGIN' -c "$has 11" -c COMMIT)" 1 "latest: BEGIN"
both 12
is "$(sql -c BEGIN -c 'SET LOCAL s3am.freshness = latest' -c "$has 12" -c COMMIT)" 1 "latest: SET LOCAL before the first query"
both 13
is "$(sql -c 'SET s3am.freshness = latest' -c 'BEGIN ISOLATION LEVEL REPEATABLE READ' -c "$has 13" -c COMMIT)" 1 \
	"latest: BEGIN ISOLATION LEVEL REPEATABLE READ"
both 14
is "$(sql -c 'BEGIN ISOLATION LEVEL SERIALIZABLE' -c "$has 14" -c COMMIT)" 1 "SERIALIZABLE is latest"
both 15
is "$(sql -c BEGIN -c 'SET TRANSACTION ISOLATION LEVEL SERIALIZABLE' -c "$has 15" -c COMMIT)" 1 "SET TRANSACTION, too"
both 16
is "$(sql -c 'SET s3am.freshness = latest' -c "COPY (SELECT 1 FROM t WHERE i = 16) TO STDOUT")" 1 "latest: COPY"
both 17
is "$(sql -c 'SET s3am.freshness = latest' -c "PREPARE p AS $has 17" -c 'EXECUTE p')" 1 "latest: EXECUTE"
both 18
is "$(sql -c 'SET s3am.freshness = latest' -c "DO 'BEGIN IF (SELECT count(*) FROM t WHERE i = 18) = 1 THEN RAISE EXCEPTION ''seen''; END IF; END'" \
	2>&1 | grep -c 'ERROR:  seen')" 1 "latest: DO"
both 19
is "$(sql -c 'SET s3am.freshness = latest' -c 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT FROM t WHERE i = 19' |
	grep -c 'rows=1 ')" 1 "latest: EXPLAIN ANALYZE"
both 20
is "$(sql -c "SET s3am.freshness = latest; UPDATE t SET i = -20 WHERE i = 20 RETURNING i")" -20 "latest: UPDATE"
both 21
is "$(sql -c 'SET s3am.freshness = latest' -c 'CREATE TEMP TABLE c AS SELECT * FROM t WHERE i = 21' -c 'SELECT count(*) FROM c')" 1 \
	"latest: CREATE TABLE AS"

fails_like 25001 'REPEATABLE READ transaction has its snapshot already' \
	"SET s3am.freshness = latest; SET default_transaction_isolation = 'repeatable read'; COMMIT; SELECT count(*) FROM t" \
	"an implicit REPEATABLE READ transaction cannot be fresh"
is "$(sql -c "SET s3am.freshness = latest; SET default_transaction_isolation = 'repeatable read'" -c 'SELECT count(*) > 0 FROM pg_class')" \
	t "unless it has nothing to do with s3am"

# an implicit SERIALIZABLE transaction has an old snapshot; it may be right by now, or not
both 30
fails_like 40001 'could not serialize access' \
	"SET default_transaction_isolation = 'serializable'; COMMIT; $has 30" "an implicit SERIALIZABLE transaction with an old view"
is "$(sql -c "SET default_transaction_isolation = 'serializable'" -c "$has 30")" 1 "the next try has a new one"
on one
before=$(sql -c 'SELECT head FROM s3am.node()')
for _ in 1 2 3; do sql -c 'BEGIN ISOLATION LEVEL SERIALIZABLE' -c "$has 30" -c COMMIT > /dev/null; done
sql -c "SET default_transaction_isolation = 'serializable'" -c "$has 30" > /dev/null
is "$(sql -c 'SELECT head FROM s3am.node()')" "$before" "SERIALIZABLE transactions that only read write no version"

# a store that does not answer: the wait can be cancelled
postmaster=$(cluster_postmaster "$dir")
committer=$(worker committer)
kill -STOP "$committer"
fails_like 57014 'statement timeout' "SET statement_timeout = '1s'; SET s3am.freshness = latest; COMMIT; $has 1" \
	"the wait ends with statement_timeout"
fails_like 57014 'statement timeout' "SET statement_timeout = '1s'; SELECT s3am.commit_status('$id')" "so does commit_status"
is "$(sql -c "$has 1")" 1 "reading what is here needs nobody"
kill -CONT "$committer"
is "$(sql -c "SET s3am.freshness = latest; $has 30")" 1 "and goes on afterwards"
done_testing
