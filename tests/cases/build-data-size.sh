#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A variable, and a structure that old code uses, change their size: refused by name.
. "${0%/*}/lib.sh"
program counter <<'END'
#include "target.h"
struct item { int a, b; };
struct item items[4] = { { 1, 2 }, { 3, 4 } };
int table[3] = { 1, 2, 3 };
NOIPA int answer(int x) { return items[x].a + table[x]; }
NOIPA int other(int x) { return items[x].b; }
int main(void) { for (;; turn()) printf("answer %d %d\n", answer(1), other(1)); }
END
change counter.c 's/table\[3\] = \{ 1, 2, 3/table[4] = { 1, 2, 3, 4/; s/return items\[x\]\.a/return 2 * items[x].a/'
status 5 build_patch fix
contains err 'data-size: table'
[ ! -e fix.sut ] || fail 'a patch was written'
rm -rf new
change counter.c 's/int a, b;/int a, added, b;/'
status 5 build_patch fix
contains err 'items'
[ ! -e fix.sut ] || fail 'a patch was written'
