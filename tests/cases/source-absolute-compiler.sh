#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Makefiles that call the compiler by its path, as configured trees do.
. "${0%/*}/lib.sh"

program counter <<'END'
#include "target.h"
NOIPA int answer(void) { return 1; }
int main(void) { for (;; turn()) printf("answer %d\n", answer()); }
END
change counter.c 's/return 1/return 2/'
compiler=$(command -v gcc)
[ -n "$compiler" ] || skip 'gcc is not installed'
digest=$(sha256sum "$(readlink -f "$compiler")")
start ./counter
suture build -q -s tree -t ./counter -n fix -o fix.sut fix.patch -- make CC="$compiler"
[ "$(sha256sum "$(readlink -f "$compiler")")" = "$digest" ] || fail 'the compiler was touched'
apply fix
now_prints 'answer 2' 'answer 1'
