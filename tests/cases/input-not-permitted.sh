#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A process of somebody else: not permitted, and it says what would be.
. "${0%/*}/lib.sh"
need setpriv
[ "$(id -u)" = 0 ] || skip 'this is not root'

counter_program
start ./counter
counter_fix
chmod 755 . && chmod 644 fix.sut
cp "$SUTURE" ./suture.copy
setpriv --reuid=65534 --regid=65534 --clear-groups test -r "$PWD/fix.sut" || skip 'nobody cannot read the patch'
nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
unchanged_by status 7 nobody ./suture.copy apply fix.sut -p "$pid"
contains out "not permitted"
contains out 'CAP_SYS_PTRACE'
status 7 nobody ./suture.copy status -p "$pid"
status 7 nobody ./suture.copy revert fix -p "$pid"
# --all means those that it may see: none.
status 8 nobody ./suture.copy apply fix.sut --all
now_prints 'answer 1' 'answer 2'
