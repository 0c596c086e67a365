#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Security fixes of the distribution's redis package, each built as a patch for a
# redis-server from before it and applied to the running server under load.
#
# The source is put back to before all of them at once, so that one target and one tree
# serve them all; each patch is the difference that one fix makes in src/.

. "$(dirname "$0")/lib.sh"
. "$real/redis.sh"

need redis-tools python3 gcc libc6-dev make patch diffutils dpkg-dev
need_suture

# CVE, its file in debian/patches, what a client sees before and after (redis-probe.py).
fixes=(
	CVE-2024-31228 0001-Apply-security-fixes-for-CVEs-1113.patch
	'1 keys'
	'0 keys'

	CVE-2024-51741 0002-Fix-Read-Write-key-pattern-selector-CVE-2024-51741-1.patch
	'+OK'
	"-ERR Error in ACL SETUSER modifier '%': Syntax error"

	CVE-2025-21605 0001-Limiting-output-buffer-for-unauthenticated-client-CV.patch
	'still open after 16 MiB'
	'closed'

	CVE-2025-32023 0006-CVE-2025-32023.patch
	':0'
	'-INVALIDOBJ Corrupted HLL object detected'

	CVE-2025-67733 CVE-2025-67733.patch
	'-ERR Unknown argument X | +INJECTED'
	'-ERR Unknown argument X  +INJECTED'

	CVE-2026-66373 CVE-2026-66373.patch
	'+OK'
	'-ERR Bad data format'
)

package=$(fetch_source redis) || skip_all "the redis source package cannot be had"
version=$(source_version "$package")
epoch=$(cd "$package" && dpkg-parsechangelog -S Timestamp)
export SOURCE_DATE_EPOCH=$epoch

# Where a patch file holds more than the fix (the one of 2024 has three), only these.
fix_part()
{
	case $1 in
	CVE-2024-31228) patch_part "$package/debian/patches/$2" src | awk '
		/^diff --git / { keep = / b\/src\/util\.c$/ } keep' ;;
	*) patch_part "$package/debian/patches/$2" src ;;
	esac
}

build=(make -j"$jobs" -C src redis-server MALLOC=libc BUILD_TLS=no USE_SYSTEMD=no
	CFLAGS='-g -O2 -fPIE -fstack-protector-strong -Wformat -Werror=format-security'
	CPPFLAGS='-Wdate-time -D_FORTIFY_SOURCE=2' LDFLAGS='-pie -Wl,-z,relro -Wl,-z,now')

home=$cache/redis-fixes-$version
tree=$home/redis
stamp="$(sha256sum < "$0") ${build[*]} $(cc --version | head -n 1)"
if [ "$(cat "$home/stamp" 2> /dev/null)" != "$stamp" ]; then
	rm -rf "$home"
	mkdir -p "$home/bin"
	cp -a "$package" "$tree"
	# The newest first. All the trees keep one time stamp per file, as an unpacked source has.
	for ((i = ${#fixes[@]} - 4; i >= 0; i -= 4)); do
		must "${fixes[i]} can be taken out of redis $version" \
			patch -R -p1 -s -d "$tree" --no-backup-if-mismatch \
			-i <(fix_part "${fixes[i]}" "${fixes[i + 1]}")
	done
	for ((i = 0; i < ${#fixes[@]}; i += 4)); do
		cve=${fixes[i]}
		cp -a "$tree" "$home/fixed"
		must "$cve can be put in again alone" \
			patch -p1 -s -d "$home/fixed" --no-backup-if-mismatch \
			-i <(fix_part "$cve" "${fixes[i + 1]}")
		diff_trees "$tree" "$home/fixed" src > "$home/$cve.patch"
		rm -rf "$home/fixed"
	done
	must "redis $version from before the fixes builds" \
		build_target "$tree" src/redis-server "$home/bin/redis-server" "${build[@]}"
	strip "$home/bin/redis-server"
	echo "$stamp" > "$home/stamp"
fi

for ((i = 0; i < ${#fixes[@]}; i += 4)); do
	cve=${fixes[i]} old=${fixes[i + 2]} new=${fixes[i + 3]}
	sut=$work/$cve.sut
	check "$cve: suture build" "$suture" build -s "$tree" -t "$home/bin/redis-server" -n "$cve" \
		-o "$sut" "$home/$cve.patch" -- "${build[@]}"
	[ -s "$sut" ] || { fail "$cve: there is a patch file"; continue; }
	check "$cve: show" "$suture" show "$sut"
	redis_start "$cve" "$home/bin/redis-server"
	redis_load_start "$cve"
	cycle "$redis_pid" "$sut" "$cve" "$old" "$new" redis_probe "$cve"
	redis_load_stop "$cve"
	stop "$cve"
done

# Several in one process, each on its own, taken out in another order than put in.
together=(CVE-2024-31228 CVE-2024-51741 CVE-2025-32023 CVE-2026-66373)
expect()
{
	for ((i = 0; i < ${#fixes[@]}; i += 4)); do
		[ "${fixes[i]}" != "$1" ] || echo "${fixes[i + $2]}"
	done
}
redis_start together "$home/bin/redis-server"
redis_load_start together
ranges=$(text_ranges "$redis_pid") before=$(text_digest "$redis_pid" "$ranges")
for cve in "${together[@]}"; do
	check "together: apply $cve" "$suture" apply "$work/$cve.sut" -p "$redis_pid"
done
for cve in "${together[@]}"; do
	check_equal "together: $cve is fixed" "$(expect "$cve" 3)" "$(redis_probe "$cve" 2>&1)"
done
for cve in "${together[1]}" "${together[3]}" "${together[0]}" "${together[2]}"; do
	check "together: revert $cve" "$suture" revert "$cve" -p "$redis_pid"
	check_equal "together: $cve is back" "$(expect "$cve" 2)" "$(redis_probe "$cve" 2>&1)"
done
check_equal "together: the text is byte for byte what it was" "$before" \
	"$(text_digest "$redis_pid" "$ranges")"
redis_load_stop together
finish
