#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Blocking calls of a program without handlers return no EINTR, and their timeouts stay right.
. "${0%/*}/lib.sh"
need_ptrace

program counter -pthread -D_GNU_SOURCE <<'END'
#include "target.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <time.h>
enum { WAIT = 400 }; /* ms */
NOIPA int answer(void) { return 1; }
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static const struct timespec span = { 0, WAIT * 1000000 };
static int pipes[2], sockets[2], epoll, semaphore;
static sigset_t signals;
static int call_epoll(void) { struct epoll_event e; return epoll_wait(epoll, &e, 1, WAIT); }
static int call_poll(void) { struct pollfd p = { pipes[0], POLLIN, 0 }; return poll(&p, 1, WAIT); }
static int call_select(void) { struct timeval t = { 0, WAIT * 1000 }; fd_set s; FD_ZERO(&s); FD_SET(pipes[0], &s); return select(pipes[0] + 1, &s, NULL, NULL, &t); }
static int call_nanosleep(void) { return nanosleep(&span, NULL); }
static int call_sigtimedwait(void) { return sigtimedwait(&signals, NULL, &span); }
static int call_semtimedop(void) { struct sembuf s = { 0, -1, 0 }; return semtimedop(semaphore, &s, 1, &span); }
static int call_recv(void) { char c; return recv(sockets[0], &c, 1, 0); }
static int call_cond(void)
{
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += WAIT * 1000000;
	until.tv_sec += until.tv_nsec / 1000000000, until.tv_nsec %= 1000000000;
	pthread_mutex_lock(&mutex);
	int error = pthread_cond_timedwait(&condition, &mutex, &until);
	pthread_mutex_unlock(&mutex);
	return errno = error, -1;
}
static int call_read(void) { char c; return read(pipes[0], &c, 1); } /* for ever */
static struct call { const char *name; int (*call)(void); int turns, eintr, early, late; long shortest; } calls[] = {
	{ "epoll_wait", call_epoll }, { "poll", call_poll }, { "select", call_select },
	{ "nanosleep", call_nanosleep }, { "sigtimedwait", call_sigtimedwait },
	{ "semtimedop", call_semtimedop }, { "recv", call_recv }, { "cond_timedwait", call_cond },
	{ "read", call_read },
};
static long now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000 + t.tv_nsec / 1000000; }
static void *run(void *argument)
{
	for (struct call *call = argument;; call->turns++) {
		long begin = now();
		errno = 0;
		int result = call->call();
		if (result < 0 && errno == EINTR)
			call->eintr++;
		long took = now() - begin;
		call->early += took < WAIT - 5;
		call->late += took > WAIT + 20000; /* restarted at every stop of a loaded machine, at worst */
		if (!call->turns || took < call->shortest)
			call->shortest = took;
	}
	return NULL;
}
int main(void)
{
	struct timeval limit = { 0, WAIT * 1000 };
	pthread_t thread;
	sigemptyset(&signals);
	sigaddset(&signals, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	if (pipe(pipes) || socketpair(AF_UNIX, SOCK_STREAM, 0, sockets))
		return 1;
	setsockopt(sockets[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	epoll = epoll_create1(0);
	semaphore = semget(IPC_PRIVATE, 1, 0600);
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		pthread_create(&thread, NULL, run, &calls[i]);
	for (;; turn()) {
		printf("answer %d", answer());
		for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
			if (calls[i].eintr || calls[i].early || calls[i].late > 2)
				printf(" BAD %s: %d turns, %d EINTR, %d early (%ld ms), %d late;", calls[i].name,
				       calls[i].turns, calls[i].eintr, calls[i].early, calls[i].shortest, calls[i].late);
		puts("");
		if (access("end", F_OK) == 0)
			return semctl(semaphore, 0, IPC_RMID);
	}
}
END
start ./counter
change counter.c 's/\{ return 1; \}/{ return 2; }/'
build_patch fix
for ((round = 0; round < 50; round++)); do
	apply fix
	revert fix
done > log
now_prints 'answer 1'
lacks "$output" BAD
touch end
