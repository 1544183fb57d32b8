# tap.sh: for the numbered tests in test/t.  To be sourced by bash; brings cluster.sh with it.
#
#   ok STATUS NAME              passed if STATUS is 0:  ok $? "name"
#   is GOT WANTED NAME          the same text
#   like TEXT REGEX NAME        bash's extended regular expression
#   skip NAME REASON
#   diag TEXT ...
#   eventually SECONDS COMMAND ...   tries until it succeeds
#   fails_like SQLSTATE TEXT SQL NAME   the current server refuses SQL with that state and a message that contains TEXT
#   done_testing                prints the plan; the test's last line
#
#   node NAME [LINE ...]        makes and starts a server in $work/NAME that is attached to $repository, with LINEs added to
#                               its configuration, and makes it the current one ($dir); database `test`
#                               $S3AM_CONFIG: lines for all of them; $S3AM_INITDB: options of initdb
#   on NAME                     makes another one the current one
#   worker KIND                 the process id of the current server's s3am KIND (launcher, committer, publisher)
#   sql [option ...]            psql -At on the current server; fails at the first error
#
# $work is deleted and all servers are ended when the test ends, however it ends.

set -u -o pipefail
# shellcheck source=cluster.sh
. "$(dirname "${BASH_SOURCE[0]}")/cluster.sh"

work=$(server_dir s3am-test) || exit 1
chmod 755 "$work"
repository=${S3AM_REPOSITORY:-file://$work/repository}
tap_run=0
tap_failed=0
tap_done=0

tap_end() {
	local status=$?
	trap - EXIT INT TERM
	[ "$tap_done" = 1 ] || [ "$status" -ne 0 ] || status=1	# it ended before its end
	trap '' PIPE					# whoever read this may be gone; the servers must go, too
	if [ "$tap_failed" -gt 0 ] || [ "$status" -ne 0 ]; then
		local log
		for log in "$work"/*/log; do
			[ -f "$log" ] && { echo "# ${log#"$work"/}:"; tail -n "${TAP_LOG_LINES:-30}" "$log" | sed 's/^/#   /'; }
		done
	fi
	cluster_remove_all
	! declare -F s3_stop > /dev/null || s3_stop
	rm -rf "$work"
	exit "$status"
}
trap tap_end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 141' PIPE

diag() { printf '%s\n' "$@" | sed 's/^/# /'; }

ok() {
	tap_run=$((tap_run + 1))
	if [ "$1" = 0 ]; then
		echo "ok $tap_run - $2"
	else
		echo "not ok $tap_run - $2"
		tap_failed=$((tap_failed + 1))
		return 1
	fi
}

is() {
	local same=1
	[ "$1" != "$2" ] || same=0
	ok "$same" "$3" || { diag "got:      $1" "expected: $2"; return 1; }
}

like() {
	local matches=1
	[[ $1 =~ $2 ]] && matches=0
	ok "$matches" "$3" || { diag "got:            $1" "does not match: $2"; return 1; }
}

skip() {
	tap_run=$((tap_run + 1))
	echo "ok $tap_run - $1 # SKIP $2"
}

eventually() {
	local until=$(($1 * 1000000 + ${EPOCHREALTIME/./}))
	shift
	while ! "$@"; do
		[ "${EPOCHREALTIME/./}" -lt "$until" ] || return 1
		sleep 0.1
	done
}

fails_like() {
	local said
	if said=$(sql -v VERBOSITY=verbose -c "$3" 2>&1); then
		ok 1 "$4"
		diag "was not refused: $3"
		return 1
	fi
	local matches=1
	[[ $said == *"ERROR:  $1: "*"$2"* ]] && matches=0
	ok "$matches" "$4" || { diag "got:      $said" "expected: $1 ... $2"; return 1; }
}

done_testing() {
	echo "1..$tap_run"
	tap_done=1
	[ "$tap_failed" = 0 ]
}

node() {
	local name=$1
	shift
	dir=$work/$name
	if [[ $repository == file://* ]]; then
		mkdir -p "${repository#file://}"
		chown "$cluster_owner:$cluster_group" "${repository#file://}"
	fi
	cluster_init "$dir" ${S3AM_INITDB:-} && cluster_conf "$dir" \
		"shared_preload_libraries = 's3am'" "s3am.repository = '$repository'" "fsync = off" "$@" || exit 1
	[ -z "${S3AM_CONFIG:-}" ] || cluster_conf "$dir" "$S3AM_CONFIG"
	[ -z "${S3AM_ENDPOINT:-}" ] || cluster_conf "$dir" "s3am.endpoint = '$S3AM_ENDPOINT'"
	cluster_start "$dir" && cluster_psql "$dir" -d postgres -c 'CREATE DATABASE test' || exit 1
}

# the committer has no database connection, and so no line in pg_stat_activity
worker() {
	local pid title
	for pid in $(process_tree "$(cluster_postmaster "$dir")"); do
		title=$(tr '\0' ' ' < "/proc/$pid/cmdline" 2> /dev/null)
		[[ $title == *": s3am $1 "* ]] && { echo "$pid"; return 0; }
	done
	return 1
}

on() { dir=$work/$1; }

# version; reached VERSION: of the current server.  follow FROM TO [SECONDS (3)]: waits until server TO has all that FROM has, and goes on
# there.  followed NAME: a test that server two comes to have all that server one has.
version() { sql -c 'SELECT version FROM s3am.node()'; }
reached() { [ "$(version)" -ge "$1" ] 2> /dev/null; }
follow() {
	local wanted
	on "$1"
	wanted=$(version)
	on "$2"
	eventually "${3:-3}" reached "$wanted"
}
followed() {
	follow one two 5
	ok $? "$1" || diag "$(sql -c 'SELECT object, reason FROM s3am.attach_status')"
}

sql() { cluster_psql "$dir" -At -d test "$@"; }
