#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The code in memory is not what was built, as another tool has written to it: refused by its name.
. "${0%/*}/lib.sh"
need_ptrace

program counter <<'END'
#include "target.h"
NOIPA int answer(int x) { return x > 0 ? 1 : getpid(); }
int main(void) { for (;; turn()) printf("answer %d\n", answer(1)); }
END
start ./counter
change counter.c 's/\? 1/? 2/'
build_patch fix
# The constant 1 of `mov $1,%eax`, in memory only.
start=0x$(awk '$2 ~ /r-xp/ && $6 ~ /counter$/ { split($1, a, "-"); print a[1]; exit }' "/proc/$pid/maps")
offset=$(readelf -lW counter | awk '$1 == "LOAD" && / R E / { print $3; exit }')
address=$((start + 0x$(nm counter | sed -n 's/ T answer$//p') - offset))
at=$(objdump -d --disassemble=answer counter | sed -n 's/^ *\([0-9a-f]*\):.*mov  *\$0x1,%eax/\1/p')
[ -n "$at" ] || skip 'another compiler: no mov $1,%eax'
at=$((address + 0x$at - 0x$(nm counter | sed -n 's/ T answer$//p') + 1))
printf '\x05' | dd of="/proc/$pid/mem" bs=1 seek=$at conv=notrunc status=none
now_prints 'answer 5' 'answer 1'
unchanged_by status 4 suture apply fix.sut -p "$pid"
contains out answer
now_prints 'answer 5' 'answer 2'
