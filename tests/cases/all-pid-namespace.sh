#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A program in a pid namespace: both of its pids are told.
. "${0%/*}/lib.sh"
need_ptrace
need unshare
unshare -pf true 2> /dev/null || skip 'pid namespaces are not permitted'

counter_program
counter_fix
start unshare -pf ./counter
child=$(cat "/proc/$pid/task/$pid/children")
at "${child% }" "$output"
pids+=("$pid")
text=$(code_digest)
status 0 suture apply fix.sut -p "$pid"
contains out "$pid [1] (counter): applied"
now_prints 'answer 2' 'answer 1'
status 0 suture status -p "$pid" --json
contains out '"namespace_pid": 1,'
revert fix
now_prints 'answer 1' 'answer 2'
[ "$(code_digest)" = "$text" ] || fail 'the code is not what it was'
