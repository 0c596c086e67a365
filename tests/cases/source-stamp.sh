#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# What every build makes differently is noted, and is not in the patch.
. "${0%/*}/lib.sh"

program counter <<'END'
#include "target.h"
NOIPA int answer(void) { return 1; }
int main(void) { for (;; turn()) printf("answer %d\n", answer()); }
END
cat > tree/stamp.c <<'END'
#include "stamp.h"
const char *stamp(void) { return STAMP; }
END
cat >> tree/Makefile <<'END'
stamp.o: stamp.h
stamp.h: always; echo "#define STAMP \"$$(date +%s.%N)\"" > $@
.PHONY: always
END
make_built counter
change counter.c 's/return 1/return 2/'
build_patch fix
suture show fix.sut > shown
contains shown 'changed answer'
contains shown 'unstable-object: stamp.o'
lacks shown 'changed stamp'
