#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Static members of a class, and a static of an inline member function with its guard.
. "${0%/*}/lib.sh"
need_ptrace

program_cxx counter <<'END'
#include "target.h"
struct counter {
	static int count;
	static NOIPA int next() { return ++count; }
	static int &last() { static int value = getpid() ? 40 : 0; return value; }
};
int counter::count = 1000;
NOIPA int answer() { counter::last()++; return counter::next() * 10 + 1; }
int main()
{
	for (int turns = 1;; turns++, turn()) {
		int value = answer();
		printf("answer %d %s\n", value % 10, counter::count == 1000 + turns &&
		       counter::last() == 40 + turns ? "kept" : "LOST");
	}
}
END
start ./counter
change counter.cc 's/\* 10 \+ 1/* 10 + 2/'
build_patch fix
there_and_back 'answer 2 kept' 'answer 1 kept'
lacks "$output" LOST
