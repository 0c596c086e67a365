#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# A version made of `git describe --dirty` is the same in the new tree.
. "${0%/*}/lib.sh"

need git
program counter <<'END'
#include "target.h"
NOIPA int answer(void) { return 1; }
int main(void) { for (;; turn()) printf("answer %d\n", answer()); }
END
echo 'const char *version(void) { return VERSION; }' > tree/version.c
cat >> tree/Makefile <<'END'
version.o: version.c always
	gcc -O2 -DVERSION=\"$$(git describe --always --dirty)\" -c version.c
.PHONY: always
END
git() { command git -C tree -c user.name=x -c user.email=x@example.org "$@"; }
git init -q && git add . && git commit -q -m first
make_built counter
change counter.c 's/return 1/return 2/'
diff -u tree/counter.c new/counter.c > fix.patch || :
build_patch fix
suture show fix.sut > shown
contains shown 'changed answer'
lacks shown 'changed version'
[ -z "$(git status --porcelain)" ] || fail 'the tree changed'
