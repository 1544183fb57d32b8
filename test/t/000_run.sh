#!/bin/bash
# test/run counts what passed, failed, was skipped, broke its plan, ended badly or did not end; and runs several at once.
. "$(dirname "$0")/../lib/tap.sh"

run() {
	printf '%s\n' "$1" > "$work/list"
	CHECK_JOBS=2 CHECK_OUTPUT=$work/output "$(dirname "$0")/../run" -l "$work/list" "${@:2}" > "$work/said" 2>&1
	echo "$? $(tail -n 1 "$work/said")"
}

is "$(run 'a 5 true')" "0 1 passed, 0 failed, 0 skipped" "a command that ends well"
is "$(run 'a 5 exit 3')" "1 0 passed, 1 failed, 0 skipped" "one that does not"
is "$(run 'a 5 exit 77')" "0 0 passed, 0 failed, 1 skipped" "one that cannot run here"
is "$(run 'a 5 echo ok; echo "ok 2 - b # SKIP no c"; echo 1..2')" "0 1 passed, 0 failed, 1 skipped" "TAP"
is "$(run 'a 5 echo ok; echo not ok; echo 1..2; exit 1')" "1 1 passed, 1 failed, 0 skipped" "TAP with a failure"
is "$(run 'a 5 echo not ok')" "1 0 passed, 1 failed, 0 skipped" "a failure in spite of status 0"
is "$(run 'a 5 echo ok; echo 1..2')" "1 1 passed, 1 failed, 0 skipped" "a plan that is not kept"
is "$(run 'a 5 echo ok; exit 1')" "1 1 passed, 1 failed, 0 skipped" "ok, but a bad end"
is "$(run 'a 5 echo okay; echo "  not ok"')" "0 1 passed, 0 failed, 0 skipped" "only lines of TAP count"
is "$(run 'a 5 echo "1..0 # SKIP nothing here"')" "0 0 passed, 0 failed, 1 skipped" "all skipped"
is "$(run 'a 1 echo ok; sleep 20')" "1 1 passed, 1 failed, 0 skipped" "out of time"
is "$(run $'# comment\n\na 5 true\nb 5 true\nab 5 true' 'a*')" "0 2 passed, 0 failed, 0 skipped" "by name"
is "$(run 'a 5 true' nothing)" "1 0 passed, 1 failed, 0 skipped" "no such test"
meet() { echo "touch $work/$1; for i in {1..50}; do [ -e $work/$2 ] && exit 0; sleep 0.1; done; exit 1"; }
is "$(run "a 5 $(meet one two)
b 5 $(meet two one)
c 5 exit 3
d 5 true")" "1 3 passed, 1 failed, 0 skipped" "two at once, and another when one has ended"
is "$(grep '^failed: ' "$work/said")" "failed: c" "who failed is named at the end"
rm "$work/one" "$work/two"
is "$(run "a 1 $(meet one two)
b 5 touch $work/two" -j 1)" "1 1 passed, 1 failed, 0 skipped" "one after the other"
is "$(CHECK_SECONDS=0 run 'a 5 true')" "1 0 passed, 1 failed, 0 skipped" "no time left"
done_testing
