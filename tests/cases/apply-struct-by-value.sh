#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Structs by value, in registers and in memory, as arguments and as results.
. "${0%/*}/lib.sh"
need_ptrace

program counter <<'END'
#include "target.h"
struct small { int a; double b; };
struct big { long items[9]; };
NOIPA struct small pair(struct small s, int by) { return (struct small){ s.a + by, s.b + by }; }
NOIPA struct big many(struct big b, struct small s)
{
	for (int i = 0; i < 9; i++)
		b.items[i] += s.a;
	return b;
}
int main(void)
{
	for (;; turn()) {
		struct small s = pair((struct small){ 1, 2.5 }, 10);
		struct big b = many((struct big){ { 0, 1, 2, 3, 4, 5, 6, 7, 8 } }, s);
		printf("%d %.1f %ld %ld\n", s.a, s.b, b.items[0], b.items[8]);
	}
}
END
start ./counter
change counter.c 's/s\.b \+ by/s.b - by/; s/\+= s\.a/+= 2 * s.a/'
build_patch fix
there_and_back '11 -7.5 22 30' '11 12.5 11 19'
