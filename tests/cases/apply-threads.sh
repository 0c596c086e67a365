#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A program of 101 threads, each of which calls the function.
. "${0%/*}/lib.sh"
need_ptrace

program counter -pthread <<'END'
#include "target.h"
#include <pthread.h>
volatile int wrong;
NOIPA int answer(int x) { return x + 1; }
static void *run(void *number)
{
	int mine = (int)(long)number;
	for (;; usleep(5000 + mine * 100)) {
		int value = answer(mine);
		if (value != mine + 1 && value != mine + 2)
			wrong = 1;
	}
	return NULL;
}
int main(void)
{
	pthread_t thread;
	for (long i = 0; i < 100; i++)
		pthread_create(&thread, NULL, run, (void *)i);
	for (;; turn())
		printf("answer %d%s\n", answer(0), wrong ? " WRONG" : "");
}
END
start ./counter
change counter.c 's/return x \+ 1/return x + 2/'
build_patch fix
there_and_back 'answer 2' 'answer 1'
status 0 suture apply fix.sut -p "$pid"
contains out '101 threads'
lacks "$output" WRONG
