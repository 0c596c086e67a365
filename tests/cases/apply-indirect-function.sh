#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# New code calls memcpy, memset and strlen, which libc resolves for the CPU.
. "${0%/*}/lib.sh"
need_ptrace

program counter <<'END'
#include "target.h"
char room[300];
volatile int size = 200;
NOIPA int answer(const char *text)
{
	return text[0] + room[0];
}
int main(void) { for (;; turn()) printf("answer %d \n", answer("A text")); }
END
start ./counter
change counter.c <<'END'
#include "target.h"
char room[300];
volatile int size = 200;
NOIPA int answer(const char *text)
{
	char here[300];
	memset(here, 'x', (size_t)size);
	memcpy(here, text, strlen(text));
	return here[0] * 1000 + here[size - 1];
}
int main(void) { for (;; turn()) printf("answer %d \n", answer("A text")); }
END
build_patch fix
there_and_back 'answer 65120 ' 'answer 65 '
