#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# One command that compiles two files and links them: each has its object.
. "${0%/*}/lib.sh"

mkdir tree && cp "$cases/target.h" tree/
cat > tree/a.c <<'END'
#include "target.h"
int answer(void);
int main(void) { for (;; turn()) printf("answer %d\n", answer()); }
END
echo 'int answer(void) { return 1; }' > tree/b.c
echo 'prog: a.c b.c; gcc -O2 -g -Wl,--build-id a.c b.c -o $@' > tree/Makefile
make_built prog
change b.c 's/return 1/return 2/'
start ./prog
build_patch fix
apply fix
now_prints 'answer 2' 'answer 1'
