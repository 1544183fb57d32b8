#!/bin/bash
# Locks on keys and claims of very many: sessions that load other keys at once, here and on another server, neither wait nor fail, nor does
# who adds single ones beside them; a key that is there already is found all the same.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/session.sh"

rows=${KEY_LOCKS_ROWS:-40000}
small=("s3am.compaction = off" "s3am.poll_max = 100ms" "autovacuum = off")
node one "${small[@]}"
sql -c 'CREATE EXTENSION s3am' -c 'ALTER DATABASE test SET default_table_access_method = s3am' || exit 1
sql -c 'CREATE TABLE t (i bigint PRIMARY KEY, v text UNIQUE)' -c "INSERT INTO t VALUES (-1, 'there')" || exit 1
node two "${small[@]}"
sql -c 'CREATE EXTENSION s3am' -c 'ALTER DATABASE test SET default_table_access_method = s3am' || exit 1
follow one two

# who waits for a lock for long fails
impatient() {
	session "$1"
	echo "SET lock_timeout = '1s';" >&"${!1}"
}
# load FROM [ROWS]: the transaction stays open
load() { echo "BEGIN; INSERT INTO t SELECT i, 'v' || i FROM generate_series($1, $1 + ${2:-$rows} - 1) i; SELECT 'loaded';"; }

# ---------------------------------------------------------------- loads beside each other
on one
impatient first
impatient second
on two
impatient third
load 0 >&"$first"
load 10000000 >&"$second"
load 20000000 >&"$third"
on one
# meanwhile
n=0
while ! { said first loaded && said second loaded && said third loaded; } && [ "$n" -lt 2000 ] && ! grep -q ERROR "$work"/*.out; do
	n=$((n + 1))
	sql -c "SET lock_timeout = '1s'" -c "INSERT INTO t VALUES (30000000 + $n, 'single $n')" > /dev/null || break
	sleep 0.05
done
said first loaded && said second loaded && said third loaded
ok $? "two sessions and another server load other keys of the same table at once"
sql -c "SET lock_timeout = '1s'" -c "INSERT INTO t SELECT i, 'more ' || i FROM generate_series(40000000, 40005000) i" > /dev/null
ok $? "while those are open others add theirs: $n one by one, and 5,000"
fails_like 55P03 "" "SET lock_timeout = '1ms'; INSERT INTO t VALUES (4711, 'x')" "but who adds one of them waits"
fails_like 55P03 "" "SET lock_timeout = '1ms'; INSERT INTO t VALUES (-2, 'v10004711')" "of either key"
fails_like 23505 t_pkey "INSERT INTO t VALUES (-1, 'x')" "and one that is there is a duplicate"
echo "INSERT INTO t VALUES (-3, 'there');" >&"$second"
eventually 10 said second 23505
ok $? "for who loads, too"
echo "ROLLBACK;" >&"$second"
load 10000000 2000 >&"$second"
eventually 60 eval '[ "$(grep -c loaded "$work/second.out")" = 2 ]'
ok $? "what was rolled back can be loaded again"
echo "COMMIT;" >&"$first"
echo "COMMIT;" >&"$second"
echo "COMMIT;" >&"$third"
finish first
finish second
finish third
is "$(cat "$work"/{first,second,third}.out | grep ERROR | grep -v 23505)" "" "none of them fails at COMMIT"
follow one two
follow two one
is "$(sql -c "SELECT count(*), count(DISTINCT i), count(DISTINCT v) FROM t WHERE i < 30000000 AND i >= 0")" "$((2 * rows + 2000))|$((2 * rows + 2000))|$((2 * rows + 2000))" "and all is there"

# ---------------------------------------------------------------- one key in two loads
on one
impatient first
load 50000000 2000 >&"$first"
eventually 60 said first loaded
on two
sql -c "INSERT INTO t VALUES (50001000, 'taken')"
echo "COMMIT;" >&"$first"
finish first
like "$(cat "$work/first.out")" '40001' "a load that has one key of another server's fails"
on one
follow two one
is "$(sql -c "SELECT count(*), min(v) FROM t WHERE i >= 50000000")" "1|taken" "and that key is there once"

# ---------------------------------------------------------------- more keys than their hashes have room for in memory, at two versions
sql -c 'CREATE TABLE u (i bigint PRIMARY KEY)'
follow one two
# many NAME: a transaction that adds 90,000, with another commit between the halves
many() {
	on one
	impatient "$1"
	echo "SET s3am.transaction_memory = '64kB'; BEGIN; INSERT INTO u SELECT generate_series($2, $2 + 44999); SELECT 'half';" >&"${!1}"
	eventually 60 said "$1" half
	sql -c "INSERT INTO u VALUES ($2 - 1)"
	echo "INSERT INTO u SELECT generate_series($2 + 45000, $2 + 89999); SELECT 'loaded';" >&"${!1}"
	eventually 60 said "$1" loaded
	on two
}
many first 1000000
sql -c 'INSERT INTO u SELECT generate_series(1, 20)'
echo "COMMIT;" >&"$first"
finish first
is "$(grep ERROR "$work/first.out")" "" "very many keys meet no others"
for key in 2000007 2050007; do
	many first 2000000
	sql -c "INSERT INTO u VALUES ($key)"
	echo "COMMIT;" >&"$first"
	finish first
	like "$(cat "$work/first.out")" '40001' "but one of theirs: $key"
	sql -c "DELETE FROM u WHERE i >= 1999999"
	follow two one
done
follow two one
is "$(sql -c "SELECT count(*), count(DISTINCT i) FROM u WHERE i > 0")" "90021|90021" "and all is there"
done_testing
