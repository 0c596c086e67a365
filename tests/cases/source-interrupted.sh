#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# A build that is killed leaves nothing that a later one takes as whole.
. "${0%/*}/lib.sh"

program counter <<'END'
#include "target.h"
NOIPA int answer(void) { return 1; }
int main(void) { for (;; turn()) printf("answer %d\n", answer()); }
END
change counter.c 's/return 1/return 2/'
command="make; echo > $PWD/half-way; [ -e $PWD/go ] || sleep 1000.$$"
"$SUTURE" build -q -s tree -t ./counter -o fix.sut fix.patch -- sh -c "$command" &
builder=$!
wait_until 'half of the build' test -e half-way
kill -KILL $builder
wait $builder 2> /dev/null || :
no_sleep() { ! pgrep -f -x "sleep 1000.$$" > /dev/null; }
wait_until 'the end of what the build had started' no_sleep
[ ! -e fix.sut ] || fail 'a patch was written'
touch go
suture build -q -s tree -t ./counter -n fix -o fix.sut fix.patch -- sh -c "$command"
start ./counter
apply fix
now_prints 'answer 2' 'answer 1'
