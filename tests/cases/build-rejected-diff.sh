#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A diff that does not apply is refused with the hunk that was rejected.
. "${0%/*}/lib.sh"
counter_program
change counter.c 's/return 1/return 2/'
sed -i 's/return 1/return 7/' tree/counter.c
status 10 build_patch fix
contains err counter.c
contains err 'return 2'
[ ! -e fix.sut ] || fail 'a patch was written'
# A diff for a file that is not there.
sed 's/counter\.c/absent.c/' fix.patch > other.patch
mv other.patch fix.patch
status 10 build_patch fix
contains err absent.c
# And something that is no diff.
echo 'hello' > fix.patch
status 10 build_patch fix
contains err fix.patch
