#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A child that was forked after apply keeps the patch when it is taken out of its parent.
. "${0%/*}/lib.sh"
need_ptrace

program counter <<'END'
#include "target.h"
NOIPA int answer(void) { return 1; }
int main(void)
{
	const char *name = "parent";
	for (;; turn()) {
		if (name[0] == 'p' && access("go", F_OK) == 0 && unlink("go") == 0 && fork() == 0)
			name = "child";
		printf("%s answer %d\n", name, answer());
		if (name[0] == 'c' && getppid() == 1)
			return 0;
	}
}
END
start ./counter
counter_fix
apply fix
touch go
wait_until 'the child' grep -q '^child' "$output"
child=$(cat "/proc/$pid/task/$pid/children")
child=${child% }
pids+=("$child")
revert fix
# shellcheck disable=SC2034 # lib.sh reads it
threads=4
now_prints 'parent answer 1' 'parent answer 2'
now_prints 'child answer 2' 'child answer 1'
status 0 suture status -p "$pid" -p "$child"
sed -n "/^$child /,\$p" out > of_child
contains of_child 'fix: applied'
suture status -p "$pid" > out
contains out ' 0 patches'
suture revert fix -p "$child"
now_prints 'child answer 1' 'child answer 2'
