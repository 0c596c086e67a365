#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Thread-local variables of the program: new code uses those of the thread that runs it.
. "${0%/*}/lib.sh"
need_ptrace

program counter -pthread <<'END'
#include "target.h"
#include <pthread.h>
static __thread int hits = 5;
static __thread int zero;
volatile int wrong;
NOIPA int answer(void) { hits++; zero++; return 1; }
static void *run(void *unused)
{
	for (int turns = 1;; turns++, usleep(2000)) {
		answer();
		if (hits != turns + 5 || zero != turns)
			wrong = 1;
	}
	return unused;
}
int main(void)
{
	pthread_t thread;
	pthread_create(&thread, NULL, run, NULL);
	for (int turns = 1;; turns++, turn()) {
		int value = answer();
		printf("answer %d %s\n", value, hits == turns + 5 && zero == turns && !wrong ? "kept" : "LOST");
	}
}
END
start ./counter
change counter.c 's/hits\+\+; zero\+\+; return 1/zero++; hits++; return 2 + (hits < zero)/'
build_patch fix
there_and_back 'answer 2 kept' 'answer 1 kept'
lacks "$output" LOST
