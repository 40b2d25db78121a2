/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * flow.h: the flow table. A flow has two entries, one for each direction, and either holds enough to make the other again. Answered flows
 * stand in flows4, the rest in flows4_new; both entries of a flow stand in the same one.
 */
#ifndef EBPFNET_FLOW_H
#define EBPFNET_FLOW_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "config.h"
#include "csum.h"
#include "likely.h"
#include "maps.h"
#include "parse.h"
#include "peer.h"
#include "route.h"
#include "scratch.h"
#include "time.h"
#include "types.h"

#define EEXIST 17

static __always_inline struct config *config_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&config, &zero);
}

/* In: a tuple. Out: its entry, and in fresh whether the flow has not been answered; NULL where there is none. */
static __always_inline struct flow4 *flow_find(const struct flow4_key *key, bool *fresh)
{
	struct flow4 *f = bpf_map_lookup_elem(&flows4, key);

	*fresh = false;
	if (likely(f))
		return f;
	*fresh = true;
	return bpf_map_lookup_elem(&flows4_new, key);
}

/* As flow_find, for a tuple whose flow has most likely not been answered. */
static __always_inline struct flow4 *flow_find_new(const struct flow4_key *key, bool *fresh)
{
	struct flow4 *f = bpf_map_lookup_elem(&flows4_new, key);

	*fresh = true;
	if (likely(f))
		return f;
	*fresh = false;
	return bpf_map_lookup_elem(&flows4, key);
}

/* In: a tuple that has an entry. Out: it. */
static __always_inline struct flow4 *flow_entered(const struct flow4_key *key)
{
	bool fresh;

	return flow_find(key, &fresh);
}

/* In: a tuple that has just been entered. Out: its entry. */
static __always_inline struct flow4 *flow_begun(const struct flow4_key *key)
{
	bool fresh;

	return flow_find_new(key, &fresh);
}

/* In: an entry. Out: the key of the other direction's. */
static __always_inline void flow_partner_key(const struct flow4_key *key, const struct flow4 *f, struct flow4_key *partner)
{
	partner->saddr = f->daddr;
	partner->daddr = f->saddr;
	partner->sport = f->dport;
	partner->dport = f->sport;
	partner->proto = key->proto;
	partner->zone = f->partner_zone;
	partner->pad = 0;
}

/* Fills the checksum differences from the tuples before (key) and after (f) translation. */
static __always_inline void flow_diffs(const struct flow4_key *key, struct flow4 *f)
{
	__be32 from = (__u32)key->sport << 16 | key->dport, to = (__u32)f->sport << 16 | f->dport;

	f->addr_diff = csum_diff_pair(key->saddr, key->daddr, f->saddr, f->daddr);
	f->port_diff = csum_diff_pair(from, 0, to, 0);
}

/* Out: the tuple that an entry makes of its packets. */
static __always_inline void flow_translated(const struct flow4_key *key, const struct flow4 *f, struct flow4_key *out)
{
	out->saddr = f->saddr;
	out->daddr = f->daddr;
	out->sport = f->sport;
	out->dport = f->dport;
	out->proto = key->proto;
	out->zone = f->partner_zone;
	out->pad = 0;
}

/* In: the device that a container's packets come in by. Out: the bridge that it is a port of; a bridge itself stays as it is. */
static __always_inline __u32 flow_bridge(__u32 dev)
{
	struct veth *veth = bpf_map_lookup_elem(&veths, &dev);

	return veth ? veth->bridge : dev;
}

/*
 * In: an entry and its key in scratch. Out: 1, and there the other direction's entry and key, decided under the same epoch. Where its
 * packets leave by an uplink, the route is looked up; without a route the next hop is the destination, until the next look.
 */
GLOBAL int flow_partner(struct __sk_buff *skb)
{
	struct scratch *s = scratch_get();
	struct addr4 addr = {};
	struct bridge4 *bridge;
	struct endpoint4 *ep;
	struct flow4 *f, *p;
	__u32 index;

	if (!s)
		return 0;
	f = &s->flow;
	p = &s->partner;
	flow_partner_key(&s->key, f, &s->partner_key);
	__builtin_memset(p, 0, sizeof(*p));
	p->saddr = s->key.daddr;
	p->daddr = s->key.saddr;
	p->sport = s->key.dport;
	p->dport = s->key.sport;
	p->verb = f->partner_verb;
	p->partner_verb = f->verb;
	p->partner_zone = s->key.zone;
	p->path = f->path;
	p->flags = f->flags ^ FLOW_REPLY;
	p->tcp = f->tcp;
	p->iif = f->oif;
	p->oif = f->iif;
	p->epoch = f->epoch;
	p->src_id = f->dst_id;
	p->dst_id = f->src_id;
	p->src_slot = f->dst_slot;
	p->dst_slot = f->src_slot;
	p->bridge_slot = f->bridge_slot;
	p->publish_slot = f->publish_slot;
	p->synced = f->synced;
	p->routed = f->seen;
	p->seen = f->seen;
	p->created = f->created;
	flow_diffs(&s->partner_key, p);

	if (p->path == PATH_OVERLAY && !p->dst_id) {
		peer_way(skb, p, p->daddr, flow_bridge(p->iif));
		return 1;
	}
	if (p->verb == VERB_NEIGH) {
		p->nexthop = p->daddr;
		flow_translated(&s->partner_key, p, &s->route.key);
		if (route_back(skb, s, &s->route.key, p->oif, flow_bridge(p->iif))) {
			p->oif = s->route.oif;
			p->nexthop = s->route.nexthop;
			p->mtu = s->route.mtu;
		}
		return 1;
	}
	if (!p->dst_id)
		return 1;
	addr.addr = p->daddr;
	ep = bpf_map_lookup_elem(&endpoints4, &addr);
	if (!ep)
		return 1;
	__builtin_memcpy(p->dmac, ep->mac, sizeof(p->dmac));
	p->mtu = ep->mtu;
	index = ep->bridge;
	bridge = bpf_map_lookup_elem(&bridges4, &index);
	if (bridge)
		__builtin_memcpy(p->smac, bridge->mac, sizeof(p->smac));
	return 1;
}

/* Out: whether an entry that stands under the partner's key is the other direction of the flow under key, and not of another flow. */
static __always_inline bool flow_is_partner(const struct flow4_key *key, const struct flow4 *partner)
{
	return partner->saddr == key->daddr && partner->daddr == key->saddr && partner->sport == key->dport && partner->dport == key->sport;
}

/* Removes both entries of a flow, but not one that another flow has put in the partner's place. */
static __noinline void flow_delete(const struct flow4_key *key, const struct flow4 *f)
{
	struct flow4_key pkey = {}, own = *key;
	struct flow4 *partner;

	flow_partner_key(key, f, &pkey);
	bpf_map_delete_elem(&flows4, &own);
	bpf_map_delete_elem(&flows4_new, &own);
	partner = bpf_map_lookup_elem(&flows4, &pkey);
	if (partner && flow_is_partner(&own, partner))
		bpf_map_delete_elem(&flows4, &pkey);
	partner = bpf_map_lookup_elem(&flows4_new, &pkey);
	if (partner && flow_is_partner(&own, partner))
		bpf_map_delete_elem(&flows4_new, &pkey);
}

/* In: in scratch the key of an entry. Removes its flow. */
GLOBAL int flow_end(void)
{
	struct scratch *s = scratch_get();
	struct flow4 *f;

	if (!s)
		return 0;
	f = flow_entered(&s->key);
	if (f)
		flow_delete(&s->key, f);
	return 0;
}

/*
 * In: an unanswered flow's entry that a packet has just matched. A reply marks both entries as answered; the originator's next packet then
 * moves them to flows4. So a connection is only moved once its handshake is complete, and a flood of first packets never gets there, even
 * where each is answered. Out: whether the entry has moved.
 */
static __noinline bool flow_promote(const struct flow4_key *key, struct flow4 *f)
{
	struct flow4_key pkey = {};
	struct flow4 *partner;

	flow_partner_key(key, f, &pkey);
	partner = bpf_map_lookup_elem(&flows4_new, &pkey);
	if (f->flags & FLOW_REPLY) {
		if (f->flags & FLOW_ANSWERED)
			return false;
		f->flags |= FLOW_ANSWERED;
		if (partner)
			partner->flags |= FLOW_ANSWERED;
		return false;
	}
	if (!(f->flags & FLOW_ANSWERED) || !partner)
		return false;
	/* At every moment the reservation stands in at least one of the two tables. */
	if (bpf_map_update_elem(&flows4, &pkey, partner, BPF_ANY))
		return false;
	if (bpf_map_update_elem(&flows4, key, f, BPF_ANY)) {
		bpf_map_delete_elem(&flows4, &pkey);
		return false;
	}
	bpf_map_delete_elem(&flows4_new, &pkey);
	bpf_map_delete_elem(&flows4_new, key);
	return true;
}

/* What becomes of an entry that is looked after. */
enum flow_sync {
	FLOW_SYNC_KEEP,
	FLOW_SYNC_AGAIN,  /* it is decided again */
	FLOW_SYNC_NOBODY, /* it is decided again, knowing that its next hop does not answer */
	FLOW_SYNC_STAY,	  /* it waits: there is no way for this packet, and may be one for the next */
};

/*
 * Looks the route of an entry up anew. What a container begins is routed as it was at first, by the rules for what comes in by its bridge;
 * an answer goes back where the question came from. Out: FLOW_SYNC_AGAIN where what a container begins leads to another device now: its
 * address there is another. FLOW_SYNC_STAY where there is no way: a device that flaps has no routes for a while, and a flow that was forgotten
 * for it would begin anew from its middle, an answer as a question.
 */
static __noinline enum flow_sync flow_reroute(struct __sk_buff *skb, const struct flow4_key *key, struct flow4 *f)
{
	struct scratch *s = scratch_get();
	struct flow4_key *out;

	if (!s)
		return FLOW_SYNC_KEEP;
	out = &s->route.key;
	if (f->path == PATH_OVERLAY)
		return peer_way(skb, f, f->daddr, flow_bridge(f->iif)) ? FLOW_SYNC_KEEP : FLOW_SYNC_AGAIN;
	if (f->path == PATH_OUT && !(f->flags & FLOW_REPLY)) {
		*out = *key;
		out->daddr = f->daddr;
		if (!route_from(skb, s, out, flow_bridge(f->iif)))
			return FLOW_SYNC_STAY;
		if (s->route.oif != f->oif)
			return FLOW_SYNC_AGAIN;
	} else {
		flow_translated(key, f, out);
		if (!route_back(skb, s, out, f->oif, flow_bridge(f->iif)))
			return FLOW_SYNC_STAY;
		f->oif = s->route.oif;
	}
	f->nexthop = s->route.nexthop;
	f->mtu = s->route.mtu;
	return FLOW_SYNC_KEEP;
}

/*
 * Once in a tick in which the flow has packets: the partner is made again if it was pushed out, kept from being pushed out if not, and
 * once in a second the route is looked up anew. In: in scratch the key of an entry, and now. Out: an enum flow_sync: what becomes of the entry.
 * It has to be decided again where its route leads elsewhere, or its partner's tuple belongs to another flow now; and where it has had no
 * answer and its next hop is not there either.
 */
GLOBAL int flow_sync(struct __sk_buff *skb, __u32 now)
{
	struct scratch *s = scratch_get();
	struct flow4_key pkey = {};
	bool fresh, partner_fresh;
	struct flow4 *f, *partner;
	enum flow_sync way;

	if (!s)
		return FLOW_SYNC_KEEP;
	f = flow_find(&s->key, &fresh);
	if (!f)
		return FLOW_SYNC_KEEP;
	f->seen = now;
	f->synced = now;
	flow_partner_key(&s->key, f, &pkey);
	partner = flow_find(&pkey, &partner_fresh);
	if (partner) {
		if (!flow_is_partner(&s->key, partner))
			return FLOW_SYNC_AGAIN;
		partner->seen = now;
	} else if (f->flags & FLOW_OFFLOAD) {
		return FLOW_SYNC_AGAIN; /* its other half is the kernel's to tell */
	} else {
		s->flow = *f;
		flow_partner(skb);
		if (fresh)
			bpf_map_update_elem(&flows4_new, &s->partner_key, &s->partner, BPF_NOEXIST);
		else
			bpf_map_update_elem(&flows4, &s->partner_key, &s->partner, BPF_NOEXIST);
	}
	if ((f->verb >= VERB_NEIGH || (f->verb == VERB_DEV && f->path == PATH_OVERLAY)) && ticks_since(now, f->routed) >= ticks_per_second) {
		f->routed = now;
		way = flow_reroute(skb, &s->key, f);
		if (way == FLOW_SYNC_STAY)
			f->routed = now - ticks_per_second; /* the next packet asks again */
		if (way != FLOW_SYNC_KEEP)
			return way;
		if (fresh && !(f->flags & FLOW_REPLY) && s->route.no_neigh)
			return FLOW_SYNC_NOBODY;
	}
	return FLOW_SYNC_KEEP;
}

/*
 * In: a TCP packet with SYN, FIN or RST, and in which table its entry stands. Writes what it means for the connection into both entries.
 */
static __noinline void flow_tcp(const struct flow4_key *key, struct flow4 *f, bool fresh, __u8 tcp_flags)
{
	struct flow4_key pkey = {};
	struct flow4 *partner;
	bool reply = f->flags & FLOW_REPLY;
	__u8 seen = f->tcp;

	if (tcp_flags & TH_RST)
		seen |= TCP_RST;
	if (tcp_flags & TH_FIN)
		seen |= reply ? TCP_FIN_REPLY : TCP_FIN;
	if (tcp_flags & TH_SYN)
		seen |= reply ? TCP_SYN_REPLY : TCP_SYN;
	if (seen == f->tcp)
		return;
	f->tcp = seen;
	flow_partner_key(key, f, &pkey);
	partner = fresh ? flow_find_new(&pkey, &fresh) : flow_find(&pkey, &fresh);
	if (partner)
		partner->tcp = seen;
}

/* Out: whether the connection is over, so that a SYN on its tuple begins another. */
static __always_inline bool flow_is_closed(const struct flow4 *f)
{
	return (f->tcp & TCP_RST) || (f->tcp & (TCP_FIN | TCP_FIN_REPLY)) == (TCP_FIN | TCP_FIN_REPLY);
}

#endif
