#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# CVE-2026-42945 in nginx: workers under wrk take the fix and give it back; then the
# master takes it, and workers born after a reload have it.
#
# After a rewrite with arguments a capture was escaped though no room was made for it. A
# request path with a "+" shows it: the answer is cut short (and two bytes are written
# behind a buffer of the request's own pool, where nothing stands yet).

. "$(dirname "$0")/lib.sh"

cve=CVE-2026-42945
need wrk curl gcc libc6-dev make patch dpkg-dev libpcre2-dev zlib1g-dev
need_suture

package=$(fetch_source nginx) || skip_all "the nginx source package cannot be had"
version=$(source_version "$package")
[ -f "$package/debian/patches/$cve.patch" ] || skip_all "nginx $version does not carry $cve.patch"
epoch=$(cd "$package" && dpkg-parsechangelog -S Timestamp)
export SOURCE_DATE_EPOCH=$epoch

configure=(./configure --prefix=/usr/share/nginx --with-compat --with-debug --with-threads --with-pcre-jit
	--with-cc-opt='-g -O2 -fstack-protector-strong -Wformat -Werror=format-security -fPIE -Wdate-time -D_FORTIFY_SOURCE=2'
	--with-ld-opt='-pie -Wl,-z,relro -Wl,-z,now')
build=(make -j"$jobs")

home=$cache/nginx-$version
tree=$home/nginx
stamp="$(sha256sum < "$0") ${build[*]} $(cc --version | head -n 1)"
if [ "$(cat "$home/stamp" 2> /dev/null)" != "$stamp" ]; then
	rm -rf "$home"
	mkdir -p "$home/bin"
	cp -a "$package" "$tree"
	must "$cve can be taken out of nginx $version" \
		patch -R -p1 -s -d "$tree" --no-backup-if-mismatch -i "$package/debian/patches/$cve.patch"
	diff_trees "$tree" "$package" src > "$home/$cve.patch"
	must "nginx $version can be configured" env -C "$tree" "${configure[@]}"
	must "nginx $version from before the fix builds" \
		build_target "$tree" objs/nginx "$home/bin/nginx" "${build[@]}"
	strip "$home/bin/nginx"
	echo "$stamp" > "$home/stamp"
fi

port=$(free_port)
mkdir "$work/run"
cat > "$work/nginx.conf" <<END
worker_processes 2;
daemon off;
pid nginx.pid;
events { worker_connections 512; }
http {
	access_log off;
	client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp;
	uwsgi_temp_path tmp; scgi_temp_path tmp;
	server {
		listen 127.0.0.1:$port;
		keepalive_requests 1000000000;
		add_header X-Worker \$pid;
		location / {
			rewrite ^(.*) /new?c=1;
			set \$captured \$1;
			return 200 "\$captured\n";
		}
	}
}
END

workers() { cat "/proc/$master/task/$master/children"; }
two_workers() { [ "$(workers | wc -w)" = 2 ]; }
new_workers() { two_workers && [[ " $(workers) " != *" ${old[0]} "* && " $(workers) " != *" ${old[1]} "* ]]; }

# What every one of the given workers answers, each named by its own header: one line if
# they agree.
probe()
{
	local missing=" $* " deadline=$(($(date +%s) + 30)) answer worker
	while [[ $missing = *[0-9]* ]] && [ "$(date +%s)" -lt "$deadline" ]; do
		answer=$(curl -s -i "http://127.0.0.1:$port/a+b" | tr -d '\r')
		worker=$(sed -n 's/^X-Worker: //p' <<< "$answer")
		case $missing in
		*" $worker "*)
			missing=${missing/" $worker "/ }
			tail -n 1 <<< "$answer" ;;
		esac
	done | sort -u
}

start nginx "$home/bin/nginx" -p "$work/run" -e stderr -c "$work/nginx.conf"
master=${started[nginx]}
must "nginx listens" wait_until 20 is_listening "$port"
must "nginx has two workers" wait_until 20 two_workers
read -ra old <<< "$(workers)"

start load wrk -t 2 -c 32 -d 3600 "http://127.0.0.1:$port/load"
start clients "$(tool gap-client)" -c 2 -e '/load\n' "$port" \
	'GET /load HTTP/1.1\r\nHost: x\r\n\r\n' 'HTTP/1.1 200'

sut=$work/$cve.sut
must "suture build" "$suture" build -s "$tree" -t "$home/bin/nginx" -n "$cve" -o "$sut" \
	"$home/$cve.patch" -- "${build[@]}"
check_match "show names ngx_http_script_regex_end_code" ngx_http_script_regex_end_code \
	"$("$suture" show "$sut" 2>&1 || true)"

vulnerable='/a%2' fixed='/a+b'
declare -A ranges before born
for pid in "$master" "${old[@]}"; do
	ranges[$pid]=$(text_ranges "$pid") born[$pid]=$(birth "$pid")
	before[$pid]=$(text_digest "$pid" "${ranges[$pid]}")
done
same_text()
{
	for pid in "$@"; do
		check_equal "the text of process $pid is byte for byte what it was" "${before[$pid]}" \
			"$(text_digest "$pid" "${ranges[$pid]}")"
		check_equal "process $pid is the same" "${born[$pid]}" "$(birth "$pid" 2>&1)"
	done
}

check_equal "before apply both workers are vulnerable" "$vulnerable" "$(probe "${old[@]}")"
check "apply to both workers under load" "$suture" apply "$sut" -p "${old[0]}" -p "${old[1]}"
check_equal "after apply both workers are fixed" "$fixed" "$(probe "${old[@]}")"
check_match "status names the patch" "$cve" "$("$suture" status -p "${old[0]}" 2>&1 || true)"
for pid in "${old[@]}"; do
	check "the text of worker $pid has changed" \
		test "${before[$pid]}" != "$(text_digest "$pid" "${ranges[$pid]}")"
done
check "revert in both workers under load" "$suture" revert "$cve" -p "${old[0]}" -p "${old[1]}"
check_equal "after revert both workers are vulnerable" "$vulnerable" "$(probe "${old[@]}")"
same_text "$master" "${old[@]}"

check "apply --all: the master and its workers" "$suture" apply "$sut" --all
check_equal "after apply --all both workers are fixed" "$fixed" "$(probe "${old[@]}")"

# The load ends before the reload: a worker that is told to quit closes what is kept alive,
# and wrk would count that as errors of the patch.
check "wrk ran to the end" is_running "${started[load]}"
stop load INT
check_equal "wrk saw no error" '' "$(grep -iE 'socket errors|non-2xx|unable' "$work/load.log" || true)"
check_match "wrk counted requests" '[1-9][0-9]* requests in' "$(cat "$work/load.log")"
stop clients
check_match "requests of the checking clients" '^[1-9]' "$(gap_field requests clients)"
check_equal "failed requests of the checking clients" 0 "$(gap_field failed clients)"

kill -HUP "$master"
must "a reload brings new workers" wait_until 30 new_workers
read -ra new <<< "$(workers)"
check_equal "workers born of the patched master are fixed" "$fixed" "$(probe "${new[@]}")"
check "revert --all" "$suture" revert "$cve" --all
check_equal "after revert --all they are vulnerable" "$vulnerable" "$(probe "${new[@]}")"
same_text "$master"
finish
