#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A changed initial value: refused, or accepted by name, and then the running value stays.
. "${0%/*}/lib.sh"
need_ptrace

program counter <<'END'
#include "target.h"
int level = 5;
NOIPA int answer(int x) { return x + level; }
int main(void) { for (;; turn()) printf("answer %d\n", answer(10)); }
END
start ./counter
change counter.c 's/level = 5/level = 6/; s/x \+ level/x * 2 + level/'
status 5 build_patch fix
contains err 'data-changed: level'
contains err '--accept'
[ ! -e fix.sut ] || fail 'a patch was written'
status 2 build_patch fix --accept data-changed:other
build_patch fix --accept data-changed:level
suture show fix.sut > shown
contains shown 'data-changed'
contains shown accepted
there_and_back 'answer 25' 'answer 15'
