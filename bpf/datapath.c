//go:build ignore

/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "types.h"
#include "config.h"
#include "maps.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define HOOK(name) SEC("tc") int name(struct __sk_buff *skb) { \
	__u32 z = 0; \
	struct flow4_key k = {}; struct addr4 a = {}; struct prefix4 p = {}; struct publish4_key pk = {}; \
	bpf_map_lookup_elem(&flows4, &k); bpf_map_lookup_elem(&flows4_new, &k); bpf_map_lookup_elem(&endpoints4, &a); \
	bpf_map_lookup_elem(&bridges4, &z); bpf_map_lookup_elem(&veths, &z); bpf_map_lookup_elem(&uplinks4, &z); \
	bpf_map_lookup_elem(&host_addrs4, &a); bpf_map_lookup_elem(&subnets4, &p); bpf_map_lookup_elem(&publish4, &pk); \
	bpf_map_lookup_elem(&config, &z); bpf_map_lookup_elem(&path_stats, &z); bpf_map_lookup_elem(&endpoint_stats, &z); \
	bpf_map_lookup_elem(&drop_stats, &z); bpf_map_lookup_elem(&pass_stats, &z); \
	return host_netns_cookie + has_fib_skip_neigh + has_fib_src + nat_port_min + nat_port_max + ticks_per_second > 1 ? -1 : -1; }
HOOK(from_container)
HOOK(to_container)
HOOK(from_uplink)
HOOK(to_uplink)
HOOK(from_bridge)
HOOK(to_bridge)
SEC("tc") int clock(struct __sk_buff *skb) { return (__u32)bpf_jiffies64(); }
