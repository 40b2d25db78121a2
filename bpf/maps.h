/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * maps.h: every map. Over each: who writes it, who reads it, how long an entry lives. All are pinned by name; sizes here are defaults
 * that the loader replaces with the user's settings.
 */
#ifndef EBPFNET_MAPS_H
#define EBPFNET_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "types.h"

#define PINNED __uint(pinning, LIBBPF_PIN_BY_NAME)

/* Answered flows, two entries each. Written by the programs; the agent deletes idle ones; the least used give way when it is full. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct flow4_key);
	__type(value, struct flow4);
	__uint(max_entries, 524288);
	PINNED;
} flows4 SEC(".maps");

/* Flows that have not been answered, two entries each: a flood of them pushes out only its like. Written as flows4 is. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct flow4_key);
	__type(value, struct flow4);
	__uint(max_entries, 65536);
	PINNED;
} flows4_new SEC(".maps");

/* Containers by address. Written by the agent, read on a flow's first packet; lives as long as the container has the address. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct addr4);
	__type(value, struct endpoint4);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	PINNED;
} endpoints4 SEC(".maps");

/* Attached bridges by ifindex. Written by the agent, read on a flow's first packet. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, struct bridge4);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	PINNED;
} bridges4 SEC(".maps");

/* Host ends of the containers' veths by ifindex. Written by the agent, read on a flow's first packet. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, struct veth);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	PINNED;
} veths SEC(".maps");

/* Uplinks by ifindex. Written by the agent, read on a flow's first packet. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, struct uplink4);
	__uint(max_entries, 256);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	PINNED;
} uplinks4 SEC(".maps");

/* The host's own addresses. Written by the agent, read on a flow's first packet and by the socket programs. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct addr4);
	__type(value, struct host_addr4);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	PINNED;
} host_addrs4 SEC(".maps");

/* Subnets of the attached bridges. Written by the agent, read on a flow's first packet. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__type(key, struct prefix4);
	__type(value, struct subnet4);
	__uint(max_entries, 2048);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	PINNED;
} subnets4 SEC(".maps");

/* Subnets of the other hosts, and the whole network. Written by the agent, read on a flow's first packet and for each packet from a tunnel. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__type(key, struct prefix4);
	__type(value, struct peer4);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	PINNED;
} peers4 SEC(".maps");

/* The other hosts' own addresses. Written by the agent, read where a packet from the wire is for a container's own address. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct addr4);
	__type(value, struct peer_host4);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	PINNED;
} peer_hosts4 SEC(".maps");

/* This host's place among the others, in entry 0. Written by the agent, read for what goes to them or comes out of a tunnel. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct overlay);
	__uint(max_entries, 1);
	PINNED;
} overlay SEC(".maps");

/* Published ports, one entry a port. Written by the agent, read on a flow's first packet and by the socket programs. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct publish4_key);
	__type(value, struct publish4);
	__uint(max_entries, 262144);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	PINNED;
} publish4 SEC(".maps");

/*
 * Datagrams in pieces. Written by the programs with a datagram's first piece, read with the others; good for FRAG_SECONDS, and the least
 * used give way.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct frag4_key);
	__type(value, struct frag4);
	__uint(max_entries, 8192);
	PINNED;
} frags4 SEC(".maps");

/*
 * Pieces of datagrams that came before their first one. Written and read by the programs; not pinned, since what is in it is of use for a
 * moment only. The least used give way.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct piece4_key);
	__type(value, struct piece4);
	__uint(max_entries, 2048);
} pieces4 SEC(".maps");

/* What host sockets dialled. Written and read by the socket programs; the least used give way. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct sock4_key);
	__type(value, struct sock4);
	__uint(max_entries, 65536);
	PINNED;
} socks4 SEC(".maps");

/* The configuration's epoch and the timeouts, in entry 0. Written by the agent, read for every packet. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct config);
	__uint(max_entries, 1);
	PINNED;
} config SEC(".maps");

/* What the programs note for themselves, in entry 0. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct notes);
	__uint(max_entries, 1);
	PINNED;
} notes SEC(".maps");

/* Ports that no masqueraded flow may leave with (net.ipv4.ip_local_reserved_ports), one bit each, 64 to an entry. Written by the agent. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 1024);
	PINNED;
} reserved_ports SEC(".maps");

/* What rules call addresses that are no container's, both sets. Written by the agent, read on the first packet of a flow that rules judge. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__type(key, struct class4_key);
	__type(value, struct class4);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	PINNED;
} classes4 SEC(".maps");

/* What rules say of two classes, both sets. Written by the agent, read on the first packet of a flow that rules judge. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct pair_key);
	__type(value, struct pair);
	__uint(max_entries, 524288);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	PINNED;
} pairs SEC(".maps");

/* What rules say of protocols and ports, both sets. Written by the agent, read on the first packet of a flow that rules judge. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__type(key, struct profile_key);
	__type(value, struct profile);
	__uint(max_entries, 262144);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	PINNED;
} profiles SEC(".maps");

/* Who may use a published port. Written by the agent, read on the first packet of a flow to one that not all may use. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__type(key, struct publish_from4_key);
	__type(value, struct publish_from4);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	PINNED;
} publish_from4 SEC(".maps");

#define BRIDGE_SLOTS 1024

/* Packets that were delivered, by bridge slot and path: slot * PATH_MAX + path. Written by the programs, read at scrape. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct counter);
	__uint(max_entries, BRIDGE_SLOTS * PATH_MAX);
	PINNED;
} path_stats SEC(".maps");

/* Packets of each endpoint, by slot. Written by the programs, read at scrape; the agent clears a slot before it is used again. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct endpoint_counters);
	__uint(max_entries, 16384);
	PINNED;
} endpoint_stats SEC(".maps");

/* Dropped packets, by enum drop_reason. Written by the programs, read at scrape. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, enum drop_reason);
	__type(value, struct counter);
	__uint(max_entries, DROP_MAX);
	PINNED;
} drop_stats SEC(".maps");

/* Packets left to the host's stack, by enum pass_reason. Written by the programs, read at scrape. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, enum pass_reason);
	__type(value, struct counter);
	__uint(max_entries, PASS_MAX);
	PINNED;
} pass_stats SEC(".maps");

/*
 * Packets of each published port or range, by slot; the first stands for none. Written by the programs, read at scrape; the agent clears a
 * slot before it is used again.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct publish_counters);
	__uint(max_entries, 4096);
	PINNED;
} publish_stats SEC(".maps");

/* Packets from and to each other host, by its address. Entered by the agent with the host, counted by the programs, read at scrape. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__type(key, struct addr4);
	__type(value, struct peer_counters);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	PINNED;
} peer_stats SEC(".maps");

/* What else is counted, by enum tally. Written by the programs, read at scrape. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, enum tally);
	__type(value, __u64);
	__uint(max_entries, TALLY_MAX);
	PINNED;
} tallies SEC(".maps");

#endif
