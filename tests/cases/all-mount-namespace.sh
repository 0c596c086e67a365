#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A program in a mount namespace whose files we do not see.
. "${0%/*}/lib.sh"
need_ptrace
need unshare
unshare -m true 2> /dev/null || skip 'mount namespaces are not permitted'

counter_program
counter_fix
mkdir hidden
start unshare -m sh -c 'mount -t tmpfs none hidden && cp counter hidden/ && exec hidden/counter'
[ ! -e hidden/counter ] || fail 'the file is seen'
grep -q hidden/counter "/proc/$pid/maps" || fail 'another program runs'
text=$(code_digest)
status 0 suture apply fix.sut --all
contains out "$pid (counter): applied"
now_prints 'answer 2' 'answer 1'
revert fix
now_prints 'answer 1' 'answer 2'
[ "$(code_digest)" = "$text" ] || fail 'the code is not what it was'
