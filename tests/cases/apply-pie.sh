#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A position-independent executable: the patch lies within reach of it.
. "${0%/*}/lib.sh"
need_ptrace

variant_program -fPIE -pie
readelf -h counter | grep -q 'DYN' || fail 'the program is not position-independent'
there_and_back 'answer 23 new three 0.75 kept' 'answer 13 three 0.75 kept'
lacks "$output" LOST
