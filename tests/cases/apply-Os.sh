#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A program built with -Os.
. "${0%/*}/lib.sh"
need_ptrace

variant -Os
