#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What is printed with --json is JSON: build, show, apply, status, revert, diff.
. "${0%/*}/lib.sh"
need_ptrace
if command -v jq > /dev/null; then
	is_json() { jq -e . "$1" > /dev/null; }
elif command -v python3 > /dev/null; then
	is_json() { python3 -m json.tool "$1" > /dev/null; }
else
	skip 'neither jq nor python3 is installed'
fi
check() { is_json out || { cat out; fail "no JSON: $*"; }; }

counter_program
start ./counter
change counter.c 's/return 1/return 2/'
build_patch fix --json > out && check build
contains out '"answer"'
status 0 suture show fix.sut --json && check show
status 0 suture apply fix.sut -p "$pid" --json --dry-run && check dry
status 0 suture apply fix.sut -p "$pid" --json && check apply
status 0 suture status --json && check status
status 0 suture status -p "$pid" --json && check status
status 0 suture revert fix -p "$pid" --json && check revert
status 8 suture revert fix -p "$pid" --json && check 'revert again'
status 8 suture revert fix -p 4194304 --json && check 'no process'
compile tree/counter.c old.o
compile new/counter.c new.o
status 1 suture diff old.o new.o --json && check diff
# Names that JSON has to quote.
cp counter 'a "name"\'
start ./'a "name"\'
status 0 suture apply fix.sut -p "$pid" --json && check name
