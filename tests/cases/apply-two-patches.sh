#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Two patches of different functions in one process, which come and go in any order.
. "${0%/*}/lib.sh"
need_ptrace

program counter <<'END'
#include "target.h"
NOIPA int one(void) { return 1; }
NOIPA int two(void) { return 2; }
int main(void) { for (;; turn()) printf("one %d two %d\n", one(), two()); }
END
start ./counter
text=$(code_digest)
change counter.c 's/return 1/return 10/'
build_patch first
rm -rf new
change counter.c 's/return 2/return 20/'
build_patch second

apply first
now_prints 'one 10 two 2' 'one 1 '
apply second
now_prints 'one 10 two 20' 'two 2$'
status 0 suture status -p "$pid"
contains out first
contains out second
revert first
now_prints 'one 1 two 20' 'one 10'
apply first
now_prints 'one 10 two 20' 'one 1 '
revert second
now_prints 'one 10 two 2'
revert first
now_prints 'one 1 two 2'
[ "$(code_digest)" = "$text" ] || fail 'the code is not what it was'
