#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# The tree of the user is only read, and it may lie at an odd path.
. "${0%/*}/lib.sh"

mkdir 'odd, path:with spaces'
cd 'odd, path:with spaces' || exit
program counter <<'END'
#include "target.h"
NOIPA int answer(void) { return 1; }
int main(void) { for (;; turn()) printf("answer %d\n", answer()); }
END
change counter.c 's/return 1/return 2/'
list() { find tree -printf '%p %y %s %T@ %C@ %m\n' | sort; }
before=$(list)
start ./counter
build_patch fix
[ "$(list)" = "$before" ] || fail 'the tree changed'
! grep -q suture /proc/mounts || fail 'a mount is left'
apply fix
now_prints 'answer 2' 'answer 1'
