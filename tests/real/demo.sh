#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# `make demo`: a running server takes a patch under load and gives it back, on a page.
#
# The server is the distribution's own redis-server, stripped as it is shipped. Where redis
# cannot be had, a small server of this folder stands in, and the page says so. DEMO=tiny
# asks for that one.

. "$(dirname "$0")/lib.sh"
. "$real/redis.sh"

# A page for a reader, not a list of checks: only what went wrong is said, and no sum.
pass() { passed=$((passed + 1)); }
summary()
{
	if [ "$failed" != 0 ]; then echo; echo "The demo failed."; fi
}

title() { printf '\n%s\n' "$1"; }
row() { printf '  %-12s %s\n' "$1" "$2"; }
indent() { sed 's/^/    /'; }

# shown COMMAND...: the command as a reader would type it, its output, the time it took.
shown()
{
	local began=$EPOCHREALTIME status=0 took
	printf '\n  $ suture %s\n' "${*//"$work/"/}" | sed "s|$real/||g; s|$cache/||g"
	"$suture" "$@" > "$work/shown.log" 2>&1 || status=$?
	took=$((${EPOCHREALTIME/./} - ${began/./}))
	indent < "$work/shown.log"
	if [ "$took" -lt 1000000 ]; then
		printf '    (%d.%d ms)\n' $((took / 1000)) $((took % 1000 / 100))
	else
		printf '    (%d.%d s)\n' $((took / 1000000)) $((took % 1000000 / 100000))
	fi
	[ "$status" = 0 ] || { fail "suture $1 ends with status $status"; finish; }
}

# gaps: since the last call, the clients' report on one line.
has_lines() { [ "$(wc -l < "$work/$1.log")" -gt "$2" ]; }
gaps()
{
	local lines
	lines=$(wc -l < "$work/clients.log")
	kill -USR1 "${started[clients]}"
	wait_until 10 has_lines clients "$lines"
	tail -n 1 "$work/clients.log" | sed -n 's/.*longest-us=//p' |
		awk '{ printf "%.2f ms\n", $1 / 1000 }'
}

can_have_redis()
{
	[ "${DEMO-}" != tiny ] || { echo "skip - DEMO=tiny"; return 1; }
	(need redis-server redis-tools)
}

need_suture
if reason=$(can_have_redis); then
	binary=$(readlink -f "$(command -v redis-server)")
	name=redis-behaviour
	build=(--package redis-server)
	title "suture: a patch for the redis-server that $(. /etc/os-release && echo "$PRETTY_NAME") ships"
	row target "redis-server $(dpkg-query -W -f '${Version}' redis-server), stripped, not built with patching in mind"
	start_server()
	{
		redis_start redis-server redis-server
		pid=$redis_pid
		redis_load_start redis-server
		start clients "$(tool gap-client)" -c 4 "$redis_port" 'PING\r\n' +PONG
	}
	load="$((2 * redis_load_connections)) redis-benchmark connections that get and set, io-threads on"
	question="PING; GET sealed:key"
	asked() { redis_probe behaviour | sed 's/ | /; /; s/ | .*//'; }
else
	title "suture: a patch for a small server of the tree (no redis here: ${reason#skip - })"
	tree=$cache/tiny
	rm -rf "$tree" && mkdir -p "$tree"
	cp "$real/tiny-server.c" "$tree"
	printf 'tiny-server: tiny-server.c\n\t$(CC) -g -O2 -pthread -o $@ $<\n' > "$tree/Makefile"
	binary=$cache/tiny-server
	must "the small server builds" build_target "$tree" tiny-server "$binary" make
	name=tiny-server
	build=(-s "$tree" -t "$binary")
	row target "tiny-server"
	start_server()
	{
		port=$(free_port)
		start server "$binary" "$port"
		pid=${started[server]}
		must "the small server listens" wait_until 20 is_listening "$port"
		start load-echo "$(tool gap-client)" -c 16 "$port" 'hello\n' hello
		start clients "$(tool gap-client)" -c 4 "$port" 'version\n' 'tiny 1.0'
	}
	load="16 connections that are sent back what they say"
	question="version"
	asked()
	{
		local line
		exec 3<> "/dev/tcp/127.0.0.1/$port"
		echo version >&3
		IFS= read -r -t 10 line <&3
		exec 3>&-
		echo "$line"
	}
fi

title "1. From a source diff to a patch file"
shown build "${build[@]}" -n "$name" -o "$work/$name.sut" "$real/$name.patch"

# Only now: a build and a load would share the cores.
start_server
born=$(birth "$pid") ranges=$(text_ranges "$pid") text=$(text_digest "$pid" "$ranges")

title "2. Into the running process and out again"
row process "pid $pid, $(find "/proc/$pid/task" -mindepth 1 -maxdepth 1 | wc -l) threads"
row load "$load"
row clients "4 more that ask without a pause and time every answer"
before=$(asked)
row "a client asks" "$question"
row "it hears" "$before"
gaps > /dev/null
sleep 2 # not a wait for anything: the window in which the quiet gap is measured
quiet=$(gaps)

shown apply "$work/$name.sut" -p "$pid"
apply_gap=$(gaps)
after=$(asked)
row "it hears" "$after"
[ "$before" != "$after" ] || fail "the answer is the same after apply"
shown status -p "$pid"

gaps > /dev/null
shown revert "$name" -p "$pid"
revert_gap=$(gaps)
again=$(asked)
row "it hears" "$again"
check_equal "the answer after revert" "$before" "$again"
shown status -p "$pid"

title "3. What the clients noticed"
if [ -n "${redis_port-}" ]; then
	redis_load_stop redis-server
else
	stop load-echo
	check_equal "failed requests of the load" 0 "$(gap_field failed load-echo)"
fi
stop clients
row "longest gap" "$apply_gap at apply, $revert_gap at revert; $quiet in two seconds without either"
row requests "$(gap_field requests clients) timed, $(gap_field failed clients) failed"
check_equal "failed requests of the clients" 0 "$(gap_field failed clients)"

title "4. The process after revert"
if [ "$text" = "$(text_digest "$pid" "$ranges")" ]; then
	row text "byte for byte what it was before apply"
else
	row text "differs from what it was before apply"
	fail "the text after revert differs"
fi
if [ "$born" = "$(birth "$pid")" ]; then
	row process "pid $pid, never restarted"
else
	fail "the process was restarted"
fi
finish
