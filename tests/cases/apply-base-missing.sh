#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A patch that stands on another is refused where that one is not.
. "${0%/*}/lib.sh"
need_ptrace

program counter <<'END'
#include "target.h"
NOIPA int answer(void) { return 1; }
int main(void) { for (;; turn()) printf("answer %d\n", answer()); }
END
start ./counter
change counter.c 's/return 1/return 2/'
build_patch first
cp fix.patch first.patch
mv tree plain
mv new tree
change counter.c 's/return 2/return 3/'
rm -rf tree
mv plain tree
build_patch above --base first.sut
unchanged_by status 8 suture apply above.sut -p "$pid"
contains out 'first'
contains out 'apply that first'
now_prints 'answer 1' 'answer 3'
apply first
apply above
now_prints 'answer 3' 'answer 2'
