#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A program in another root.
. "${0%/*}/lib.sh"
need_ptrace
need chroot
[ "$(id -u)" = 0 ] || skip 'this is not root'

counter_program -static
counter_fix
mkdir root
cp counter root/
start chroot root /counter
text=$(code_digest)
apply fix
now_prints 'answer 2' 'answer 1'
revert fix
now_prints 'answer 1' 'answer 2'
[ "$(code_digest)" = "$text" ] || fail 'the code is not what it was'
