#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Every process that runs the build is patched, and no other; then every one is reverted.
. "${0%/*}/lib.sh"
need_ptrace

counter_program
start ./counter
one=$pid
start ./counter
two=$pid
# A name of its own: revert --all goes by the name, and other cases run beside this one.
name=fix-$$
change counter.c 's/return 1/return 2/'
build_patch $name
sed 's/answer %d/other %d/' tree/counter.c > other.c
"${CC:-gcc}" -O2 -I "$cases" -Wl,--build-id -o other other.c
start ./other
status 0 suture apply $name.sut --all
contains out "$one (counter): applied"
contains out "$two (counter): applied"
lacks out "(other)"
now_prints 'other 1' 'other 2'
at "$one" "$PWD/output.0"
now_prints 'answer 2' 'answer 1'
at "$two" "$PWD/output.1"
now_prints 'answer 2' 'answer 1'
# Once more there is nothing to do, which is not the same as done.
status 8 suture apply $name.sut --all
status 0 suture revert $name --all
contains out "$one (counter): reverted"
now_prints 'answer 1' 'answer 2'
status 8 suture revert $name --all
