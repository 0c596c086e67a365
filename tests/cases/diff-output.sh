#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# -o writes the changed code and what it needs, and nothing else; the same input gives the same bytes.
. "${0%/*}/lib.sh"
need readelf

cat > old.c <<'END'
#include <stdio.h>
#include "target.h"
static int counter;
NOIPA static void report(int x) { printf("reported %d\n", x); }
int changed(int x) { counter++; report(x); return puts("old text"); }
int unchanged(int x) { counter--; report(x); return puts("unchanged text"); }
END
sed 's/old text/new text/' old.c > new.c
compile old.c old.o -ffunction-sections -fdata-sections
compile new.c new.o -ffunction-sections -fdata-sections

status 1 suture diff old.o new.o -o changed.o
contains out 'string "old text" became "new text"'
status 1 suture diff old.o new.o -o again.o
cmp changed.o again.o

readelf -sW changed.o > symbols
grep -E ' FUNC +GLOBAL .* [0-9]+ changed$' symbols
grep -E ' UND report$' symbols
grep -E ' UND counter$' symbols
lacks symbols unchanged
readelf -p .rodata.str changed.o > texts
contains texts 'new text'
lacks texts unchanged
readelf -SW changed.o | grep -F .eh_frame

# Where there is nothing to write, nothing is written.
status 0 suture diff old.o old.o -o none.o
[ ! -e none.o ]
