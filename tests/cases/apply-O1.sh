#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A program built with -O1.
. "${0%/*}/lib.sh"
need_ptrace

variant -O1
