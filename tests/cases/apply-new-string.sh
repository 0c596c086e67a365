#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A new string literal, longer than the old one, beside an old one that is shared.
. "${0%/*}/lib.sh"
need_ptrace

program counter <<'END'
#include "target.h"
NOIPA const char *name(void) { return "answer"; }
NOIPA const char *text(int x) { return x ? "yes" : "answer"; }
int main(void) { for (;; turn()) printf("%s %s %s\n", name(), text(1), text(0)); }
END
start ./counter
change counter.c 's/"yes"/"an answer that is much longer than the old one was, and new"/'
build_patch fix
there_and_back 'answer an answer that is much longer than the old one was, and new answer' 'answer yes answer'
