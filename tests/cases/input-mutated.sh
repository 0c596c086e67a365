#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A patch file of which one byte is another: an error with status 3 each time, and never a crash.
. "${0%/*}/lib.sh"
need_ptrace

counter_program
start ./counter
counter_fix
size=$(stat -c %s fix.sut)
step=$((size / 200 > 64 ? size / 200 : 64))
od -An -v -tu1 -w1 fix.sut > bytes
cp fix.sut bad.sut
offset=0 n=0
while read -r byte; do
	if [ $((n++ % step)) = 0 ]; then
		offset=$((n - 1))
		printf "\\x$(printf %02x $((byte ^ (1 << (offset / step % 8)))))" |
			dd of=bad.sut bs=1 seek=$offset conv=notrunc status=none
		found=0
		"$SUTURE" show bad.sut > out 2> err || found=$?
		[ $found = 3 ] || { cat out err; fail "byte $offset: status $found"; }
		contains err bad.sut
		printf "\\x$(printf %02x "$byte")" | dd of=bad.sut bs=1 seek=$offset conv=notrunc status=none
	fi
done < bytes
cmp fix.sut bad.sut
printf 'x' | dd of=bad.sut bs=1 seek=$((size / 2)) conv=notrunc status=none
unchanged_by status 3 suture apply bad.sut -p "$pid"
unchanged_by status 3 suture apply bad.sut --all --dry-run
now_prints 'answer 1' 'answer 2'
