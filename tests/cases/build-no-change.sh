#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A diff that changes no code of the target: no patch, and it says so.
. "${0%/*}/lib.sh"
counter_program
# A comment, and a file that nothing reads.
change counter.c 's@int main@/* the loop */ int main@'
change README <<< 'hello'
status 5 build_patch fix
contains err 'changes no code'
[ ! -e fix.sut ] || fail 'a patch was written'
# A comment on a line of its own moves line numbers, which only the debug information has.
rm -rf new
change counter.c '1s@^@/* a line\n * and another */\n@'
status 5 build_patch fix
contains err 'changes no code'
[ ! -e fix.sut ] || fail 'a patch was written'
