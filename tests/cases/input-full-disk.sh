#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A full disk: an error, no patch that is cut off, and an older one stays.
. "${0%/*}/lib.sh"
need unshare
[ "$(id -u)" = 0 ] && unshare -m true 2> /dev/null || skip 'mount namespaces are not permitted'

counter_program
counter_fix
mkdir full
status 11 unshare -m sh -c 'mount -t tmpfs -o size=4k none full && echo old > full/fix.sut || exit 99
	"$SUTURE" build -q -s tree -t ./counter -n fix -o full/fix.sut fix.patch -- make
	status=$?
	ls -a full
	cat full/fix.sut
	exit $status'
contains err full/fix.sut
contains err 'No space left'
grep -qx old out || fail "the older file is gone"
[ "$(grep -vcxE 'old|\.|\.\.|fix\.sut' out)" = 0 ] || fail 'something was left behind'
# The cache is on a full disk.
found=0
unshare -m sh -c 'mount -t tmpfs -o size=64k none full && exec "$SUTURE" build -q --cache full -s tree \
	-t ./counter -n fix -o other.sut fix.patch -- make' > out 2> err || found=$?
[ $found = 10 ] || [ $found = 11 ] || { cat out err; fail "status $found"; }
grep -q 'No space left' err || fail "the reason is not told: $(cat err)"
[ ! -e other.sut ] || fail 'a patch was written'
