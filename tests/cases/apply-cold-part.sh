#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A function that the compiler has split: its .cold part goes with it.
. "${0%/*}/lib.sh"
need_ptrace

program counter <<'END'
#include "target.h"
int failures;
__attribute__((cold, noinline)) void complain(int x) { printf("complaint %d\n", x); }
NOIPA int answer(int x)
{
	if (x > 1) {
		failures++;
		complain(x + 10);
		complain(x + 20);
	}
	return x + 1;
}
int main(void) { for (int i = 0;; i++, turn()) printf("answer %d\n", answer(i % 3)); }
END
nm counter | grep -q 'answer\.cold' || skip 'this compiler splits no cold part off'
start ./counter
change counter.c 's/x \+ 10/x + 30/'
build_patch fix
there_and_back 'complaint 32' 'complaint 12'
lacks "$output" 'complaint 42'
