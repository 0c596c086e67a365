// SPDX-License-Identifier: MIT
// The longest gap that clients of a server see, and how many of their requests fail.
//
//   gap-client [-c CONNECTIONS] [-e END] PORT REQUEST EXPECTED
//
// Each connection has a thread that sends REQUEST, reads up to END (a line feed unless told)
// and starts again: a server that stands still for a while shows as one slow reply. A reply
// that does not begin with EXPECTED has failed, and so has a connection that breaks.
// C escapes (\r \n) are understood in REQUEST, EXPECTED and END.
//
// A line on standard output per SIGUSR1, counting anew from there, and one at SIGTERM or
// SIGINT with the sum of everything:  requests=N failed=N longest-us=N
// Exit status: 0 when no request failed, 1 when one did.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct connection {
	pthread_t thread;
	int fd;
	_Atomic uint64_t requests;
	_Atomic uint64_t failed;
	_Atomic uint64_t longest_ns; // since the last report
	_Atomic uint64_t began_ns;   // of the request under way, 0 between two
};

static const char *request, *expected, *end = "\n";
static atomic_bool stopping;

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static char *unescape(const char *s)
{
	char *out = malloc(strlen(s) + 1), *o = out;
	for (; *s; s++) {
		if (*s == '\\' && s[1]) {
			s++;
			*o++ = *s == 'r' ? '\r' : *s == 'n' ? '\n' : *s;
		} else {
			*o++ = *s;
		}
	}
	*o = '\0';
	return out;
}

static void raise_longest(_Atomic uint64_t *longest, uint64_t ns)
{
	uint64_t seen = atomic_load(longest);
	while (ns > seen && !atomic_compare_exchange_weak(longest, &seen, ns))
		;
}

static bool exchange(int fd)
{
	enum { size = 65536 };
	char reply[size];
	size_t have = 0, end_size = strlen(end), request_size = strlen(request);

	for (size_t sent = 0; sent < request_size;) {
		ssize_t n = send(fd, request + sent, request_size - sent, MSG_NOSIGNAL);
		if (n < 0)
			return false;
		sent += (size_t)n;
	}
	while (have < end_size || memcmp(reply + have - end_size, end, end_size)) {
		ssize_t n = recv(fd, reply + have, size - have, 0);
		if (n <= 0 || (have += (size_t)n) == size)
			return false;
	}
	return have >= strlen(expected) && !memcmp(reply, expected, strlen(expected));
}

static void *run(void *arg)
{
	struct connection *c = arg;
	while (!atomic_load(&stopping)) {
		uint64_t began = now_ns();
		atomic_store(&c->began_ns, began);
		bool good = exchange(c->fd);
		raise_longest(&c->longest_ns, now_ns() - began);
		atomic_store(&c->began_ns, 0);
		if (!good && atomic_load(&stopping))
			break;
		atomic_fetch_add(&c->requests, 1);
		if (!good) {
			// The stream has lost its step: one failure, and no more guesses.
			atomic_fetch_add(&c->failed, 1);
			break;
		}
	}
	return NULL;
}

int main(int argc, char **argv)
{
	size_t count = 1;
	int option;

	while ((option = getopt(argc, argv, "c:e:")) != -1) {
		if (option == 'c')
			count = strtoul(optarg, NULL, 10);
		else if (option == 'e')
			end = unescape(optarg);
		else
			return 2;
	}
	if (argc - optind != 3 || !count || !*end) {
		fprintf(stderr, "usage: gap-client [-c CONNECTIONS] [-e END] PORT REQUEST EXPECTED\n");
		return 2;
	}
	struct sockaddr_in to = { .sin_family = AF_INET,
				  .sin_port = htons((uint16_t)atoi(argv[optind])),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	request = unescape(argv[optind + 1]);
	expected = unescape(argv[optind + 2]);

	sigset_t signals;
	sigemptyset(&signals);
	sigaddset(&signals, SIGUSR1);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);

	struct connection *connections = calloc(count, sizeof(*connections));
	for (size_t i = 0; i < count; i++) {
		struct connection *c = &connections[i];
		c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
		if (connect(c->fd, (struct sockaddr *)&to, sizeof(to))) {
			fprintf(stderr, "connect to port %s: %s\n", argv[optind], strerror(errno));
			return 2;
		}
	}
	for (size_t i = 0; i < count; i++)
		pthread_create(&connections[i].thread, NULL, run, &connections[i]);

	uint64_t said_requests = 0, said_failed = 0, longest_ever = 0, failed;
	for (bool last = false; !last;) {
		int sig;
		sigwait(&signals, &sig);
		last = sig != SIGUSR1;

		uint64_t requests = 0, longest = 0, now = now_ns();
		failed = 0;
		for (size_t i = 0; i < count; i++) {
			struct connection *c = &connections[i];
			// A reply that is still out counts with the time it has taken so far.
			uint64_t began = atomic_load(&c->began_ns);
			uint64_t ns = atomic_exchange(&c->longest_ns, 0);
			if (began && now > began && now - began > ns)
				ns = now - began;
			longest = ns > longest ? ns : longest;
			requests += atomic_load(&c->requests);
			failed += atomic_load(&c->failed);
		}
		longest_ever = longest > longest_ever ? longest : longest_ever;
		if (last)
			printf("requests=%ju failed=%ju longest-us=%ju\n", (uintmax_t)requests,
			       (uintmax_t)failed, (uintmax_t)(longest_ever / 1000));
		else
			printf("requests=%ju failed=%ju longest-us=%ju\n",
			       (uintmax_t)(requests - said_requests),
			       (uintmax_t)(failed - said_failed), (uintmax_t)(longest / 1000));
		fflush(stdout);
		said_requests = requests;
		said_failed = failed;
	}
	// The threads may wait for a reply of a server that is being stopped: they are not joined.
	atomic_store(&stopping, true);
	return failed ? 1 : 0;
}
