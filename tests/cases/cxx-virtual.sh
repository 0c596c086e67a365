#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A virtual method is replaced for the objects that exist, called through their tables.
. "${0%/*}/lib.sh"
need_ptrace

program_cxx counter <<'END'
#include "target.h"
struct base { virtual ~base() {} virtual int answer() const; };
struct derived : base { int answer() const override; };
NOIPA int base::answer() const { return 1; }
NOIPA int derived::answer() const { return base::answer() + 10; }
base *volatile objects[] = { new base, new derived };
int main()
{
	for (;; turn())
		printf("answer %d %d\n", objects[0]->answer(), objects[1]->answer());
}
END
start ./counter
change counter.cc 's/return 1;/return 2;/; s/\+ 10/+ 20/'
build_patch fix
there_and_back 'answer 2 22' 'answer 1 11'
