#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A second patch for a function that was replaced already is refused, unless it says what it stands on.
. "${0%/*}/lib.sh"
need_ptrace

program counter <<'END'
#include "target.h"
NOIPA int answer(void) { return 1; }
int main(void) { for (;; turn()) printf("answer %d\n", answer()); }
END
start ./counter
text=$(code_digest)
change counter.c 's/return 1/return 2/'
build_patch first
rm -rf new
change counter.c 's/return 1/return 3/'
build_patch second
rm -rf new
change counter.c 's/return 1/return 4/'
build_patch instead --replace
cp -a tree plain
sed -i 's/return 1/return 2/' tree/counter.c
rm -rf new
change counter.c 's/return 2/return 5/'
rm -rf tree
mv plain tree
build_patch above --base first.sut

apply first
now_prints 'answer 2' 'answer 1'
unchanged_by status 9 suture apply second.sut -p "$pid"
contains out 'answer'
contains out 'first'
apply above
now_prints 'answer 5' 'answer 2'
# The one below does not go before the one above.
unchanged_by status 9 suture revert first -p "$pid"
revert above
now_prints 'answer 2' 'answer 5'
apply instead
now_prints 'answer 4' 'answer 2'
revert instead
now_prints 'answer 1' 'answer 4'
[ "$(code_digest)" = "$text" ] || fail 'the code is not what it was'
