#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
#
# --package with a name that is none, or that is not installed.
. "${0%/*}/lib.sh"

need dpkg-query
printf -- '--- a/x.c\n+++ b/x.c\n@@ -1 +1 @@\n-a\n+b\n' > fix.patch
status 8 suture build --package no-such-package-here fix.patch
contains err "package 'no-such-package-here' is not installed"
# Nothing of it reaches a shell.
status 8 suture build --package "x'; touch owned; '" fix.patch
[ ! -e owned ] || fail 'a name was run as a command'
