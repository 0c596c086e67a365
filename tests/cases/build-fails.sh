#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A build that fails: before the diff or after it, its log is named and its last lines are shown.
. "${0%/*}/lib.sh"
counter_program
change counter.c 's/return 1/return undeclared/'
status 10 build_patch fix
contains err undeclared
log=$(grep -oE '/[^ ()]*\.log' err | head -n 1)
[ -n "$log" ] && grep -q undeclared "$log" || fail "no log is named: $(cat err)"
[ ! -e fix.sut ] || fail 'a patch was written'
rm -rf new
change counter.c 's/return 1/return 2/'
sed -i '/^counter:/s/$/ \&\& echo broken rule \&\& false/' tree/Makefile
status 10 build_patch fix
contains err 'broken rule'
status 10 suture build -s tree -t ./counter fix.patch -- no-such-command
contains err no-such-command
