#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A program linked by lld.
. "${0%/*}/lib.sh"
need_ptrace
need ld.lld

variant -fuse-ld=lld
