# cluster.sh: throw-away PostgreSQL servers, for scripts/quickstart and the tests.  To be sourced by bash.
#
#   cluster_init DIR [initdb option ...]    initdb into DIR/data; DIR must not exist or be empty
#   cluster_conf DIR LINE ...               add lines to postgresql.conf
#   cluster_start DIR                       start and wait until it answers
#   cluster_stop DIR [fast|immediate|smart] stop and wait
#   cluster_restart DIR [MODE]
#   cluster_kill DIR                        SIGKILL to the postmaster and everything it started, by process id
#   cluster_remove DIR                      end it in whatever state it is, and delete DIR
#   cluster_remove_all                      the same for every cluster of this shell; for use in a trap
#   cluster_use DIR                         point psql and friends (PGHOST, PGPORT, PGUSER) at it
#   cluster_psql DIR [psql option ...]      psql without psqlrc that stops at the first error
#   as_server COMMAND ...                   run as the operating-system user who runs the servers
#   server_dir [PREFIX]                     make a private directory of that user; prints its name
#
# S3AM_SERVER_PRELOAD names libraries that are loaded into every server first, S3AM_SERVER_OPTIONS sets variables of its
# environment: for sanitizers.
#
# PostgreSQL refuses to run as root: then the servers belong to the user `postgres` (or $SERVER_USER); otherwise they
# belong to whoever calls.  A server listens on 127.0.0.1 at a free port, with a password, and on a socket in DIR, which
# only its owner can enter, without one.  DIR/password holds the password, DIR/log what the server said.

PG_CONFIG=${PG_CONFIG:-pg_config}
cluster_bin=$("$PG_CONFIG" --bindir) || return 1
cluster_all=()

if [ "$(id -u)" = 0 ]; then
	cluster_owner=${SERVER_USER:-postgres}
	cluster_group=$(id -gn "$cluster_owner") || return 1
else
	cluster_owner=$(id -un)
	cluster_group=$(id -gn)
fi

as_server() {
	if [ "$(id -u)" != 0 ]; then
		"$@"
	else
		setpriv --reuid="$cluster_owner" --regid="$cluster_group" --init-groups -- "$@"
	fi
}

# A socket's name must fit into 107 bytes, so a long TMPDIR is not used.
server_dir() {
	local parent=${TMPDIR:-/tmp} dir
	[ ${#parent} -le 50 ] || parent=/tmp
	dir=$(mktemp -d "$parent/${1:-s3am}.XXXXXX") || return 1
	chown "$cluster_owner:$cluster_group" "$dir" || return 1
	echo "$dir"
}

cluster_init() {
	local dir=$1
	shift
	cluster_all+=("$dir")
	mkdir -p "$dir" && chmod 700 "$dir" || return 1
	od -An -N16 -tx1 /dev/urandom | tr -d ' \n' > "$dir/password"
	chmod 600 "$dir/password"
	chown "$cluster_owner:$cluster_group" "$dir" "$dir/password" || return 1
	# from a directory that the server's user can read
	if ! (cd / && as_server "$cluster_bin/initdb" -D "$dir/data" -U postgres --encoding=UTF8 --locale=C.UTF-8 --no-sync \
		--auth-local=trust --auth-host=scram-sha-256 --pwfile="$dir/password" "$@") > "$dir/initdb.log" 2>&1; then
		cat "$dir/initdb.log" >&2
		return 1
	fi
	cluster_conf "$dir" \
		"listen_addresses = '127.0.0.1'" \
		"unix_socket_directories = '$dir'" \
		"unix_socket_permissions = 0700" \
		"log_line_prefix = '%m [%p] %q%a '" \
		"max_connections = 60"
}

cluster_conf() {
	local dir=$1
	shift
	printf '%s\n' "$@" >> "$dir/data/postgresql.conf"
}

# Nobody listens there now; somebody may a moment later, which cluster_start notices.  Below the ephemeral range.
cluster_free_port() {
	local port
	while :; do
		port=$((20000 + RANDOM % 12000))
		(exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null || break
	done
	echo "$port"
}

cluster_start() {
	local dir=$1 try port from
	for try in 1 2 3 4 5; do
		if [ "$try" = 1 ] && [ -f "$dir/port" ]; then
			port=$(cat "$dir/port")
		else
			port=$(cluster_free_port)
		fi
		from=$(($(stat -c %s "$dir/log" 2> /dev/null || echo 0) + 1))
		echo "$port" > "$dir/port"
		# shellcheck disable=SC2086
		if (cd / && as_server env ${S3AM_SERVER_OPTIONS:-} ${S3AM_SERVER_PRELOAD:+"LD_PRELOAD=$S3AM_SERVER_PRELOAD"} \
			"$cluster_bin/pg_ctl" -D "$dir/data" -l "$dir/log" -o "-p $port" -w -t 120 -s start) \
			< /dev/null > "$dir/pg_ctl.log" 2>&1; then
			return 0
		fi
		tail -c +"$from" "$dir/log" 2> /dev/null | grep -q 'could not create any TCP/IP sockets' || break
	done
	cat "$dir/pg_ctl.log" >&2
	tail -c +"$from" "$dir/log" 2> /dev/null | tail -n 20 >&2
	return 1
}

cluster_stop() {
	(cd / && as_server "$cluster_bin/pg_ctl" -D "$1/data" -m "${2:-fast}" -w -t 120 -s stop) < /dev/null
}

cluster_restart() {
	cluster_stop "$1" "${2:-fast}" && cluster_start "$1"
}

# The postmaster of DIR, if it runs: a number in a stale file may be anybody's by now.
cluster_postmaster() {
	local pid
	[ -f "$1/data/postmaster.pid" ] || return 1
	read -r pid < "$1/data/postmaster.pid" || return 1
	[ "$(readlink "/proc/$pid/cwd" 2> /dev/null)" = "$(readlink -f "$1/data")" ] || return 1
	echo "$pid"
}

# Stops PID and waits until it stands still: told to stop, it may still finish the fork() that it is in.
stand_still() {
	local line try
	kill -STOP "$1" || return 1
	for try in {1..200}; do
		{ IFS= read -r line < "/proc/$1/stat"; } 2> /dev/null || return 0
		[[ ${line##*) } == [TZ]* ]] && return 0
		sleep 0.05
	done
	echo "process $1 does not stop" >&2
	return 1
}

# PID and all its descendants, one on a line.
process_tree() {
	local file line pid queue=("$1")
	local -A children=()
	for file in /proc/[0-9]*/stat; do
		{ IFS= read -r line < "$file"; } 2> /dev/null || continue
		pid=${line%% *}
		# the name in parentheses may hold anything; state and parent follow it
		read -r _ line _ <<< "${line##*) }"
		children[$line]+=" $pid"
	done
	while [ ${#queue[@]} -gt 0 ]; do
		echo "${queue[0]}"
		# shellcheck disable=SC2206
		queue=("${queue[@]:1}" ${children[${queue[0]}]:-})
	done
}

# The files of POSIX shared memory that any of the processes has mapped.
shared_memory_of() {
	local pid
	for pid; do cat "/proc/$pid/maps" 2> /dev/null || true; done | sed -n 's,.* \(/dev/shm/PostgreSQL\.[0-9]*\).*,\1,p' | sort -u
}

# Waits until none of the processes runs.  One that only waits to be collected by its parent does not.
processes_gone() {
	local pid line try
	for pid; do
		for try in {1..200}; do
			{ IFS= read -r line < "/proc/$pid/stat"; } 2> /dev/null || continue 2
			[[ ${line##*) } == Z* ]] && continue 2
			sleep 0.05
		done
		echo "process $pid does not end" >&2
		return 1
	done
}

# The children go first, while the postmaster is stopped: so none of them hears of it and ends in an orderly way.  What the
# dead would have taken back is removed for them: a System V segment and POSIX shared memory, which no later server of another
# data directory finds, and lock files, whose process id remains in use until somebody collects the dead.
cluster_kill() {
	local dir=$1 postmaster pids shm segment
	postmaster=$(cluster_postmaster "$dir") || { echo "no server runs in $dir" >&2; return 1; }
	stand_still "$postmaster" || return 1
	mapfile -t pids < <(process_tree "$postmaster")
	mapfile -t shm < <(shared_memory_of "${pids[@]}")
	segment=$(sed -n '7s/.* //p' "$dir/data/postmaster.pid")
	kill -KILL "${pids[@]:1}" 2> /dev/null || true
	kill -KILL "$postmaster" || return 1
	processes_gone "${pids[@]}" || return 1
	rm -f "${shm[@]}" "$dir/data/postmaster.pid" "$dir"/.s.PGSQL.*
	[ -z "$segment" ] || as_server ipcrm -m "$segment" 2> /dev/null || true
	cluster_killed=${#pids[@]}
}

cluster_remove() {
	if cluster_postmaster "$1" > /dev/null; then
		cluster_stop "$1" immediate > /dev/null 2>&1 || cluster_kill "$1"
	fi
	rm -rf "$1"
}

cluster_remove_all() {
	local dir
	for dir in "${cluster_all[@]}"; do
		cluster_remove "$dir"
	done
	cluster_all=()
}

cluster_use() {
	local port
	read -r port < "$1/port" || return 1
	export PGHOST=$1 PGPORT=$port PGUSER=postgres
	unset PGHOSTADDR PGSERVICE PGSERVICEFILE PGOPTIONS PGPASSWORD PGPASSFILE
}

cluster_psql() {
	local dir=$1
	shift
	(cluster_use "$dir" && exec "$cluster_bin/psql" -X -q -v ON_ERROR_STOP=1 "$@")
}
