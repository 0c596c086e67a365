#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A loop that goes back into the first bytes of a function, where the jump would stand.
# Such a function is replaced all the same, or refused by its name; never is a jump cut in two.
. "${0%/*}/lib.sh"
need_ptrace

# At -Os: xor %eax,%eax; 2: add %edi,%eax; dec %edi; jne 2b; ret
program counter -Os <<'END'
#include "target.h"
NOIPA int sum(int n)
{
	int s = 0;
	do
		s += n;
	while (--n);
	return s;
}
NOIPA int other(void) { return 1; }
int main(void) { for (;; turn()) printf("sum %d other %d\n", sum(4), other()); }
END
start ./counter
change counter.c 's/s \+= n;/s += 2 * n;/'
if build_patch fix 2> err && suture apply fix.sut -p "$pid" > out 2>> err; then
	now_prints 'sum 20 other 1' 'sum 10'
	revert fix
	there_and_back 'sum 20 other 1' 'sum 10 other 1'
else
	cat out >> err
	contains err sum
	now_prints 'sum 10 other 1' 'sum 20'
fi
