#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A library that the program loaded at run time, into a scope of its own.
. "${0%/*}/lib.sh"
need_ptrace

library answer <<'END'
#include "target.h"
static int scale = 10;
NOIPA int helper(void) { return 1; }
NOIPA int answer(void) { return helper() * scale; }
END
user host -ldl <<'END'
#include "target.h"
#include <dlfcn.h>
int main(void)
{
	void *handle = dlopen("./answer.so", RTLD_NOW | RTLD_LOCAL);
	int (*answer)(void) = handle ? (int (*)(void))dlsym(handle, "answer") : NULL;
	for (;; turn())
		printf("answer %d\n", answer ? answer() : -1);
}
END
start ./host
now_prints 'answer 10'
change answer.c 's/return helper\(\) \* scale/return helper() * scale + strtol("5", NULL, 10)/'
build_patch fix
there_and_back 'answer 15' 'answer 10'
