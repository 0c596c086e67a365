#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# memcached with its threads under load. First the distribution's own binary, stripped as it
# is shipped, takes a change of behaviour; then a build from before CVE-2023-46852 takes
# the fix. (All the fixes that the package carries touch code that its own build leaves out:
# this one is in the proxy, so that the second half is a build with --enable-proxy.)

. "$(dirname "$0")/lib.sh"

cve=CVE-2023-46852
need memcached gcc libc6-dev make patch dpkg-dev libevent-dev
need_suture

# server NAME BINARY [OPTION...]: sets port and pid.
server()
{
	local name=$1
	shift
	port=$(free_port)
	start "$name" "$@" -u "$(id -un)" -l 127.0.0.1 -p "$port" -t 4 -m 64
	pid=${started[$name]}
	must "$name: memcached listens" wait_until 20 is_listening "$port"
}

# load NAME REQUEST EXPECTED END
load()
{
	start "load" "$(tool gap-client)" -c 32 -e "$4" "$port" "$2" "$3"
	start "clients" "$(tool gap-client)" -c 2 "$port" 'mn\r\n' MN
}

load_stop()
{
	local one
	for one in load clients; do
		stop "$one"
		check_match "$1: requests of the $one" '^[1-9]' "$(gap_field requests "$one")"
		check_equal "$1: failed requests of the $one" 0 "$(gap_field failed "$one")"
	done
}

# ask REQUEST LINES: the first lines of the answer, on one line.
ask()
{
	local line answer=() n
	exec 3<> "/dev/tcp/127.0.0.1/$port" || return 1
	printf '%b' "$1" >&3
	for ((n = 0; n < $2; n++)); do
		IFS= read -r -t 10 line <&3 || break
		answer+=("${line%$'\r'}")
	done
	exec 3>&-
	(IFS='|' && echo "${answer[*]}")
}

# Until every thread has been asked: connections go round the threads.
version_of_all_threads()
{
	local n
	for n in 1 2 3 4 5 6 7 8; do ask 'version\r\n' 1; done | sort -u
}

# ---- The shipped binary, a change of behaviour ---------------------------------------

binary=$(command -v memcached)
version=$(dpkg-query -W -f '${source:Upstream-Version}' memcached)
sut=$work/memcached-behaviour.sut
check "suture build --package memcached" "$suture" build --package memcached \
	-n memcached-behaviour -o "$sut" "$real/memcached-behaviour.patch"
if [ -s "$sut" ]; then
	check "show" "$suture" show "$sut"
	server shipped "$binary"
	load shipped 'get key\r\n' END 'END\r\n'
	cycle "$pid" "$sut" memcached-behaviour "VERSION $version" \
		"VERSION $version patched, gets are counted" version_of_all_threads
	load_stop shipped
	stop shipped
else
	fail "memcached-behaviour: there is a patch file"
fi

# ---- A build from before the fix, the fix --------------------------------------------

package=$(fetch_source memcached) || skip_all "the memcached source package cannot be had"
version=$(source_version "$package")
fix=$(cd "$package/debian/patches" && ls -- *"$cve".patch 2> /dev/null | head -n 1)
[ -n "$fix" ] || skip_all "memcached $version does not carry $cve"
epoch=$(cd "$package" && dpkg-parsechangelog -S Timestamp)
export SOURCE_DATE_EPOCH=$epoch

configure=(./configure --enable-proxy
	CFLAGS='-g -O2 -fstack-protector-strong -Wformat -Werror=format-security -fPIE'
	CPPFLAGS='-Wdate-time -D_FORTIFY_SOURCE=2' LDFLAGS='-pie -Wl,-z,relro -Wl,-z,now')
build=(make -j"$jobs")

home=$cache/memcached-$version
tree=$home/memcached
stamp="$(sha256sum < "$0") ${build[*]} $(cc --version | head -n 1)"
if [ "$(cat "$home/stamp" 2> /dev/null)" != "$stamp" ]; then
	rm -rf "$home"
	mkdir -p "$home/bin"
	cp -a "$package" "$tree"
	must "$cve can be taken out of memcached $version" \
		patch -R -p1 -s -d "$tree" --no-backup-if-mismatch -i "$package/debian/patches/$fix"
	cp -a "$tree" "$home/fixed"
	must "$cve can be put in again" \
		patch -p1 -s -d "$home/fixed" --no-backup-if-mismatch -i "$package/debian/patches/$fix"
	diff_trees "$tree" "$home/fixed" proto_proxy.c > "$home/$cve.patch"
	rm -rf "$home/fixed"
	must "memcached $version can be configured" env -C "$tree" "${configure[@]}"
	must "memcached $version from before the fix builds" \
		build_target "$tree" memcached "$home/bin/memcached" "${build[@]}"
	echo "$stamp" > "$home/stamp"
fi

cat > "$work/proxy.lua" <<'END'
function mcp_config_pools(old)
	return {}
end

function mcp_config_routes(pools)
	mcp.attach(mcp.CMD_GET, function(request) return "HD\r\n" end)
end
END

sut=$work/$cve.sut
must "suture build -s" "$suture" build -s "$tree" -t "$home/bin/memcached" -n "$cve" -o "$sut" \
	"$home/$cve.patch" -- "${build[@]}"
check_match "show names proxy_process_command" proxy_process_command \
	"$("$suture" show "$sut" 2>&1 || true)"

# More blanks before the first key than a command may have: before the fix the copy of what
# stands in front of a key had no bound (40 fit its buffer, so that nothing is overwritten).
spaces=$(printf '%40s' '')
padded_multiget() { ask "get${spaces}a b\r\n" 3; }

server proxy "$home/bin/memcached" -o "proxy_config=$work/proxy.lua"
load proxy 'get a b c\r\n' HD 'END\r\n'
cycle "$pid" "$sut" "$cve" 'HD|HD|END' \
	'SERVER_ERROR malformed request|SERVER_ERROR malformed request|END' padded_multiget
load_stop proxy
finish
