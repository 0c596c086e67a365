#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Threads that enter the function as fast as they can.
. "${0%/*}/lib.sh"
need_ptrace

program counter -pthread <<'END'
#include "target.h"
#include <pthread.h>
NOIPA int answer(int x) { return x + 1; }
volatile int wrong;
static void *run(void *unused)
{
	for (int x = 0;; x = (x + 1) & 1023) {
		int value = answer(x);
		if (value != x + 1 && value != x + 2)
			wrong = 1;
	}
	return unused;
}
int main(void)
{
	pthread_t thread;
	for (int i = 0; i < 3; i++)
		pthread_create(&thread, NULL, run, NULL);
	for (;; turn())
		printf("answer %d%s\n", answer(0), wrong ? " WRONG" : "");
}
END
start ./counter
change counter.c 's/return x \+ 1/return x + 2/'
build_patch fix
for ((round = 0; round < 5; round++)); do
	there_and_back 'answer 2' 'answer 1'
done
lacks "$output" WRONG
