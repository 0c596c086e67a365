#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A program built with -O0.
. "${0%/*}/lib.sh"
need_ptrace

variant -O0
