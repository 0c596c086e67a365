#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# A cache on a read-only or full disk is named.
. "${0%/*}/lib.sh"

[ "$(id -u)" = 0 ] || skip 'only root can mount a small disk'
unshare -m true 2> /dev/null || skip 'no mount namespaces here'
program counter <<'END'
#include "target.h"
NOIPA int answer(void) { return 1; }
int main(void) { for (;; turn()) printf("answer %d\n", answer()); }
END
change counter.c 's/return 1/return 2/'
mkdir disk
export XDG_CACHE_HOME=$PWD/disk
# shellcheck disable=SC2016 # for the inner shell
status 11 unshare -m sh -c 'mount -t tmpfs -o ro none disk &&
	"$0" build -q -s tree -t ./counter -o fix.sut fix.patch -- make' "$SUTURE"
contains err "$PWD/disk"
contains err 'Read-only file system'
for size in 64k 1100k; do
	# shellcheck disable=SC2016
	status 11 unshare -m sh -c 'mount -t tmpfs -o size=$1 none disk &&
		"$0" build -q -s tree -t ./counter -o fix.sut fix.patch -- \
			sh -c "make && cp /bin/bash . && sync"' "$SUTURE" $size
	contains err "$PWD/disk"
done
status 2 env XDG_CACHE_HOME="$PWD/tree" "$SUTURE" build -q -s tree -t ./counter -o fix.sut fix.patch -- make
contains err 'lies in the source tree'
