#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A new thread-local variable is refused by its name when the patch is built.
. "${0%/*}/lib.sh"
program counter <<'END'
#include "target.h"
NOIPA int answer(void) { return 1; }
int main(void) { for (;; turn()) printf("answer %d\n", answer()); }
END
change counter.c 's/NOIPA int answer\(void\) \{ return 1/static __thread int fresh = 7;\n&+ fresh++/'
status 5 build_patch fix
contains err tls-new
contains err fresh
[ ! -e fix.sut ] || fail 'a patch was written'
