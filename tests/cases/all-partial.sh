#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Some processes of several: a line with the reason for each, and a status of its own.
. "${0%/*}/lib.sh"
need_ptrace

program counter <<'END'
#include "target.h"
volatile int stop;
NOIPA int answer(int stay) { while (stay && !stop) usleep(10000000); return 1; }
int main(int count, char **arguments)
{
	(void)arguments;
	puts("begins");
	fflush(stdout);
	for (;; turn())
		printf("answer %d\n", answer(count > 1));
}
END
start ./counter
free=$pid
start ./counter stay
stays=$pid
is_inside() { grep -q nanosleep "/proc/$stays/wchan" "/proc/$stays/stack" 2> /dev/null || grep -q 'S (sleeping)' "/proc/$stays/status"; }
wait_until 'the sleep' is_inside
counter_fix
status 13 suture apply fix.sut -p "$free" -p "$stays" --timeout 200ms
contains out "$free (counter): applied"
contains out "$stays (counter): busy"
contains err '1 of 2'
unchanged_by status 6 suture apply fix.sut --all --timeout 200ms
at "$free" "$PWD/output.0"
now_prints 'answer 2' 'answer 1'
status 13 suture revert fix -p "$free" -p "$stays"
now_prints 'answer 1' 'answer 2'
