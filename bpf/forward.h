/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * forward.h: the first packet of a flow. Each resolve function looks at who sends and what is dialled, asks policy, and enters the flow; the
 * packet itself is then carried by its new entry, as all that follow. Out: the reason to drop, or 0 with the flow entered or p->pass set.
 */
#ifndef EBPFNET_FORWARD_H
#define EBPFNET_FORWARD_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "flow.h"
#include "maps.h"
#include "nat.h"
#include "parse.h"
#include "policy.h"
#include "publish.h"
#include "route.h"
#include "scratch.h"
#include "types.h"

static __always_inline bool addr_is_host(__be32 addr)
{
	struct addr4 key = {.addr = addr};

	return bpf_map_lookup_elem(&host_addrs4, &key);
}

static __always_inline struct endpoint4 *endpoint_find(__be32 addr)
{
	struct addr4 key = {.addr = addr};

	return bpf_map_lookup_elem(&endpoints4, &key);
}

/* Out: the ifindex of the bridge whose subnet holds the address, or 0. */
static __always_inline __u32 subnet_find(__be32 addr)
{
	struct prefix4 key = {.prefixlen = 32, .addr = addr};
	struct subnet4 *subnet = bpf_map_lookup_elem(&subnets4, &key);

	return subnet ? subnet->bridge : 0;
}

/*
 * In: a packet that will be dropped or entered. Out: what is wrong with its source: no such packet is ever sent by anybody honest (RFC 1122,
 * section 3.2.1.3), and it must reach no entry.
 */
static __always_inline enum drop_reason source_check(const struct packet *p)
{
	if (addr_is_loopback(p->key.saddr) || addr_is_loopback(p->key.daddr))
		return DROP_LOOPBACK;
	if (addr_is_multicast(p->key.saddr) || ADDR_IN(p->key.saddr, 0, 0, 0, 0, 8) || p->key.saddr == p->key.daddr)
		return DROP_MARTIAN_SOURCE;
	return DROP_NONE;
}

/* In: a packet that will be entered. Out: true where it is of a kind that has no flow, with p->pass set. */
static __always_inline bool packet_is_flowless(struct packet *p)
{
	if (p->lost)
		p->pass = PASS_FRAGMENT;
	else if (p->key.proto == IPPROTO_ICMP && p->icmp_other)
		p->pass = PASS_ICMP_ERROR;
	return p->pass;
}

/* Prepares scratch for a flow that begins with p and is not translated yet. */
static __always_inline struct flow4 *flow_begin(struct scratch *s, const struct packet *p, enum flow_path path, __u32 iif)
{
	struct config *cfg = config_get();
	struct flow4 *f = &s->flow;

	s->key = p->key;
	s->syn = packet_is_syn(p);
	__builtin_memset(f, 0, sizeof(*f));
	f->saddr = p->key.saddr;
	f->daddr = p->key.daddr;
	f->sport = p->key.sport;
	f->dport = p->key.dport;
	f->path = path;
	f->iif = iif;
	f->epoch = cfg ? cfg->epoch : 0;
	f->created = f->seen = f->synced = f->routed = ticks_now();
	f->partner_zone = ZONE_LOCAL;
	if (p->key.proto == IPPROTO_TCP && (p->tcp_flags & TH_SYN))
		f->tcp = TCP_SYN;
	return f;
}

/* Lets a flow come from a container. Answers go into its namespace. */
static __always_inline void flow_from(struct flow4 *f, const struct endpoint4 *ep, const struct bridge4 *bridge)
{
	f->src_id = ep->id;
	f->src_slot = ep->slot;
	f->bridge_slot = bridge->slot;
	f->partner_verb = VERB_PEER;
}

/* Lets a flow end in a container. */
static __always_inline void flow_to(struct flow4 *f, const struct endpoint4 *ep, const struct bridge4 *bridge)
{
	f->dst_id = ep->id;
	f->dst_slot = ep->slot;
	if (!f->src_id)
		f->bridge_slot = bridge->slot;
	f->verb = VERB_PEER;
	f->oif = ep->ifindex;
	f->mtu = ep->mtu;
	__builtin_memcpy(f->dmac, ep->mac, sizeof(f->dmac));
	__builtin_memcpy(f->smac, bridge->mac, sizeof(f->smac));
}

/* Who sends on a bridge. ep is NULL for an address of the bridge's subnet that no endpoint has: a nested bridge, a virtual machine. */
struct sender {
	struct endpoint4 *ep;
	struct bridge4 *bridge;
	__u32 bridge_index;
	bool to_gateway; /* the frame is for the bridge itself, not for somebody on it who routes by himself */
	__u8 h_dest[ETH_ALEN];
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

/* Out: the address that containers of a bridge leave with by a route: the one asked for, the route's own, or the uplink's. 0: none. */
static __always_inline __be32 masquerade_source(const struct bridge4 *bridge, const struct uplink4 *uplink, const struct route *r)
{
	if (bridge->masquerade)
		return bridge->masquerade;
	return r->source ? r->source : route_source(uplink, r->nexthop);
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
	if (!route_from(skb, s, &p->key, from->bridge_index)) {
		p->pass = PASS_ROUTE;
		return DROP_NONE;
	}
	uplink = bpf_map_lookup_elem(&uplinks4, &s->route.oif);
	if (!uplink)
		return policy_refuse(p, from->bridge, DROP_NO_UPLINK);
	if ((from->bridge->flags & BRIDGE_DOCKER_RULES) && packet_is_midstream(p)) {
		p->pass = PASS_MIDSTREAM;
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
	if (from->bridge->flags & BRIDGE_MASQUERADE) {
		f->saddr = masquerade_source(from->bridge, uplink, &s->route);
		if (!f->saddr)
			return DROP_NO_ADDRESS;
		f->flags |= FLOW_SNAT;
	}
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
	if (!bridge || !from->ep || (to->bridge == from->bridge_index && !mac_equal(from->h_dest, to->mac))) {
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

/* What somebody on a bridge sends, once it is known who. */
static __noinline enum drop_reason resolve_from(struct __sk_buff *skb, struct packet *p, const struct sender *from, struct scratch *s)
{
	struct endpoint4 *to;
	struct publish4 *pub;
	__u32 bridge;

	to = endpoint_find(p->key.daddr);
	if (to && to->bridge == from->bridge_index)
		return resolve_local(skb, p, from, to, s);
	if (!from->to_gateway) {
		p->pass = PASS_UNKNOWN_TARGET;
		return DROP_NONE;
	}
	if (addr_is_host(p->key.daddr)) {
		if (packet_is_flowless(p))
			return DROP_NONE;
		pub = publish_find(p->key.daddr, p->key.dport, p->key.proto);
		if (pub)
			return resolve_hairpin(skb, p, from, pub, s);
		return resolve_to_host(skb, p, from, s);
	}
	if (to)
		return resolve_local(skb, p, from, to, s);
	bridge = subnet_find(p->key.daddr);
	if (bridge == from->bridge_index) {
		p->pass = PASS_UNKNOWN_TARGET;
		return DROP_NONE;
	}
	if (bridge)
		return policy_refuse(p, from->bridge, DROP_ISOLATED);
	if (packet_is_flowless(p))
		return DROP_NONE;
	return resolve_out(skb, p, from, s);
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
	if (addr_is_multicast(p->key.daddr)) {
		p->pass = PASS_MULTICAST;
		return DROP_NONE;
	}
	reason = source_check(p);
	if (reason)
		return reason;
	if (p->options && packet_source_routed(skb))
		return DROP_SOURCE_ROUTE;
	veth = bpf_map_lookup_elem(&veths, &dev);
	if (!veth) {
		p->pass = PASS_UNKNOWN_SOURCE;
		return DROP_NONE;
	}
	from.bridge_index = veth->bridge;
	from.bridge = bpf_map_lookup_elem(&bridges4, &from.bridge_index);
	from.ep = endpoint_find(p->key.saddr);
	if (!from.bridge) {
		p->pass = PASS_UNKNOWN_SOURCE;
		return DROP_NONE;
	}
	if (bpf_skb_load_bytes(skb, offsetof(struct ethhdr, h_dest), from.h_dest, sizeof(from.h_dest)))
		return DROP_TRUNCATED;
	from.to_gateway = mac_equal(from.h_dest, from.bridge->mac);
	if (from.ep && from.ep->ifindex != dev)
		return DROP_SPOOFED;
	if (!from.ep) {
		if (addr_is_host(p->key.saddr))
			return DROP_SPOOFED;
		p->pass = PASS_UNKNOWN_SOURCE;
		return DROP_NONE;
	}
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
	from.bridge = bpf_map_lookup_elem(&bridges4, &from.bridge_index);
	if (!from.bridge || (from.bridge->flags & BRIDGE_DOCKER_RULES)) {
		p->pass = PASS_RULES;
		return DROP_NONE;
	}
	reason = source_check(p);
	if (reason)
		return reason;
	if (p->options && packet_source_routed(skb))
		return DROP_SOURCE_ROUTE;
	if (subnet_find(p->key.saddr) != from.bridge_index || endpoint_find(p->key.saddr)) {
		p->pass = PASS_UNKNOWN_SOURCE;
		return DROP_NONE;
	}
	return resolve_from(skb, p, &from, s);
}

/* Out: whether a socket of the host is connected with this tuple: not one that only listens, and not a UDP one open to all. */
static __noinline bool host_talks_tcp(struct __sk_buff *skb, struct bpf_sock_tuple *tuple)
{
	struct bpf_sock *sk = bpf_skc_lookup_tcp(skb, tuple, sizeof(tuple->ipv4), BPF_F_CURRENT_NETNS, 0);
	bool talks;

	if (!sk)
		return false;
	talks = sk->dst_port;
	bpf_sk_release(sk);
	return talks;
}

static __noinline bool host_talks_udp(struct __sk_buff *skb, struct bpf_sock_tuple *tuple)
{
	struct bpf_sock *sk = bpf_sk_lookup_udp(skb, tuple, sizeof(tuple->ipv4), BPF_F_CURRENT_NETNS, 0);
	bool talks;

	if (!sk)
		return false;
	talks = sk->dst_port;
	bpf_sk_release(sk);
	return talks;
}

/*
 * In: a packet for a published port that opens no TCP connection. Out: whether a socket of the host talks to just this peer from just this
 * port: then the packet is an answer to the host.
 */
static __always_inline bool host_talks(struct __sk_buff *skb, const struct flow4_key *key)
{
	struct bpf_sock_tuple tuple = {
		.ipv4.saddr = key->saddr,
		.ipv4.daddr = key->daddr,
		.ipv4.sport = key->sport,
		.ipv4.dport = key->dport,
	};

	if (key->proto == IPPROTO_TCP)
		return host_talks_tcp(skb, &tuple);
	return key->proto == IPPROTO_UDP && host_talks_udp(skb, &tuple);
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
	struct flow4 *f;
	__u32 zero = 0;
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
	if (!f || !(f->flags & FLOW_REPLY) || !f->dst_id)
		return 0;
	f = flow_begin(s, p, PATH_HOST, 0);
	f->flags = FLOW_SNAT;
	f->verb = f->partner_verb = VERB_STACK;
	f->partner_zone = ZONE_WIRE;
	noted = bpf_map_lookup_elem(&notes, &zero);
	if (nat_allocate(skb) || !noted)
		return 0;
	__sync_fetch_and_add(&noted->host_conflicts, 1);
	return 1;
}

/* A packet from an uplink: for a published port, or not for us. */
GLOBAL int resolve_uplink(struct __sk_buff *skb)
{
	struct scratch *s = scratch_get();
	struct packet *p;
	enum drop_reason reason;
	struct bridge4 *bridge;
	struct endpoint4 *to;
	struct publish4 *pub;
	struct flow4 *f;
	__u32 index;

	if (!s)
		return DROP_FLOW_TABLE;
	p = &s->packet;
	p->pass = PASS_NOT_OURS;
	if (addr_is_multicast(p->key.daddr))
		return DROP_NONE;
	reason = source_check(p);
	if (reason)
		return reason;
	if (!addr_is_host(p->key.daddr)) {
		index = subnet_find(p->key.daddr);
		bridge = index ? bpf_map_lookup_elem(&bridges4, &index) : NULL;
		return bridge ? policy_refuse(p, bridge, DROP_DIRECT) : DROP_NONE;
	}
	pub = p->lost ? NULL : publish_find(p->key.daddr, p->key.dport, p->key.proto);
	if (!pub)
		return DROP_NONE;
	to = endpoint_find(pub->addr);
	if (!to || to->id != pub->id)
		return DROP_NONE;
	bridge = bpf_map_lookup_elem(&bridges4, &to->bridge);
	if (!bridge)
		return DROP_NONE;
	if (addr_is_host(p->key.saddr) || subnet_find(p->key.saddr))
		return DROP_MARTIAN_SOURCE;
	if (p->options && packet_source_routed(skb))
		return DROP_SOURCE_ROUTE;
	if (!packet_is_syn(p) && host_talks(skb, &p->key))
		return DROP_NONE;
	p->pass = PASS_NONE;
	if (packet_is_flowless(p))
		return DROP_NONE;
	reason = policy_in(bridge);
	if (reason)
		return policy_refuse(p, bridge, reason);
	if ((bridge->flags & BRIDGE_DOCKER_RULES) && packet_is_midstream(p)) {
		p->pass = PASS_MIDSTREAM;
		return DROP_NONE;
	}

	f = flow_begin(s, p, PATH_IN, skb->ifindex);
	flow_to(f, to, bridge);
	f->flags = FLOW_ROUTED | FLOW_DNAT;
	f->daddr = pub->addr;
	f->dport = pub->port;
	f->partner_verb = VERB_NEIGH;
	return nat_allocate(skb);
}

/*
 * In: a packet that the stack forwards down a bridge. Out: whether it does so for us: the sender is on the bridge itself, or an entry waits
 * for the answer, so that it was ours until it was too big or too old for the redirect. A later fragment waits for nothing by itself.
 */
static __always_inline bool bridge_expects(const struct packet *p, __u32 bridge)
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

	return subnet_find(p->key.saddr) == bridge || flow_find(&answer, &fresh);
}

/* A packet that the host's stack sends down a bridge: its own, or one that it forwards. */
GLOBAL int resolve_bridge(struct __sk_buff *skb)
{
	struct scratch *s = scratch_get();
	struct packet *p;
	__u32 index = skb->ifindex;
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
	if (!addr_is_host(p->key.saddr) && !addr_is_loopback(p->key.saddr)) {
		/* Forwarded. Errors about flows come from anywhere; the rest is dialling a container's own address from outside. */
		if (p->key.proto == IPPROTO_ICMP && p->icmp_other)
			return DROP_NONE;
		if (!(bridge->flags & BRIDGE_DOCKER_RULES))
			return bridge_expects(p, index) ? DROP_NONE : DROP_DIRECT;
		p->pass = PASS_RULES;
		if (!to || p->key.proto == IPPROTO_TCP || p->lost)
			return DROP_NONE;
		/* The kernel let it through, so the answer is the kernel's too. */
		p->pass = PASS_NONE;
		f = flow_begin(s, p, PATH_IN, index);
		f->flags = FLOW_KERNEL;
		f->verb = f->partner_verb = VERB_STACK;
		return nat_allocate(skb);
	}
	if (!to || to->bridge != index) {
		p->pass = PASS_UNKNOWN_TARGET;
		return DROP_NONE;
	}
	p->pass = PASS_NONE;
	if (packet_is_flowless(p))
		return DROP_NONE;
	f = flow_begin(s, p, PATH_HOST, index);
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
	if (p->key.proto == IPPROTO_ICMP && p->icmp_other)
		return DROP_ICMP_ERROR;
	return DROP_NONE;
}

/* The first packet of such a flow. */
GLOBAL int resolve_leaving(struct __sk_buff *skb)
{
	struct scratch *s = scratch_get();
	struct packet *p;
	struct sender from = {};
	struct uplink4 *uplink;
	__u32 dev = skb->ifindex;
	struct flow4 *f;

	if (!s)
		return DROP_FLOW_TABLE;
	p = &s->packet;
	from.bridge = bridge_to_masquerade(p->key.saddr, &from.bridge_index);
	if (!from.bridge)
		return DROP_NO_UPLINK;
	if (policy_out(from.bridge))
		return DROP_INTERNAL;
	uplink = bpf_map_lookup_elem(&uplinks4, &dev);
	if (!uplink)
		return DROP_NO_UPLINK;
	from.ep = endpoint_find(p->key.saddr);
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
	f->saddr = masquerade_source(from.bridge, uplink, &s->route);
	if (!f->saddr)
		return DROP_NO_ADDRESS;
	return nat_allocate(skb);
}

#endif
