#!/bin/bash
# A store that cannot be used: the server says why, with the object and the remedy, in its log and to its sessions; nothing half
# made stays behind; and it works once the cause is gone.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../lib/s3.sh"

s3_start rgw || { echo "Bail out! no S3 server"; exit 1; }
real=$S3AM_ENDPOINT
bucket=${S3AM_REPOSITORY%/*}
exec 4< <(exec python3 "$(dirname "$0")/../store/faultserver")
s3_proxies+=("$!")
read -r port <&4
bad_server=http://127.0.0.1:$port

# bad NAME REPOSITORY ENDPOINT TEXT ...: a node on that, whose sessions and whose log say all of the texts.
bad() {
	local name=$1 text said log
	repository=$2
	S3AM_ENDPOINT=$3
	shift 3
	node "$name" "s3am.attach_timeout = '20s'" "s3am.retry_timeout = '1s'" "s3am.connect_timeout = '1s'" "s3am.request_timeout = '2s'" \
		"${settings[@]}"
	sql -c 'CREATE EXTENSION s3am'
	said=$(sql -v VERBOSITY=verbose -c 'CREATE TABLE t (i int) USING s3am' 2>&1)
	like "$said" 'ERROR:  57P03: ' "$name: a session gets 57P03"
	log=$(cat "$dir/log")
	for text; do
		[[ $said == *"DETAIL:"*"$text"* ]]
		ok $? "$name: it is told \"$text\"" || diag "$said"
		[[ $log == *"cannot use repository \"$repository\": "*"$text"* ]]
		ok $? "$name: so is the log"
	done
	[[ $said$log != *"$AWS_SECRET_ACCESS_KEY"* && $said$log != *"$AWS_ACCESS_KEY_ID"* ]]
	ok $? "$name: no keys are told"
	is "$(grep -c 'terminating any other active server processes' "$dir/log")" 0 "$name: the server goes on"
}

# The cause is gone.
good() {
	local name=$1
	eventually 20 sql -c 'CREATE TABLE t (i int) USING s3am' -c 'INSERT INTO t VALUES (1)' 2> /dev/null
	ok $? "$name: then it works"
	is "$(sql -c 'SELECT i FROM t')" 1 "$name: it keeps what is written"
	cluster_stop "$dir"
}

# From another database: sessions of this one get nowhere.
setting() {
	cluster_conf "$dir" "$1 = '$2'"
	cluster_psql "$dir" -d postgres -c 'SELECT pg_reload_conf()' > /dev/null
}

# is_empty REPOSITORY ENDPOINT: could be listed, and has nothing.
is_empty() {
	local listed
	listed=$(S3AM_ENDPOINT=$2 s3tool "$1" list) && [ -z "$listed" ]
}

# While the server tries again there may be something.
nothing_in() {
	eventually 20 is_empty "$1" "$3"
	ok $? "$2: nothing is left behind"
}

settings=()
bad "no bucket" s3://no-such-bucket/x "$real" 'NoSuchBucket' '"s3://no-such-bucket/x/repository"' 'create it'
S3AM_ENDPOINT=$real s3tool s3://no-such-bucket/x make-bucket
good "no bucket"

bad "nobody there" "$bucket/nobody" http://127.0.0.1:1 'http://127.0.0.1:1' 'check s3am.endpoint'
setting s3am.endpoint "$real"
good "nobody there"

settings=("s3am.access_key = 'somebody'" "s3am.secret_key = 'wrong'")
bad "unknown key" "$bucket/keys" "$real" InvalidAccessKeyId 'the credentials came from the settings'
nothing_in "$bucket/keys" "unknown key" "$real"
setting s3am.access_key "$AWS_ACCESS_KEY_ID"
eventually 10 grep -q SignatureDoesNotMatch "$dir/log"
ok $? "unknown key: then the secret is wrong"
setting s3am.secret_key "$AWS_SECRET_ACCESS_KEY"
eventually 20 sql -c 'CREATE TABLE t (i int) USING s3am' -c 'INSERT INTO t SELECT generate_series(1, 100000)' 2> /dev/null
ok $? "unknown key: with both it works"
said=$(sql -c "SHOW s3am.secret_key" -c "SELECT setting, reset_val FROM pg_settings WHERE name ~ '^s3am.*(key|token)'")
[[ $said$(cat "$dir/log") != *"$AWS_SECRET_ACCESS_KEY"* ]]
ok $? "unknown key: nor do SHOW and the log of a reload tell it"
like "$said" '\*\*\*\*' "unknown key: but that there is something"
is "$(sql -c 'SET parallel_setup_cost = 0' -c 'SET parallel_tuple_cost = 0' -c 'SET min_parallel_table_scan_size = 0' -c 'SELECT count(*) FROM t')" \
	100000 "unknown key: parallel workers know it"
like "$(sql -c 'SET parallel_setup_cost = 0' -c 'SET parallel_tuple_cost = 0' -c 'SET min_parallel_table_scan_size = 0' \
	-c 'EXPLAIN (COSTS off) SELECT count(*) FROM t')" 'Workers Planned' "unknown key: there were some"
cluster_stop "$dir"

settings=()
bad "clock skew" s3://bucket/skewed "$bad_server" RequestTimeTooSkewed "the store's 2001-09-09 01:46:40 UTC" "this server's clock says 2"
cluster_stop "$dir"

bad "blind store" s3://bucket/blind "$bad_server" 'failed the conformance race' 'of 32 writers that created one key at once 32'
nothing_in s3://bucket/blind "blind store" "$bad_server"
cluster_stop "$dir"

bad "a 404 of somebody else" s3://bucket/stranger "$bad_server" 'is http://127.0.0.1' 'an S3 server?'
cluster_stop "$dir"

s3_proxy --strip if-none-match
bad "stripping proxy" "$bucket/strip" "$S3AM_ENDPOINT" 'failed the conformance race' 'If-None-Match'
nothing_in "$bucket/strip" "stripping proxy" "$real"
setting s3am.endpoint "$real"
good "stripping proxy"

echo something | S3AM_ENDPOINT=$real s3tool "$bucket/foreign" put something/else
bad "foreign objects" "$bucket/foreign" "$real" 'the prefix holds other objects'
S3AM_ENDPOINT=$real s3tool "$bucket/foreign" remove something/else
good "foreign objects"

# an address that is none, in a server that has sessions to lose
bad "no address" s3://x "$real" 'names no bucket'
cluster_stop "$dir"

s3_proxy
repository=$bucket/check
node check "s3am.retry_timeout = '2s'"
sql -c 'CREATE EXTENSION s3am' -c 'CREATE TABLE t (i int) USING s3am'
is "$(sql -c 'SELECT create_if_absent, compare_and_set, read_after_write, list_after_write, ranged_get FROM s3am.check_store()')" "t|t|t|t|t" \
	"check_store"
s3_delay 3000
start=$SECONDS
fails_like 57014 'statement timeout' "SET statement_timeout = '1s'; SELECT * FROM s3am.check_store(32, 20)" "check_store is cancelled"
[ $((SECONDS - start)) -le 10 ]
ok $? "soon"
s3_delay 0
is "$(sql -c 'SELECT create_if_absent FROM s3am.check_store(8, 1)')" t "and works again"
S3AM_ENDPOINT=$real
s3_end_processes KILL "${s3_proxies[@]}"
s3_proxies=()
fails_like 08006 'cannot be checked' 'SELECT * FROM s3am.check_store(8, 1)' "check_store of a store that is gone is an error"
cluster_stop "$dir"
done_testing
