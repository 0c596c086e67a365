# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034,SC2154
# Shared by the redis scripts and the demo: sourced after lib.sh.

redis_load_connections=25 # of each of the two benchmarks

# An io thread spins while there is work: more of them than CPUs only wait for each other.
redis_io_threads=$(nproc)
[ "$redis_io_threads" -ge 2 ] || redis_io_threads=2
[ "$redis_io_threads" -le 4 ] || redis_io_threads=4

# redis_start NAME BINARY: on a free port, io-threads on; sets redis_port and redis_pid.
redis_start()
{
	redis_port=$(free_port)
	mkdir -p "$work/$1.d"
	start "$1" "$2" --port "$redis_port" --bind 127.0.0.1 --save '' --dir "$work/$1.d" \
		--io-threads "$redis_io_threads" --io-threads-do-reads yes
	redis_pid=${started[$1]}
	must "$1: $2 answers" wait_until 20 redis-cli -p "$redis_port" ping
}

redis_info() { redis-cli -p "$redis_port" info all | tr -d '\r' | sed -n "s/^$1://p"; }

redis_is_threaded()
{
	[ "$(redis_info io_threads_active)" = 1 ] && [ "$(redis_info io_threaded_reads_processed)" -gt 1000 ]
}

# Enough clients that redis wakes its io threads; redis-benchmark ends at the first error
# that it is told, so that one which still runs has seen none.
redis_load_start()
{
	start load-get redis-benchmark -p "$redis_port" -c "$redis_load_connections" -n 2000000000 \
		-r 1000 -t get -q
	start load-set redis-benchmark -p "$redis_port" -c "$redis_load_connections" -n 2000000000 \
		-r 1000 -t set -q
	start load-ping "$(tool gap-client)" -c 4 "$redis_port" 'PING\r\n' +PONG
	must "$1: redis-benchmark keeps the io threads busy" wait_until 30 redis_is_threaded
}

redis_load_stop()
{
	local load seen
	for load in load-get load-set; do
		check "$1: $load ran to the end without an error" is_running "${started[$load]}"
		stop "$load"
		seen=$(tr '\r' '\n' < "$work/$load.log" | grep -iE 'error|failed|warning' || true)
		check_equal "$1: $load reports nothing" '' "$seen"
	done
	stop load-ping
	check_match "$1: requests of the checking clients" '^[1-9]' "$(gap_field requests load-ping)"
	check_equal "$1: failed requests of the checking clients" 0 "$(gap_field failed load-ping)"
}

redis_probe() { timeout 60 python3 "$real/redis-probe.py" "$redis_port" "$1"; }
