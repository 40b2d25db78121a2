/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* peer.h: which host has a container that is not on this one, and the way there. */
#ifndef EBPFNET_PEER_H
#define EBPFNET_PEER_H

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "maps.h"
#include "route.h"
#include "scratch.h"
#include "types.h"

/* What VXLAN adds: IPv4 and UDP headers, its own and the inner link-layer header (RFC 7348, section 5). */
#define VXLAN_OVERHEAD (20 + 8 + 8 + 14)

/* What a datagram adds: IPv4 and UDP headers. */
#define UDP_OVERHEAD (20 + 8)

/* Out: whose subnet of the hosts' network holds the address; NULL for what is no part of it. */
static __always_inline struct peer4 *peer_find(__be32 addr)
{
	struct prefix4 key = {.prefixlen = 32, .addr = addr};

	return bpf_map_lookup_elem(&peers4, &key);
}

static __always_inline struct overlay *overlay_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&overlay, &zero);
}

/*
 * In: what somebody on a bridge dials. Out: whether it is the tunnel of another host or of this one. With its source hidden behind this host's
 * address it would be believed there to come from this host's tunnel.
 */
static __noinline bool tunnel_is_dialled(__be32 addr, __be16 port, __u8 proto)
{
	struct overlay *o = overlay_get();
	struct addr4 key = {.addr = addr};

	if (proto != IPPROTO_UDP || !o || !o->port || port != o->port)
		return false;
	return bpf_map_lookup_elem(&peer_hosts4, &key) || bpf_map_lookup_elem(&host_addrs4, &key);
}

/* In: the address of another host. Out: 1 with the way there in scratch, 0 where there is none. */
static __always_inline bool peer_route(struct __sk_buff *skb, struct scratch *s, __be32 addr, __u32 dev)
{
	__builtin_memset(&s->route.key, 0, sizeof(s->route.key));
	s->route.key.daddr = addr;
	s->route.dev = dev;
	s->route.flags = 0;
	return route_lookup(skb);
}

/*
 * In: an entry whose packets go to another host's container or to that host itself, the address, and the device that they come in by. Out:
 * true with the way there in the entry, as it is now; false where nobody has that container.
 */
static __always_inline bool peer_way(struct __sk_buff *skb, struct flow4 *f, __be32 to, __u32 dev)
{
	struct scratch *s = scratch_get();
	struct peer4 *peer = peer_find(to);
	struct overlay *o;
	__u16 overhead;

	if (!s || (peer && peer->kind == PEER_NONE))
		return false;
	f->host = peer ? peer->addr : 0;
	if (!peer || peer->kind == PEER_DIRECT) {
		f->verb = VERB_NEIGH;
		if (!peer_route(skb, s, peer ? peer->addr : to, dev))
			return false;
		f->oif = s->route.oif;
		f->nexthop = s->route.nexthop;
		f->mtu = s->route.mtu;
		return true;
	}
	o = overlay_get();
	if (!o || !o->ifindex)
		return false;
	/* A datagram for a receiver of flannel's holds what is finished. That is so behind the device, where what the host sends gets its own. */
	f->verb = peer->kind != PEER_UDP ? VERB_VXLAN : peer->flags & PEER_EBPFNET ? VERB_DATAGRAM : VERB_DEV;
	overhead = peer->kind == PEER_UDP ? UDP_OVERHEAD : VXLAN_OVERHEAD;
	f->nexthop = peer->addr;
	f->oif = o->ifindex;
	f->mtu = o->mtu;
	__builtin_memcpy(f->dmac, peer->mac, sizeof(f->dmac));
	__builtin_memcpy(f->smac, o->mac, sizeof(f->smac));
	if (!peer_route(skb, s, peer->addr, dev))
		return true;
	/* A smaller path MTU on the way to the host is a smaller one for what is wrapped. */
	if (s->route.mtu > overhead && s->route.mtu - overhead < f->mtu)
		f->mtu = s->route.mtu - overhead;
	if (f->verb == VERB_DATAGRAM || (f->verb == VERB_VXLAN && !(o->flags & OVERLAY_KERNEL))) {
		f->oif = s->route.oif;
		f->nexthop = s->route.nexthop;
	}
	return true;
}

#endif
