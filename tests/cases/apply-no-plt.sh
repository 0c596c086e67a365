#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Calls of other modules by way of the GOT, -fno-plt.
. "${0%/*}/lib.sh"
need_ptrace

variant -fno-plt
