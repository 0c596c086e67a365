#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A static local keeps its value on the way in and on the way out.
. "${0%/*}/lib.sh"
need_ptrace

program counter <<'END'
#include "target.h"
NOIPA void answer(void)
{
	static int count = 100;
	printf("old %d\n", count++);
}
int main(void) { for (;; turn()) answer(); }
END
start ./counter
change counter.c 's/"old /"new /'
build_patch fix
there_and_back 'new ' 'old '
sed 's/.* //' "$output" | awk 'NR > 1 && $1 != last + 1 { exit 1 } { last = $1 }' ||
	fail 'the count does not go on by ones'
