#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Functions with five bytes for a jump at their entries, -fpatchable-function-entry=5.
. "${0%/*}/lib.sh"
need_ptrace

variant -fpatchable-function-entry=5
