/* SPDX-License-Identifier: MIT */
/*
 * The floor: the least that a tool must do which stops a process and looks at it. Seize every
 * thread, interrupt all, read registers and 4 KiB of each stack, let go. No check, no healing, no
 * care for threads born meanwhile. Prints the stop's length in ns, from the first interrupt to the
 * last thread let go, one line per round.
 *
 * floor PID [ROUNDS [PAUSE_MS]]
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { THREADS_MAX = 4096, STACK_PART = 4096 };

static pid_t tids[THREADS_MAX];
static struct user_regs_struct registers[THREADS_MAX];
static uint8_t stacks[THREADS_MAX][STACK_PART];

static uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static size_t threads_list(pid_t pid)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	DIR *directory = opendir(path);
	if (!directory) {
		perror(path);
		exit(1);
	}
	size_t count = 0;
	for (struct dirent *entry; (entry = readdir(directory)) && count < THREADS_MAX;)
		if (entry->d_name[0] != '.')
			tids[count++] = (pid_t)atoi(entry->d_name);
	closedir(directory);
	return count;
}

static uint64_t round_trip(pid_t pid)
{
	size_t count = threads_list(pid);
	for (size_t i = 0; i < count; i++)
		if (ptrace(PTRACE_SEIZE, tids[i], NULL, NULL) != 0) {
			perror("PTRACE_SEIZE");
			exit(1);
		}
	uint64_t start = now_ns();
	for (size_t i = 0; i < count; i++)
		ptrace(PTRACE_INTERRUPT, tids[i], NULL, NULL);
	for (size_t i = 0; i < count; i++) {
		int status;
		waitpid(tids[i], &status, __WALL);
		ptrace(PTRACE_GETREGS, tids[i], NULL, &registers[i]);
	}
	for (size_t first = 0; first < count; first += IOV_MAX) {
		struct iovec local[IOV_MAX], remote[IOV_MAX];
		size_t batch = count - first < IOV_MAX ? count - first : IOV_MAX;
		for (size_t i = 0; i < batch; i++) {
			local[i] = (struct iovec){stacks[first + i], STACK_PART};
			remote[i] = (struct iovec){(void *)registers[first + i].rsp, STACK_PART};
		}
		process_vm_readv(pid, local, batch, remote, batch, 0);
	}
	for (size_t i = 0; i < count; i++)
		ptrace(PTRACE_DETACH, tids[i], NULL, NULL);
	return now_ns() - start;
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr, "usage: %s PID [ROUNDS [PAUSE_MS]]\n", argv[0]);
		return 2;
	}
	pid_t pid = (pid_t)atoi(argv[1]);
	long rounds = argc > 2 ? atol(argv[2]) : 1;
	long pause = argc > 3 ? atol(argv[3]) : 10;
	for (long i = 0; i < rounds; i++) {
		printf("%lu\n", (unsigned long)round_trip(pid));
		struct timespec time = {pause / 1000, pause % 1000 * 1000000};
		nanosleep(&time, NULL);
	}
	return 0;
}
