/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* stack.h: the first packet of a flow that the host's stack sends: down a bridge, or out of an uplink. */
#ifndef EBPFNET_STACK_H
#define EBPFNET_STACK_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "begin.h"
#include "flow.h"
#include "forward.h"
#include "maps.h"
#include "nat.h"
#include "parse.h"
#include "policy.h"
#include "route.h"
#include "rules.h"
#include "scratch.h"
#include "types.h"

/*
 * In: a packet that the stack forwards down a bridge. Out: whether an entry waits for the answer, or it is an answer itself: it was ours until
 * it was too big or too old for the redirect. A later fragment waits for nothing by itself.
 */
static __noinline bool bridge_expects(const struct packet *p)
{
	struct flow4_key answer = {
		.saddr = p->key.daddr,
		.daddr = p->key.saddr,
		.sport = p->key.dport,
		.dport = p->key.sport,
		.proto = p->key.proto,
		.zone = ZONE_LOCAL,
	};
	bool fresh;

	return flow_find(&answer, &fresh);
}

/*
 * In: a packet that comes to a container without having been looked at where it was sent. Out: 0, or the reason to drop. The middle of a
 * connection and what answers a question were begun by somebody who was asked.
 */
static __always_inline enum drop_reason rules_ask_late(const struct packet *p, const struct endpoint4 *to)
{
	if (p->icmp_other || p->icmp_reply || packet_is_midstream(p) || bridge_expects(p))
		return DROP_NONE;
	return rules_ask(endpoint_find(p->key.saddr), to, &p->key, p->key.daddr, p->key.dport);
}

/* Out: whether rules select an endpoint, or NULL, for what it sends: its answers have to be known for such. */
static __always_inline bool endpoint_is_asked(const struct endpoint4 *ep)
{
	return ep && (ep->policy[0].egress || ep->policy[1].egress);
}

/* A packet that the host's stack sends down a bridge: its own, or one that it forwards. */
GLOBAL int resolve_bridge(struct __sk_buff *skb)
{
	struct scratch *s = scratch_get();
	struct packet *p;
	__u32 index = skb->ifindex;
	enum drop_reason reason;
	struct bridge4 *bridge;
	struct endpoint4 *to;
	struct flow4 *f;

	if (!s)
		return DROP_FLOW_TABLE;
	p = &s->packet;
	p->pass = PASS_NOT_OURS;
	if (addr_is_multicast(p->key.daddr))
		return DROP_NONE;
	bridge = bpf_map_lookup_elem(&bridges4, &index);
	if (!bridge)
		return DROP_NONE;
	to = endpoint_find(p->key.daddr);
	if (!to && (bridge->flags & BRIDGE_CLOSED))
		return DROP_UNKNOWN_CONTAINER;
	if (!addr_is_host(p->key.saddr) && !addr_is_loopback(p->key.saddr)) {
		/* Forwarded. Errors about flows come from anywhere; the rest is dialling a container's own address from outside. */
		if (p->icmp_other)
			return DROP_NONE;
		reason = to ? rules_ask_late(p, to) : DROP_NONE;
		if (reason || (policy_offload(p, bridge) && !endpoint_is_asked(to)))
			return reason;
		if (!(bridge->flags & BRIDGE_DOCKER_RULES))
			return subnet_find(p->key.saddr) == index || bridge_expects(p) ? DROP_NONE : DROP_DIRECT;
		p->pass = PASS_RULES;
		if (!to || p->key.proto == IPPROTO_TCP || p->lost || p->icmp_reply)
			return DROP_NONE;
		/* The kernel let it through, so the answer is the kernel's too. */
		p->pass = PASS_NONE;
		f = flow_begin(s, p, PATH_IN, 0);
		f->flags = FLOW_KERNEL;
		f->oif = to->ifindex;
		f->verb = f->partner_verb = VERB_STACK;
		return nat_allocate(skb);
	}
	if (policy_offload(p, bridge))
		return DROP_NONE;
	if (!to || to->bridge != index) {
		p->pass = PASS_UNKNOWN_TARGET;
		return DROP_NONE;
	}
	p->pass = PASS_NONE;
	if (packet_is_flowless(p))
		return DROP_NONE;
	f = flow_begin(s, p, PATH_HOST, 0);
	flow_to(f, to, bridge);
	f->verb = VERB_DEV;
	f->partner_verb = VERB_STACK;
	/* A socket bound to loopback: the container would take that source for a lie. */
	if (addr_is_loopback(p->key.saddr)) {
		f->saddr = bridge->addr;
		f->flags |= FLOW_SNAT;
	}
	return nat_allocate(skb);
}

/* Out: the bridge whose containers' packets are for us to translate, where the address is one of its subnet; else NULL. */
static __always_inline struct bridge4 *bridge_to_masquerade(__be32 saddr, __u32 *index)
{
	struct bridge4 *bridge;

	*index = subnet_find(saddr);
	if (!*index)
		return NULL;
	bridge = bpf_map_lookup_elem(&bridges4, index);
	if (!bridge || (bridge->flags & BRIDGE_DOCKER_RULES) || !(bridge->flags & BRIDGE_MASQUERADE))
		return NULL;
	return bridge;
}

/*
 * A packet that the stack sends out of an uplink. Out: p->pass set unless it has a container's own source and nobody but us translates it:
 * it was too big for the uplink and is in pieces now, or it was sent before its veth had a program. Then it is translated, or does not
 * leave.
 */
static __noinline enum drop_reason resolve_leaving_source(struct packet *p)
{
	__u32 index;

	p->pass = PASS_NOT_OURS;
	if (!bridge_to_masquerade(p->key.saddr, &index))
		return DROP_NONE;
	p->pass = PASS_NONE;
	if (p->lost)
		return DROP_FRAGMENT;
	if (p->icmp_other)
		return DROP_ICMP_ERROR;
	return DROP_NONE;
}

/* The first packet of such a flow. */
GLOBAL int resolve_leaving(struct __sk_buff *skb)
{
	struct scratch *s = scratch_get();
	struct packet *p;
	struct sender from = {};
	enum drop_reason reason;
	struct uplink4 *uplink;
	__u32 dev = skb->ifindex;
	struct flow4 *f;

	if (!s)
		return DROP_FLOW_TABLE;
	p = &s->packet;
	if (p->icmp_reply)
		return DROP_ICMP_ERROR;
	from.bridge = bridge_to_masquerade(p->key.saddr, &from.bridge_index);
	if (!from.bridge)
		return DROP_NO_UPLINK;
	if (policy_out(from.bridge))
		return DROP_INTERNAL;
	uplink = bpf_map_lookup_elem(&uplinks4, &dev);
	if (!uplink)
		return DROP_NO_UPLINK;
	from.ep = endpoint_find(p->key.saddr);
	reason = rules_ask(from.ep, NULL, &p->key, p->key.daddr, p->key.dport);
	if (reason)
		return reason;
	f = flow_begin(s, p, PATH_OUT, from.ep ? from.ep->ifindex : from.bridge_index);
	flow_from_sender(f, &from);
	f->flags = FLOW_ROUTED | FLOW_SNAT;
	f->verb = VERB_NEIGH;
	f->oif = dev;
	f->nexthop = p->key.daddr;
	f->mtu = uplink->mtu;
	f->routed -= ticks_per_second; /* the next packet on the fast path looks the route up */
	f->partner_zone = ZONE_WIRE;
	s->route.source = 0;
	s->route.nexthop = p->key.daddr;
	if (route_from(skb, s, &p->key, from.bridge_index) && s->route.oif == dev)
		f->nexthop = s->route.nexthop;
	f->saddr = masquerade_source(&from, uplink, &s->route);
	if (!f->saddr)
		return DROP_NO_ADDRESS;
	return nat_allocate(skb);
}

/*
 * In: in scratch what may be the first packet of a flow of the host's own. Out: 1 with the flow entered under another port, where a
 * container's flow to the same peer has taken this one's port already: else the answers to both would be the container's.
 */
GLOBAL int resolve_conflict(struct __sk_buff *skb)
{
	struct scratch *s = scratch_get();
	struct flow4_key answer = {};
	struct notes *noted;
	struct packet *p;
	struct bridge4 *bridge;
	__u32 zero = 0, index;
	struct flow4 *f;
	bool fresh;

	if (!s)
		return 0;
	p = &s->packet;
	answer.saddr = p->key.daddr;
	answer.daddr = p->key.saddr;
	answer.sport = p->key.dport;
	answer.dport = p->key.sport;
	answer.proto = p->key.proto;
	answer.zone = ZONE_WIRE;
	f = flow_find(&answer, &fresh);
	/* An offloaded one is the kernel's, which gives no tuple to two; the packet may even be its own. */
	if (!f || !(f->flags & FLOW_REPLY) || !f->dst_id || (f->flags & FLOW_OFFLOAD))
		return 0;
	/*
	 * The bridge is being detached, or is put to the host's rules: the stack has taken its flows over, and this is one. The other direction's
	 * entry may have been deleted by now, and this one not yet.
	 */
	index = flow_bridge(f->oif);
	bridge = bpf_map_lookup_elem(&bridges4, &index);
	if (!bridge || (bridge->flags & BRIDGE_OFFLOAD))
		return 0;
	f = flow_begin(s, p, PATH_HOST, 0);
	f->flags = FLOW_SNAT;
	f->bridge_slot = NO_SLOT; /* no bridge carries it */
	f->verb = f->partner_verb = VERB_STACK;
	f->partner_zone = ZONE_WIRE;
	noted = bpf_map_lookup_elem(&notes, &zero);
	if (nat_allocate(skb) || !noted)
		return 0;
	__sync_fetch_and_add(&noted->host_conflicts, 1);
	return 1;
}

#endif
