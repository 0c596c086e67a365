#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# New code of a program at a fixed address uses stdout and environ, which were copied into it.
. "${0%/*}/lib.sh"
need_ptrace

program counter -fno-pie -no-pie -D_GNU_SOURCE <<'END'
#include "target.h"
NOIPA void answer(void) { puts("old"); }
int main(void)
{
	for (;; turn()) {
		answer();
		if (!environ)
			return 1;
	}
}
END
start ./counter
change counter.c 's/puts\("old"\);/fprintf(stdout, "new %s\\n", environ[0] ? "with" : "without");/'
build_patch fix
there_and_back 'new with' 'old'
