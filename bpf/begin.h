/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* begin.h: what every first packet of a flow needs: who has an address, what is wrong with a source, and an entry to fill in. */
#ifndef EBPFNET_BEGIN_H
#define EBPFNET_BEGIN_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "flow.h"
#include "maps.h"
#include "parse.h"
#include "scratch.h"
#include "time.h"
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

/* In: a packet that will be entered. Out: true where it is of a kind that begins no flow, with p->pass set. */
static __always_inline bool packet_is_flowless(struct packet *p)
{
	if (p->lost)
		p->pass = PASS_FRAGMENT;
	else if (p->icmp_other || p->icmp_reply)
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

#endif
