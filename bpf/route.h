/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* route.h: where the kernel's own routing tables would send a packet. */
#ifndef EBPFNET_ROUTE_H
#define EBPFNET_ROUTE_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "config.h"
#include "maps.h"
#include "parse.h"
#include "scratch.h"
#include "types.h"

/* include/uapi/linux/bpf.h of kernel 6.3 and 6.7; whether this kernel knows them is in config.h. */
#define FIB_LOOKUP_SKIP_NEIGH (1U << 2)
#define FIB_LOOKUP_SRC (1U << 4)

#define FAMILY_INET 2

/*
 * In: the question in scratch. Out: 1 and the answer there, or 0 where there is no route or the kernel has to say so itself (unreachable,
 * prohibit, forwarding off). Policy rules and learnt path MTUs count.
 */
GLOBAL int route_lookup(struct __sk_buff *skb)
{
	struct scratch *s = scratch_get();
	struct bpf_fib_lookup *fib;
	struct uplink4 *uplink;
	struct route *r;
	__u32 flags;
	long ret;

	if (!s)
		return 0;
	r = &s->route;
	fib = (struct bpf_fib_lookup *)s->fib;
	_Static_assert(sizeof(*fib) <= sizeof(s->fib), "struct bpf_fib_lookup has grown");
	__builtin_memset(fib, 0, sizeof(*fib));
	fib->family = FAMILY_INET;
	fib->l4_protocol = r->key.proto;
	fib->tot_len = 1; /* any: the MTU is reported, not checked */
	fib->ipv4_src = r->key.saddr;
	fib->ipv4_dst = r->key.daddr;
	fib->ifindex = r->dev;
	if (r->key.proto == IPPROTO_TCP || r->key.proto == IPPROTO_UDP) {
		fib->sport = r->key.sport;
		fib->dport = r->key.dport;
	}
	flags = r->flags;
	if (has_fib_skip_neigh && r->any_neigh)
		flags |= FIB_LOOKUP_SKIP_NEIGH;
	if (has_fib_src)
		flags |= FIB_LOOKUP_SRC;
	ret = bpf_fib_lookup(skb, fib, sizeof(*fib), flags);
	if (ret != BPF_FIB_LKUP_RET_SUCCESS && ret != BPF_FIB_LKUP_RET_NO_NEIGH && ret != BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return 0;
	if (fib->family != FAMILY_INET)
		return 0;
	r->no_neigh = ret == BPF_FIB_LKUP_RET_NO_NEIGH;
	r->oif = fib->ifindex;
	r->nexthop = fib->ipv4_dst;
	r->source = has_fib_src ? fib->ipv4_src : 0;
	r->mtu = fib->tot_len;
	/* Kernels before 5.13, and a neighbour that is not resolved yet, leave the field alone. */
	uplink = bpf_map_lookup_elem(&uplinks4, &r->oif);
	if (uplink && (r->mtu <= 1 || r->mtu > uplink->mtu))
		r->mtu = uplink->mtu;
	if (r->mtu <= 1)
		r->mtu = 0;
	return 1;
}

/* In: a packet's tuple and where it comes in. Out: as route_lookup, and whether the next hop is known. */
static __always_inline bool route_from(struct __sk_buff *skb, struct scratch *s, const struct flow4_key *key, __u32 dev)
{
	s->route.key = *key;
	s->route.dev = dev;
	s->route.flags = 0;
	s->route.any_neigh = 0;
	return route_lookup(skb);
}

/* In: a packet's tuple and the device that it is to leave by. Out: as route_lookup, but 0 also where it would leave by another. */
static __always_inline bool route_by(struct __sk_buff *skb, struct scratch *s, const struct flow4_key *key, __u32 dev)
{
	s->route.key = *key;
	s->route.dev = dev;
	s->route.flags = BPF_FIB_LOOKUP_OUTPUT;
	s->route.any_neigh = 1;
	return route_lookup(skb) && s->route.oif == dev;
}

/*
 * In: an answer's tuple as it leaves, the device that the question came in by, and the one by which the answer came to the host. Out: 1 with
 * the way back in scratch: by the question's device where a route leads there, because whoever asked there waits there; else as the tables
 * say. 0 where there is no way, or it is no uplink's.
 */
static __always_inline bool route_back(struct __sk_buff *skb, struct scratch *s, const struct flow4_key *key, __u32 asked, __u32 answered)
{
	if (route_by(skb, s, key, asked))
		return true;
	return route_from(skb, s, key, answered) && bpf_map_lookup_elem(&uplinks4, &s->route.oif);
}

/* In: an uplink and the next hop beyond it. Out: the uplink's address on the next hop's network, else its first; 0 where it has none. */
static __always_inline __be32 route_source(const struct uplink4 *uplink, __be32 nexthop)
{
	__be32 found = 0;

	for (int i = UPLINK_ADDRS - 1; i >= 0; i--) {
		if (i < uplink->naddrs && !((uplink->addrs[i] ^ nexthop) & uplink->masks[i]))
			found = uplink->addrs[i];
	}
	return found ? found : uplink->naddrs ? uplink->addrs[0] : 0;
}

#endif
