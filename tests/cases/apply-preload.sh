#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A function that a preloaded library puts in front of another is the one that new code calls.
. "${0%/*}/lib.sh"
need_ptrace

program counter -D_GNU_SOURCE <<'END'
#include "target.h"
NOIPA const char *answer(const char *text) { return text + strlen(text) - 4; }
int main(void) { for (;; turn()) printf("answer %s\n", answer("text")); }
END
cat > front.c <<'END'
char *strcasestr(const char *text, const char *part);
char *strcasestr(const char *text, const char *part) { return text && part ? (char *)"interposed" : 0; }
END
"${CC:-gcc}" -shared -fPIC -o front.so front.c
export LD_PRELOAD=$PWD/front.so
start ./counter
unset LD_PRELOAD
change counter.c 's/return text \+.* - 4;/return strcasestr(text, "ex");/'
build_patch fix
there_and_back 'answer interposed' 'answer text'
