#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# An exception passes through patched functions, whose objects are destroyed on the way.
. "${0%/*}/lib.sh"
need_ptrace

program_cxx counter <<'END'
#include "target.h"
int destroyed;
struct object { int by; ~object() { destroyed += by; } };
NOIPA void thrower(int x) { throw x; }
NOIPA void middle(int x) { object one{1}, two{x}; thrower(x); printf("%d", one.by); }
NOIPA void outer(int x) { object three{10}; middle(x + 1); }
int main()
{
	for (;; turn()) {
		destroyed = 0;
		try {
			outer(1);
		} catch (int x) {
			printf("caught %d destroyed %d\n", x, destroyed);
		}
	}
}
END
start ./counter
change counter.cc 's/one\{1\}/one{100}/; s/middle\(x \+ 1\)/middle(x + 2)/'
build_patch fix
there_and_back 'caught 3 destroyed 113' 'caught 2 destroyed 13'
