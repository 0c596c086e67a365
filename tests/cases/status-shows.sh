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
printf '\xcc' | dd of="/proc/$pid/mem" bs=1 seek=$((address)) conv=notrunc status=none &&
	kill -STOP "$pid" || true
suture status -p "$pid" > out
contains out BYPASSED
status 4 suture revert fix -p "$pid" --timeout 100ms
