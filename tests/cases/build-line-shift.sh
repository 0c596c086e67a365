#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Lines that are inserted above do not replace the functions below that use __LINE__.
. "${0%/*}/lib.sh"
need_ptrace

program counter <<'END'
#include "target.h"
__attribute__((noinline, cold)) static void report(const char *file, int line) { printf("%s:%d\n", file, line); }
#define CHECK(x) do { if (!(x)) report(__FILE__, __LINE__); } while (0)
NOIPA int above(int x) { CHECK(x < 100); return x; }
NOIPA int answer(int x)
{
	CHECK(x > 0);
	return x + 1;
}
NOIPA int below(int x) { CHECK(x > 1); return x * 2; }
NOIPA int last(int x) { CHECK(x != 3); CHECK(x != 4); return x * 3; }
int main(void) { for (;; turn()) printf("answer %d %d %d %d\n", above(1), answer(1), below(2), last(5)); }
END
start ./counter
change counter.c 's/return x \+ 1;/x += 5;\n\tCHECK(x < 50);\n\tx -= 4;\n\treturn x + 1;/'
build_patch fix
suture show fix.sut > shown
contains shown '1 function changed'
contains shown 'changed answer'
there_and_back 'answer 1 3 4 15' 'answer 1 2 4 15'
