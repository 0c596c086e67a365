#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# New code calls and reads statics of the program that its old version did not use.
. "${0%/*}/lib.sh"
need_ptrace

program counter <<'END'
#include "target.h"
static int level = 3;
static NOIPA int hidden(int x) { return x * level; }
static NOIPA int answer(int x) { return x + 1; }
int main(void)
{
	for (;; turn()) {
		int value = answer(20);
		printf("answer %d %d\n", value, hidden(1));
	}
}
END
start ./counter
change counter.c 's/return x \+ 1/return hidden(x) + level/'
build_patch fix
there_and_back 'answer 63 3' 'answer 21 3'
