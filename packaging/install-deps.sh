#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# install-deps.sh test|demo|demo-overlay|kernels: installs from Debian's packages what the tests, the demo or the kernels' machines need and this machine
# lacks. It starts no service, and a service that it installs is not started at boot either. Where nothing is missing it does nothing.
set -euo pipefail

# What is needed, a command or a file, and the package that has it. A Docker that came from elsewhere is as good as Debian's.
demo=(
	dockerd:docker.io
	ip:iproute2
	iptables:iptables
	curl:curl
	ps:procps
)
test=(
	"${demo[@]}"
	nft:nftables
	conntrack:conntrack
	ethtool:ethtool
	ping:iputils-ping
	traceroute:traceroute
	promtool:prometheus
	systemd-analyze:systemd
	chromium:chromium
	etcd:etcd-server
	etcdctl:etcd-client
	tshark:tshark
	iperf3:iperf3
	# make generate
	clang-19:clang-19
	llvm-strip-19:llvm-19
	/usr/include/bpf/bpf_helpers.h:libbpf-dev
	/usr/include/linux/bpf.h:linux-libc-dev
)
demo_overlay=(
	"${demo[@]}"
	etcd:etcd-server
	etcdctl:etcd-client
	iperf3:iperf3
	ping:iputils-ping
)
kernels=(
	qemu-system-x86_64:qemu-system-x86
	xz:xz-utils
)
services=(docker.service docker.socket containerd.service prometheus.service etcd.service)

die() {
	echo "install-deps.sh: $*" >&2
	exit 1
}

missing_packages() {
	local need
	for need in "$@"; do
		case ${need%%:*} in
		/*) [[ -e ${need%%:*} ]] || echo "${need##*:}" ;;
		*) command -v "${need%%:*}" >/dev/null || echo "${need##*:}" ;;
		esac
	done
	# Debian's other busybox is linked dynamically, and does not run in an image that has nothing else.
	[[ $(dpkg-query -W -f '${Status}' busybox-static 2>/dev/null) == *" installed" ]] || echo busybox-static
}

have_service() { [[ -e /lib/systemd/system/$1 || -e /etc/systemd/system/$1 ]]; }

case ${1-} in
test) needs=("${test[@]}") ;;
demo) needs=("${demo[@]}") ;;
demo-overlay) needs=("${demo_overlay[@]}") ;;
kernels) needs=("${kernels[@]}") ;;
*)
	echo "usage: install-deps.sh test|demo|demo-overlay|kernels" >&2
	exit 2
	;;
esac

PATH=$PATH:/usr/sbin:/sbin
mapfile -t packages < <(missing_packages "${needs[@]}" | sort -u)
[[ ${#packages[@]} -gt 0 ]] || exit 0

command -v apt-get >/dev/null || die "missing: ${packages[*]} (Debian's names); there is no apt-get to install them with"
[[ $EUID -eq 0 ]] || die "missing: ${packages[*]}; run this as root, or install them"
echo "installing from Debian's packages: ${packages[*]}"

new_services=()
for s in "${services[@]}"; do
	have_service "$s" || new_services+=("$s")
done

log=$(mktemp)
policy= # the file to take away at the end
trap 'rm -f "$log" ${policy:+"$policy"}' EXIT

# A package's scripts ask policy-rc.d whether they may start its service. An administrator's own answer stays.
if [[ ! -e /usr/sbin/policy-rc.d ]]; then
	policy=/usr/sbin/policy-rc.d
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
fi

apt_get() {
	DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@" </dev/null >"$log" 2>&1
}
apt_get update || {
	cat "$log" >&2
	echo "install-deps.sh: apt-get update failed; going on with the lists that are here" >&2
}
install() {
	apt_get install --no-install-recommends "$@" || {
		cat "$log" >&2
		die "apt-get install failed: see above"
	}
}
# busybox-static takes the place of busybox, as Debian means it to; nothing else may go.
others=()
for p in "${packages[@]}"; do
	if [[ $p == busybox-static ]]; then install "$p"; else others+=("$p"); fi
done
[[ ${#others[@]} -eq 0 ]] || install --no-remove "${others[@]}"

for s in "${new_services[@]}"; do
	! have_service "$s" || systemctl disable "$s" >/dev/null 2>&1 || true
done
left=$(missing_packages "${needs[@]}")
[[ -z $left ]] || die "still missing after the installation: $left"
