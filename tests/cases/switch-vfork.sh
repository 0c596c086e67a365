#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A vfork child that shares the memory is alive meanwhile, and its parent waits for it.
. "${0%/*}/lib.sh"
need_ptrace

program counter -pthread -D_GNU_SOURCE <<'END'
#include "target.h"
#include <pthread.h>
#include <sys/wait.h>
NOIPA int answer(void) { return 1; }
volatile int children;
static void *run(void *unused)
{
	for (;; children++) {
		pid_t pid = vfork();
		if (pid == 0) {
			usleep(700000);
			_exit(0);
		}
		int status = -1;
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
			puts("CHILD DIED");
	}
	return unused;
}
int main(void)
{
	pthread_t thread;
	pthread_create(&thread, NULL, run, NULL);
	for (;; turn())
		printf("answer %d %d\n", answer(), children);
}
END
start ./counter
change counter.c 's/return 1/return 2/'
build_patch fix
for ((round = 0; round < 3; round++)); do
	there_and_back 'answer 2' 'answer 1'
done
children=$(sed -n '$s/.* //p' "$output")
wait_until 'more children' sh -c "[ \"\$(tail -n 1 '$output' | sed 's/.* //')\" -gt $((children + 1)) ]"
lacks "$output" 'CHILD DIED'
