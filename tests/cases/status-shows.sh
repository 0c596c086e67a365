#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What status tells: name, state, functions with both addresses; as JSON too; nothing once reverted.
. "${0%/*}/lib.sh"
need_ptrace

counter_program
start ./counter
counter_fix
status 0 suture status -p "$pid"
contains out ' 0 patches'
apply fix
status 0 suture status -p "$pid"
contains out 'fix: applied since 20'
contains out 'answer in counter: 0x'
digest=$(suture show fix.sut | sed -n '1s/.*digest \(............\).*/\1/p')
contains out "digest $digest"
status 0 suture status -p "$pid" --json
contains out '"state": "applied"'
contains out '"intact": true'
status 0 suture status
contains out "$pid (counter): 1 patch"
# What another tool writes over an entry is seen, and not undone.
address=$(old_address answer)
first=$(bytes_at "$address" 1)
poke() { printf "\\x$1" | dd of="/proc/$pid/mem" bs=1 seek=$((address)) conv=notrunc status=none; }
is_stopped() { grep -q '^State:[[:space:]]*T' "/proc/$pid/status"; }
kill -STOP "$pid"
wait_until 'the stop' is_stopped
poke cc
status 0 suture status -p "$pid"
contains out BYPASSED
unchanged_by status 4 suture revert fix -p "$pid" --timeout 100ms
poke "$first"
kill -CONT "$pid"
revert fix
now_prints 'answer 1' 'answer 2'
