#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A program stopped by SIGSTOP: it stays stopped, and afterwards runs the new code.
. "${0%/*}/lib.sh"
need_ptrace

program counter <<'END'
#include "target.h"
NOIPA int answer(void) { return 1; }
int main(void) { for (;; turn()) printf("answer %d\n", answer()); }
END
start ./counter
change counter.c 's/return 1/return 2/'
build_patch fix
is_stopped() { grep -q '^State:[[:space:]]*T' "/proc/$pid/status"; }
text=$(code_digest)
kill -STOP "$pid"
wait_until 'the stop' is_stopped
apply fix
is_stopped || fail 'it is not stopped any more'
lines=$(wc -l < "$output")
revert fix
apply fix
is_stopped || fail 'it is not stopped any more'
[ "$(wc -l < "$output")" = "$lines" ] || fail 'it ran'
kill -CONT "$pid"
now_prints 'answer 2' 'answer 1'
revert fix
now_prints 'answer 1' 'answer 2'
[ "$(code_digest)" = "$text" ] || fail 'the code is not what it was'
