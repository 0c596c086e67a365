#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What every command line has: help on standard output, mistakes named with status 2.
. "${0%/*}/lib.sh"

status 0 suture --help
contains out 'usage: suture COMMAND'
status 0 suture --version
contains out 'suture '
status 2 suture
contains err 'a command is missing'
status 2 suture aplly
contains err "unknown command 'aplly': did you mean 'apply'?"
status 2 suture --verison
contains err "did you mean '--version'?"

# Each command that --help lists explains itself.
suture --help | sed -n '/^commands:/,/^$/s/^  \([a-z]*\) .*/\1/p' > commands
[ -s commands ] || fail 'no commands'
while read -r command; do
	status 0 suture "$command" --help
	contains out "usage: suture $command"
	contains out '--verbose'
	status 2 suture "$command" --no-such-option
done < commands

# A result that could not be written is no success.
[ ! -c /dev/full ] || status 11 sh -c '"$SUTURE" --help > /dev/full'
# Without standard descriptors nothing is written into a file that takes their number.
status 0 sh -c '"$SUTURE" --help <&- >&- 2>&-'
