#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The second patch for the same source compiles no more than what its diff changes.
. "${0%/*}/lib.sh"
need_ptrace

mkdir tree
for name in a b c; do printf '#include "target.h"\nint %s(void);\nNOIPA int %s(void) { return 1; }\n' $name $name > tree/$name.c; done
program counter <<'END'
#include "target.h"
int a(void), b(void), c(void);
int main(void) { for (;; turn()) printf("answer %d %d %d\n", a(), b(), c()); }
END
# A compiler that keeps a list, outside of the tree, of what it was asked for.
cat > listing-cc <<END
#!/bin/sh
echo "\$@" >> "$PWD/compiled"
exec ${CC:-gcc} "\$@"
END
chmod +x listing-cc
start ./counter
build() { suture build -q -s tree -t ./counter -n fix -o fix.sut fix.patch -- make CC="$PWD/listing-cc"; }
change a.c 's/return 1/return 2/'
build
there_and_back 'answer 2 1 1' 'answer 1 1 1'
count() { grep -c -- "-c .*$1\\.c" compiled || true; }
[ "$(count c)" -ge 1 ] || skip 'the list is not kept'
before=$(count c)
rm -rf new
change b.c 's/return 1/return 3/'
build
[ "$(count c)" = "$before" ] || fail 'what nothing changes was compiled again'
there_and_back 'answer 1 3 1' 'answer 1 1 1'
# A changed source is another source.
rm -rf new
sed -i 's/return 1/return 1 + 0 * sizeof(int)/' tree/c.c
echo 'NOIPA int d(void) { return 5; } int d(void);' >> tree/c.c
change b.c 's/return 1/return 4/'
build
[ "$(count c)" -gt "$before" ] || fail 'a changed source came out of the cache'
there_and_back 'answer 1 4 1' 'answer 1 1 1'
