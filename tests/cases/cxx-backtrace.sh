#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# backtrace() called below a patched function sees the frames above it.
. "${0%/*}/lib.sh"
need_ptrace

program counter -rdynamic <<'END'
#include "target.h"
#include <execinfo.h>
NOIPA int depth(void)
{
	void *frames[32];
	int count = backtrace(frames, 32), found = 0;
	char **names = backtrace_symbols(frames, count);
	for (int i = 0; i < count; i++)
		if (strstr(names[i], "(main+"))
			found = 1;
	free(names);
	return found;
}
NOIPA int answer(int x) { return depth() * 10 + x; }
int main(void) { for (;; turn()) printf("answer %d\n", answer(1)); }
END
start ./counter
change counter.c 's/\* 10 \+ x/* 20 + x/'
build_patch fix
# Twenty and one: main was found.
there_and_back 'answer 21' 'answer 11'
