#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A function of a running program changes, and changes back, and its code is what it was.
. "${0%/*}/lib.sh"
need_ptrace

program counter <<'END'
#include "target.h"
NOIPA int answer(void) { return 1; }
int main(void)
{
	for (;; turn())
		printf("answer %d\n", answer());
}
END
start ./counter
text=$(text_digest)

change counter.c 's/return 1/return 2/'
build_patch fix
apply fix
now_prints 'answer 2' 'answer 1'
never_writable_and_executable

revert fix
now_prints 'answer 1' 'answer 2'
[ "$(text_digest)" = "$text" ] || fail 'the code is not what it was'
