#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A shared library is patched by its own build ID, in two different programs that map it.
. "${0%/*}/lib.sh"
need_ptrace

library answer <<'END'
#include "target.h"
static int calls = 40;
NOIPA int answer(void) { return calls++ > 0 ? 1 : 0; }
END
user one ./answer.so <<'END'
#include "target.h"
int answer(void);
int main(void) { for (;; turn()) printf("one %d\n", answer()); }
END
sed 's/one/two/' one.user.c > two.c
user two ./answer.so < two.c
start ./one
first=$pid
start ./two
change answer.c 's/ 1 : 0/ 2 : 0/'
build_patch fix
there_and_back 'two 2' 'two 1'
lacks output.0 'one 2'
at "$first" "$PWD/output.0"
there_and_back 'one 2' 'one 1'
