#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The source tree, and what lies beside it, is the same after a build, and may be read-only.
. "${0%/*}/lib.sh"
counter_program
change counter.c 's/return 1/return 2/'
mkdir elsewhere
state() { find tree new fix.patch -printf '%p %y %m %s %T@ %C@\n' | sort; find tree -type f -exec sha256sum {} + | sort; }
state > before
build_patch fix
state > after
diff before after || fail 'the tree is not what it was'
[ ! -e tree/counter.o ] || fail 'an object was left in the tree'
ls | sort > listed
lacks listed gmon
rm -rf "$XDG_CACHE_HOME" fix.sut
if [ "$(id -u)" = 0 ] && unshare -m true 2> /dev/null; then
	unshare -m sh -c 'mount --bind tree tree && mount -o remount,bind,ro tree && ! touch tree/x 2> /dev/null &&
		exec "$SUTURE" build -q -s tree -t ./counter -o fix.sut fix.patch -- make'
else
	chmod -R a-w tree
	build_patch fix
	chmod -R u+w tree
fi
[ -s fix.sut ] || fail 'no patch was written'
