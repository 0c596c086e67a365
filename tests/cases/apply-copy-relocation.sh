#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A variable of a library that lives in the program: new code of both uses that one copy.
. "${0%/*}/lib.sh"
need_ptrace

library level <<'END'
#include "target.h"
int level = 1;
NOIPA int get(void) { return level; }
END
user host -fno-pie -no-pie ./level.so <<'END'
#include "target.h"
extern int level;
int get(void);
int main(void)
{
	level = 5;
	for (;; turn())
		printf("level %d get %d\n", level, get());
}
END
readelf -r host | grep -q 'R_X86_64_COPY.*level' || skip 'this linker copies no variable'
start ./host
change level.c 's/return level;/return ++level + 100;/'
build_patch fix
text=$(code_digest)
apply fix
# get() changes the variable that the program reads, not another.
now_prints 'get 1'
sed -n 's/^level \([0-9]*\) get 1\(..\)$/\1 \2/p' "$output" | awk '$1 > 1 && $1 + 0 != $2 + 0 && $1 + 1 != $2 + 0 { exit 1 }' ||
	fail 'there are two variables'
revert fix
[ "$(code_digest)" = "$text" ] || fail 'the code is not what it was'
now_prints 'level '
