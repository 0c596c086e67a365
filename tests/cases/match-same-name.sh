#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Two equal static functions of one name in two objects of a stripped target: the right one is replaced.
. "${0%/*}/lib.sh"
need_ptrace

mkdir tree
for name in first second third; do
	cat > tree/$name.c <<END
#include "target.h"
static NOIPA int helper(int x) { return x + 1; }
int $name(int x);
int $name(int x) { return helper(x) * 10; }
END
done
program counter <<'END'
#include "target.h"
int first(int x), second(int x), third(int x);
int main(void) { for (;; turn()) printf("answer %d %d %d\n", first(1), second(1), third(1)); }
END
strip -s counter
start ./counter
change second.c 's/x \+ 1/x + 2/'
build_patch fix
there_and_back 'answer 20 30 20' 'answer 20 20 20'
