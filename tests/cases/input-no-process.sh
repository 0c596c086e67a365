#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A process that is gone, a zombie, a kernel thread, a thread: each is told as what it is.
. "${0%/*}/lib.sh"
need_ptrace

counter_program
counter_fix
sleep 1000 &
gone=$!
kill -KILL $gone
wait $gone 2> /dev/null || true
status 8 suture apply fix.sut -p $gone
contains out "no process $gone"
status 8 suture status -p $gone
status 8 suture revert fix -p $gone

cat > parent.c <<'END'
#include "target.h"
int main(void)
{
	pid_t child = fork();
	if (child == 0)
		return 0;
	usleep(1000);
	printf("%d\n", (int)child);
	fflush(stdout);
	pause();
}
END
"${CC:-gcc}" -I "$cases" -o parent parent.c
start ./parent
child=$(cat "$output")
is_zombie() { grep -q '^State:[[:space:]]*Z' "/proc/$child/status"; }
wait_until 'the zombie' is_zombie
status 12 suture apply fix.sut -p "$child"
contains out zombie
status 12 suture status -p "$child"

if grep -qx kthreadd /proc/2/comm 2> /dev/null; then
	status 12 suture apply fix.sut -p 2
	contains out 'kernel thread'
fi
status 2 suture apply fix.sut -p 0
status 2 suture apply fix.sut -p -1
status 2 suture apply fix.sut -p 1x
status 2 suture apply fix.sut
