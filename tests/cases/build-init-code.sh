#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A constructor and a table of the linker change: both have been run or read, so both are refused.
. "${0%/*}/lib.sh"
program counter <<'END'
#include "target.h"
int level;
__attribute__((constructor)) static void prepare(void) { level = getpid() ? 5 : 0; }
NOIPA int answer(int x) { return x + level; }
int main(void) { for (;; turn()) printf("answer %d\n", answer(10)); }
END
change counter.c 's/\? 5/? 7/'
status 5 build_patch fix
contains err 'init-code: prepare'
[ ! -e fix.sut ] || fail 'a patch was written'
rm -rf new
change counter.c '$s/$/\n__attribute__((constructor)) static void more(void) { level++; }/'
status 5 build_patch fix
contains err more
