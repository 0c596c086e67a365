#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A program with forked workers: parents come before children, and each has its own patch.
. "${0%/*}/lib.sh"
need_ptrace

program counter <<'END'
#include "target.h"
NOIPA int answer(void) { return 1; }
int main(void)
{
	pid_t parent = getpid();
	if (fork() == 0 && fork() == 0)
		;
	for (;; turn()) {
		printf("%d answer %d\n", (int)getpid(), answer());
		if (getpid() != parent && getppid() == 1)
			return 0;
	}
}
END
start ./counter
# shellcheck disable=SC2034 # lib.sh reads it
threads=3
child=$(cat "/proc/$pid/task/$pid/children")
child=${child% }
grandchild=$(cat "/proc/$child/task/$child/children")
grandchild=${grandchild% }
pids+=("$child" "$grandchild")
counter_fix
status 0 suture apply fix.sut --all
grep -o '^[0-9]*' out | tr '\n' ' ' > order
[ "$(cat order)" = "$pid $child $grandchild " ] || fail "the order is $(cat order)"
now_prints 'answer 2' 'answer 1'
status 0 suture revert fix -p "$child"
lines=$(wc -l < "$output")
wait_until 'more output' lines_reach $((lines + 20))
tail -n +$((lines + 4)) "$output" > window
contains window "$child answer 1"
contains window "$pid answer 2"
contains window "$grandchild answer 2"
lacks window "$child answer 2"
