#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A switch with a jump table: new cases, and the old table is not used by new code.
. "${0%/*}/lib.sh"
need_ptrace

program counter <<'END'
#include "target.h"
int side;
NOIPA void note(int x) { side += x; }
NOIPA const char *answer(int x)
{
	switch (x) {
	case 0: note(1); return "zero";
	case 1: note(3); note(4); return "one";
	case 2: note(5); return "two";
	case 3: side = 0; return "three";
	case 4: note(7); note(side); return "four";
	case 5: return "five";
	case 6: note(-1); return "six";
	default: return "many";
	}
}
int main(void) { for (int i = 0;; i++, turn()) printf("%d is %s\n", i % 9, answer(i % 9)); }
END
start ./counter
change counter.c 's/"five"/"FIVE"/; s/default:/case 8: note(2); return "EIGHT"; default:/'
build_patch fix
recent() { tail -n 20 "$output" | grep -F "$1" > found; }
rounds() { for word; do wait_until "'$word'" recent "$word"; done; }
apply fix
rounds '5 is FIVE' '8 is EIGHT' '7 is many' '0 is zero'
revert fix
rounds '5 is five' '8 is many' '7 is many' '4 is four'
there_and_back 'is FIVE' 'is five'
! grep -vxE '0 is zero|1 is one|2 is two|3 is three|4 is four|5 is (five|FIVE)|6 is six|7 is many|8 is (many|EIGHT)' \
	"$output" || fail 'a case led to another one'
