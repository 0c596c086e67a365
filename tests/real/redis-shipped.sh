#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The distribution's own redis-server, stripped as it is shipped, takes a change of
# behaviour in four functions of three files while clients are at it, and gives it back.

. "$(dirname "$0")/lib.sh"
. "$real/redis.sh"

need redis-server redis-tools python3 gcc binutils libc6-dev
need_suture
binary=$(command -v redis-server)
check_equal "$binary is stripped" '' "$(readelf -SW "$binary" | grep -F .symtab || true)"

sut=$work/redis-behaviour.sut
must "suture build --package redis-server" \
	"$suture" build --package redis-server -n redis-behaviour -o "$sut" "$real/redis-behaviour.patch"

shown=$("$suture" show "$sut" 2>&1 || true)
for function in pingCommand genRedisInfoString getGenericCommand processMultibulkBuffer; do
	check_match "show names $function" "$function" "$shown"
done

old='+PONG | value | none | -ERR Protocol error: invalid bulk length'
new='+PONG (patched) | -SEALED the value of this key is not shown | counted | -ERR Protocol error: invalid bulk length (patched)'

redis_start redis-server "$binary"
redis_load_start redis-server
cycle "$redis_pid" "$sut" redis-behaviour "$old" "$new" redis_probe behaviour

# Once more: a process that was patched and healed is as good as new.
cycle "$redis_pid" "$sut" redis-behaviour "$old" "$new" redis_probe behaviour
redis_load_stop redis-server
finish
