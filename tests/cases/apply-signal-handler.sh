#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A signal handler is replaced, while signals arrive.
. "${0%/*}/lib.sh"
need_ptrace

program counter <<'END'
#include "target.h"
#include <signal.h>
#include <sys/time.h>
volatile sig_atomic_t value, alarms;
NOIPA void handler(int number) { (void)number; alarms++; value = 1; }
int main(void)
{
	struct itimerval every = { { 0, 500 }, { 0, 500 } };
	signal(SIGALRM, handler);
	setitimer(ITIMER_REAL, &every, NULL);
	for (int last = 0;; turn()) {
		printf("handler %d%s\n", value, alarms < last ? " BACK" : "");
		last = alarms;
	}
}
END
start ./counter
now_prints 'handler 1'
change counter.c 's/value = 1/value = 2/'
build_patch fix
for ((round = 0; round < 5; round++)); do
	there_and_back 'handler 2' 'handler 1'
done
lacks "$output" BACK
