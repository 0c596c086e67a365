#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A program that may map no memory writable and executable, nor make any executable.
. "${0%/*}/lib.sh"
need_ptrace

program counter <<'END'
#include "target.h"
#include <sys/prctl.h>
NOIPA int answer(void) { return 1; }
int main(void)
{
	if (prctl(65 /* PR_SET_MDWE */, 1 /* PR_MDWE_REFUSE_EXEC_GAIN */, 0, 0, 0))
		puts("no MDWE");
	for (;; turn())
		printf("answer %d\n", answer());
}
END
start ./counter
! grep -q 'no MDWE' "$output" || skip 'this kernel has no PR_SET_MDWE'
change counter.c 's/return 1/return 2/'
build_patch fix
there_and_back 'answer 2' 'answer 1'
