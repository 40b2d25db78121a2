# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# What the demos have in common. They source it once they have set demo, the name that they complain under.
export PATH=$PATH:/usr/local/go/bin:/usr/sbin:/sbin
unset EBPFNET_INSTANCE DOCKER_HOST DOCKER_CONTEXT

ebpfnet=$PWD/bin/ebpfnet

die() {
	echo "${demo:?}: $*" >&2
	exit 1
}

bold='' plain=''
if [[ -t 1 ]]; then bold=$'\e[1m' plain=$'\e[0m'; fi
title() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
say() { printf '  %s\n' "$*"; }

# wait_for SECONDS COMMAND...
wait_for() {
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		((SECONDS < end)) || return 1
		sleep 0.2
	done
}

# may_run TARGET: only root with Go can.
may_run() {
	[[ $EUID -eq 0 ]] || die "needs root: sudo make $1"
	command -v go >/dev/null || die "needs Go in the PATH (or in /usr/local/go)"
}

# build_program LOG
build_program() {
	make build >"$1" 2>&1 || {
		cat "$1" >&2
		die "the build failed"
	}
	say "built bin/ebpfnet: $("$ebpfnet" version)"
}
