#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The completion scripts are valid, and bash's offers what --help lists.
. "${0%/*}/lib.sh"

suture __complete bash > completion.bash
suture __complete zsh > _suture
bash -n completion.bash
! command -v zsh > /dev/null || zsh -n _suture
. ./completion.bash

# offers TEXT WORD...: completing the last word offers TEXT.
offers()
{
	local expected=$1
	shift
	COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
	compopt() { :; } # only in a real completion
	_suture
	printf '%s\n' "${COMPREPLY[@]}" | grep -qxF -e "$expected" ||
		fail "'$*' offers '${COMPREPLY[*]}', not '$expected'"
}

touch object.o
suture --help | sed -n '/^commands:/,/^$/s/^  \([a-z]*\) .*/\1/p' > commands
while read -r command; do
	offers "$command" suture "${command:0:2}"
	for option in $(suture "$command" --help | grep -oE -e '^ .*--[a-z-]+' | grep -oE -e '--[a-z-]+'); do
		offers "$option" suture "$command" "${option:0:4}"
	done
	offers object.o suture "$command" obj
done < commands
offers --version suture --ver
