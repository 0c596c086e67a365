/* SPDX-License-Identifier: MIT */
/*
 * The program that `make bench` patches: THREADS threads asleep, one that spins and keeps the
 * longest gap between two looks at the clock, and with "hot" one that enters the patched function
 * 100,000 times a second. It obeys lines on standard input: "reset", "gap", "version", "calls".
 *
 *	usage: target THREADS [hot]
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int version(int x);

static _Atomic unsigned long long longest;
static _Atomic unsigned long calls, looks;

static unsigned long long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (unsigned long long)t.tv_sec * 1000000000ull + (unsigned long long)t.tv_nsec;
}

// The function that the patch replaces; large enough for any detour.
__attribute__((noinline)) int version(int x)
{
	__asm__ volatile("");
	return x * 3 + 1;
}

static void *spin(void *unused)
{
	unsigned long long last = now();
	for (;;) {
		unsigned long long t = now();
		if (t - last > atomic_load_explicit(&longest, memory_order_relaxed))
			atomic_store_explicit(&longest, t - last, memory_order_relaxed);
		last = t;
		atomic_store_explicit(&looks, looks + 1, memory_order_relaxed);
	}
	return unused;
}

// A gap is known only once the thread has looked again: it may be waiting for a CPU just now.
static void wait_for_look(void)
{
	unsigned long seen = atomic_load(&looks);
	while (atomic_load(&looks) < seen + 2)
		usleep(100);
}

static void *hot(void *unused)
{
	volatile int sink = 0;
	for (unsigned long long next = now();; next += 10000) {
		while (now() < next)
			;
		sink += version(sink & 7);
		atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed);
	}
	return unused;
}

static void *rest(void *unused)
{
	for (;;)
		pause();
	return unused;
}

static void start(void *(*body)(void *))
{
	pthread_t thread;
	pthread_attr_t attributes;
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, 256 << 10);
	if (pthread_create(&thread, &attributes, body, NULL)) {
		perror("pthread_create");
		exit(1);
	}
	pthread_attr_destroy(&attributes);
}

int main(int argc, char **argv)
{
	int threads = argc > 1 ? atoi(argv[1]) : 1;
	char line[64];
	start(spin);
	if (argc > 2 && strcmp(argv[2], "hot") == 0)
		start(hot);
	// Counted as the issue counts: the spinning thread and this one are among them.
	for (int i = 2; i < threads; i++)
		start(rest);
	setvbuf(stdout, NULL, _IOLBF, 0);
	puts("ready");
	while (fgets(line, sizeof(line), stdin)) {
		if (strcmp(line, "reset\n") == 0) {
			wait_for_look();
			atomic_store(&longest, 0);
			puts("ok");
		} else if (strcmp(line, "gap\n") == 0) {
			wait_for_look();
			printf("%llu\n", atomic_load(&longest));
		} else if (strcmp(line, "version\n") == 0) {
			printf("%d\n", version(1));
		} else if (strcmp(line, "calls\n") == 0) {
			printf("%lu\n", atomic_load(&calls));
		}
	}
	return 0;
}
