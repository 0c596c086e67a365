#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A patch file that ends too early, and files that are none.
. "${0%/*}/lib.sh"
counter_program
counter_fix
size=$(stat -c %s fix.sut)
for ((i = 0; i < 20; i++)); do
	head -c $((size * i / 20)) fix.sut > bad.sut
	status 3 suture show bad.sut
	contains err bad.sut
done
head -c $((size - 1)) fix.sut > bad.sut
status 3 suture show bad.sut
cat fix.sut fix.patch > bad.sut
status 3 suture show bad.sut
status 3 suture show counter
status 3 suture show fix.patch
status 3 suture apply tree/counter.c -p $$
[ ! -c /dev/zero ] || status 3 suture show /dev/zero
found=0
suture show . 2> err || found=$?
[ $found = 3 ] || [ $found = 8 ] || fail "a folder gives status $found"
