#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Two diffs, the second on top of the first, and more jobs than one.
. "${0%/*}/lib.sh"
need_ptrace

program counter <<'END'
#include "target.h"
NOIPA int one(void) { return 1; }
NOIPA int two(void) { return 2; }
int main(void) { for (;; turn()) printf("answer %d %d\n", one(), two()); }
END
start ./counter
change counter.c 's/return 1/return 10/'
mv fix.patch first.patch
cp -a new between
sed 's/return 1;/return 15;/; s/return 10;/return 15;/; s/return 2/return 20/' between/counter.c > new/counter.c
diff -ruN between new > second.patch || [ $? = 1 ]
suture build -q -s tree -t ./counter -n fix -o fix.sut -j 4 first.patch second.patch -- make -j4
there_and_back 'answer 15 20' 'answer 1 2'
status 10 suture build -q -s tree -t ./counter -o other.sut second.patch first.patch -- make
