#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A stripped program, and no debug file: the relocated fields of its code tell where things lie.
. "${0%/*}/lib.sh"
need_ptrace

program counter <<'END'
#include "target.h"
static int calls = 5;
static NOIPA int scale(int x) { return x * 10 + calls; }
static NOIPA int answer(int x)
{
	printf("answer %d\n", scale(x));
	return calls;
}
int main(void) { for (;; turn()) answer(1); }
END
strip -s counter
! readelf -S counter | grep -qE 'symtab|debug' || fail 'the program is not stripped'
start ./counter
change counter.c 's/scale\(x\)/scale(x + 1)/'
build_patch fix
there_and_back 'answer 25' 'answer 15'
