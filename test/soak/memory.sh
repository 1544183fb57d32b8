# shellcheck shell=bash
# memory.sh: what the processes of a server take.  To be sourced after tap.sh.
#
#   largest_kb PATTERN      of the current server's processes whose title fits the regular expression: the kB of the largest one.  That is what it has for
#                           itself and what it has touched of the dynamic shared memory, where all state is; the rest has its size from the beginning
largest_kb() {
	local pid kb title most=0
	for pid in $(process_tree "$(cluster_postmaster "$dir")" 2> /dev/null); do
		title=$({ tr '\0' ' ' < "/proc/$pid/cmdline"; } 2> /dev/null)
		[[ $title =~ $1 ]] || continue
		kb=$(awk '/^[0-9a-f]+-[0-9a-f]+ / { counts = NF < 6 || $6 ~ "^/dev/shm/PostgreSQL" || $6 ~ /^\[/ } /^Rss:/ && counts { n += $2 } END { print n + 0 }' "/proc/$pid/smaps" 2> /dev/null)
		[ "${kb:-0}" -gt "$most" ] && most=$kb
	done
	echo "$most"
}
