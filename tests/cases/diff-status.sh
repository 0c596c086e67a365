#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# As diff(1) does: 0 for equal objects, 1 for different ones, more for trouble.
. "${0%/*}/lib.sh"

cat > old.c <<'END'
#include "target.h"
int limit(void) { return 1; }
int twice(int x) { return 2 * x; }
END
sed 's/return 1/return 2/' old.c > new.c
compile old.c old.o
compile new.c new.o

status 0 suture diff old.o old.o
status 1 suture diff old.o new.o
contains out limit
lacks out twice

status 3 suture diff old.o old.c
contains err old.c
status 8 suture diff old.o absent.o
contains err absent.o
status 2 suture diff old.o
