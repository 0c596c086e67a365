/* SPDX-License-Identifier: MIT */
/* For the programs of the cases, which print a line per turn of a loop and live until killed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * A function that its callers know nothing of. Without it gcc -O2 sees that `answer()` returns a
 * constant and calls it once, in front of the loop, or not at all.
 */
#ifdef __clang__
#define NOIPA __attribute__((noinline, optnone))
#else
#define NOIPA __attribute__((noipa))
#endif

/* The end of a turn: what it printed is in the file. */
static inline void turn(void)
{
	fflush(stdout);
	usleep(1000);
}
