#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A variadic function, with arguments in registers and on the stack.
. "${0%/*}/lib.sh"
need_ptrace

program counter <<'END'
#include "target.h"
#include <stdarg.h>
NOIPA double total(int count, ...)
{
	va_list arguments;
	double sum = 0;
	va_start(arguments, count);
	for (int i = 0; i < count; i++)
		sum += i % 2 ? va_arg(arguments, double) : va_arg(arguments, int);
	va_end(arguments);
	return sum;
}
int main(void)
{
	for (;; turn())
		printf("total %.1f\n", total(20, 1, 2., 3, 4., 5, 6., 7, 8., 9, 10., 11, 12., 13, 14., 15, 16.,
					     17, 18., 19, 20.5));
}
END
start ./counter
change counter.c 's/return sum;/return -sum;/'
build_patch fix
there_and_back 'total -210.5' 'total 210.5'
