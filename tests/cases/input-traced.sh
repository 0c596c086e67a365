#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A program under another tracer: a conflict that names the tracer, and neither notices.
. "${0%/*}/lib.sh"
need_ptrace

cat > tracer.c <<'END'
#include "target.h"
#include <sys/ptrace.h>
#include <sys/wait.h>
int main(int count, char **arguments)
{
	pid_t pid = count > 1 ? atoi(arguments[1]) : 0;
	if (ptrace(PTRACE_SEIZE, pid, NULL, NULL))
		return 1;
	puts("traces");
	fflush(stdout);
	pause();
}
END
"${CC:-gcc}" -I "$cases" -o tracer tracer.c
counter_program
start ./counter
counter_fix
target=$pid target_output=$output
start ./tracer "$target"
tracer=$pid
at "$target" "$target_output"
unchanged_by status 9 suture apply fix.sut -p "$pid" --timeout 1s
contains out "$tracer (tracer)"
unchanged_by status 9 suture apply fix.sut -p "$pid" --timeout 0s
now_prints 'answer 1' 'answer 2'
grep -q "^TracerPid:[[:space:]]*$tracer\$" "/proc/$pid/status" || fail 'the tracer was driven away'
kill -KILL "$tracer"
untraced() { grep -q '^TracerPid:[[:space:]]*0$' "/proc/$pid/status"; }
wait_until 'the end of the tracer' untraced
apply fix
now_prints 'answer 2' 'answer 1'
