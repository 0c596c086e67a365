#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# Two builds of one tree at the same time: one waits for the other.
. "${0%/*}/lib.sh"

program counter <<'END'
#include "target.h"
NOIPA int answer(void) { return 1; }
int main(void) { for (;; turn()) printf("answer %d\n", answer()); }
END
change counter.c 's/return 1/return 2/'
cp fix.patch two.patch
change counter.c 's/return 2/return 3/'
cp fix.patch three.patch
for number in two three two three; do
	suture build -q -s tree -t ./counter -n $number.$RANDOM -o $number.sut $number.patch -- make &
	pids+=($!)
	builders+=($!)
done
for builder in "${builders[@]}"; do
	wait "$builder" || fail "a build failed"
done
[ "$(find "$XDG_CACHE_HOME/suture/builds" -name plain.log | wc -l)" = 1 ] || fail 'built twice'
start ./counter
suture apply two.sut -p "$pid"
now_prints 'answer 2' 'answer 1'
