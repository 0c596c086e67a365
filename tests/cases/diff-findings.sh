#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What a patch would get wrong is a finding: -o is refused until a person accepts it.
. "${0%/*}/lib.sh"

cat > old.c <<'END'
int limit = 10;
int f(int x) { return x > limit; }
END
cat > new.c <<'END'
int limit = 20;
int f(int x) { return x >= limit; }
END
compile old.c old.o
compile new.c new.o

status 5 suture diff old.o new.o -o changed.o
contains out 'data-changed: limit: '
contains out '0xa became 0x14'
[ ! -e changed.o ]
status 1 suture diff old.o new.o -o changed.o --accept data-changed:limit
contains out 'accepted: data-changed: limit'
[ -s changed.o ]
status 2 suture diff old.o new.o --accept data-changed:other
