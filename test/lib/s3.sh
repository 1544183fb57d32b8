# s3.sh: real S3 servers on loopback, for the tests.  To be sourced by bash after cluster.sh or tap.sh.
#
#   s3_start NAME       rgw (Ceph's, from Debian's packages) or minio; exports S3AM_ENDPOINT, AWS_ACCESS_KEY_ID,
#                       AWS_SECRET_ACCESS_KEY, AWS_REGION and S3AM_REPOSITORY, whose bucket is made.  If there is no such server here
#                       and none can be built, which only minio may: says so in TAP and returns 77
#   s3_stop             ends the server that runs, and its proxies
#   s3_kill             the same by SIGKILL; the data of minio survives, that of rgw is in memory
#   s3_restart          starts minio again on what is there
#   s3_proxy [OPTION ...]   puts test/lib/s3proxy before it and points S3AM_ENDPOINT at that; options: --delay MS, --strip HEADER
#   s3_counts, s3_reset, s3_delay MS    what the proxy counted (METHOD requests bytes-sent bytes-received); count from 0; delay
#   s3_refuse N         the proxy answers N requests by 503 itself; -1: all, 0: none
#   s3_admin ...        rgw: radosgw-admin
#   s3_flight           how many requests were under way at once, by method: METHOD most mean
#   s3_direct           points S3AM_ENDPOINT at the server itself again
#   s3tool ...          test/store/s3tool, built if need be
#   s3_unset            forgets everything that was exported
#
# A server runs as the user who runs PostgreSQL, in a directory of its own that goes with it, and does not outlive this shell.

s3_top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
s3_cache=${S3AM_CACHE:-${HOME:-/tmp}/.cache/s3am}
s3_minio_version=v0.0.0-20260212201848-7aac2a2c5b7c
s3_name=
s3_dir=
s3_pids=()
s3_proxies=()

# s3_spawn server|caller LOG COMMAND ...: in the background, as that user; ends with this shell at the latest.  The process id is in s3_pid.
s3_spawn() {
	local user=$1 log=$2 as=()
	shift 2
	[ "$(id -u)" != 0 ] || [ "$user" = caller ] || as=(--reuid="$cluster_owner" --regid="$cluster_group" --init-groups)
	(cd / && exec setpriv "${as[@]}" --pdeathsig KILL -- "$@") > "$log" 2>&1 < /dev/null &
	s3_pid=$!
	disown "$s3_pid"				# or bash would report its end
}

s3_need() {
	local program
	for program; do
		command -v "$program" > /dev/null && continue
		echo "$program is missing: scripts/install-deps check installs it" >&2
		return 1
	done
}

# One test builds at a time; what is built for it is there for the others.
s3_build_store() {
	mkdir -p "$s3_top/build" && flock "$s3_top/build/store.lock" make -s -C "$s3_top/test/store" "$@" >&2
}

s3tool() {
	[ -n "${s3_tool:-}" ] || { s3_build_store ../../build/store/s3tool && s3_tool=$s3_top/build/store/s3tool; } || return 1
	"$s3_tool" "$@"
}

s3_answers() { (exec 3<> "/dev/tcp/127.0.0.1/$1") 2> /dev/null; }

# s3_wait PORT: until somebody listens there, or none of the processes is left who could.
s3_wait() {
	local try pid
	for try in {1..600}; do
		s3_answers "$1" && return 0
		for pid in "${s3_pids[@]}" "${s3_proxies[@]}"; do
			kill -0 "$pid" 2> /dev/null || return 1
		done
		sleep 0.1
	done
	return 1
}

# ---------------------------------------------------------------- Ceph's RGW

# One monitor, one OSD in memory, one gateway.  Without authentication among them the client modes must be crc: radosgw insists on
# secure ones otherwise and hunts for ever.
s3_start_rgw() {
	local port mon fsid d=$s3_dir
	s3_need ceph ceph-mon ceph-osd monmaptool radosgw radosgw-admin || return 1
	port=$(cluster_free_port)
	mon=$(cluster_free_port)
	fsid=$(cat /proc/sys/kernel/random/uuid)
	as_server mkdir -p "$d/mon" "$d/osd" "$d/run" || return 1
	cat > "$d/ceph.conf" <<CONF
[global]
fsid = $fsid
mon_host = v2:127.0.0.1:$mon
mon_initial_members = a
public_network = 127.0.0.0/8
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
ms_mon_client_mode = crc
ms_client_mode = crc
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_warn_on_pool_no_redundancy = false
mon_max_pg_per_osd = 1000
run_dir = $d/run
admin_socket = $d/run/\$name.asok
log_file = $d/\$name.log
[mon.a]
mon_data = $d/mon
[osd.0]
osd_data = $d/osd
osd_objectstore = memstore
memstore_device_bytes = 4294967296
osd_memory_target = 939524096
[client.rgw]
rgw_frontends = beast endpoint=127.0.0.1:$port tcp_nodelay=1
rgw_enable_usage_log = false
rgw_dns_name = localhost
rgw_bucket_quota_ttl = 0
CONF
	chmod 644 "$d/ceph.conf"
	as_server monmaptool --create --fsid "$fsid" --addv a "[v2:127.0.0.1:$mon]" "$d/monmap" > "$d/log" 2>&1 &&
		as_server ceph-mon -c "$d/ceph.conf" -i a --mkfs --monmap "$d/monmap" >> "$d/log" 2>&1 || return 1
	s3_spawn server "$d/mon.out" ceph-mon -c "$d/ceph.conf" -i a -f
	s3_pids+=("$s3_pid")
	local uuid
	uuid=$(cat /proc/sys/kernel/random/uuid)
	as_server timeout 60 ceph -c "$d/ceph.conf" osd new "$uuid" >> "$d/log" 2>&1 &&
		as_server ceph-osd -c "$d/ceph.conf" -i 0 --mkfs --osd-uuid "$uuid" >> "$d/log" 2>&1 || return 1
	s3_spawn server "$d/osd.out" ceph-osd -c "$d/ceph.conf" -i 0 -f
	s3_pids+=("$s3_pid")
	as_server timeout 120 radosgw-admin -c "$d/ceph.conf" -n client.rgw user create --uid=s3am --display-name=s3am \
		--access-key="$AWS_ACCESS_KEY_ID" --secret-key="$AWS_SECRET_ACCESS_KEY" >> "$d/log" 2>&1 || return 1
	s3_spawn server "$d/rgw.out" radosgw -c "$d/ceph.conf" -n client.rgw -f
	s3_pids+=("$s3_pid")
	s3_port=$port
	s3_wait "$port"
}

# ---------------------------------------------------------------- MinIO

# Prints the program's name; builds it if there is a Go that can.  77: there is no way.
s3_minio() {
	local program=$s3_cache/minio-$s3_minio_version version
	if command -v minio; then
		return 0
	elif [ -x "$program" ]; then
		echo "$program"
		return 0
	fi
	version=$(go env GOVERSION 2> /dev/null) || return 77
	[[ $version =~ ^go1\.([0-9]+) && ${BASH_REMATCH[1]} -ge 24 ]] || return 77
	mkdir -p "$s3_cache" || return 1
	(
		# several tests may come here at once; a build that another one finished is used
		flock 9
		[ -x "$program" ] && exit 0
		dir=$(mktemp -d "$s3_cache/build.XXXXXX") && trap 'rm -rf "$dir"' EXIT
		echo "building MinIO, which takes some minutes" >&2
		GOBIN=$dir nice go install "github.com/minio/minio@$s3_minio_version" > "$dir/log" 2>&1 || { tail -n 5 "$dir/log" >&2; exit 77; }
		chmod 755 "$dir/minio"
		mv "$dir/minio" "$program"
	) 9> "$s3_cache/minio.lock" || return
	echo "$program"
}

s3_run_minio() {
	s3_spawn server "$s3_dir/minio.out" env HOME="$s3_dir" MINIO_ROOT_USER="$AWS_ACCESS_KEY_ID" MINIO_ROOT_PASSWORD="$AWS_SECRET_ACCESS_KEY" \
		MINIO_UPDATE=off MINIO_BROWSER=off MINIO_DOMAIN=localhost "$s3_program" server --quiet --certs-dir "$s3_dir/certs" \
		--address "127.0.0.1:$s3_port" "$s3_dir/data"
	s3_pids+=("$s3_pid")
	s3_wait "$s3_port"
}

s3_start_minio() {
	s3_program=$(s3_minio) || return
	# the servers' user may not be able to read the cache
	if ! as_server test -x "$s3_program"; then
		cp "$s3_program" "$s3_dir/minio" && chmod 755 "$s3_dir/minio" || return 1
		s3_program=$s3_dir/minio
	fi
	as_server mkdir -p "$s3_dir/data" "$s3_dir/certs" || return 1
	s3_port=$(cluster_free_port)
	s3_run_minio
}

# ---------------------------------------------------------------- all of them

s3_start() {
	local status try
	s3_name=$1
	s3_dir=$(server_dir s3am-"$1") || return 1
	s3_pids=()
	export AWS_ACCESS_KEY_ID=s3amtestkey AWS_REGION=us-east-1
	AWS_SECRET_ACCESS_KEY=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
	export AWS_SECRET_ACCESS_KEY
	unset AWS_SESSION_TOKEN AWS_PROFILE AWS_DEFAULT_REGION AWS_ENDPOINT_URL AWS_ENDPOINT_URL_S3 AWS_CA_BUNDLE
	s3_start_"$1"
	status=$?
	if [ "$status" = 0 ]; then
		s3_direct
		export S3AM_REPOSITORY=s3://s3am-test/repository
		# whoever listens need not be ready
		for try in {1..60}; do
			s3tool "$S3AM_REPOSITORY" make-bucket 2> "$s3_dir/make-bucket.log" && return 0
			sleep 0.5
		done
		cat "$s3_dir/make-bucket.log" >&2
		status=1
	fi
	if [ "$status" = 77 ]; then
		echo "1..0 # SKIP $1 is not on the PATH, and there is no Go 1.24 or newer that can build it"
	else
		tail -n 20 "$s3_dir"/*log "$s3_dir"/*.out >&2 2> /dev/null
	fi
	s3_stop
	return "$status"
}

s3_direct() { export S3AM_ENDPOINT=http://127.0.0.1:$s3_port; }

s3_end_processes() {
	[ $# -gt 1 ] || return 0
	kill -"$@" 2> /dev/null
	processes_gone "${@:2}"
}

s3_kill() {
	s3_end_processes KILL "${s3_proxies[@]}"
	s3_end_processes KILL "${s3_pids[@]}"
	s3_pids=()
	s3_proxies=()
}

# Nothing that these servers keep needs an orderly end.
s3_stop() {
	s3_kill
	[ -z "$s3_dir" ] || rm -rf "$s3_dir"
	s3_dir=
}

s3_restart() {
	[ "$s3_name" = minio ] || { echo "only minio keeps its data" >&2; return 1; }
	s3_run_minio && s3_direct
}

s3_proxy() {
	local port
	port=$(cluster_free_port)
	s3_spawn caller "$s3_dir/proxy.$port.out" python3 "$s3_top/test/lib/s3proxy" --listen "$port" --to "$s3_port" "$@"
	s3_proxies+=("$s3_pid")
	s3_wait "$port" || { cat "$s3_dir/proxy.$port.out" >&2; return 1; }
	export S3AM_ENDPOINT=http://127.0.0.1:$port
}

s3_counts() { curl -s "$S3AM_ENDPOINT/-/counts"; }
# METHOD most-at-once mean-at-once
s3_flight() { curl -s "$S3AM_ENDPOINT/-/flight"; }
s3_reset() { curl -s -X PUT "$S3AM_ENDPOINT/-/reset" > /dev/null; }
s3_delay() { curl -s -X PUT "$S3AM_ENDPOINT/-/delay/$1" > /dev/null; }
s3_refuse() { curl -s -X PUT "$S3AM_ENDPOINT/-/refuse/$1" > /dev/null; }
s3_admin() { as_server timeout 60 radosgw-admin -c "$s3_dir/ceph.conf" -n client.rgw "$@" >> "$s3_dir/log" 2>&1; }

s3_unset() {
	unset S3AM_ENDPOINT S3AM_REPOSITORY AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_REGION
}
