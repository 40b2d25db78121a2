/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * scratch.h: what the functions of a flow's first packet hand to each other. It would not fit on the stack, and a global function takes
 * nothing else.
 */
#ifndef EBPFNET_SCRATCH_H
#define EBPFNET_SCRATCH_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "parse.h"
#include "types.h"

/* A question to the kernel's routing tables, and the answer. */
struct route {
	struct flow4_key key; /* the packet's tuple */
	__u32 dev;	      /* it comes in by this device, or, with BPF_FIB_LOOKUP_OUTPUT in flags, leaves by it */
	__u32 flags;
	__u32 oif;
	__be32 nexthop; /* the gateway, or the destination where it is on the link */
	__be32 source;	/* the address that the host would send from; 0: not known */
	__u16 mtu;	/* 0: not known */
	__u8 any_neigh; /* whether the next hop is there is not asked */
	__u8 no_neigh;	/* the next hop has not answered, or has not been asked for its link-layer address */
};

/* The way of a packet that is to be wrapped for another host. */
struct way {
	__be32 host;
	__u32 oif; /* the tunnel's own device where the kernel is to wrap it */
	__be32 nexthop;
	__u32 hash; /* the same for all packets of a flow */
};

/* What becomes of a packet, on its way to an event. */
struct told {
	enum drop_reason drop;
	int verdict;
	enum hook hook;
	__u8 pad[3];
};

/* A question to the rules: whether from may dial to. Who is no container is known by his address. */
struct ask {
	struct ident from;
	struct ident to;
	__be32 saddr;
	__be32 daddr;
	__be16 port; /* the container's own, where a published one is dialled */
	__u8 proto;
	bool from_here; /* from is a container's */
	bool to_here;
	__u8 pad[3];
	__u32 set;
	__u32 rule; /* the answer: the rule that decided */
	struct class4_key class;
	struct profile_key profile;
};

struct scratch {
	struct packet packet;
	struct flow4_key key; /* the tuple of the flow that is being made */
	struct flow4_key partner_key;
	struct flow4 flow;
	struct flow4 partner;
	struct route route;
	struct way way;
	__u64 fib[8]; /* a struct bpf_fib_lookup, of route_lookup; its unions have no Go type */
	__u16 mtu; /* for mss_clamp */
	__u16 tries; /* ports, for the flow */
	bool syn;  /* the packet opens a TCP connection */
	struct told event;
	struct ask ask;
	__u8 h_dest[6]; /* the frame's addresses, of resolve_container */
	__u8 h_source[6];
};

/* One for each CPU. A program uses it within one look at a packet, and nothing can interrupt that on the same CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct scratch);
	__uint(max_entries, 1);
} scratch SEC(".maps");

static __always_inline struct scratch *scratch_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&scratch, &zero);
}

#endif
