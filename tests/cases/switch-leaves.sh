#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A thread that leaves the function before the timeout: the patch is applied then.
. "${0%/*}/lib.sh"
need_ptrace

mkfifo gate
program counter -pthread <<'END'
#include "target.h"
#include <fcntl.h>
#include <pthread.h>
volatile int value;
NOIPA int work(int fd) { char byte; if (read(fd, &byte, 1) != 1) return 0; return 1; }
static void *outer(void *unused)
{
	for (int fd = open("gate", O_RDWR);; usleep(300000))
		value = work(fd);
	return unused;
}
int main(void)
{
	pthread_t thread;
	pthread_create(&thread, NULL, outer, NULL);
	for (;; turn())
		printf("value %d\n", value);
}
END
start ./counter
change counter.c 's/return 1/return 2/'
build_patch fix
suture apply fix.sut -p "$pid" --timeout 20s > out 2>&1 &
tool=$!
traced() { grep -q '^TracerPid:[[:space:]]*[1-9]' "/proc/$pid"/task/*/status; }
wait_until 'suture at work' traced
kill -0 $tool || { cat out; fail 'it did not wait'; }
now_prints 'value 0'
# The old code ends, and the next byte meets the new one.
printf x > gate
wait $tool || { cat out; fail 'the patch was not applied'; }
now_prints 'value 1'
printf x > gate
wait_until 'new code' grep -qx 'value 2' "$output"
