#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Functions of one patch switch together: who checks them never sees one old and one new.
. "${0%/*}/lib.sh"
need_ptrace

program counter -pthread <<'END'
#include "target.h"
#include <pthread.h>
volatile int mixed, checks;
NOIPA int first(void) { return 1; }
NOIPA int second(void) { return 1; }
NOIPA int check(void)
{
	int a = first();
	for (volatile int i = 0; i < 300; i++)
		;
	if (a != second())
		mixed++;
	checks++;
	return a;
}
static void *run(void *unused)
{
	for (;;)
		check();
	return unused;
}
int main(void)
{
	pthread_t thread;
	for (int i = 0; i < 3; i++)
		pthread_create(&thread, NULL, run, NULL);
	for (;; turn())
		printf("%s %d\n", mixed ? "MIXED" : "pure", check());
}
END
start ./counter
# `check` is of the patch as well, so it is not on a stack when the others switch.
change counter.c 's/return 1;/return 2;/; s/i < 300/i < 400/'
build_patch fix
for ((round = 0; round < 10; round++)); do
	there_and_back 'pure 2' 'pure 1'
done
lacks "$output" MIXED
