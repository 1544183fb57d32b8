# session.sh: sessions that stay open, for tests in which one waits for another.  After tap.sh.

# session NAME: a session on the current server; what is written to ${NAME} are its statements
session() {
	rm -f "$work/$1.in"
	mkfifo "$work/$1.in"
	sql -v ON_ERROR_STOP=0 -v VERBOSITY=verbose < "$work/$1.in" > "$work/$1.out" 2>&1 &
	eval "$1_pid=$!"
	exec {fd}> "$work/$1.in"
	eval "$1=$fd"
}
said() { grep -q "$2" "$work/$1.out"; }
# others have inherited its input, so it does not end by itself
finish() {
	local fd=$1 pid=$1_pid
	fd=${!fd}
	# one that has ended by itself, as its server went, needs no telling
	(
		trap '' PIPE
		echo '\q' >&"$fd"
	) 2> /dev/null
	exec {fd}>&-
	wait "${!pid}"
}
