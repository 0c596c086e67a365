#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A program at a fixed address: the patch lies in the low 2 GiB, where its 32-bit addresses reach.
. "${0%/*}/lib.sh"
need_ptrace

variant_program -fno-pie -no-pie
readelf -h counter | grep -q 'EXEC' || fail 'the program is position-independent'
there_and_back 'answer 23 new three 0.75 kept' 'answer 13 three 0.75 kept'
apply fix
address=$(new_address answer)
[ -n "$address" ] || fail 'status does not tell the new address'
[ $((address)) -lt $((0x80000000)) ] || fail "the patch is at $address"
lacks "$output" LOST
