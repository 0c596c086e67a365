#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Fifty rounds of apply and revert leave no mapping, descriptor or signal mask behind.
. "${0%/*}/lib.sh"
need_ptrace

program counter -pthread <<'END'
#include "target.h"
#include <pthread.h>
NOIPA int answer(void) { return 1; }
static void *run(void *unused)
{
	for (;; usleep(300))
		answer();
	return unused;
}
int main(void)
{
	pthread_t thread;
	pthread_create(&thread, NULL, run, NULL);
	for (;; turn())
		printf("answer %d\n", answer());
}
END
start ./counter
change counter.c 's/return 1/return 2/'
build_patch fix
text=$(code_digest)
traces()
{
	wc -l < "/proc/$pid/maps"
	ls "/proc/$pid/fd"
	cat "/proc/$pid"/task/*/status | grep -E '^(SigBlk|SigIgn|SigCgt|SigPnd|ShdPnd|TracerPid|Threads)'
}
suture apply fix.sut -p "$pid" > log && suture revert fix -p "$pid" > log
traces > before
for ((round = 0; round < 50; round++)); do
	suture apply fix.sut -p "$pid" > log
	suture revert fix -p "$pid" > log
done
traces > after
diff before after || fail 'something has grown or stayed'
now_prints 'answer 1' 'answer 2'
[ "$(code_digest)" = "$text" ] || fail 'the code is not what it was'
status 0 suture status -p "$pid"
contains out ' 0 patches'
