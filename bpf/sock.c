//go:build ignore

/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "types.h"
#include "config.h"
#include "maps.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";
#define HOOK(kind, name) SEC("cgroup/" #kind) int name(struct bpf_sock_addr *ctx) { struct sock4_key k = {}; bpf_map_lookup_elem(&socks4, &k); return 1 + (host_netns_cookie & 0); }
HOOK(connect4, sock_connect4)
HOOK(connect6, sock_connect6)
HOOK(sendmsg4, sock_sendmsg4)
HOOK(sendmsg6, sock_sendmsg6)
HOOK(recvmsg4, sock_recvmsg4)
HOOK(recvmsg6, sock_recvmsg6)
HOOK(getpeername4, sock_getpeername4)
HOOK(getpeername6, sock_getpeername6)
