#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Files and folders that are not there, cannot be read or written: each is named.
. "${0%/*}/lib.sh"
counter_program
change counter.c 's/return 1/return 2/'
build() { suture build -q "$@" -- make; }
status 8 build -s tree -t ./counter absent.patch
contains err absent.patch
status 8 build -s tree -t ./absent fix.patch
contains err absent
status 8 build -s absent -t ./counter fix.patch
contains err absent
status 8 build -s tree -t ./counter -o absent/fix.sut fix.patch
contains err absent/fix.sut
status 8 build -s tree -t ./counter --debug absent fix.patch
contains err absent
status 3 build -s tree -t ./fix.patch fix.patch
contains err fix.patch
status 8 build -s tree -t ./counter --base absent.sut fix.patch
status 8 suture show absent.sut
contains err absent.sut
status 8 suture apply absent.sut -p $$
status 2 build -s tree fix.patch
status 2 build -t ./counter fix.patch
status 2 build -s tree --package x -t ./counter fix.patch
touch file
found=0
build -s tree -t ./counter -o file/fix.sut fix.patch 2> err || found=$?
[ $found != 0 ] && [ $found -lt 64 ] || fail "status $found"
contains err file/fix.sut
status 8 build -s tree -t ./counter -o absent/fix.sut fix.patch
if [ "$(id -u)" != 0 ]; then
	mkdir shut
	chmod 500 shut
	status 7 build -s tree -t ./counter -o shut/fix.sut fix.patch
fi
