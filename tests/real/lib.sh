# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034,SC2317
# Shared by the scripts of this folder: sourced, not run.
#
# A script says what it needs (skipping with a reason where that cannot be had), starts
# servers with `start`, asserts with `check*`, and ends with `finish`. Whatever way it
# ends, the servers that it started are stopped by pid and the last line is
# `N passed, N failed, N skipped`.

set -euo pipefail
export LC_ALL=C

real=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$real/../.." && pwd)
suture=${SUTURE:-$root/build/suture}
cache=${SUTURE_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/suture-tests}
jobs=${SUTURE_TEST_JOBS:-$(nproc)}
work=$(mktemp -d "${TMPDIR:-/tmp}/suture-real.XXXXXX")
mkdir -p "$cache"

passed=0 failed=0 skipped=0 finished=
declare -A started=()

# ---- Results -------------------------------------------------------------------------

pass() { passed=$((passed + 1)); echo "ok - $1"; }

fail()
{
	failed=$((failed + 1))
	echo "not ok - $1"
	[ -z "${2-}" ] || printf '%s\n' "$2" | sed 's/^/# /'
}

# check DESCRIPTION COMMAND...: the command succeeds. Its output is shown if it does not.
check()
{
	local what=$1 out
	shift
	if out=$("$@" 2>&1); then pass "$what"; else fail "$what" "$(printf '%s\n' "$out" | tail -n 25)"; fi
}

check_equal()
{
	if [ "$2" = "$3" ]; then pass "$1"; else fail "$1" "expected: $2"$'\n'"found:    $3"; fi
}

check_match()
{
	if [[ $3 =~ $2 ]]; then pass "$1"; else fail "$1" "expected a match of: $2"$'\n'"found: $3"; fi
}

# must DESCRIPTION COMMAND...: as check, but what follows makes no sense without it.
must()
{
	local before=$failed
	check "$@"
	[ "$failed" = "$before" ] || finish
}

skip_all()
{
	skipped=$((skipped + 1))
	echo "skip - $1"
	finish
}

finish()
{
	finished=yes
	[ "$failed" = 0 ] || exit 1
	[ "$skipped" = 0 ] || exit 77
	exit 0
}

summary() { echo "$passed passed, $failed failed, $skipped skipped"; }

at_exit()
{
	local status=$? name
	trap - EXIT ERR
	set +e
	[ -n "$finished" ] || fail "the script ended early, with status $status${where:+ at line $where}"
	for name in "${!started[@]}"; do stop "$name"; done
	if [ "$failed" != 0 ] && [ -n "${SUTURE_TEST_KEEP-}" ]; then
		echo "# logs are kept in $work"
	else
		rm -rf "$work"
	fi
	summary
	[ -n "$finished" ] || status=1
	exit "$status"
}
where=
trap 'where=$LINENO' ERR
trap 'exit 130' INT TERM HUP
trap at_exit EXIT

# ---- Waiting, servers, load ----------------------------------------------------------

# wait_until SECONDS COMMAND...: polls until the command succeeds.
wait_until()
{
	local deadline=$(($(date +%s) + $1))
	shift
	until "$@" > /dev/null 2>&1; do
		[ "$(date +%s)" -lt "$deadline" ] || return 1
		sleep 0.05
	done
}

# Needs no /proc entry other than the state: a zombie is not running.
is_running() { [[ $(cat "/proc/$1/stat" 2> /dev/null) =~ \)\ [^ZX] ]]; }
is_gone() { ! is_running "$1"; }

# start NAME COMMAND...: in the background, its output in $work/NAME.log, its pid in started.
start()
{
	local name=$1
	shift
	"$@" > "$work/$name.log" 2>&1 < /dev/null &
	started[$name]=$!
}

# stop NAME [SIGNAL]: by the pid that start noted; SIGKILL if it stays for ten seconds.
stop()
{
	local pid=${started[$1]-}
	[ -n "$pid" ] || return 0
	unset "started[$1]"
	kill "-${2:-TERM}" "$pid" 2> /dev/null || true
	wait_until 10 is_gone "$pid" || kill -KILL "$pid" 2> /dev/null || true
	wait "$pid" 2> /dev/null || true
}

is_listening() { (exec 3<> "/dev/tcp/127.0.0.1/$1") 2> /dev/null; }

# A loopback port that nobody listens on. Below the range that the kernel hands out for
# outgoing connections, so that the load's own sockets cannot take it.
free_port()
{
	local port
	while :; do
		port=$((20000 + RANDOM % 10000))
		is_listening "$port" || break
	done
	echo "$port"
}

# The start time in clock ticks: with the pid it names one process for ever.
birth() { sed 's/.*) //' "/proc/$1/stat" | cut -d ' ' -f 20; }

# text_ranges PID: every file-backed executable mapping, as START-END.
text_ranges()
{
	awk '$2 ~ /^r-x/ && $5 != 0 && $6 !~ /suture/ { print $1 }' "/proc/$1/maps"
}

# text_digest PID RANGES: a digest of the bytes that stand there now.
text_digest()
{
	local range start end
	for range in $2; do
		start=$((0x${range%-*})) end=$((0x${range#*-}))
		dd if="/proc/$1/mem" iflag=skip_bytes,count_bytes,fullblock bs=1M \
			skip="$start" count=$((end - start)) status=none
	done | sha256sum | cut -d ' ' -f 1
}

# tool PROGRAM: builds a small C program of this folder once, prints where it is.
tool()
{
	local out=$cache/tools/$1
	if [ ! -x "$out" ] || [ "$real/$1.c" -nt "$out" ]; then
		mkdir -p "$cache/tools"
		"${CC:-cc}" -O2 -Wall -Wextra -pthread -o "$out.$$" "$real/$1.c"
		mv "$out.$$" "$out"
	fi
	echo "$out"
}

# gap_failures LOG, gap_requests LOG, gap_longest LOG: the last report of a gap-client.
gap_field() { tail -n 1 "$work/$2.log" | tr ' ' '\n' | sed -n "s/^$1=//p"; }

# ---- Packages and sources ------------------------------------------------------------

# need PACKAGE...: installs what is missing where that is possible, else skips.
need()
{
	local missing=() p
	for p in "$@"; do
		[[ $(dpkg-query -W -f '${Status}' "$p" 2> /dev/null) == *' installed' ]] || missing+=("$p")
	done
	[ "${#missing[@]}" -gt 0 ] || return 0
	command -v apt-get > /dev/null || skip_all "no apt-get here to install ${missing[*]}"
	[ "$(id -u)" = 0 ] || skip_all "not installed: run apt-get install ${missing[*]}"
	apt-get update -qq > "$work/apt.log" 2>&1 || true
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
		"${missing[@]}" >> "$work/apt.log" 2>&1 ||
		skip_all "cannot install ${missing[*]}: $(grep -m 1 '^E:' "$work/apt.log")"
}

need_suture()
{
	[ -x "$suture" ] || { fail "$suture is there" "build it with make, or set SUTURE"; finish; }
}

# Source entries for apt in a folder of our own: the machine's lists stay as they are.
# Taken over are the entries of the distribution itself, as deb-src.
private_apt()
{
	local apt=$cache/apt code
	code=$(. /etc/os-release && echo "${VERSION_CODENAME-}")
	mkdir -p "$apt/parts" "$apt/lists/partial" "$apt/archives/partial"
	cat > "$apt/conf" <<-END
		Dir::Etc::SourceList "/dev/null";
		Dir::Etc::SourceParts "$apt/parts";
		Dir::State::Lists "$apt/lists";
		Dir::Cache "$apt";
		APT::Sandbox::User "$(id -un)";
		Debug::NoLocking "1";
	END
	rm -f "$apt/parts"/*
	cat /etc/apt/sources.list.d/*.sources 2> /dev/null | awk -v code="$code" '
		BEGIN { RS = ""; ORS = "\n\n" }
		{
			ours = 0
			if (match($0, /(^|\n)Suites:[^\n]*/)) {
				n = split(substr($0, RSTART, RLENGTH), word)
				for (i = 1; i <= n; i++)
					if (word[i] == code || index(word[i], code "-") == 1) ours = 1
			}
			if (ours && sub(/(^|\n)Types:[^\n]*/, "\nTypes: deb-src")) print
		}' > "$apt/parts/source.sources"
	cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2> /dev/null |
		sed -nE "s/^deb ((\[[^]]*\] )?[^ ]+ $code(-[a-z]+)? .*)/deb-src \1/p" \
		> "$apt/parts/source.list"
	APT_CONFIG=$apt/conf apt-get update -qq > "$apt/update.log" 2>&1 || true
}

# fetch_source PACKAGE [VERSION]: prints the folder of the unpacked source package. Without
# a version it is the newest one whose files can be had: an archive may list a source and
# no longer hold it. The folder is shared by all runs: copy it, do not build in it.
fetch_source()
{
	local package=$1 versions=${2-} version folder temporary
	command -v dpkg-source > /dev/null || return 1
	if [ -z "$versions" ]; then
		private_apt
		versions=$(APT_CONFIG=$cache/apt/conf apt-cache showsrc "$package" 2> /dev/null |
			sed -n 's/^Version: //p' | sort -Vru)
	elif [ ! -d "$cache/source/${package}_${versions#*:}" ]; then
		private_apt
	fi
	for version in $versions; do
		folder=$cache/source/${package}_${version#*:}
		if [ ! -d "$folder" ]; then
			temporary=$cache/source/.$package.$$
			rm -rf "$temporary" && mkdir -p "$temporary"
			(cd "$temporary" && APT_CONFIG=$cache/apt/conf \
				apt-get source -qq "$package=$version") > "$work/source.log" 2>&1 || continue
			mv "$temporary/$package"-*/ "$folder"
			rm -rf "$temporary"
		fi
		echo "$folder"
		return 0
	done
	return 1
}

source_version() { basename "$1" | sed 's/^[^_]*_//'; }

# patch_part PATCH FOLDER: the parts of a patch (of the git or the quilt kind) below FOLDER.
patch_part()
{
	awk -v folder="$2/" '
		/^diff / || (/^--- / && !header) { keep = 0; held = "" }
		/^diff / { header = 1; held = $0 "\n"; next }
		/^--- / { header = 1; held = held $0 "\n"; next }
		/^\+\+\+ / {
			name = $2; sub(/^[^\/]*\//, "", name)
			keep = index(name, folder) == 1
			if (keep) printf "%s%s\n", held, $0
			held = ""; header = 0; next
		}
		held != "" { held = held $0 "\n"; next }
		keep && /^[-+ @\\]/ { print; next }
		keep && $0 == "" { print }' "$1"
}

# diff_trees OLD NEW FOLDER: a -p1 diff of the folder in two trees, without time stamps.
diff_trees()
{
	local a b
	a=$(cd "$1" && pwd) b=$(cd "$2" && pwd)
	rm -rf "$work/diff" && mkdir "$work/diff"
	ln -s "$a" "$work/diff/a" && ln -s "$b" "$work/diff/b"
	(cd "$work/diff" && diff -urp "a/$3" "b/$3" || [ $? = 1 ]) |
		sed -E '/^diff -urp/d; s/^((---|\+\+\+) [^\t]*)\t.*/\1/'
}

# build_target TREE BINARY OUT COMMAND...: the program to patch is built in the tree, copied
# out, and the tree is put back as it was: the target's debug information then names the
# very folder that `suture build` is given, as for anybody who built what he runs.
build_target()
{
	local tree=$1 binary=$2 out=$3
	shift 3
	rm -rf "$tree.untouched"
	cp -a "$tree" "$tree.untouched"
	(cd "$tree" && "$@") > "$tree.log" 2>&1 || { tail -n 20 "$tree.log"; return 1; }
	cp "$tree/$binary" "$out"
	rm -rf "$tree"
	mv "$tree.untouched" "$tree"
}

# ---- The cycle that every patch goes through ------------------------------------------

# cycle PID SUT NAME OLD NEW PROBE...: old behaviour, apply, new behaviour, revert, old
# behaviour; same process; text as it was. PROBE prints what a client sees.
cycle()
{
	local pid=$1 sut=$2 name=$3 old=$4 new=$5 ranges before born
	shift 5
	ranges=$(text_ranges "$pid") before=$(text_digest "$pid" "$ranges") born=$(birth "$pid")

	check_equal "$name: before apply a client sees the old behaviour" "$old" "$("$@" 2>&1)"
	check "$name: apply --dry-run" "$suture" apply "$sut" -p "$pid" --dry-run
	check_equal "$name: a dry run leaves the text as it was" "$before" "$(text_digest "$pid" "$ranges")"
	check "$name: apply under load" "$suture" apply "$sut" -p "$pid"
	check_equal "$name: after apply a client sees the new behaviour" "$new" "$("$@" 2>&1)"
	check_match "$name: status names the patch" "$name" "$("$suture" status -p "$pid" 2>&1 || true)"
	check "$name: the text has changed" test "$before" != "$(text_digest "$pid" "$ranges")"
	check "$name: revert under load" "$suture" revert "$name" -p "$pid"
	check_equal "$name: after revert a client sees the old behaviour" "$old" "$("$@" 2>&1)"
	check_equal "$name: the text is byte for byte what it was" "$before" \
		"$(text_digest "$pid" "$ranges")"
	check_equal "$name: it is the same process" "$born" "$(birth "$pid" 2>&1)"
}
