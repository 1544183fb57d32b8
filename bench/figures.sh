# figures.sh: how benchmarks print what they measured.  To be sourced by bash; $short is 1 once a figure was short.
# shellcheck shell=bash
short=0

# figure NAME MEASURED OPERATOR LIMIT
figure() {
	local verdict=short
	awk -v m="$2" -v l="$4" -v o="$3" 'BEGIN { exit !(o == "<=" ? m <= l : o == ">=" ? m >= l : m == l) }' && verdict=ok
	[ "$verdict" = ok ] || short=1
	printf '%-44s %10s  %-9s %s\n' "$1" "$2" "$3 $4" "$verdict"
}
note() { printf '%-44s %10s\n' "$1" "$2"; }
ratio() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'; }
