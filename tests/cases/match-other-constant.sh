#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Another constant in a function that the patch does not touch, of the same object: refused by its name.
. "${0%/*}/lib.sh"
program counter <<'END'
#include "target.h"
NOIPA int limit(int x) { return x * 7 + 3; }
NOIPA int answer(int x) { return x + 1; }
int main(void) { for (;; turn()) printf("%d %d\n", limit(1), answer(1)); }
END
sed -i 's/x \* 7 + 3/x * 7 + 4/' tree/counter.c
change counter.c 's/return x \+ 1/return x + 2/'
status 5 build_patch fix
contains err code-mismatch
contains err limit
lacks err 'code-mismatch: answer'
[ ! -e fix.sut ] || fail 'a patch was written'
