#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A function too short for a jump, right in front of another: the neighbour is never written to.
. "${0%/*}/lib.sh"
need_ptrace

# At -Os: mov %rdi,%rax; ret. Four bytes, and the next function follows at once.
program counter -Os <<'END'
#include "target.h"
NOIPA long tiny(long x) { return x; }
NOIPA long neighbour(long x) { return x + 100; }
int main(void) { for (;; turn()) printf("tiny %ld neighbour %ld\n", tiny(7), neighbour(7)); }
END
start ./counter
change counter.c '/tiny\(long/s/return x;/return -x;/'
if build_patch fix 2> err && suture apply fix.sut -p "$pid" > out 2>> err; then
	now_prints 'tiny -7 neighbour 107' 'tiny 7'
	revert fix
	there_and_back 'tiny -7 neighbour 107' 'tiny 7 neighbour 107'
else
	[ ! -e out ] || cat out >> err
	contains err tiny
	contains err 'too short'
	now_prints 'tiny 7 neighbour 107' 'tiny -7'
fi
! grep -v "neighbour 107$" "$output" || fail "the neighbour was written to"
