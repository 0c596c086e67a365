#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Another compiler flag than the target was built with: refused with the first instruction that differs.
. "${0%/*}/lib.sh"
program counter -O1 <<'END'
#include "target.h"
NOIPA int sum(const int *items, int count)
{
	int sum = 0;
	for (int i = 0; i < count; i++)
		sum += items[i] * i;
	return sum;
}
NOIPA int answer(int x) { return x + 1; }
int main(void) { int items[] = { 1, 2, 3 }; for (;; turn()) printf("%d %d\n", sum(items, 3), answer(1)); }
END
sed -i 's/-O1/-O2/' tree/Makefile
change counter.c 's/return x \+ 1/return x + 2/'
status 5 build_patch fix
contains err code-mismatch
contains err sum
grep -qE '0x[0-9a-f]+' err || fail 'no place is named'
[ ! -e fix.sut ] || fail 'a patch was written'
