#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A patch for another build of the program: refused, and the process is as it was.
. "${0%/*}/lib.sh"
need_ptrace

counter_program
counter_fix
sed 's/answer %d/reply %d/' tree/counter.c > counter.c
"${CC:-gcc}" -O2 -I "$cases" -Wl,--build-id -o counter counter.c
start ./counter
unchanged_by status 8 suture apply fix.sut -p "$pid"
contains out 'build ID'
unchanged_by status 8 suture apply fix.sut --all
contains err 'build ID'
now_prints 'reply 1' 'reply 2'
