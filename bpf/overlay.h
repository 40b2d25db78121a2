/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* overlay.h: packets between containers of different hosts: what comes out of the tunnel or from a neighbour, and what the stack sends in. */
#ifndef EBPFNET_OVERLAY_H
#define EBPFNET_OVERLAY_H

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "begin.h"
#include "maps.h"
#include "nat.h"
#include "parse.h"
#include "peer.h"
#include "policy.h"
#include "publish.h"
#include "rules.h"
#include "scratch.h"
#include "stats.h"
#include "tunnel.h"
#include "types.h"

/*
 * In: a packet that came out of the tunnel. Out: the reason to drop it: it is not from a host that is known, not for this network, or not
 * from a container of that host.
 */
static __always_inline enum drop_reason tunnel_check(struct __sk_buff *skb, const struct packet *p)
{
	struct bpf_tunnel_key key = {};
	struct overlay *o = overlay_get();
	struct peer4 *peer;

	if (!o || !o->ifindex ||
	    bpf_skb_get_tunnel_key(skb, &key, has_tunnel_local ? sizeof(key) : offsetof(struct bpf_tunnel_key, local_ipv4), 0))
		return DROP_NOT_PEER;
	if (has_tunnel_local && bpf_htonl(key.local_ipv4) != o->local)
		return DROP_NOT_PEER;
	peer = peer_find(p->key.saddr);
	if (!peer || peer->kind == PEER_NONE || key.tunnel_id != o->vni || bpf_htonl(key.remote_ipv4) != peer->addr)
		return DROP_NOT_PEER;
	stats_from_peer(skb, peer->addr);
	return DROP_NONE;
}

/* The first packet of a flow that another host's container, or the host, begins here. p->pass is set for what is for the stack. */
static __noinline enum drop_reason resolve_from_peer(struct __sk_buff *skb, struct packet *p, struct scratch *s)
{
	struct publish4 *pub = NULL;
	enum drop_reason reason;
	struct bridge4 *bridge;
	struct endpoint4 *to;
	struct flow4 *f;

	p->pass = PASS_HOST;
	to = endpoint_find(p->key.daddr);
	if (!to && addr_is_host(p->key.daddr)) {
		pub = p->lost ? NULL : publish_find(p->key.daddr, p->key.dport, p->key.proto);
		to = pub ? endpoint_find(pub->addr) : NULL;
		if (!to || to->id != pub->id)
			return DROP_NONE;
	}
	if (!to) {
		/* Somebody on the bridge whom we do not know is the bridge's to find; any other address is not here, and would go round. */
		p->pass = PASS_UNKNOWN_TARGET;
		return subnet_find(p->key.daddr) ? DROP_NONE : DROP_NO_PEER;
	}
	bridge = bpf_map_lookup_elem(&bridges4, &to->bridge);
	if (!bridge)
		return DROP_NONE;
	if (policy_offload(p, bridge))
		return DROP_NONE;
	p->pass = PASS_NONE;
	reason = policy_in(bridge);
	if (!reason && pub)
		reason = publish_refuse(pub, p->key.saddr, p->dev);
	if (!reason)
		reason = rules_ask(NULL, to, &p->key, pub ? pub->addr : p->key.daddr, pub ? pub->port : p->key.dport);
	if (reason)
		return reason;
	if (packet_is_flowless(p))
		return DROP_NONE;
	f = flow_begin(s, p, PATH_OVERLAY, p->dev);
	flow_to(f, to, bridge);
	f->flags = FLOW_ROUTED;
	f->partner_verb = VERB_VXLAN;
	if (pub) {
		f->flags |= FLOW_DNAT;
		f->daddr = pub->addr;
		f->dport = pub->port;
		f->publish_slot = pub->slot;
	}
	return nat_allocate(skb);
}

/* A packet from the tunnel that belongs to no flow yet. */
GLOBAL int resolve_tunnel(struct __sk_buff *skb)
{
	struct scratch *s = scratch_get();
	struct packet *p;

	if (!s)
		return DROP_FLOW_TABLE;
	p = &s->packet;
	if (addr_is_multicast(p->key.daddr))
		return DROP_NO_PEER;
	return resolve_from_peer(skb, p, s);
}

/*
 * In: a packet from an uplink to a container's own address. Out: whether it may come so: it is from a host that sends without a tunnel, or
 * from such a host's container, and the way back to that host is the one that it came by.
 */
static __always_inline bool peer_sends_direct(struct __sk_buff *skb, struct scratch *s, __be32 from)
{
	struct addr4 key = {.addr = from};
	struct peer_host4 *host = bpf_map_lookup_elem(&peer_hosts4, &key);
	struct peer4 *peer;

	if (!host) {
		peer = peer_find(from);
		if (!peer || peer->kind == PEER_NONE)
			return false;
		key.addr = peer->addr;
		host = bpf_map_lookup_elem(&peer_hosts4, &key);
	}
	if (!host || !host->direct)
		return false;
	return peer_route(skb, s, key.addr, skb->ifindex) && s->route.oif == skb->ifindex && s->route.nexthop == key.addr;
}

/*
 * In: a packet that the stack sends into the tunnel. Out: 0 with it wrapped for the host that has its destination, if this is the place for it;
 * or the reason to drop.
 */
static __always_inline enum drop_reason tunnel_enter(struct __sk_buff *skb, const struct packet *p)
{
	struct peer4 *peer = peer_find(p->key.daddr);
	struct overlay *o = overlay_get();
	void *data, *end;
	struct ethhdr *eth;

	if (!o || !o->ifindex || !peer || peer->kind == PEER_NONE)
		return DROP_NO_PEER;
	if (o->kind == PEER_UDP)
		return DROP_NONE;
	data = (void *)(long)skb->data;
	end = (void *)(long)skb->data_end;
	eth = data;
	if ((void *)(eth + 1) > end)
		return DROP_REWRITE;
	__builtin_memcpy(eth->h_dest, peer->mac, ETH_ALEN);
	__builtin_memcpy(eth->h_source, o->mac, ETH_ALEN);
	if (tunnel_wrap(skb, o, peer->addr))
		return DROP_REWRITE;
	stats_to_peer(skb, peer->addr);
	return DROP_NONE;
}

#endif
