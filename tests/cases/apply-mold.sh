#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A program linked by mold.
. "${0%/*}/lib.sh"
need_ptrace
need ld.mold

variant -fuse-ld=mold
