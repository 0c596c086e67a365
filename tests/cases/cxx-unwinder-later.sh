#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Where no unwinder is loaded yet, status says so, and backtrace() later does no harm.
. "${0%/*}/lib.sh"
need_ptrace

program counter <<'END'
#include "target.h"
#include <execinfo.h>
NOIPA int depth(int want)
{
	void *frames[32];
	return want ? backtrace(frames, 32) : 0;
}
NOIPA int answer(int want) { return depth(want) > 0 ? 1000 + want : 1 + want; }
int main(void)
{
	for (;; turn())
		printf("answer %d\n", answer(access("go", F_OK) == 0));
}
END
start ./counter
! grep -q libgcc_s "/proc/$pid/maps" || skip 'libgcc_s is loaded from the start'
change counter.c 's/1 \+ want;/2 + want;/'
build_patch fix
text=$(code_digest)
apply fix
now_prints 'answer 2' 'answer 1$'
suture status -p "$pid" | grep 'unwind data' > out
contains out none
touch go
wait_until 'backtrace()' grep -qx 'answer 1001' "$output"
grep -q libgcc_s "/proc/$pid/maps" || fail 'libgcc_s was not loaded'
runs
revert fix
[ "$(code_digest)" = "$text" ] || fail 'the code is not what it was'
now_prints 'answer 1001'
