#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A thread that is always inside: busy within the timeout, with its backtrace, and nothing has changed.
. "${0%/*}/lib.sh"
need_ptrace

program counter -pthread <<'END'
#include "target.h"
#include <pthread.h>
volatile int stop;
NOIPA int work(void) { while (!stop) usleep(10000000); return 1; }
static NOIPA void *outer(void *unused) { work(); return unused; }
int main(void)
{
	pthread_t thread;
	pthread_create(&thread, NULL, outer, NULL);
	for (;; turn())
		puts("alive");
}
END
start ./counter
change counter.c 's/return 1/return 2/'
build_patch fix
for thread in "/proc/$pid/task"/*; do
	thread=${thread##*/}
	[ "$thread" = "$pid" ] || break
done
began=$SECONDS
unchanged_by status 6 suture apply fix.sut -p "$pid" --timeout 500ms
[ $((SECONDS - began)) -le 5 ] || fail 'it took much longer than the timeout'
contains out "thread $thread (counter) is inside 'work'"
contains out '#0 '
contains out 'work+0x'
contains out 'outer+0x'
status 6 suture apply fix.sut -p "$pid" --timeout 100ms --json
contains out '"function":'
now_prints alive
