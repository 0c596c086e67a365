#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A header that two objects read changes: functions of both are replaced, of a third none.
. "${0%/*}/lib.sh"
need_ptrace

mkdir tree
echo 'static inline int scale(int x) { return x * 3; }' > tree/scale.h
for name in first second; do
	cat > tree/$name.c <<END
#include "target.h"
#include "scale.h"
int $name(int x);
NOIPA int $name(int x) { return scale(x) + 1; }
END
done
cat > tree/third.c <<'END'
#include "target.h"
int third(int x);
NOIPA int third(int x) { return x * 3 + 1; }
END
program counter <<'END'
#include "target.h"
int first(int x), second(int x), third(int x);
int main(void) { for (;; turn()) printf("answer %d %d %d\n", first(1), second(2), third(3)); }
END
start ./counter
change scale.h 's/x \* 3/x * 5/'
build_patch fix
suture show fix.sut > shown
contains shown '2 functions changed'
lacks shown third
there_and_back 'answer 6 11 10' 'answer 4 7 10'
