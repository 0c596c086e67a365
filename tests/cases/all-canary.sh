#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The canaries come first: the others follow when the check succeeds, else all is taken back.
. "${0%/*}/lib.sh"
need_ptrace

counter_program
for i in 0 1 2; do start ./counter; done
# A name of its own: revert --all goes by the name, and other cases run beside this one.
name=fix-$$
change counter.c 's/return 1/return 2/'
build_patch $name
# The check sees one patched process of three.
among="-p ${pids[0]} -p ${pids[1]} -p ${pids[2]}"
count="test \$(\"\$SUTURE\" status $among | grep -c ': 1 patch,') = 1"
status 5 suture apply $name.sut -p "${pids[0]}" -p "${pids[1]}" -p "${pids[2]}" --canary 1 --check "$count && false"
contains err 'the check'
for i in 0 1 2; do
	at "${pids[i]}" "$PWD/output.$i"
	now_prints 'answer 1'
	suture status -p "$pid" > out
	contains out ' 0 patches'
done
status 0 suture apply $name.sut -p "${pids[0]}" -p "${pids[1]}" -p "${pids[2]}" --canary 1 --check "$count"
for i in 0 1 2; do
	at "${pids[i]}" "$PWD/output.$i"
	now_prints 'answer 2' 'answer 1'
done
suture revert $name --all > out
# With --all as well, and then the failing check leaves no process patched.
status 5 suture apply $name.sut --all --canary 2 --check false
status 8 suture revert $name --all
status 0 suture apply $name.sut --all --canary 2 --check true
now_prints 'answer 2' 'answer 1'
status 2 suture apply $name.sut --all --canary 2
