#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A statically linked, position-independent program.
. "${0%/*}/lib.sh"
need_ptrace
echo 'int main(void) { return 0; }' > probe.c
"${CC:-gcc}" -static-pie -o probe probe.c 2> /dev/null || skip 'no static libc is installed'

variant -static-pie -fPIE
! readelf -l counter | grep -q INTERP || fail 'the program is linked dynamically'
readelf -h counter | grep -q 'DYN' || fail 'the program is not position-independent'
