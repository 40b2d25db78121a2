/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* inbound.h: the first packet of a flow that comes from the wire. */
#ifndef EBPFNET_INBOUND_H
#define EBPFNET_INBOUND_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "begin.h"
#include "maps.h"
#include "nat.h"
#include "overlay.h"
#include "parse.h"
#include "policy.h"
#include "publish.h"
#include "rules.h"
#include "scratch.h"
#include "types.h"

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
static __noinline bool host_talks(struct __sk_buff *skb, const struct flow4_key *key)
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

/* A packet from an uplink to a container's own address, which may be dialled. */
static __noinline enum drop_reason resolve_direct(struct __sk_buff *skb, struct packet *p, const struct bridge4 *bridge, struct scratch *s)
{
	struct endpoint4 *to = endpoint_find(p->key.daddr);
	enum drop_reason reason;
	struct flow4 *f;

	p->pass = PASS_UNKNOWN_TARGET;
	if (!to)
		return DROP_NONE;
	p->pass = PASS_NONE;
	if (packet_is_flowless(p))
		return DROP_NONE;
	reason = rules_ask(NULL, to, &p->key, p->key.daddr, p->key.dport);
	if (reason)
		return reason;
	f = flow_begin(s, p, PATH_IN, skb->ifindex);
	flow_to(f, to, bridge);
	f->flags = FLOW_ROUTED;
	f->partner_verb = VERB_NEIGH;
	return nat_allocate(skb);
}

/* A packet from an uplink: for a published port, or not for us; or, where it came in a datagram, out of the tunnel. */
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
	if (p->dev != skb->ifindex)
		return addr_is_multicast(p->key.daddr) ? DROP_NO_PEER : resolve_from_peer(skb, p, s);
	p->pass = PASS_NOT_OURS;
	if (addr_is_multicast(p->key.daddr))
		return DROP_NONE;
	reason = source_check(p);
	if (reason)
		return reason;
	if (!addr_is_host(p->key.daddr)) {
		index = subnet_find(p->key.daddr);
		if (index && peer_sends_direct(skb, s, p->key.saddr))
			return resolve_from_peer(skb, p, s);
		bridge = index ? bpf_map_lookup_elem(&bridges4, &index) : NULL;
		if (bridge && !(bridge->flags & BRIDGE_DOCKER_RULES) && policy_direct(bridge, skb->ifindex, p->key.daddr, p->key.dport, p->key.proto))
			return resolve_direct(skb, p, bridge, s);
		return bridge ? policy_refuse(p, bridge, DROP_DIRECT) : DROP_NONE;
	}
	if (p->lost) {
		p->pass = PASS_FRAGMENT;
		return DROP_NONE;
	}
	pub = publish_find(p->key.daddr, p->key.dport, p->key.proto);
	if (!pub)
		return DROP_NONE;
	to = endpoint_find(pub->addr);
	if (!to || to->id != pub->id)
		return DROP_NONE;
	bridge = bpf_map_lookup_elem(&bridges4, &to->bridge);
	if (!bridge)
		return DROP_NONE;
	if (!(bridge->flags & BRIDGE_OFFLOAD) && (addr_is_host(p->key.saddr) || subnet_find(p->key.saddr)))
		return DROP_MARTIAN_SOURCE;
	if (!packet_is_syn(p) && host_talks(skb, &p->key))
		return DROP_NONE;
	p->pass = PASS_NONE;
	if (packet_is_flowless(p))
		return DROP_NONE;
	reason = publish_refuse(pub, p->key.saddr, skb->ifindex);
	if (!reason)
		reason = rules_ask(NULL, to, &p->key, pub->addr, pub->port);
	if (reason)
		return reason;
	if (policy_offload(p, bridge))
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
	f->publish_slot = pub->slot;
	f->partner_verb = VERB_NEIGH;
	return nat_allocate(skb);
}

#endif
