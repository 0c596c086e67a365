#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# New data: initialised, zero, and constant. The old data keeps its values.
. "${0%/*}/lib.sh"
need_ptrace

program counter <<'END'
#include "target.h"
static int count = 1000;
NOIPA void answer(void)
{
	printf("old %d\n", count++);
}
int main(void) { for (;; turn()) answer(); }
END
start ./counter
change counter.c <<'END'
#include "target.h"
static int count = 1000;
static int begun = 70, zero;
static int *const where[] = { &begun, &zero, &count };
NOIPA void answer(void)
{
	static char room[5000];
	begun++;
	zero++;
	room[4999]++;
	printf("new %s %d\n",
	       begun == 70 + zero && room[4999] == (char)zero && *where[1] == zero ? "well" : "WRONG", count++);
}
int main(void) { for (;; turn()) answer(); }
END
build_patch fix
there_and_back 'new well ' 'old '
lacks "$output" WRONG
sed 's/.* //' "$output" | awk 'NR > 1 && $1 != last + 1 { exit 1 } { last = $1 }' ||
	fail 'the count does not go on by ones'
