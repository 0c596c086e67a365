#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# A changed table from which a script makes a header: its readers are rebuilt.
. "${0%/*}/lib.sh"

mkdir tree && cp "$cases/target.h" tree/
cat > tree/prog.c <<'END'
#include "target.h"
NOIPA int answer(void)
{
	return
#include "answer.h"
	;
}
int main(void) { for (;; turn()) printf("answer %d\n", answer()); }
END
echo 1 > tree/answer.txt
cat > tree/Makefile <<'END'
prog: prog.o; gcc -Wl,--build-id -o $@ $^
prog.o: prog.c answer.h; gcc -O2 -g -c prog.c
answer.h: answer.txt; sed 's/^/40 + /' answer.txt > $@
END
make_built prog
change answer.txt 's/1/2/'
start ./prog
build_patch fix
apply fix
now_prints 'answer 42' 'answer 41'
