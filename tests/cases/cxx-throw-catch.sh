#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A patched function throws an exception and catches it.
. "${0%/*}/lib.sh"
need_ptrace

program_cxx counter <<'END'
#include "target.h"
#include <stdexcept>
NOIPA int answer(int x)
{
	try {
		if (x > 0)
			throw std::runtime_error("old");
		return 0;
	} catch (const std::exception &error) {
		return error.what()[0];
	}
}
int main() { for (;; turn()) printf("answer %d\n", answer(1)); }
END
start ./counter
change counter.cc 's/"old"/"new"/'
build_patch fix
there_and_back 'answer 110' 'answer 111'
status 0 suture apply fix.sut -p "$pid"
suture status -p "$pid" | grep 'unwind data' > out
contains out libgcc_s
