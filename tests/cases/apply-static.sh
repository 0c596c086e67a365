#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A statically linked program.
. "${0%/*}/lib.sh"
need_ptrace
echo 'int main(void) { return 0; }' > probe.c
"${CC:-gcc}" -static -o probe probe.c 2> /dev/null || skip 'no static libc is installed'

variant -static -fno-pie -no-pie
! readelf -l counter | grep -q INTERP || fail 'the program is linked dynamically'
