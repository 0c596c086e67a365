#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A program built by clang.
. "${0%/*}/lib.sh"
need_ptrace
need clang

CC=clang variant
