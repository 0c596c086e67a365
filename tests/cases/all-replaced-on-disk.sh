#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The program was replaced on disk by an upgrade: what runs is patched by what is mapped.
. "${0%/*}/lib.sh"
need_ptrace

counter_program
start ./counter
counter_fix
mkdir elsewhere
sed 's/return 1/return 7/' tree/counter.c > seven.c
"${CC:-gcc}" -O2 -I "$cases" -Wl,--build-id -o counter.new seven.c
mv counter.new counter
grep -q '(deleted)' "/proc/$pid/maps" || fail 'the mapped file is not the old one'
status 0 suture apply fix.sut --all
contains out "$pid (counter): applied"
now_prints 'answer 2' 'answer 1'
start ./counter
unchanged_by status 8 suture apply fix.sut -p "$pid"
contains out 'build ID'
now_prints 'answer 7'
at "${pids[0]}" "$PWD/output.0"
revert fix
now_prints 'answer 1' 'answer 2'
