#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A pointer to a replaced function, taken before or after, is the same, and leads to the new code.
. "${0%/*}/lib.sh"
need_ptrace

program counter <<'END'
#include "target.h"
NOIPA int answer(void) { return 1; }
static int (*saved)(void) = answer;
NOIPA int (*give(void))(void) { return answer; }
NOIPA void report(void)
{
	int (*here)(void) = answer;
	__asm__("" : "+r"(here));
	printf("old %d %d %s\n", saved(), here(), saved == here && give() == here ? "same" : "DIFFERENT");
}
int main(void) { for (;; turn()) report(); }
END
start ./counter
change counter.c 's/return 1/return 2/; s/"old /"new /; s/return answer;/__asm__("nop"); return answer;/'
build_patch fix
there_and_back 'new 2 2 same' 'old 1 1 same'
lacks "$output" DIFFERENT
