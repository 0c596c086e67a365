#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A static local that the new code no longer has: a warning that names it.
. "${0%/*}/lib.sh"
need_ptrace

program counter <<'END'
#include "target.h"
NOIPA int answer(int x) { static int count; return x + ++count * 0 + (count > 0); }
int main(void) { for (;; turn()) printf("answer %d\n", answer(1)); }
END
start ./counter
change counter.c 's/static int count; return .*; \}/return x + 5; }/'
build_patch fix > out
contains out 'warning: static-removed'
contains out count
suture show fix.sut > shown
contains shown static-removed
there_and_back 'answer 6' 'answer 2'
