#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A static function that was inlined into two others: both are replaced.
. "${0%/*}/lib.sh"
need_ptrace

program counter <<'END'
#include "target.h"
static inline __attribute__((always_inline)) int scale(int x) { return x * 3; }
NOIPA int one(int x) { return scale(x) + 1; }
NOIPA int two(int x) { return scale(x) + 2; }
NOIPA int three(int x) { return x + 3; }
int main(void) { for (;; turn()) printf("answer %d %d %d\n", one(1), two(1), three(1)); }
END
start ./counter
change counter.c 's/x \* 3/x * 5/'
build_patch fix
suture show fix.sut > shown
contains shown '2 functions changed'
contains shown 'changed one'
contains shown 'changed two'
there_and_back 'answer 6 7 4' 'answer 4 5 4'
