#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A program built with -O3.
. "${0%/*}/lib.sh"
need_ptrace

variant -O3
