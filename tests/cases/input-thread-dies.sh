#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A program that ends while it is patched: an error that says so, and no crash of suture.
. "${0%/*}/lib.sh"
need_ptrace

program counter -pthread <<'END'
#include "target.h"
#include <pthread.h>
NOIPA int answer(void) { return 1; }
static void *run(void *depth)
{
	usleep(500);
	return answer() ? depth : NULL;
}
int main(void)
{
	for (;; fflush(stdout)) {
		pthread_t threads[8];
		for (int i = 0; i < 8; i++)
			pthread_create(&threads[i], NULL, run, NULL);
		for (int i = 0; i < 8; i++)
			pthread_join(threads[i], NULL);
		printf("answer %d\n", answer());
	}
}
END
start ./counter
counter_fix
# Threads come and go all the time.
for ((round = 0; round < 10; round++)); do
	apply fix > log
	now_prints 'answer 2' 'answer 1'
	revert fix > log
	now_prints 'answer 1' 'answer 2'
done
# And the whole process goes at some moment.
for ((delay = 1; delay < 40; delay += 3)); do
	start ./counter
	(sleep "$(printf '0.%03d' $delay)"; kill -KILL "$pid") 2> /dev/null &
	found=0
	suture apply fix.sut -p "$pid" > out 2> err || found=$?
	wait $! || true
	# 8: gone; 12: a zombie.
	[ $found = 0 ] || [ $found = 8 ] || [ $found = 12 ] || { cat out err; fail "after $delay ms: status $found"; }
done
