#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# demo.sh          two containers on docker0, a published port, and four places that fetch it through ebpfnet
# demo.sh clean    undoes what the demo did, and nothing else
#
# What is to be undone is written down in $state as it is done, so that a demo that stopped half way is cleaned up as well.
set -euo pipefail
cd "$(dirname "$0")/.."
demo=demo
. packaging/demo-common.sh

state=/var/lib/ebpfnet-demo
socket=/var/run/docker.sock
image=ebpfnet-demo
web=ebpfnet-demo-web
client=ebpfnet-demo-client
outside=ebpfnet-demo-out # a network namespace: the outside world
uplink=ebpfnet-demo0     # the host's device that leads there
host_side=               # the two ends' addresses: see choose_addresses
outside_addr=

# show prints a command as a user would type it, and runs it.
show() {
	local words="${*/#$ebpfnet/ebpfnet}"
	printf '  $ %s\n' "${words/#ip netns exec $outside/[outside]}"
	"$@" 2>&1 | sed 's/^/    /'
}

done_before() { [[ -e $state/$1 ]]; }
note() { printf '%s\n' "${2-}" >"$state/$1"; }
boot() { cat /proc/sys/kernel/random/boot_id; }
# A reboot has undone what was not on disk, and what is there now somebody else has made.
rebooted() { [[ -e $state/boot && $(cat "$state/boot") != "$(boot)" ]]; }
docker_answers() { docker info >/dev/null 2>&1; }

check() {
	may_run demo
	if [[ -S /run/ebpfnet/default.sock ]] && ! done_before attached; then
		die "ebpfnet already works on this machine, and the demo would be in its way (see 'ebpfnet status')"
	fi
}

start_dockerd() {
	if docker_answers; then
		say "dockerd runs already: $(docker version -f '{{.Server.Version}}')"
		return
	fi
	# What dockerd changes and would not put back.
	rm -f "$state"/dockerd.*
	note dockerd.forward "$(cat /proc/sys/net/ipv4/ip_forward)"
	note dockerd.policy "$(iptables -S FORWARD 2>/dev/null | head -n 1)"
	[[ ! -e /sys/class/net/docker0 ]] || note dockerd.bridge-was-there
	! iptables -S DOCKER >/dev/null 2>&1 || note dockerd.rules-were-there
	note dockerd.tables "$(nft list tables 2>/dev/null)"
	[[ ! -e /run/docker ]] || note dockerd.run-docker-was-there
	[[ ! -e /run/containerd ]] || note dockerd.run-containerd-was-there
	mkdir -p "$state/dockerd"
	nohup dockerd --data-root "$state/dockerd/data" --exec-root "$state/dockerd/exec" --pidfile "$state/dockerd.pid" \
		-H "unix://$socket" >"$state/dockerd.log" 2>&1 </dev/null &
	disown
	wait_for 60 docker_answers || {
		tail -n 5 "$state/dockerd.log" >&2
		die "dockerd did not start: see $state/dockerd.log"
	}
	say "started dockerd $(docker version -f '{{.Server.Version}}') (log: $state/dockerd.log)"
}

make_image() {
	local root
	root=$(mktemp -d)
	mkdir -p "$root/bin" "$root/www/cgi-bin" "$root/tmp"
	cp /bin/busybox "$root/bin/busybox"
	local applet
	for applet in sh cat echo httpd ping sleep wget; do ln -s busybox "$root/bin/$applet"; done
	cat >"$root/www/cgi-bin/hello" <<-'PAGE'
		#!/bin/sh
		echo "Content-Type: text/plain"
		echo
		address=${REMOTE_ADDR#[[]::ffff:}
		echo "hello from the container; you are ${address%]}"
	PAGE
	chmod 755 "$root" "$root/www/cgi-bin/hello"
	tar -C "$root" -c . | docker import -c 'ENV PATH=/bin' - "$image" >/dev/null
	rm -rf "$root"
	say "made the image $image from /bin/busybox, without a registry"
}

start_containers() {
	docker run -d --name "$web" --expose 80 "$image" httpd -f -p 80 -h /www >/dev/null
	docker run -d --name "$client" "$image" sleep 1000000000 >/dev/null
	say "started $web (a web server, no port published) and $client"
}

# choose_addresses takes a network that is set aside for documentation or tests (RFC 5737, RFC 2544) and that this host has no route to.
choose_addresses() {
	local net
	for net in 192.0.2 198.51.100 203.0.113 198.18.{0..255}; do
		if [[ -z $(ip -4 route show table all root "$net.0/24") ]] &&
			! ip -4 route show table all match "$net.1" | grep -qv '^default'; then
			host_side=$net.1
			outside_addr=$net.2
			return
		fi
	done
	die "this host has a route to each network that the demo could take"
}

make_outside() {
	choose_addresses
	[[ -e /run/netns ]] || note netns
	ip netns add "$outside"
	ip link add "$uplink" type veth peer name eth0 netns "$outside"
	ip addr add "$host_side/24" dev "$uplink"
	ip link set "$uplink" up
	ip -n "$outside" link set lo up
	ip -n "$outside" addr add "$outside_addr/24" dev eth0
	ip -n "$outside" link set eth0 up
	say "the outside world is the network namespace $outside ($outside_addr), behind the host's device $uplink ($host_side)"
}

attach() {
	if ! mountpoint -q /sys/fs/bpf; then
		mount -t bpf bpf /sys/fs/bpf
		note bpffs
	fi
	# The demo's own device, and those that would be uplinks without it, so that no container loses its way out.
	local args=(--uplink "$uplink") dev
	for dev in $(uplinks); do args+=(--uplink "$dev"); done
	note attached
	cp "$ebpfnet" "$state/ebpfnet"
	show "$ebpfnet" attach --bridge docker0 "${args[@]}" || die "ebpfnet did not attach; make demo-clean undoes the rest"
}

free_port() {
	local p
	for p in 80 {8080..8099}; do
		if [[ -z $(ss -Hltn "sport = :$p") ]]; then
			echo "$p"
			return
		fi
	done
	die "something listens on port 80 of the host, and on each of 8080 to 8099"
}

# reach TEXT COMMAND...: what must answer within some seconds. The command is printed without the way to where it runs.
reach() {
	printf '\n  %s\n' "$1"
	shift
	local words=" $*" answer
	words=${words/ ip netns exec $outside/}
	words=${words/ docker exec $client/}
	printf '  $%s\n' "$words"
	answer=$(timeout 10 "$@" 2>&1) || die "no answer: ${answer:-(silence)}"
	printf '%s\n' "$answer" | sed 's/^/    /'
}

# uplinks are the devices that lead outside without the demo.
uplinks() { ip -4 -o route show default | grep -oP '(?<=dev )\S+' | sort -u; }

own_address() {
	local dev address
	dev=$(uplinks | head -n 1)
	[[ -z $dev ]] || address=$(ip -4 -o address show dev "$dev" scope global | grep -oPm 1 '(?<=inet )[0-9.]+')
	echo "${address:-$host_side}"
}

gateway() { docker inspect -f '{{.NetworkSettings.Networks.bridge.Gateway}}' "$web"; }

run() {
	check
	title "1. What it takes"
	packaging/install-deps.sh demo
	! rebooted || clean >/dev/null
	mkdir -p "$state"
	note boot "$(boot)"
	undo_objects >/dev/null
	start_dockerd
	build_program "$state/build.log"

	title "2. A Docker host with two containers, and an outside world"
	note objects
	make_image
	start_containers
	make_outside

	title "3. ebpfnet takes docker0 over"
	attach

	title "4. A port of the running container is published"
	local port
	port=$(free_port)
	[[ $port == 80 ]] || say "something listens on port 80 of this host, so it is $port"
	show "$ebpfnet" publish "$port:80" "$web"
	local path=":$port/cgi-bin/hello"

	title "5. Who reaches it, and as whom"
	reach "From outside; the container sees the client's own address:" \
		ip netns exec "$outside" curl -sS "http://$host_side$path"
	reach "From the host, through 127.0.0.1:" curl -sS "http://127.0.0.1$path"
	reach "From the host, through its own address:" curl -sS "http://$(own_address)$path"
	reach "From the other container, through the gateway address:" \
		docker exec "$client" wget -q -O - "http://$(gateway)$path"
	reach "And out: the other container pings the outside, and leaves with the host's address:" \
		docker exec "$client" ping -c 1 "$outside_addr"

	title "6. What ebpfnet has seen"
	show "$ebpfnet" endpoint list
	show "$ebpfnet" port list
	show "$ebpfnet" flow list
	local url
	url=$("$ebpfnet" -o json status | grep -oP '"metrics_url": *"\K[^"]+')
	say "metrics: $url"
	curl -sS --max-time 5 "$url" | grep -E '^ebpfnet_forwarded_packets_total.* [1-9]' | sed 's/^/    /' || true

	title "Go on by hand"
	say "bin/ebpfnet status, flow list, doctor, ... ; docker exec -it $client sh"
	say "make demo again starts anew; make demo-clean undoes all of it (packages that were installed stay)"
}

# undo_objects takes away everything but dockerd.
undo_objects() {
	local program=$ebpfnet
	[[ ! -x $state/ebpfnet ]] || program=$state/ebpfnet
	if done_before attached; then
		"$program" detach --all --yes || return
		rm -f "$state/attached"
	fi
	if done_before objects; then
		if docker_answers; then
			docker rm -f "$web" "$client" >/dev/null 2>&1 || true
			docker rmi "$image" >/dev/null 2>&1 || true
			echo "removed the containers and the image"
		fi
		ip link del "$uplink" 2>/dev/null || true
		ip netns del "$outside" 2>/dev/null || true
		rm -f "$state/objects"
		echo "removed the outside world"
	fi
}

our_dockerd() {
	local pid
	pid=$(cat "$state/dockerd.pid" 2>/dev/null) || return 1
	[[ $(cat "/proc/$pid/comm" 2>/dev/null) == dockerd ]] || return 1
	echo "$pid"
}

stop_dockerd() {
	local pid others
	if pid=$(our_dockerd); then
		others=$(docker ps -a --format '{{.Names}}' | tr '\n' ' ')
		[[ -z $others ]] || die "the dockerd that the demo started has other containers by now: ${others% }. Remove them, and run this again"
		kill "$pid"
		wait_for 60 test ! -e "/proc/$pid" || die "dockerd (pid $pid) does not end: see $state/dockerd.log"
		echo "stopped dockerd"
	fi
	done_before dockerd.forward || return 0
	if ! done_before dockerd.bridge-was-there; then ip link del docker0 2>/dev/null || true; fi
	cat "$state/dockerd.forward" >/proc/sys/net/ipv4/ip_forward
	local policy # "-P FORWARD ACCEPT"
	read -ra policy <"$state/dockerd.policy"
	[[ ${#policy[@]} -eq 0 ]] || iptables "${policy[@]}"
	done_before dockerd.rules-were-there || remove_docker_rules
	local dir
	for dir in docker containerd; do
		done_before "dockerd.run-$dir-was-there" || rm -rf "/run/$dir"
	done
	# dockerd mounts its folder on itself.
	while read -r dir; do umount "$dir" || true; done < <(awk -v s="$state/" 'index($2, s) == 1 { print $2 }' /proc/self/mounts | sort -r)
	echo "removed docker0, Docker's rules and Docker's files"
}

# remove_docker_rules: dockerd leaves its own behind when it ends.
remove_docker_rules() {
	local table line rule chain
	for table in filter nat; do
		while read -r line; do
			read -ra rule <<<"$line"
			iptables -t "$table" -D "${rule[@]:1}"
		done < <(iptables -t "$table" -S | grep -E -- '^-A .*(-j DOCKER|docker0|-s 172\.17\.0\.0/16)')
		for chain in $(iptables -t "$table" -S | grep -oP '^-N \KDOCKER\S*'); do iptables -t "$table" -F "$chain"; done
		for chain in $(iptables -t "$table" -S | grep -oP '^-N \KDOCKER\S*'); do iptables -t "$table" -X "$chain"; done
		# A table that came with Docker and holds nothing now but the chains that every such table has.
		if ! grep -qx "table ip $table" "$state/dockerd.tables" && ! iptables -t "$table" -S | grep -qv '^-P'; then
			nft delete table ip "$table" 2>/dev/null || true
		fi
	done
}

clean() {
	[[ $EUID -eq 0 ]] || die "needs root: sudo make demo-clean"
	if [[ ! -d $state ]]; then
		echo "there is nothing of the demo here"
		return
	fi
	undo_objects
	rebooted || undo_machine
	rm -rf "$state"
	echo "the demo is gone"
}

# undo_machine takes back what a reboot would.
undo_machine() {
	stop_dockerd
	# ip mounts its folder on itself.
	if done_before netns && umount /run/netns 2>/dev/null; then rmdir /run/netns 2>/dev/null || true; fi
	if done_before bpffs; then umount /sys/fs/bpf && echo "unmounted /sys/fs/bpf"; fi
}

case ${1-} in
'') run ;;
clean) clean ;;
*)
	echo "usage: demo.sh [clean]" >&2
	exit 2
	;;
esac
