#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# An object, a target and a patch for another CPU are told as such.
. "${0%/*}/lib.sh"
need clang

echo 'int answer(void) { return 1; }' > arm.c
clang --target=aarch64-linux-gnu -O2 -c -o arm.o arm.c 2> /dev/null || skip 'this clang has no aarch64'
counter_program
counter_fix
found=0
suture diff arm.o arm.o > out 2> err || found=$?
[ $found = 3 ] || [ $found = 12 ] || fail "diff gives status $found: $(cat err)"
contains err arm.o
found=0
suture build -s tree -t arm.o -o other.sut fix.patch -- make > out 2> err || found=$?
[ $found = 3 ] || [ $found = 12 ] || fail "build gives status $found: $(cat err)"
contains err arm.o
# e_machine, 183 is EM_AARCH64.
printf '\xb7' | dd of=fix.sut bs=1 seek=18 conv=notrunc status=none
found=0
suture show fix.sut 2> err || found=$?
[ $found = 3 ] || [ $found = 12 ] || fail "show gives status $found: $(cat err)"
contains err fix.sut
