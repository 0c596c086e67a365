#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# A diff that does not apply: refused with its hunk, and nothing is left behind.
. "${0%/*}/lib.sh"

program counter <<'END'
#include "target.h"
NOIPA int answer(void) { return 1; }
int main(void) { for (;; turn()) printf("answer %d\n", answer()); }
END
change counter.c 's/return 1/return 2/'
sed -i 's/return 1;/return 7;/' fix.patch
before=$(cd tree && find . -type f -exec sha256sum {} + | sort)
status 10 build_patch fix
contains err "does not apply to 'counter.c': 1 of 1 hunks is rejected"
contains err '-NOIPA int answer(void) { return 7; }'
[ ! -e fix.sut ] || fail 'a patch was written'
[ "$(cd tree && find . -type f -exec sha256sum {} + | sort)" = "$before" ] || fail 'the tree changed'

# A file that is not there, and a diff that is none.
sed -i 's/counter\.c/nowhere.c/g' fix.patch
status 10 build_patch fix
contains err "nowhere.c' is not in"
echo hello > fix.patch
status 10 build_patch fix
contains err 'holds no unified diff'
