#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# An inline function and a template that two objects have: the one that the linker kept is replaced.
. "${0%/*}/lib.sh"
need_ptrace

mkdir tree
cat > tree/shape.h <<'END'
template <typename T> __attribute__((noinline, noclone)) T twice(T x) { asm(""); return x * 2; }
__attribute__((noinline, noclone)) inline int once(int x) { asm(""); return x; }
END
cat > tree/other.cc <<'END'
#include "target.h"
#include "shape.h"
int other();
NOIPA int other() { return twice<int>(100) + once(5); }
END
program_cxx counter <<'END'
#include "target.h"
#include "shape.h"
int other();
int main() { for (;; turn()) printf("answer %d %d\n", twice<int>(4) + once(1), other()); }
END
start ./counter
change shape.h 's/x \* 2/x * 3/'
build_patch fix
there_and_back 'answer 13 305' 'answer 9 205'
