# shellcheck shell=bash
# kill.sh: processes of servers that die by SIGKILL again and again.  To be sourced after tap.sh; who died is in $work/kills.
#
# With SOAK_STOP=SECONDS a server's workers also stand still for so long.  If that is longer than s3am.pin_timeout, what the server has yet to
# follow is collected, and it goes on from a later checkpoint under its sessions.  Each time is a line of $work/stops.

# The postmaster alone: its children notice and end by themselves.  Its process id remains in use until somebody collects the
# dead, so the lock file is removed as in cluster_kill.
kill_postmaster() {
	local postmaster pids shm segment
	postmaster=$(cluster_postmaster "$dir") || return 1
	# stopped, it starts none that would not be waited for: without the lock file nothing keeps such a one from living beside the next server
	stand_still "$postmaster" || return 1
	mapfile -t pids < <(process_tree "$postmaster")
	mapfile -t shm < <(shared_memory_of "${pids[@]}")
	kill -KILL "$postmaster"
	processes_gone "${pids[@]}" || return 1
	segment=$(sed -n '7s/.* //p' "$dir/data/postmaster.pid")
	rm -f "${shm[@]}" "$dir/data/postmaster.pid" "$dir"/.s.PGSQL.*
	[ -z "$segment" ] || as_server ipcrm -m "$segment" 2> /dev/null || true
}
random_backend() {
	local pid title pids=()
	for pid in $(process_tree "$(cluster_postmaster "$dir")"); do
		title=$(tr '\0' ' ' < "/proc/$pid/cmdline" 2> /dev/null)
		[[ $title == *": postgres test "* ]] && pids+=("$pid")
	done
	[ ${#pids[@]} -gt 0 ] && echo "${pids[RANDOM % ${#pids[@]}]}"
}
kill_one() {
	local pid
	case $1 in
	backend) pid=$(random_backend) && kill -KILL "$pid" ;;
	committer | publisher | launcher) pid=$(worker "$1") && kill -KILL "$pid" ;;
	postmaster) kill_postmaster && cluster_start "$dir" ;;
	everything) cluster_kill "$dir" && cluster_start "$dir" ;;
	esac 2>> "$work/kills.err" && echo "$1" >> "$work/kills"
}
stop_workers() {
	local pid pids=()
	for what in committer publisher; do pid=$(worker "$what") && pids+=("$pid"); done
	[ ${#pids[@]} -gt 0 ] && kill -STOP "${pids[@]}" 2>> "$work/kills.err" && echo "${dir##*/}" >> "$work/stops" || return 1
	sleep "$1"
	kill -CONT "${pids[@]}" 2>> "$work/kills.err"
}
# killer SECONDS PAUSE: for so long, on the servers one and two in turn
killer() {
	local until=$((SECONDS + $1 - 3)) pause=$2 what
	while :; do
		for what in backend:one committer:two stop:one everything:one publisher:two backend:two postmaster:one \
			committer:one launcher:two everything:two publisher:one launcher:one postmaster:two stop:two; do
			sleep "$pause"
			[ "$SECONDS" -lt "$until" ] || return 0
			dir=$work/${what#*:}
			if [ "${what%:*}" != stop ]; then
				kill_one "${what%:*}"
			elif [ "${SOAK_STOP:-0}" -gt 0 ] && [ $((SECONDS + SOAK_STOP)) -lt "$until" ]; then
				stop_workers "$SOAK_STOP"
			fi
		done
	done
}
: > "$work/kills"
: > "$work/stops"
