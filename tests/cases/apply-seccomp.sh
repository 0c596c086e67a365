#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A filter that would kill the program for an mmap: it is refused by name, and lives.
. "${0%/*}/lib.sh"
need_ptrace

program counter <<'END'
#include "target.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#define ALLOW(number) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1), BPF_STMT(BPF_RET, SECCOMP_RET_ALLOW)
NOIPA int answer(void) { return 1; }
int main(void)
{
	puts("begins");
	fflush(stdout);
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		ALLOW(SYS_write), ALLOW(SYS_clock_nanosleep), ALLOW(SYS_nanosleep), ALLOW(SYS_restart_syscall),
		ALLOW(SYS_exit_group), ALLOW(SYS_rt_sigreturn),
		BPF_STMT(BPF_RET, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog program = { sizeof(filter) / sizeof(filter[0]), filter };
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		puts("no filter");
	for (;; turn())
		printf("answer %d\n", answer());
}
END
start ./counter
! grep -q 'no filter' "$output" || skip 'this kernel has no seccomp filters'
change counter.c 's/return 1/return 2/'
build_patch fix
now_prints 'answer 1'
found=0
text=$(code_digest)
suture apply fix.sut -p "$pid" > out 2> err || found=$?
[ "$(code_digest)" = "$text" ] || fail 'the code has changed'
[ "$found" = 7 ] || [ "$found" = 12 ] || { cat out err >&2; fail "exit status $found"; }
contains out seccomp
now_prints 'answer 1' 'answer 2'
