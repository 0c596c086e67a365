# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# For tests/cases/*.sh: a program, a change to its source, a patch, and what the program then prints.
#
#	. "${0%/*}/lib.sh"
#
#	program counter <<'END'
#	#include "target.h"
#	NOIPA int answer(void) { return 1; }
#	int main(void) { for (;; turn()) printf("answer %d\n", answer()); }
#	END
#	start ./counter
#	change counter.c 's/return 1/return 2/'
#	build_patch fix
#	apply fix
#	now_prints 'answer 2' 'answer 1'
#	revert fix
#	now_prints 'answer 1' 'answer 2'
#
# One behaviour per case, named for it. A case also runs by hand, from any directory. Nothing waits
# for a fixed time: wait_until polls until a deadline. What was started is killed at the end.
set -Eeuo pipefail

cases=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ -z "${SUTURE-}" ]; then # by hand
	export SUTURE=$cases/../../build/suture
	TMPDIR=$(mktemp -d)
	export TMPDIR XDG_CACHE_HOME=$TMPDIR/cache LC_ALL=C
	cd "$TMPDIR"
	by_hand=$TMPDIR
fi

# Seconds until something that should happen counts as not happening.
deadline=${SUTURE_CASE_DEADLINE:-30}

pids=()
cleanup()
{
	local status=$? started
	trap - ERR
	set +e
	for started in "${pids[@]}"; do
		kill -KILL "$started"
		wait "$started"
	done 2> /dev/null
	[ -z "${by_hand-}" ] || rm -rf "$by_hand"
	exit $status
}
trap cleanup EXIT
trap 'exit 143' TERM INT

# The line of the case, not of the helper that it called.
on_error()
{
	local status=$? depth=$((${#BASH_LINENO[@]} - 2))
	echo "${0##*/}:${BASH_LINENO[depth]}: exit status $status of: $1" >&2
}
trap 'on_error "$BASH_COMMAND"' ERR

suture() { "$SUTURE" "$@"; }

# ---- outcomes --------------------------------------------------------------------------------

fail()
{
	echo "failed: $*" >&2
	[ -z "${output-}" ] || { echo "last lines of $program_name:"; tail -n 5 "$output"; } >&2
	trap - ERR
	exit 1
}

skip() { echo "$*"; trap - ERR; exit 77; }

# need COMMAND...: skip where one is not installed.
need()
{
	local command
	for command; do
		command -v "$command" > /dev/null || skip "$command is not installed"
	done
}

# Skip where the kernel lets us trace only our own children.
need_ptrace()
{
	[ "$(id -u)" = 0 ] && return
	local scope
	scope=$(cat /proc/sys/kernel/yama/ptrace_scope 2> /dev/null || echo 0)
	[ "$scope" = 0 ] || skip "kernel.yama.ptrace_scope is $scope and this is not root"
}

# wait_until WHAT COMMAND...: poll until the command succeeds.
wait_until()
{
	local what=$1 end=$((SECONDS + deadline))
	shift
	until "$@"; do
		[ $SECONDS -lt $end ] || fail "$what: not within $deadline s"
		sleep 0.02
	done
}

# status N COMMAND...: the command's exit status must be N. Its output goes to the files `out` and
# `err`, which contains and lacks look into.
status()
{
	local expected=$1 found=0
	shift
	"$@" > out 2> err || found=$?
	[ "$found" = "$expected" ] && return
	cat out err >&2
	fail "exit status of '$*' is $found, expected $expected"
}

# contains FILE TEXT, lacks FILE TEXT: as fixed strings.
contains() { grep -qF -e "$2" "$1" || { cat "$1" >&2; fail "'$2' is not in '$1'"; }; }
lacks() { ! grep -qF -e "$2" "$1" || { cat "$1" >&2; fail "'$2' is in '$1'"; }; }

# ---- programs --------------------------------------------------------------------------------

# program NAME [FLAG...] < SOURCE: a source tree `tree` that builds NAME from NAME.c and what else
# lies in tree/, and the built program ./NAME. Flags are for compiler and linker. CC is heeded.
program()
{
	local name=$1
	shift
	mkdir -p tree
	cp "$cases/target.h" tree/
	cat > "tree/$name.c"
	cat > tree/Makefile <<-END
		CFLAGS = -O2 -g $*
		CC = ${CC:-gcc}
		objects = \$(patsubst %.c,%.o,\$(sort \$(wildcard *.c)))
		$name: \$(objects); \$(CC) \$(CFLAGS) -Wl,--build-id -o \$@ \$(objects) \$(LDLIBS)
		\$(objects): \$(wildcard *.h)
	END
	# The target is built elsewhere: the tree stays clean, as a release's is.
	cp -a tree built
	make -s -C built "$name"
	cp "built/$name" .
	rm -rf built
	program_name=$name
}

# compile SOURCE.c OBJECT.o [FLAG...]: one object, as a build would make it.
compile()
{
	local from=$1 to=$2
	shift 2
	"${CC:-gcc}" -O2 -g -I "$cases" "$@" -c -o "$to" "$from"
}

# start PROGRAM [ARGUMENT...]: runs it until the case ends; sets `pid` and `output`, the file with
# what it prints. Returns when there is a first line.
start()
{
	output=$PWD/output.${#pids[@]}
	"$@" > "$output" 2>&1 &
	pid=$!
	pids+=("$pid")
	wait_until "the first line of '$1'" lines_reach 1
}

runs() { kill -0 "$pid" 2> /dev/null || fail "'$program_name' (pid $pid) is dead"; }

lines_reach()
{
	runs
	[ "$(wc -l < "$output")" -ge "$1" ]
}

# now_prints NEW [OLD]: lines printed from now on have NEW and none has OLD. A line that a thread had
# in hand may still be the old one: one line, or as many as `threads` says.
threads=1
now_prints()
{
	local from
	from=$(wc -l < "$output")
	wait_until 'more output' lines_reach $((from + threads + 5))
	tail -n +$((from + threads + 1)) "$output" > window
	contains window "$1"
	[ $# -lt 2 ] || lacks window "$2"
}

# A digest of the program's code as it lies in memory, and the pages that are writable as well.
text_digest()
{
	local range
	range=$(awk -v path="$(readlink "/proc/$pid/exe")" \
		'$2 ~ /x/ && $6 == path { print $1; exit }' "/proc/$pid/maps")
	local start=$((0x${range%-*})) end=$((0x${range#*-}))
	dd if="/proc/$pid/mem" bs=4096 skip=$((start / 4096)) count=$(((end - start) / 4096)) \
		status=none | sha256sum
}
never_writable_and_executable()
{
	! grep -E '^[^ ]+ .wx' "/proc/$pid/maps" >&2 || fail 'a page is writable and executable'
}

# ---- patches ---------------------------------------------------------------------------------

# change FILE SED-SCRIPT, or change FILE < CONTENT: adds to the diff fix.patch.
change()
{
	[ -d new ] || cp -a tree new
	if [ $# -gt 1 ]; then
		sed -i -E "$2" "new/$1"
	else
		cat > "new/$1"
	fi
	! cmp -s "tree/$1" "new/$1" || fail "change of '$1' changes nothing"
	diff -ruN tree new > fix.patch || [ $? = 1 ]
}

# build_patch NAME [OPTION...]: NAME.sut from fix.patch, for the program.
build_patch()
{
	local name=$1
	shift
	suture build -q -s tree -t "./$program_name" -n "$name" -o "$name.sut" "$@" fix.patch -- make
}

# apply NAME [OPTION...], revert NAME [OPTION...]: in the program that was started last.
apply()
{
	local name=$1
	shift
	suture apply "$name.sut" -p "$pid" "$@"
}
revert()
{
	local name=$1
	shift
	suture revert "$name" -p "$pid" "$@"
}

# ---- what many cases share ---------------------------------------------------------------------

# there_and_back NEW OLD: apply `fix` and NEW appears, revert it and OLD is back; the code is byte for
# byte what it was.
there_and_back()
{
	local text
	text=$(code_digest)
	apply fix
	now_prints "$1" "$2"
	never_writable_and_executable
	[ "$(code_digest)" != "$text" ] || fail 'the patch was applied and the code is the same'
	revert fix
	now_prints "$2" "$1"
	[ "$(code_digest)" = "$text" ] || fail 'the code is not what it was'
	runs
}

# unchanged_by COMMAND...: the program's code and mappings are the same after the command.
unchanged_by()
{
	local text maps
	text=$(code_digest)
	maps=$(cut -d ' ' -f 1,2,6- "/proc/$pid/maps")
	"$@"
	[ "$(code_digest)" = "$text" ] || fail "the code has changed: $*"
	[ "$(cut -d ' ' -f 1,2,6- "/proc/$pid/maps")" = "$maps" ] || fail "mappings have changed: $*"
	runs
}

# A digest of all code of the mapped file that the patch is for: a program or a library.
code_digest()
{
	local name=$program_name range ranges
	ranges=$(awk -v name="/$name" '$2 ~ /x/ && $6 ~ /^\// &&
		substr($6, length($6) - length(name) + 1) == name { print $1 }' "/proc/$pid/maps")
	[ -n "$ranges" ] || fail "no code of '$name' is mapped"
	for range in $ranges; do
		dd if="/proc/$pid/mem" bs=4096 skip=$((0x${range%-*} / 4096)) \
			count=$(((0x${range#*-} - 0x${range%-*}) / 4096)) status=none
	done | sha256sum
}

# bytes_at ADDRESS COUNT: in the program's memory, as "f3 0f 1e fa".
bytes_at()
{
	dd if="/proc/$pid/mem" iflag=skip_bytes,count_bytes skip=$(($1)) count="$2" status=none |
		od -An -tx1 | tr -s ' \n' ' ' | sed 's/^ //; s/ $//'
}

# old_address FUNCTION, new_address FUNCTION: as `suture status` tells them.
old_address() { suture status -p "$pid" | sed -n "s/^ *$1 in .*: \\(0x[0-9a-f]*\\) -> .*/\\1/p"; }
new_address() { suture status -p "$pid" | sed -n "s/^ *$1 in .* -> \\(0x[0-9a-f]*\\)\$/\\1/p"; }

# make_built FILE: build it from a copy of the tree, which stays clean, as a release's is.
make_built()
{
	cp -a tree built
	make -s -C built "$1"
	cp "built/$1" .
	rm -rf built
	program_name=$1
}

# library NAME [FLAG...] < SOURCE: as `program`, for a shared library NAME.so.
library()
{
	local name=$1
	shift
	mkdir -p tree
	cp "$cases/target.h" tree/
	cat > "tree/$name.c"
	cat > tree/Makefile <<-END
		CFLAGS = -O2 -g -fPIC $*
		CC = ${CC:-gcc}
		objects = \$(patsubst %.c,%.o,\$(sort \$(wildcard *.c)))
		$name.so: \$(objects); \$(CC) \$(CFLAGS) -shared -Wl,--build-id,-soname,\$@ -o \$@ \$(objects)
		\$(objects): \$(wildcard *.h)
	END
	make_built "$name.so"
}

# user NAME [FLAG...] < SOURCE: a program that is not in the tree; ./x.so among the flags is found.
user()
{
	local name=$1
	shift
	cat > "$name.user.c"
	"${CC:-gcc}" -O2 -g -I "$cases" -o "$name" "$name.user.c" "$@" -Wl,-rpath,"$PWD"
}

# program_cxx NAME [FLAG...] < SOURCE: as `program`, in C++, from NAME.cc.
program_cxx()
{
	local name=$1
	shift
	need "${CXX:-g++}"
	mkdir -p tree
	cp "$cases/target.h" tree/
	cat > "tree/$name.cc"
	cat > tree/Makefile <<-END
		CXXFLAGS = -O2 -g $*
		CXX = ${CXX:-g++}
		objects = \$(patsubst %.cc,%.o,\$(sort \$(wildcard *.cc)))
		$name: \$(objects); \$(CXX) \$(CXXFLAGS) -Wl,--build-id -o \$@ \$(objects)
		\$(objects): \$(wildcard *.h)
	END
	make_built "$name"
}

# variant [FLAG...]: the same program for each way to compile and link. Its patch uses much of what
# code refers to: a static function, static data, a static local, a table, strings, a constant in
# memory, libc. variant_program leaves it running, with fix.sut built.
variant_program()
{
	program counter "$@" <<-'END'
		#include "target.h"
		static int calls;
		static const char *const words[] = { "zero", "one", "two", "three" };
		NOIPA static int scale(int x, int y) { return x * 10 + y; }
		NOIPA int answer(int x, char *text, size_t size)
		{
			static int turns;
			turns++;
			snprintf(text, size, "%s %.2f %s", words[x & 3], x * 0.25,
				 turns == calls ? "kept" : "LOST");
			return scale(1, x);
		}
		int main(void)
		{
			char text[64];
			for (;; turn()) {
				calls++;
				int value = answer(calls % 4, text, sizeof(text));
				printf("answer %d %s\n", value, text);
			}
		}
	END
	start ./counter
	change counter.c 's/scale\(1, x\)/scale(2, x)/; s/"%s %.2f/"new %s %.2f/'
	build_patch fix
}
variant()
{
	variant_program "$@"
	there_and_back 'answer 23 new three 0.75 kept' 'answer 13 three 0.75 kept'
	lacks "$output" LOST
}

# counter_program [FLAG...]: "answer 1" on each line; counter_fix builds the patch to "answer 2".
counter_program()
{
	program counter "$@" <<-'END'
		#include "target.h"
		NOIPA int answer(void) { return 1; }
		int main(void) { for (;; turn()) printf("answer %d\n", answer()); }
	END
}
counter_fix()
{
	change counter.c 's/return 1/return 2/'
	build_patch fix "$@"
}

# at PID OUTPUT: what runs, apply, now_prints and the like mean from now on.
at() { pid=$1 output=$2; }
