#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# No script of the tree has a warning of shellcheck.
. "${0%/*}/lib.sh"
need shellcheck

cd "$cases/../.." || exit
# By the first line, as some scripts have no suffix.
grep -rlE --exclude-dir='build*' --exclude-dir=.git '^#!.*\b(ba)?sh$' . > "$TMPDIR/scripts"
xargs -d '\n' shellcheck -S warning tests/cases/lib.sh < "$TMPDIR/scripts"
