#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# New code calls functions of libc that the program did not import, an indirect one among them.
. "${0%/*}/lib.sh"
need_ptrace

program counter -D_GNU_SOURCE <<'END'
#include "target.h"
NOIPA const char *answer(const char *text) { return text + 1; }
int main(void) { for (;; turn()) printf("answer %s\n", answer("some TEXT here")); }
END
! nm -D counter | grep -qE 'strcasestr|toupper' || fail 'the program imports it already'
start ./counter
change counter.c 's/return text \+ 1;/return strcasestr(text, "text") + labs(-1);/'
build_patch fix
there_and_back 'answer EXT here' 'answer ome TEXT here'
