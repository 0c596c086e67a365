#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# While suture tries again and again, timed calls neither return early nor with EINTR, nor much too late.
. "${0%/*}/lib.sh"
need_ptrace

program counter -pthread <<'END'
#include "target.h"
#include <errno.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
enum { WAIT = 300 }; /* ms */
volatile int stop;
static int sockets[2], epoll;
NOIPA int work(void) { while (!stop) usleep(10000000); return 1; }
static int call_epoll(void) { struct epoll_event e; return epoll_wait(epoll, &e, 1, WAIT); }
static int call_recv(void) { char c; return recv(sockets[0], &c, 1, 0); }
static struct call { const char *name; int (*call)(void); int turns, eintr, early, late; } calls[] = {
	{ "epoll_wait", call_epoll }, { "recv", call_recv },
};
static long now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000 + t.tv_nsec / 1000000; }
static void *stay(void *unused) { work(); return unused; }
static void *run(void *argument)
{
	for (struct call *call = argument;; call->turns++) {
		long begin = now();
		errno = 0;
		call->eintr += call->call() < 0 && errno == EINTR;
		call->early += now() - begin < WAIT - 5;
		call->late += now() - begin > WAIT + 400;
	}
	return NULL;
}
int main(void)
{
	struct timeval limit = { 0, WAIT * 1000 };
	pthread_t thread;
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, sockets))
		return 1;
	setsockopt(sockets[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	epoll = epoll_create1(0);
	pthread_create(&thread, NULL, stay, NULL);
	for (int i = 0; i < 2; i++)
		pthread_create(&thread, NULL, run, &calls[i]);
	for (;; turn())
		for (int i = 0; i < 2; i++)
			printf("%s%s: %d turns, %d EINTR, %d early, %d late\n", calls[i].eintr || calls[i].early ||
			       calls[i].late > 2 ? "BAD " : "", calls[i].name, calls[i].turns, calls[i].eintr,
			       calls[i].early, calls[i].late);
}
END
start ./counter
change counter.c 's/usleep\(10000000\); return 1/usleep(10000000); return 2/'
build_patch fix
status 6 suture apply fix.sut -p "$pid" --timeout 3s
now_prints recv
lacks "$output" BAD
