#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# An object that reaches the program through an archive and a response file.
. "${0%/*}/lib.sh"

mkdir -p tree/lib && cp "$cases/target.h" tree/
cat > tree/main.c <<'END'
#include "target.h"
int answer(void);
int main(void) { for (;; turn()) printf("answer %d\n", answer()); }
END
echo 'int answer(void) { return 1; }' > tree/lib/answer.c
cat > tree/Makefile <<'END'
prog: main.o lib/libanswer.a
	echo '-O2 -Wl,--build-id "main.o"' > link.rsp
	gcc -o $@ @link.rsp -Llib -lanswer
	rm link.rsp
lib/libanswer.a: lib/answer.o
	cd lib && ar rcs libanswer.a answer.o
%.o: %.c
	gcc -O2 -g -MD -MF $*.tmp -c $< -o $@ && mv $*.tmp $*.d
END
make_built prog
change lib/answer.c 's/return 1/return 2/'
start ./prog
build_patch fix
apply fix
now_prints 'answer 2' 'answer 1'
