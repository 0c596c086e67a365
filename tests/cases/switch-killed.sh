#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# suture is killed at any instant: the program lives, runs all old or all new code, and the next call
# finishes or takes back what was begun.
. "${0%/*}/lib.sh"
need_ptrace

program counter -pthread <<'END'
#include "target.h"
#include <pthread.h>
volatile int mixed;
NOIPA int first(void) { return 1; }
NOIPA int second(void) { return 1; }
NOIPA int check(int rounds)
{
	int a = first();
	for (volatile int i = 0; i < rounds; i++)
		;
	if (a != second())
		mixed++;
	return a;
}
static void *run(void *unused)
{
	for (;; usleep(100))
		check(300);
	return unused;
}
int main(void)
{
	pthread_t thread;
	for (int i = 0; i < 3; i++)
		pthread_create(&thread, NULL, run, NULL);
	for (;; turn())
		printf("%s %d\n", mixed ? "MIXED" : "pure", check(10));
}
END
start ./counter
change counter.c 's/return 1;/return 2;/; s/i < rounds/i < rounds + 1/'
build_patch fix
text=$(code_digest)
# killed_after MILLISECONDS COMMAND...
killed_after()
{
	local delay=$1
	shift
	"$SUTURE" "$@" > killed.log 2>&1 &
	sleep "$(printf '0.%04d' "$delay")"
	kill -KILL $! 2> /dev/null || true
	wait $! 2> /dev/null || true
}
for ((delay = 4; delay < 400; delay += 9)); do
	killed_after $delay apply fix.sut -p "$pid"
	now_prints pure MIXED
	never_writable_and_executable
	if ((delay % 2)); then
		suture apply fix.sut -p "$pid" > again.log || { cat again.log; fail "after $delay"; }
		now_prints 'pure 2' 'pure 1'
	fi
	killed_after $delay revert fix -p "$pid"
	now_prints pure MIXED
	suture revert fix -p "$pid" > again.log 2>&1 || grep -q 'not-found' again.log ||
		{ cat again.log; fail "after $delay"; }
	now_prints 'pure 1' 'pure 2'
	[ "$(code_digest)" = "$text" ] || fail "after $delay the code is not what it was"
done
apply fix
now_prints 'pure 2' 'pure 1'
