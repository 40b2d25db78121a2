/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* deliver.h: a packet whose flow is known: the checks of every packet, its translation, its counters and its way on. */
#ifndef EBPFNET_DELIVER_H
#define EBPFNET_DELIVER_H

#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#include "begin.h"
#include "flow.h"
#include "likely.h"
#include "mss.h"
#include "nat.h"
#include "offload.h"
#include "options.h"
#include "parse.h"
#include "peer.h"
#include "route.h"
#include "stats.h"
#include "tunnel.h"
#include "types.h"
#include "valid.h"

/* TCX_NEXT and TC_ACT_UNSPEC: other programs on the hook, and then the stack, go on with the packet. */
#define VERDICT_NEXT (-1)
#define VERDICT_REDIRECT 7 /* TCX_REDIRECT and TC_ACT_REDIRECT: what bpf_redirect and its like answer */
#define VERDICT_DROP 2 /* TCX_DROP and TC_ACT_SHOT */
/* Ours: vxlan_send and datagram_send have the verdict, once all is told of the packet as it is. */
#define VERDICT_VXLAN 100
#define VERDICT_DATAGRAM 101

/* linux/if_packet.h */
#define PACKET_HOST 0
#define PACKET_OTHERHOST 3

/* In: a packet. Out: scratch, with its flow's key there for flow_valid, flow_sync and flow_end; NULL where there is none. */
static __always_inline struct scratch *flow_name(const struct packet *p)
{
	struct scratch *s = scratch_get();

	if (s)
		s->key = p->key;
	return s;
}

/*
 * In: a packet. Out: the entry that carries it, or NULL where there is none that may: then the packet has to be resolved as a first one,
 * with p->nobody set where its flow's next hop does not answer. An entry that was decided under an older configuration, belongs to a closed
 * connection that is being opened again, or whose route has moved, is removed here. On a bridge and its ports an entry is for packets of
 * one device only, or of the stack (p->dev 0), and strict asks for that: nobody uses the flow of another by lying about his address. The
 * wire may bring a flow by any uplink. Where the host's rules are to be asked again, and where the kernel has to see that a connection begins or
 * ends, an offloaded flow's packet is not carried either.
 */
static __always_inline struct flow4 *flow_use(struct __sk_buff *skb, struct packet *p, bool strict)
{
	__u32 now = ticks_now();
	enum flow_sync sync;
	struct config *cfg;
	struct flow4 *f;
	bool fresh;

	f = p->tcp_flags & TH_SYN ? flow_find_new(&p->key, &fresh) : flow_find(&p->key, &fresh);
	if (!f) {
		p->unmet = true;
		return NULL;
	}
	if (unlikely(strict && f->iif != p->dev))
		return NULL;
	cfg = config_get();
	if (unlikely(cfg && f->epoch != cfg->epoch)) {
		if (!flow_name(p) || !flow_valid()) {
			flow_end();
			return NULL;
		}
		f->epoch = cfg->epoch;
	}
	if (unlikely(p->tcp_flags & (TH_SYN | TH_FIN | TH_RST))) {
		if ((f->flags & FLOW_OFFLOAD) || (packet_is_syn(p) && flow_is_closed(f))) {
			if (flow_name(p))
				flow_end();
			return NULL;
		}
		flow_tcp(&p->key, f, fresh, p->tcp_flags);
	}
	if (unlikely(fresh) && flow_promote(&p->key, f)) {
		f = bpf_map_lookup_elem(&flows4, &p->key);
		if (!f)
			return NULL;
	}
	if (unlikely(f->synced != now)) {
		if ((f->flags & FLOW_OFFLOAD) && !offload_holds(f, now))
			return NULL;
		if (!flow_name(p))
			return NULL;
		sync = flow_sync(skb, now);
		if (sync == FLOW_SYNC_STAY)
			return NULL;
		if (sync != FLOW_SYNC_KEEP) {
			p->nobody = sync == FLOW_SYNC_NOBODY;
			flow_end();
			return NULL;
		}
	}
	return f;
}

/* In: a SYN of a flow that crosses a network. Lowers the segment size that it announces to the MTU of both directions. */
static __always_inline void flow_clamp(struct __sk_buff *skb, const struct packet *p, const struct flow4 *f)
{
	struct scratch *s = scratch_get();
	struct flow4_key pkey = {};
	struct flow4 *partner;
	bool fresh;

	if (!s)
		return;
	flow_partner_key(&p->key, f, &pkey);
	partner = flow_find_new(&pkey, &fresh);
	s->packet = *p;
	s->mtu = f->mtu;
	if (partner && partner->mtu && (!s->mtu || partner->mtu < s->mtu))
		s->mtu = partner->mtu;
	mss_clamp(skb);
}

/*
 * Counts a packet between containers of two hosts under the other host. What comes out of the tunnel is counted where that is checked, and what
 * goes in a datagram where that is written.
 */
static __always_inline void flow_count_peer(struct __sk_buff *skb, const struct flow4 *f)
{
	struct overlay *o = overlay_get();
	struct peer4 *peer;

	if (f->verb == VERB_VXLAN || f->verb == VERB_NEIGH) {
		stats_to_peer(skb, f->host);
	} else if (!o || (o->kind != PEER_UDP && skb->ifindex != o->ifindex)) {
		peer = peer_find(f->saddr);
		if (peer)
			stats_from_peer(skb, peer->addr);
	}
}

/* Counts a packet of the few flows that have a published port or another host at an end. */
static __noinline void flow_count_more(struct __sk_buff *skb, const struct flow4 *f)
{
	if (f->publish_slot)
		stats_published(skb, f->publish_slot, f->flags & FLOW_REPLY);
	if (f->path == PATH_OVERLAY)
		flow_count_peer(skb, f);
}

/* Counts a frame under its flow's bridge, path, endpoints, published port and peer, as so many packets. */
static __always_inline void flow_count_path(struct __sk_buff *skb, const struct flow4 *f, __u32 packets)
{
	stats_path(skb, f->bridge_slot, f->path, packets);
	if (f->src_id)
		stats_sent(skb, f->src_slot, packets);
	if (f->dst_id)
		stats_received(skb, f->dst_slot, packets);
	if (unlikely(f->publish_slot || f->path == PATH_OVERLAY))
		flow_count_more(skb, f);
}

/* Counts a packet that its flow carries. */
static __always_inline void flow_count(struct __sk_buff *skb, struct flow4 *f)
{
	__u32 packets = stats_packets(skb);

	if (count_packets) {
		__sync_fetch_and_add(&f->packets, packets);
		__sync_fetch_and_add(&f->bytes, skb->len);
	}
	flow_count_path(skb, f, packets);
}

/* In: a packet with IP options that crosses the host, and its entry. The host writes itself into its record of the route. */
static __noinline void flow_record(struct __sk_buff *skb, const struct flow4 *f)
{
	struct endpoint4 *to = endpoint_find(f->daddr);
	struct uplink4 *uplink;
	struct bridge4 *bridge;
	__u32 oif = f->oif;

	if (f->verb == VERB_PEER) {
		bridge = to ? bpf_map_lookup_elem(&bridges4, &to->bridge) : NULL;
		if (bridge)
			options_record(skb, bridge->addr);
	} else if (addr_is_host(f->saddr)) {
		options_record(skb, f->saddr);
	} else {
		uplink = bpf_map_lookup_elem(&uplinks4, &oif);
		if (uplink)
			options_record(skb, route_source(uplink, f->nexthop));
	}
}

/* Writes the link-layer addresses that a container expects from its gateway. */
static __always_inline bool flow_link_header(struct __sk_buff *skb, const struct flow4 *f)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ethhdr *eth = data;

	if ((void *)(eth + 1) > end)
		return false;
	__builtin_memcpy(eth->h_dest, f->dmac, ETH_ALEN);
	__builtin_memcpy(eth->h_source, f->smac, ETH_ALEN);
	return true;
}

/* Out: a number that all packets of an entry have in common, and those of another hardly. */
static __always_inline __u32 flow_hash(const struct flow4 *f)
{
	__u32 h = f->saddr * 0x9e3779b1;

	h = (h ^ (h >> 15) ^ f->daddr) * 0x85ebca77;
	h = (h ^ (h >> 13) ^ ((__u32)f->sport << 16 | f->dport)) * 0xc2b2ae3d;
	return h ^ (h >> 16);
}

/* In: the entry of a packet for another host's container. Out: whether its way there is in scratch now. */
static __always_inline bool flow_way(const struct flow4 *f)
{
	struct scratch *s = scratch_get();

	if (!s)
		return false;
	s->way.host = f->host;
	s->way.oif = f->oif;
	s->way.nexthop = f->nexthop;
	s->way.hash = flow_hash(f);
	return true;
}

/*
 * In: a translated packet and its entry. Out: the TC verdict that sends it on its way, or VERDICT_DROP with the reason in *reason; or
 * VERDICT_VXLAN or VERDICT_DATAGRAM with the way in scratch.
 */
static __always_inline int flow_deliver(struct __sk_buff *skb, const struct flow4 *f, enum drop_reason *reason)
{
	struct bpf_redir_neigh neigh = {};
	__u32 oif = f->oif;

	switch (f->verb) {
	case VERB_PEER:
		if ((f->flags & FLOW_ROUTED) && !flow_link_header(skb, f))
			break;
		/* A frame for another host's address is what the bridge sees; the container's stack would not take it. */
		if (unlikely(skb->pkt_type != PACKET_HOST))
			bpf_skb_change_type(skb, PACKET_HOST);
		/* As on every other way into a namespace; bpf_redirect_peer does so by itself since kernel 6.11. */
		skb->mark = 0;
		return bpf_redirect_peer(oif, 0);
	case VERB_DEV:
		packet_mark(skb, MARK_DONE);
		return bpf_redirect(oif, 0);
	case VERB_NEIGH:
		neigh.nh_family = FAMILY_INET;
		neigh.ipv4_nh = f->nexthop;
		packet_mark(skb, MARK_DONE);
		return bpf_redirect_neigh(oif, &neigh, sizeof(neigh), 0);
	case VERB_VXLAN:
		if (flow_way(f) && flow_link_header(skb, f))
			return VERDICT_VXLAN;
		break;
	case VERB_DATAGRAM:
		if (flow_way(f))
			return VERDICT_DATAGRAM;
		break;
	default:
		packet_mark(skb, MARK_LEFT);
		return VERDICT_NEXT;
	}
	*reason = DROP_REWRITE;
	return VERDICT_DROP;
}

/* In: a flow's key and its entry. Out: in scratch an entry that translates as that does, but for the source; NULL where there is none. */
static __noinline struct flow4 *flow_with_own_source(const struct flow4_key *key, const struct flow4 *f)
{
	struct scratch *s = scratch_get();

	if (!s)
		return NULL;
	s->flow = *f;
	s->flow.saddr = key->saddr;
	s->flow.sport = key->sport;
	flow_diffs(key, &s->flow);
	return &s->flow;
}

/*
 * In: a packet and the entry that carries it. Out: the TC verdict, with the packet translated, counted and on its way; or VERDICT_NEXT with
 * p->pass set where the kernel has to answer; or VERDICT_DROP with the reason in *reason.
 */
static __always_inline int flow_send(struct __sk_buff *skb, struct packet *p, struct flow4 *f, enum drop_reason *reason)
{
	bool routed = f->flags & FLOW_ROUTED;

	if (unlikely(f->flags & FLOW_KERNEL)) {
		p->pass = PASS_RULES;
		return VERDICT_NEXT;
	}
	if (unlikely(routed && p->ttl <= 1))
		p->pass = PASS_TTL;
	else if (unlikely(f->mtu && p->len > f->mtu))
		p->pass = PASS_MTU;
	/*
	 * The kernel has to answer, or to cut it. Where its destination is translated it goes to the stack with that, so that the stack does not
	 * take it for its own; but with its own source, since one of ours would be a lie there. An offloaded flow it translates itself.
	 */
	if (unlikely(p->pass)) {
		if (f->daddr == p->key.daddr || (f->flags & FLOW_OFFLOAD))
			return VERDICT_NEXT;
		if (f->saddr != p->key.saddr)
			f = flow_with_own_source(&p->key, f);
		if (!f) {
			*reason = DROP_REWRITE;
			return VERDICT_DROP;
		}
		routed = false;
	}
	if (mss_limit && unlikely(routed && (p->tcp_flags & TH_SYN)))
		flow_clamp(skb, p, f);
	if (routed || f->addr_diff || f->port_diff) {
		*reason = nat_rewrite(skb, p, f, routed);
		if (unlikely(*reason))
			return VERDICT_DROP;
	}
	if (unlikely(routed && p->options))
		flow_record(skb, f);
	if (unlikely(p->pass))
		return VERDICT_NEXT;
	flow_count(skb, f);
	return flow_deliver(skb, f, reason);
}

/* In: an ICMP error that is translated already, and the entry of the flow it is about, which it does not refresh. Out: as flow_deliver. */
static __always_inline int flow_send_error(struct __sk_buff *skb, const struct flow4 *f, enum drop_reason *reason)
{
	flow_count_path(skb, f, 1);
	return flow_deliver(skb, f, reason);
}

/*
 * In: a packet that the stack already carries out of its device with a container's source, and its entry. Out: the verdict, with the
 * packet translated and counted. The stack has routed it: neither TTL nor link layer are touched.
 */
static __always_inline int flow_send_leaving(struct __sk_buff *skb, struct packet *p, struct flow4 *f, enum drop_reason *reason)
{
	if (f->flags & FLOW_KERNEL)
		return VERDICT_NEXT;
	*reason = nat_rewrite(skb, p, f, false);
	if (*reason)
		return VERDICT_DROP;
	flow_count(skb, f);
	return VERDICT_NEXT;
}

#endif
