#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# A tree that was built in place has its objects made anew, and keeps its own.
. "${0%/*}/lib.sh"

program counter <<'END'
#include "target.h"
NOIPA int answer(void) { return 1; }
int main(void) { for (;; turn()) printf("answer %d\n", answer()); }
END
make -s -C tree counter
before=$(cd tree && sha256sum counter.o counter)
change counter.c 's/return 1/return 2/'
diff -u tree/counter.c new/counter.c > fix.patch || :
start ./counter
build_patch fix
[ "$(cd tree && sha256sum counter.o counter)" = "$before" ] || fail 'the tree changed'
apply fix
now_prints 'answer 2' 'answer 1'
