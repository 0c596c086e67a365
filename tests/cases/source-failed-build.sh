#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# A build that fails: the log is named and its last lines are shown.
. "${0%/*}/lib.sh"

program counter <<'END'
#include "target.h"
NOIPA int answer(void) { return 1; }
int main(void) { for (;; turn()) printf("answer %d\n", answer()); }
END
change counter.c 's/return 1/return 1 +/'
status 10 build_patch fix
contains err 'new tree: the build command'
contains err 'expected expression'
log=$(grep -o "/[^']*\.log" err | head -n 1)
contains "$log" 'expected expression'

status 10 suture build -q -s tree -t ./counter -o fix.sut fix.patch -- sh -c 'echo no such luck; exit 3'
contains err "plain build: the build command 'sh -c"
contains err 'failed with status 3'
contains err 'no such luck'
status 10 suture build -q -s tree -t ./counter -o fix.sut fix.patch -- ./no-such-command
contains err "cannot run './no-such-command'"
status 10 suture build -q -s tree -t ./counter -o fix.sut fix.patch -- true
contains err 'called no compiler by name'
