#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# demo-overlay.sh [vxlan|host-gw|udp]   two Docker hosts in one network: namespaces with a dockerd, an agent and a container each, and an etcd
# demo-overlay.sh clean                 takes all of it away
#
# Everything has a name of its own, so that the machine's own dockerd and ebpfnet are not touched.
set -euo pipefail
cd "$(dirname "$0")/.."
demo=demo-overlay
. packaging/demo-common.sh

state=/var/lib/ebpfnet-demo-overlay
image=ebpfnet-demo-overlay
segment=ebpfnet-ov-net # a namespace: the switch between the hosts, with etcd on it
etcd_address=198.18.1.1
etcd_url=http://$etcd_address:2379
hosts=(1 2)

host_ns() { echo "ebpfnet-ov-$1"; }
address() { echo "198.18.1.1$1"; }
instance() { echo "demo-ov-$1"; }
socket() { echo "unix://$state/$1/docker.sock"; }
# in_ns NAMESPACE COMMAND...: ip netns exec would hide /sys/fs/bpf.
in_ns() {
	local ns=$1
	shift
	nsenter --net="/run/netns/$ns" "$@"
}
on() {
	local n=$1
	shift
	in_ns "$(host_ns "$n")" "$@"
}
docker_on() {
	local n=$1
	shift
	DOCKER_HOST=$(socket "$n") docker "$@"
}
ebpfnet_on() {
	local n=$1
	shift
	DOCKER_HOST=$(socket "$n") in_ns "$(host_ns "$n")" "$ebpfnet" --instance "$(instance "$n")" "$@"
}

# show HOST TEXT COMMAND...: prints the command as a user on that host would type it, and what it says.
show() {
	local n=$1 text=$2
	shift 2
	printf '  [host %s] $ %s\n' "$n" "$text"
	"$@" 2>&1 | sed 's/^/    /' || die "no answer"
}

# background NAME NAMESPACE COMMAND...: its log and its process id stand in $state.
background() {
	local name=$1 ns=$2
	shift 2
	nohup nsenter --net="/run/netns/$ns" "$@" >"$state/$name.log" 2>&1 </dev/null &
	echo "$! $(cut -d' ' -f22 "/proc/$!/stat")" >"$state/$name.pid"
	disown
}

# end NAME: a process is ours if it began when ours did, whatever has its number by now.
end() {
	local pid began
	read -r pid began <"$state/$1.pid" 2>/dev/null || return 0
	if [[ $(cut -d' ' -f22 "/proc/$pid/stat" 2>/dev/null) == "$began" ]]; then
		kill "$pid"
		wait_for 60 test ! -e "/proc/$pid" || kill -9 "$pid" || true
	fi
	rm -f "$state/$1.pid"
}

make_segment() {
	local n ns
	ip netns add "$segment"
	ip -n "$segment" link set lo up
	ip -n "$segment" link add sw0 type bridge
	ip -n "$segment" addr add "$etcd_address/24" dev sw0
	ip -n "$segment" link set sw0 up
	for n in "${hosts[@]}"; do
		ns=$(host_ns "$n")
		ip netns add "$ns"
		ip -n "$ns" link set lo up
		ip -n "$ns" link add eth0 type veth peer name "h$n" netns "$segment"
		ip -n "$ns" addr add "$(address "$n")/24" dev eth0
		ip -n "$ns" link set eth0 up
		ip -n "$segment" link set "h$n" master sw0 up
		ip -n "$ns" route add default via "$etcd_address"
	done
	say "two hosts, $(address 1) and $(address 2), and a switch between them"
}

start_etcd() {
	background etcd "$segment" etcd --data-dir "$state/etcd" --listen-client-urls "$etcd_url" --advertise-client-urls "$etcd_url" \
		--listen-peer-urls http://127.0.0.1:2380 --log-level error
	wait_for 30 etcdctl_ endpoint health || die "etcd did not start: see $state/etcd.log"
	local network="{\"Network\":\"10.210.0.0/16\",\"Backend\":{\"Type\":\"$1\"}}"
	etcdctl_ put /coreos.com/network/config "$network" >/dev/null
	say "etcd is on the switch, and holds the network: $network"
}

etcdctl_() { ETCDCTL_API=3 in_ns "$segment" etcdctl --endpoints "$etcd_url" "$@"; }

make_image() {
	local root
	root=$(mktemp -d)
	mkdir -p "$root/bin" "$root/tmp"
	cp /bin/busybox "$root/bin/busybox"
	local applet
	for applet in sh ping sleep wget; do ln -s busybox "$root/bin/$applet"; done
	chmod 755 "$root"
	tar -C "$root" -c . >"$state/image.tar"
	rm -rf "$root"
}

# begin_host HOST: the agent leases a subnet, dockerd's bridge gets it, and the product takes the bridge over.
begin_host() {
	local n=$1 dir=$state/$1
	mkdir -p "$dir/containerd"
	echo '{}' >"$dir/daemon.json"
	DOCKER_HOST=$(socket "$n") background "agent$n" "$(host_ns "$n")" "$ebpfnet" --instance "$(instance "$n")" agent --metrics-addr off \
		--etcd-endpoints "$etcd_url" --subnet-file "$dir/subnet.env"
	wait_for 30 test -s "$dir/subnet.env" || die "the agent of host $n got no subnet: see $state/agent$n.log"
	local FLANNEL_SUBNET FLANNEL_MTU
	FLANNEL_SUBNET=$(sed -n 's/^FLANNEL_SUBNET=//p' "$dir/subnet.env")
	FLANNEL_MTU=$(sed -n 's/^FLANNEL_MTU=//p' "$dir/subnet.env")
	background "dockerd$n" "$(host_ns "$n")" dockerd --config-file "$dir/daemon.json" --data-root "$dir/data" --exec-root "$dir/exec" \
		--pidfile "$dir/docker.pid" --host "$(socket "$n")" --storage-driver vfs --exec-opt native.cgroupdriver=cgroupfs \
		--cgroup-parent "/ebpfnet-demo-ov-$n" --bip "$FLANNEL_SUBNET" --mtu "$FLANNEL_MTU"
	wait_for 60 docker_on "$n" version || die "dockerd of host $n did not start: see $state/dockerd$n.log"
	docker_on "$n" import -c 'ENV PATH=/bin' - "$image" <"$state/image.tar" >/dev/null
	docker_on "$n" run -d --name "c$n" "$image" sleep 1000000000 >/dev/null
	ebpfnet_on "$n" attach --bridge docker0 >/dev/null
	say "host $n leased $FLANNEL_SUBNET with packets of $FLANNEL_MTU bytes; its dockerd and a container c$n run there"
}

container_address() { docker_on "$1" inspect -f '{{.NetworkSettings.Networks.bridge.IPAddress}}' "c$1"; }
container_pid() { docker_on "$1" inspect -f '{{.State.Pid}}' "c$1"; }
knows_peer() { ebpfnet_on "$1" peer list | grep -q 10.210; }

# rate reads what iperf3 says.
rate() { sed -n 's/.*"bits_per_second":[[:space:]]*\([0-9.e+]*\).*/\1/p' | tail -n 1 | awk '{ printf "%.1f Gbit/s\n", $1 / 1e9 }'; }

run() {
	local backend=$1 n
	may_run demo-overlay
	title "1. What it takes"
	packaging/install-deps.sh demo-overlay
	clean >/dev/null
	mkdir -p "$state"
	mountpoint -q /sys/fs/bpf || mount -t bpf bpf /sys/fs/bpf
	build_program "$state/build.log"
	cp "$ebpfnet" "$state/ebpfnet"

	title "2. Two Docker hosts, and an etcd"
	make_segment
	start_etcd "$backend"
	make_image
	for n in "${hosts[@]}"; do begin_host "$n"; done
	for n in "${hosts[@]}"; do wait_for 30 knows_peer "$n" || die "host $n does not know the other: see $state/agent$n.log"; done

	title "3. What each host knows of the other"
	for n in "${hosts[@]}"; do show "$n" "ebpfnet peer list" ebpfnet_on "$n" peer list; done

	title "4. From container to container, with their own addresses"
	show 1 "docker exec c1 ping -c 3 $(container_address 2)" docker_on 1 exec c1 ping -c 3 "$(container_address 2)"
	show 2 "docker exec c2 ping -c 1 $(container_address 1)" docker_on 2 exec c2 ping -c 1 "$(container_address 1)"
	show 1 "ping -c 1 $(container_address 2)" on 1 ping -c 1 "$(container_address 2)"

	title "5. iperf3 from c1 to c2, and between the hosts themselves"
	# The program runs in the container's network namespace, and outside of its other walls.
	nohup nsenter --net="/proc/$(container_pid 2)/ns/net" iperf3 -s >"$state/iperf3.log" 2>&1 </dev/null &
	local server=$!
	# Not through a function: that would be a shell's process id, and iperf3 would stay.
	nohup nsenter --net="/run/netns/$(host_ns 2)" iperf3 -s >"$state/iperf3-host.log" 2>&1 </dev/null &
	local other=$!
	trap 'kill "$server" "$other" 2>/dev/null || true' EXIT
	wait_for 10 nsenter --net="/proc/$(container_pid 2)/ns/net" sh -c 'ss -Hltn "sport = :5201" | grep -q .' || die "iperf3 does not listen"
	wait_for 10 on 2 sh -c 'ss -Hltn "sport = :5201" | grep -q .' || die "iperf3 does not listen"
	say "container to container, $backend: $(nsenter --net="/proc/$(container_pid 1)/ns/net" iperf3 -J -t 3 -c "$(container_address 2)" | rate)"
	say "host to host, without a container: $(on 1 iperf3 -J -t 3 -c "$(address 2)" | rate)"
	kill "$server" "$other" 2>/dev/null || true
	wait "$server" "$other" 2>/dev/null || true
	trap - EXIT

	title "6. What was counted"
	if [[ $backend == host-gw ]]; then
		say "host-gw has no tunnel: what the hosts exchange is counted by eth0"
		show 1 "ip -s link show eth0" on 1 ip -s link show eth0
	else
		show 1 "ip -s link show (the tunnel)" on 1 ip -s link show "eb-$(instance 1)"
	fi
	show 1 "ebpfnet flow list" ebpfnet_on 1 flow list
	show 1 "ebpfnet status" ebpfnet_on 1 status

	title "Go on by hand"
	say "nsenter --net=/run/netns/$(host_ns 1) bin/ebpfnet --instance $(instance 1) monitor   (a shell on the first host's network)"
	say "DOCKER_HOST=$(socket 1) docker exec -it c1 sh"
	say "packaging/demo-overlay.sh host-gw or udp shows the other backends; make demo-overlay-clean takes all of it away"
}

clean() {
	[[ $EUID -eq 0 ]] || die "needs root: sudo make demo-overlay-clean"
	if [[ ! -d $state ]]; then
		echo "there is nothing of the demo here"
		return
	fi
	local n ns mount program=$ebpfnet
	[[ ! -x $state/ebpfnet ]] || program=$state/ebpfnet
	for n in "${hosts[@]}"; do
		ns=$(host_ns "$n")
		if [[ -e /run/netns/$ns ]]; then
			DOCKER_HOST=$(socket "$n") in_ns "$ns" "$program" --instance "$(instance "$n")" detach --all --yes >/dev/null 2>&1 || true
		fi
		end "agent$n"
		docker_on "$n" rm -f "c$n" >/dev/null 2>&1 || true
		end "dockerd$n"
		rm -rf "/var/lib/ebpfnet/$(instance "$n")" "/var/log/ebpfnet/$(instance "$n").log"
		for mount in /sys/fs/cgroup /sys/fs/cgroup/*; do rmdir "$mount/ebpfnet-demo-ov-$n" 2>/dev/null || true; done
	done
	end etcd
	while read -r mount; do umount "$mount" || true; done < <(awk -v s="$state/" 'index($2, s) == 1 { print $2 }' /proc/self/mounts | sort -r)
	for ns in "$(host_ns 1)" "$(host_ns 2)" "$segment"; do ip netns del "$ns" 2>/dev/null || true; done
	rm -rf "$state"
	echo "the two hosts are gone"
}

case ${1-vxlan} in
vxlan | host-gw | udp) run "${1-vxlan}" ;;
clean) clean ;;
*)
	echo "usage: demo-overlay.sh [vxlan|host-gw|udp|clean]" >&2
	exit 2
	;;
esac
