#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# New functions, static and global, that call each other and an old one.
. "${0%/*}/lib.sh"
need_ptrace

program counter <<'END'
#include "target.h"
NOIPA int base(void) { return 5; }
NOIPA int answer(int x) { return x + base(); }
int main(void) { for (;; turn()) printf("answer %d\n", answer(1)); }
END
start ./counter
change counter.c <<'END'
#include "target.h"
NOIPA int base(void) { return 5; }
NOIPA int odd(int x);
static NOIPA int even(int x) { return x == 0 ? base() : odd(x - 1); }
NOIPA int odd(int x) { return x == 0 ? 1000 : even(x - 1); }
NOIPA int answer(int x) { return x + even(10); }
int main(void) { for (;; turn()) printf("answer %d\n", answer(1) + 100); }
END
change counter.c 's/ \+ 100\)/)/; s/even\(10\)/even(10) + 100/'
build_patch fix
suture show fix.sut > shown
contains shown 'even'
contains shown 'odd'
there_and_back 'answer 106' 'answer 6'
