#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A program linked by gold.
. "${0%/*}/lib.sh"
need_ptrace
need ld.gold

variant -fuse-ld=gold
