#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A recursive function calls itself anew, never its old self.
. "${0%/*}/lib.sh"
need_ptrace

program counter <<'END'
#include "target.h"
NOIPA int fib(int n)
{
	if (n < 2)
		return n;
	return fib(n - 1) + fib(n - 2);
}
int main(void) { for (;; turn()) printf("fib %d\n", fib(10)); }
END
start ./counter
change counter.c 's/return n;/return 2 * n;/'
build_patch fix
there_and_back 'fib 110' 'fib 55'
! grep -vxE 'fib (55|110)' "$output" || fail 'a sum is made of old and new'
