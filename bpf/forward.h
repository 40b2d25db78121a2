/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * forward.h: the first packet of a flow that somebody on a bridge begins. Each resolve function, here and in inbound.h and stack.h, looks at
 * who sends and what is dialled, asks policy, and enters the flow; the packet itself is then carried by its new entry, as all that follow.
 * Out: the reason to drop, or 0 with the flow entered or p->pass set.
 */
#ifndef EBPFNET_FORWARD_H
#define EBPFNET_FORWARD_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "begin.h"
#include "flow.h"
#include "maps.h"
#include "nat.h"
#include "parse.h"
#include "peer.h"
#include "policy.h"
#include "publish.h"
#include "route.h"
#include "rules.h"
#include "scratch.h"
#include "types.h"

/* Who sends on a bridge. ep is NULL for an address of the bridge's subnet that no endpoint has: a nested bridge, a virtual machine. */
struct sender {
	struct endpoint4 *ep;
	struct bridge4 *bridge;
	__u32 bridge_index;
	bool to_gateway; /* the frame is for the bridge itself, not for somebody on it who routes by himself */
};

static __always_inline bool mac_equal(const __u8 *a, const __u8 *b)
{
	return !__builtin_memcmp(a, b, ETH_ALEN);
}

static __always_inline void flow_from_sender(struct flow4 *f, const struct sender *from)
{
	if (from->ep) {
		flow_from(f, from->ep, from->bridge);
		return;
	}
	f->bridge_slot = from->bridge->slot;
	f->partner_verb = VERB_NEIGH;
}

/*
 * Out: the address that a sender leaves with by a route: the one asked for him or for his bridge, the route's own, or the uplink's. 0: none.
 */
static __always_inline __be32 masquerade_source(const struct sender *from, const struct uplink4 *uplink, const struct route *r)
{
	if (from->ep && from->ep->egress)
		return from->ep->egress == EGRESS_NONE ? 0 : from->ep->egress;
	if (from->bridge->masquerade)
		return from->bridge->masquerade;
	return r->source ? r->source : route_source(uplink, r->nexthop);
}

/*
 * In: a packet that is left to others, though rules let it pass. Out: whether it is to have an entry nevertheless, which is in scratch: who is
 * selected by rules for what he is sent hears the answer only if it is known for one. For anybody else p->pass is set.
 */
static __noinline bool flow_leave(struct packet *p, const struct sender *from, struct scratch *s, __u32 iif, enum pass_reason pass)
{
	struct flow4 *f;

	if (!from->ep || !s->ask.from.ingress || packet_is_flowless(p)) {
		p->pass = pass;
		return false;
	}
	f = flow_begin(s, p, PATH_OUT, iif);
	flow_from(f, from->ep, from->bridge);
	f->flags = FLOW_KERNEL;
	f->verb = f->partner_verb = VERB_STACK;
	return true;
}

/* A container, or a stranger on a bridge, dials an address beyond the host. */
static __noinline enum drop_reason resolve_out(struct __sk_buff *skb, struct packet *p, const struct sender *from, struct scratch *s)
{
	enum drop_reason reason;
	struct uplink4 *uplink;
	struct flow4 *f;

	reason = policy_out(from->bridge);
	if (reason)
		return policy_refuse(p, from->bridge, reason);
	if (packet_is_flowless(p))
		return DROP_NONE;
	if (!route_from(skb, s, &p->key, from->bridge_index)) {
		p->pass = PASS_ROUTE;
		return DROP_NONE;
	}
	uplink = bpf_map_lookup_elem(&uplinks4, &s->route.oif);
	if (!uplink) {
		if (!(from->bridge->flags & BRIDGE_DOCKER_RULES))
			return DROP_NO_UPLINK;
		return flow_leave(p, from, s, skb->ifindex, PASS_RULES) ? nat_allocate(skb) : DROP_NONE;
	}
	if ((from->bridge->flags & BRIDGE_DOCKER_RULES) && packet_is_midstream(p)) {
		p->pass = PASS_MIDSTREAM;
		return DROP_NONE;
	}

	/*
	 * The stack tells the container that nobody is there. Should the next hop answer yet, to_uplink translates what the stack sends, or
	 * Docker's rules do. A first ping, too, is the stack's while the next hop is not known, but not where an administrator's rules might drop
	 * it there: nobody would ask for the next hop then. Flows that go on for long are not begun in this way: over Docker's rules they would
	 * be the kernel's to their end.
	 */
	if (!p->fragment && (p->nobody || (s->route.no_neigh && p->key.proto == IPPROTO_ICMP && !(from->bridge->flags & BRIDGE_FILTERED)))) {
		p->pass = PASS_ROUTE;
		return DROP_NONE;
	}

	f = flow_begin(s, p, PATH_OUT, skb->ifindex);
	flow_from_sender(f, from);
	f->flags = FLOW_ROUTED;
	f->verb = VERB_NEIGH;
	f->oif = s->route.oif;
	f->nexthop = s->route.nexthop;
	f->mtu = s->route.mtu;
	f->partner_zone = ZONE_WIRE;
	if (from->bridge->flags & BRIDGE_MASQUERADE || (from->ep && from->ep->egress)) {
		f->saddr = masquerade_source(from, uplink, &s->route);
		if (!f->saddr)
			return DROP_NO_ADDRESS;
		f->flags |= FLOW_SNAT;
	}
	return nat_allocate(skb);
}

/* A container, or a stranger on a bridge, dials another host's container. */
static __noinline enum drop_reason resolve_to_peer(struct __sk_buff *skb, struct packet *p, const struct sender *from, struct scratch *s)
{
	enum drop_reason reason;
	struct overlay *o;
	struct flow4 *f;

	reason = policy_out(from->bridge);
	if (reason)
		return policy_refuse(p, from->bridge, reason);
	if (packet_is_flowless(p))
		return DROP_NONE;
	f = flow_begin(s, p, PATH_OVERLAY, skb->ifindex);
	flow_from_sender(f, from);
	f->flags = FLOW_ROUTED;
	f->partner_zone = ZONE_WIRE;
	/* Nobody there would know the way back to a bridge of this host alone. */
	if (!(from->bridge->flags & BRIDGE_MEMBER)) {
		o = overlay_get();
		if (!o || !o->addr)
			return DROP_NO_ADDRESS;
		f->saddr = o->addr;
		f->flags |= FLOW_SNAT;
	}
	if (!peer_way(skb, f, p->key.daddr, from->bridge_index))
		return DROP_NO_PEER;
	return nat_allocate(skb);
}

/* A container, or a stranger on a bridge, dials a published port by an address of the host. */
static __noinline enum drop_reason resolve_hairpin(struct __sk_buff *skb, struct packet *p, const struct sender *from,
						   const struct publish4 *pub, struct scratch *s)
{
	enum drop_reason reason;
	struct endpoint4 *to;
	struct bridge4 *bridge;
	struct flow4 *f;

	to = endpoint_find(pub->addr);
	if (!to || to->id != pub->id) {
		p->pass = PASS_HOST;
		return DROP_NONE;
	}
	bridge = bpf_map_lookup_elem(&bridges4, &to->bridge);
	if (!bridge) {
		p->pass = PASS_HOST;
		return DROP_NONE;
	}
	reason = publish_refuse(pub, p->key.saddr, 0);
	if (!reason)
		reason = rules_ask(from->ep, to, &p->key, pub->addr, pub->port);
	if (reason)
		return reason;
	if (policy_offload(p, bridge))
		return DROP_NONE;
	reason = policy_published(from->bridge, from->bridge_index, bridge, to->bridge);
	if (reason)
		return policy_refuse(p, from->bridge, reason);
	if ((from->bridge->flags & BRIDGE_DOCKER_RULES) && packet_is_midstream(p)) {
		p->pass = PASS_MIDSTREAM;
		return DROP_NONE;
	}

	f = flow_begin(s, p, PATH_LOCAL, skb->ifindex);
	flow_from_sender(f, from);
	flow_to(f, to, bridge);
	f->flags = FLOW_ROUTED | FLOW_DNAT;
	f->daddr = pub->addr;
	f->dport = pub->port;
	f->publish_slot = pub->slot;
	/* Its own address as a source is one that a container never accepts. */
	if (from->ep && from->ep->id == to->id) {
		f->saddr = bridge->addr;
		f->flags |= FLOW_SNAT;
	}
	return nat_allocate(skb);
}

/* A container, or a stranger on a bridge, dials an address of the host. */
static __noinline enum drop_reason resolve_to_host(struct __sk_buff *skb, struct packet *p, const struct sender *from, struct scratch *s)
{
	enum drop_reason reason;
	struct flow4 *f;

	reason = policy_host(from->bridge, p->key.daddr);
	if (reason)
		return policy_refuse(p, from->bridge, reason);
	if (packet_is_flowless(p))
		return DROP_NONE;
	if (!from->ep) {
		p->pass = PASS_HOST;
		return DROP_NONE;
	}
	f = flow_begin(s, p, PATH_HOST, skb->ifindex);
	flow_from(f, from->ep, from->bridge);
	f->verb = VERB_STACK;
	f->partner_verb = VERB_DEV;
	return nat_allocate(skb);
}

/* A container dials another's own address. */
static __noinline enum drop_reason resolve_local(struct __sk_buff *skb, struct packet *p, const struct sender *from, struct endpoint4 *to,
						 struct scratch *s)
{
	enum drop_reason reason;
	struct bridge4 *bridge;
	struct flow4 *f;

	bridge = bpf_map_lookup_elem(&bridges4, &to->bridge);
	/* By way of the gateway, or of a container that routes, it is not the bridge's to deliver. */
	if (!bridge || !from->ep || (to->bridge == from->bridge_index && !mac_equal(s->h_dest, to->mac))) {
		p->pass = PASS_UNKNOWN_TARGET;
		return DROP_NONE;
	}
	reason = policy_local(from->bridge, from->bridge_index, bridge, to->bridge);
	if (reason)
		return policy_refuse(p, from->bridge, reason);
	if (packet_is_flowless(p))
		return DROP_NONE;
	if ((from->bridge->flags & BRIDGE_DOCKER_RULES) && packet_is_midstream(p)) {
		p->pass = PASS_MIDSTREAM;
		return DROP_NONE;
	}
	f = flow_begin(s, p, PATH_LOCAL, skb->ifindex);
	flow_from(f, from->ep, from->bridge);
	flow_to(f, to, bridge);
	return nat_allocate(skb);
}

/*
 * A packet to an address of the sender's bridge that no endpoint has: left to the bridge and to the host's stack, which may know better, but
 * where only those are served whom the agent knows.
 */
static __always_inline enum drop_reason resolve_unknown(struct __sk_buff *skb, struct packet *p, const struct sender *from, struct scratch *s)
{
	if (from->bridge->flags & BRIDGE_CLOSED)
		return DROP_UNKNOWN_CONTAINER;
	return flow_leave(p, from, s, skb->ifindex, PASS_UNKNOWN_TARGET) ? nat_allocate(skb) : DROP_NONE;
}

/* What somebody on a bridge sends, once it is known who. */
static __always_inline enum drop_reason resolve_from(struct __sk_buff *skb, struct packet *p, const struct sender *from, struct scratch *s)
{
	enum drop_reason reason;
	struct endpoint4 *to;
	struct publish4 *pub;
	__u32 bridge;

	to = endpoint_find(p->key.daddr);
	pub = from->to_gateway && !p->lost && addr_is_host(p->key.daddr) ? publish_find(p->key.daddr, p->key.dport, p->key.proto) : NULL;
	if (pub)
		return resolve_hairpin(skb, p, from, pub, s);
	reason = rules_ask(from->ep, to, &p->key, p->key.daddr, p->key.dport);
	if (reason)
		return reason;
	if (to && to->bridge == from->bridge_index)
		return resolve_local(skb, p, from, to, s);
	if (!from->to_gateway) {
		if (subnet_find(p->key.daddr) == from->bridge_index)
			return resolve_unknown(skb, p, from, s);
		return flow_leave(p, from, s, skb->ifindex, PASS_UNKNOWN_TARGET) ? nat_allocate(skb) : DROP_NONE;
	}
	if (addr_is_host(p->key.daddr))
		return resolve_to_host(skb, p, from, s);
	if (to)
		return resolve_local(skb, p, from, to, s);
	bridge = subnet_find(p->key.daddr);
	if (bridge == from->bridge_index)
		return resolve_unknown(skb, p, from, s);
	if (bridge)
		return policy_refuse(p, from->bridge, DROP_ISOLATED);
	if (peer_find(p->key.daddr))
		return resolve_to_peer(skb, p, from, s);
	return resolve_out(skb, p, from, s);
}

/* Out: whether the link-layer address of the container behind a veth is known. */
static __always_inline bool veth_is_known(const struct veth *veth)
{
	const __u8 unknown[ETH_ALEN] = {};

	return veth->id && !mac_equal(veth->mac, unknown);
}

/* In: a veth, its bridge and the link-layer address that a frame comes from. Out: whether it is not the container's, and has to be. */
static __always_inline bool veth_spoofs(const struct veth *veth, const struct bridge4 *bridge, const __u8 *source)
{
	return veth_is_known(veth) && !(bridge->flags & BRIDGE_SPOOFING) && !mac_equal(source, veth->mac);
}

/* A multicast packet of a container: rules that select it name its group, or it does not leave. */
static __noinline enum drop_reason resolve_multicast(struct packet *p, const struct sender *from, const struct veth *veth, struct scratch *s)
{
	if (veth_spoofs(veth, from->bridge, s->h_source))
		return DROP_SPOOFED;
	if (!(veth->flags & VETH_EGRESS))
		return DROP_NONE;
	if (!from->ep || from->ep->id != veth->id)
		return DROP_POLICY_EGRESS;
	return rules_ask(from->ep, NULL, &p->key, p->key.daddr, p->key.dport);
}

/*
 * A packet of a container about whose flows the host's rules decide: left to them, where the user's own have nothing against it. Of TCP the first
 * packet alone is asked about, since the kernel carries some of the rest; anything else that they let pass is remembered for its answer.
 */
static __noinline enum drop_reason resolve_offloaded(struct __sk_buff *skb, struct packet *p, const struct sender *from, struct scratch *s)
{
	struct publish4 *pub = NULL;
	enum drop_reason reason;
	__be32 daddr = p->key.daddr;
	__be16 port = p->key.dport;

	p->pass = PASS_RULES;
	if (packet_is_midstream(p) || p->icmp_other || p->icmp_reply || p->lost)
		return DROP_NONE;
	if (addr_is_host(daddr))
		pub = publish_find(daddr, port, p->key.proto);
	if (pub) {
		reason = publish_refuse(pub, p->key.saddr, 0);
		if (reason)
			return reason;
		daddr = pub->addr;
		port = pub->port;
	}
	reason = rules_ask(from->ep, endpoint_find(daddr), &p->key, daddr, port);
	if (reason || p->key.proto == IPPROTO_TCP)
		return reason;
	p->pass = PASS_NONE;
	return flow_leave(p, from, s, skb->ifindex, PASS_RULES) ? nat_allocate(skb) : DROP_NONE;
}

/* A packet from the veth of an attached bridge's port. */
GLOBAL int resolve_container(struct __sk_buff *skb)
{
	struct scratch *s = scratch_get();
	struct packet *p;
	struct sender from = {};
	enum drop_reason reason;
	__u32 dev = skb->ifindex;
	struct veth *veth;

	if (!s)
		return DROP_FLOW_TABLE;
	p = &s->packet;
	p->pass = addr_is_multicast(p->key.daddr) ? PASS_MULTICAST : PASS_NONE;
	reason = p->pass ? DROP_NONE : source_check(p);
	if (reason)
		return reason;
	if (tunnel_is_dialled(p->key.daddr, p->key.dport, p->key.proto))
		return DROP_FORGED_TUNNEL;
	veth = bpf_map_lookup_elem(&veths, &dev);
	if (!veth) {
		p->pass = p->pass ?: PASS_UNKNOWN_SOURCE;
		return DROP_NONE;
	}
	from.bridge_index = veth->bridge;
	from.bridge = bpf_map_lookup_elem(&bridges4, &from.bridge_index);
	from.ep = endpoint_find(p->key.saddr);
	if (!from.bridge) {
		p->pass = p->pass ?: PASS_UNKNOWN_SOURCE;
		return DROP_NONE;
	}
	if (bpf_skb_load_bytes(skb, offsetof(struct ethhdr, h_dest), s->h_dest, sizeof(s->h_dest)) ||
	    bpf_skb_load_bytes(skb, offsetof(struct ethhdr, h_source), s->h_source, sizeof(s->h_source)))
		return DROP_TRUNCATED;
	from.to_gateway = mac_equal(s->h_dest, from.bridge->mac);
	if (p->pass)
		return resolve_multicast(p, &from, veth, s);
	if (from.ep && from.ep->ifindex != dev)
		return DROP_SPOOFED;
	if (veth_spoofs(veth, from.bridge, s->h_source))
		return DROP_SPOOFED;
	if (!from.ep) {
		if (addr_is_host(p->key.saddr) || (veth->id && !(from.bridge->flags & BRIDGE_SPOOFING)))
			return DROP_SPOOFED;
		if (veth->flags & VETH_EGRESS)
			return DROP_POLICY_EGRESS;
		p->pass = PASS_UNKNOWN_SOURCE;
		return DROP_NONE;
	}
	if (from.bridge->flags & BRIDGE_OFFLOAD)
		return resolve_offloaded(skb, p, &from, s);
	return resolve_from(skb, p, &from, s);
}

/*
 * A packet that comes up from a bridge to the host and that no veth's program has answered for: somebody on the bridge whom we do not know
 * by name. Without Docker's rules nobody else would translate it.
 */
GLOBAL int resolve_stranger(struct __sk_buff *skb)
{
	struct scratch *s = scratch_get();
	struct packet *p;
	struct sender from = {.bridge_index = skb->ifindex, .to_gateway = true};
	enum drop_reason reason;

	if (!s)
		return DROP_FLOW_TABLE;
	p = &s->packet;
	if (addr_is_multicast(p->key.daddr)) {
		p->pass = PASS_MULTICAST;
		return DROP_NONE;
	}
	if (tunnel_is_dialled(p->key.daddr, p->key.dport, p->key.proto))
		return DROP_FORGED_TUNNEL;
	from.bridge = bpf_map_lookup_elem(&bridges4, &from.bridge_index);
	if (from.bridge && (from.bridge->flags & BRIDGE_CLOSED))
		return DROP_UNKNOWN_CONTAINER;
	if (!from.bridge || (from.bridge->flags & BRIDGE_DOCKER_RULES)) {
		p->pass = PASS_RULES;
		return DROP_NONE;
	}
	reason = source_check(p);
	if (reason)
		return reason;
	if (addr_is_host(p->key.saddr))
		return DROP_SPOOFED;
	if (subnet_find(p->key.saddr) != from.bridge_index || endpoint_find(p->key.saddr)) {
		p->pass = PASS_UNKNOWN_SOURCE;
		return DROP_NONE;
	}
	return resolve_from(skb, p, &from, s);
}

#endif
