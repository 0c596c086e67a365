#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# The second patch for the same build does not build the old tree again.
. "${0%/*}/lib.sh"

program counter <<'END'
#include "target.h"
NOIPA int answer(void) { return 1; }
int main(void) { for (;; turn()) printf("answer %d\n", answer()); }
END
echo 'int unused(void) { return 0; }' > tree/other.c
make -s -C tree counter && cp tree/counter . && make -s -C tree -f - clean <<< 'clean:; rm -f *.o counter'
change counter.c 's/return 1/return 2/'
build_patch fix
log=$(echo "$XDG_CACHE_HOME"/suture/builds/*/plain.log)
before=$(stat -c %Y.%i "$log")
change counter.c 's/return 2/return 3/'
build_patch fix
[ "$(stat -c %Y.%i "$log")" = "$before" ] || fail 'the old tree was built again'
# Of the new tree only what the diff touches.
compiled=$(cat "$XDG_CACHE_HOME"/suture/builds/*/patches/*/new.log)
[[ $compiled != *other.c* ]] || fail "compiled: $compiled"
start ./counter
apply fix
now_prints 'answer 3' 'answer 1'

# Another tree is another build.
echo '/* changed */' >> tree/other.c
rm -rf new && change counter.c 's/return 1/return 4/'
build_patch fix
[ "$(find "$XDG_CACHE_HOME/suture/builds" -name plain.log | wc -l)" = 2 ] || fail 'no second build'
