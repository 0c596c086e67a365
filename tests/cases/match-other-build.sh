#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A target of another build of the same source: no build ID in common, each function compared by itself.
. "${0%/*}/lib.sh"
need_ptrace

program counter <<'END'
#include "target.h"
NOIPA int answer(int x) { return x * 7 + 1; }
int main(void) { for (;; turn()) printf("answer %d\n", answer(1)); }
END
# The same code, linked another time with something else in it.
echo 'const char stamp[] = "release 1"; ' > stamp.c
cp -a tree built
"${CC:-gcc}" -O2 -g -I "$cases" -Wl,--build-id -o counter built/counter.c stamp.c
start ./counter
change counter.c 's/x \* 7 \+ 1/x * 7 + 2/'
build_patch fix
suture show fix.sut > shown
contains shown build-id-differs
there_and_back 'answer 9' 'answer 8'
