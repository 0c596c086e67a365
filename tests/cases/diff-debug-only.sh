#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Objects that differ in debug information alone are equal; a line number in the code is a change.
. "${0%/*}/lib.sh"

cat > old.c <<'END'
void where(int);
int f(int first) { return first; }
void g(void) { where(7); }
END
{ echo; echo '/* moved */'; sed 's/first/second/g' old.c; } > new.c
sed 's/where(7)/where(__LINE__)/' old.c > line-old.c
sed 's/where(7)/where(__LINE__)/' new.c > line-new.c
for name in old new line-old line-new; do compile $name.c $name.o -g; done

status 0 suture diff old.o new.o
status 1 suture diff line-old.o line-new.o
contains out 'changed g: an instruction differs'
