#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Functions with 14 bytes before and 2 at their entries, -fpatchable-function-entry=16,14.
. "${0%/*}/lib.sh"
need_ptrace

variant_program -fpatchable-function-entry=16,14
apply fix
# The jump stands in the room in front, the entry holds a short one to it.
now_prints 'answer 23 new three 0.75 kept' 'answer 13 three 0.75 kept'
entry=$(bytes_at "$(old_address answer)" 2)
case $entry in
eb* | e9*) ;;
*) fail "the entry holds $entry, which is no jump" ;;
esac
revert fix
there_and_back 'answer 23 new three 0.75 kept' 'answer 13 three 0.75 kept'
