#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# A user who is not root builds in a user namespace.
. "${0%/*}/lib.sh"

need setpriv
[ "$(id -u)" = 0 ] || skip 'every other case shows it: this is not root'
setpriv --reuid=65534 --regid=65534 --clear-groups unshare -Urm true 2> /dev/null ||
	skip 'users may not make user namespaces here'
program counter <<'END'
#include "target.h"
NOIPA int answer(void) { return 1; }
int main(void) { for (;; turn()) printf("answer %d\n", answer()); }
END
change counter.c 's/return 1/return 2/'
mkdir cache && chown 65534:65534 cache
chmod a+rx . "$TMPDIR"
setpriv --reuid=65534 --regid=65534 --clear-groups test -x "$SUTURE" -a -r tree/counter.c ||
	skip 'the build folder cannot be read by others'
setpriv --reuid=65534 --regid=65534 --clear-groups env XDG_CACHE_HOME="$PWD/cache" HOME="$PWD/cache" \
	"$SUTURE" build -q -s tree -t ./counter -n fix -o cache/fix.sut fix.patch -- make
cp cache/fix.sut .
start ./counter
apply fix
now_prints 'answer 2' 'answer 1'
