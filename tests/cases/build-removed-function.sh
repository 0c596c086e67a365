#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A function that the new code has no more: a note, and who called it is replaced.
. "${0%/*}/lib.sh"
need_ptrace

program counter <<'END'
#include "target.h"
NOIPA int helper(int x) { return x * 3; }
NOIPA int answer(int x) { return helper(x) + 1; }
int main(void) { for (;; turn()) printf("answer %d\n", answer(1)); }
END
start ./counter
change counter.c '/int helper/d; s/helper\(x\)/x * 7/'
build_patch fix
suture show fix.sut > shown
contains shown 'symbol-removed: helper'
there_and_back 'answer 8' 'answer 4'
