#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Code built with -fcf-protection=full keeps its endbr64: old entries stay targets of indirect calls.
. "${0%/*}/lib.sh"
need_ptrace

variant_program -fcf-protection=full
apply fix
now_prints 'answer 23 new three 0.75 kept' 'answer 13 three 0.75 kept'
for address in "$(old_address answer)" "$(new_address answer)"; do
	found=$(bytes_at "$address" 4)
	[ "$found" = 'f3 0f 1e fa' ] || fail "$address holds $found, not endbr64"
done
revert fix
there_and_back 'answer 23 new three 0.75 kept' 'answer 13 three 0.75 kept'
