#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Thread-local variables of a library by a fixed offset from the thread pointer.
. "${0%/*}/lib.sh"
need_ptrace

library tls -ftls-model=initial-exec <<'END'
#include "target.h"
__thread int hits = 5;
static __thread int zero;
NOIPA int answer(void) { hits++; zero++; return hits == zero + 5 ? 1 : -1; }
int *where(void);
int *where(void) { return &hits; }
END
user host -pthread  ./tls.so <<'END'
#include "target.h"
#include <pthread.h>
int answer(void), *where(void);
volatile int wrong;
static void *run(void *unused)
{
	for (int turns = 1;; turns++, usleep(2000))
		if (answer() < 0 || *where() != turns + 5)
			wrong = 1;
	return unused;
}
int main(void)
{
	pthread_t thread;
	pthread_create(&thread, NULL, run, NULL);
	for (int turns = 1;; turns++, turn()) {
		int value = answer();
		printf("answer %d %s\n", value, *where() == turns + 5 && !wrong ? "kept" : "LOST");
	}
}
END
start ./host
change tls.c 's/zero \+ 5 \? 1/zero + 5 ? 2/; s/hits\+\+; zero\+\+;/zero++; hits++;/'
build_patch fix
there_and_back 'answer 2 kept' 'answer 1 kept'
lacks "$output" LOST
