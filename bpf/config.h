/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * config.h: settings that are fixed when the programs are loaded. The loader writes them before the verifier runs, which then removes
 * the branches that a setting rules out. What changes later is in struct config.
 */
#ifndef EBPFNET_CONFIG_H
#define EBPFNET_CONFIG_H

#include <linux/types.h>

/* Cookie of the network namespace whose sockets are translated (SO_NETNS_COOKIE); 0: the initial one. */
volatile const __u64 host_netns_cookie = 0;

/* bpf_fib_lookup knows BPF_FIB_LOOKUP_SKIP_NEIGH (kernel 6.3), BPF_FIB_LOOKUP_SRC (6.7). */
volatile const __u8 has_fib_skip_neigh = 0;
volatile const __u8 has_fib_src = 0;

/* struct bpf_tunnel_key has local_ipv4 (kernel 5.19). */
volatile const __u8 has_tunnel_local = 0;

/* The lowest and the highest port that a masqueraded flow leaves with when it cannot keep its own. Host order. */
volatile const __u16 nat_port_min = 1024;
volatile const __u16 nat_port_max = 65535;

/*
 * The largest segment size that a TCP connection may announce when it crosses a network, in bytes; what its route takes is a limit beside
 * it. 0: what is announced is left alone.
 */
volatile const __u16 mss_limit = 65535;

/* Count for the metrics. Off only to measure what counting costs. */
volatile const __u8 count_packets = 1;

/* Ticks (bpf_jiffies64) in a second. */
volatile const __u32 ticks_per_second = 250;

#endif
