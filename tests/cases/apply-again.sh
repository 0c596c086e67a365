#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# To apply twice, and to revert what is not there.
. "${0%/*}/lib.sh"
need_ptrace

program counter <<'END'
#include "target.h"
NOIPA int answer(void) { return 1; }
int main(void) { for (;; turn()) printf("answer %d\n", answer()); }
END
start ./counter
change counter.c 's/return 1/return 2/'
build_patch fix
status 8 suture revert fix -p "$pid"
contains out 'does not run patch'
apply fix
unchanged_by status 0 suture apply fix.sut -p "$pid"
contains out 'applied already'
now_prints 'answer 2' 'answer 1'
# Another patch of the same name is another patch.
rm -rf new
change counter.c 's/return 1/return 3/'
build_patch fix
unchanged_by status 9 suture apply fix.sut -p "$pid"
now_prints 'answer 2' 'answer 3'
# NAME.sut names the patch as well as its name does.
revert fix.sut
now_prints 'answer 1' 'answer 2'
