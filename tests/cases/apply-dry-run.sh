#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A dry run says what would be done and changes nothing.
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
unchanged_by status 0 suture apply fix.sut -p "$pid" --dry-run
contains out 'can be applied'
now_prints 'answer 1' 'answer 2'
status 0 suture status -p "$pid"
contains out ' 0 patches'
apply fix
now_prints 'answer 2' 'answer 1'
