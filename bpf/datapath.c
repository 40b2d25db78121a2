//go:build ignore

/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* datapath.c: the TC programs, one for each hook. Each reads as its packets' way. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "arrival.h"
#include "begin.h"
#include "carry.h"
#include "config.h"
#include "datagram.h"
#include "deliver.h"
#include "event.h"
#include "forward.h"
#include "inbound.h"
#include "likely.h"
#include "maps.h"
#include "offload.h"
#include "overlay.h"
#include "parse.h"
#include "stack.h"
#include "stats.h"
#include "types.h"
#include "vxlan.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* All that a container sends. */
SEC("tc")
int from_container(struct __sk_buff *skb)
{
	int verdict = VERDICT_NEXT;
	enum drop_reason reason;
	struct packet p = {};

	unmark(skb);
	reason = packet_parse(skb, ZONE_LOCAL, &p);
	if (likely(!reason && !p.pass))
		verdict = carry(skb, &p, resolve_container, &reason);
	else if (p.pass == PASS_NOT_IPV4)
		reason = frame_refuse(skb);
	return done_container(skb, &p, reason, verdict);
}

/*
 * In: an IPv4 packet to a container, and its veth. Out: whether the bridge has it from a port without a program of ours, or from somebody
 * whom that program did not know, and serves only those whom we know. What the host's stack sends has the bridge's own MAC address.
 */
static __always_inline bool sender_is_refused(struct __sk_buff *skb, const struct veth *veth)
{
	__u32 index = veth->bridge;
	struct bridge4 *bridge = bpf_map_lookup_elem(&bridges4, &index);
	__u8 source[ETH_ALEN];

	if (!bridge || !(bridge->flags & BRIDGE_CLOSED) || !skb->ingress_ifindex)
		return false;
	return bpf_skb_load_bytes(skb, offsetof(struct ethhdr, h_source), source, sizeof(source)) || !mac_equal(source, bridge->mac);
}

/* Drops a frame on its way to a container, and tells of it. Out: the verdict. */
static __always_inline int refuse_arrival(struct __sk_buff *skb, const struct veth *veth, enum drop_reason reason)
{
	struct packet p = {};

	stats_drop(skb, reason);
	if (veth->id)
		stats_received_dropped(skb, veth->slot);
	if (monitor) {
		packet_hold(&p);
		packet_parse(skb, ZONE_LOCAL, &p);
		p.judged = reason == DROP_POLICY_INGRESS;
		packet_hold(&p);
		event_tell(skb, &p, HOOK_TO_CONTAINER, reason, VERDICT_DROP);
	}
	return VERDICT_DROP;
}

/* What the host's stack, or the bridge by itself, sends to a container. */
SEC("tc")
int to_container(struct __sk_buff *skb)
{
	__u32 dev = skb->ifindex, mark = unmark(skb);
	enum drop_reason reason = DROP_NONE;
	struct veth *veth;

	if (mark == MARK_DONE)
		return VERDICT_NEXT;
	veth = bpf_map_lookup_elem(&veths, &dev);
	if (!veth)
		return VERDICT_NEXT;
	if (veth->flags & VETH_INGRESS)
		reason = arrival_refuse(skb, mark);
	else if (skb->protocol != bpf_htons(ETH_P_IP))
		return VERDICT_NEXT;
	if (!reason && skb->protocol == bpf_htons(ETH_P_IP) && !mark && sender_is_refused(skb, veth))
		reason = DROP_UNKNOWN_CONTAINER;
	if (reason)
		return refuse_arrival(skb, veth, reason);
	if (skb->protocol != bpf_htons(ETH_P_IP))
		return VERDICT_NEXT;
	if (skb->ingress_ifindex)
		offload_witness(skb, veth->bridge, ZONE_LOCAL);
	if (veth->id)
		stats_received(skb, veth->slot, stats_packets(skb));
	return VERDICT_NEXT;
}

/* In: a frame from an uplink that nothing is known of yet, and why it is dropped. Out: 0, with that counted and told. */
GLOBAL int refuse(struct __sk_buff *skb, __u32 reason)
{
	struct packet p = {};

	stats_drop(skb, reason);
	if (monitor) {
		packet_hold(&p);
		packet_parse(skb, ZONE_WIRE, &p);
		packet_hold(&p);
		event_tell(skb, &p, HOOK_FROM_UPLINK, reason, VERDICT_DROP);
	}
	return 0;
}

/*
 * In: a datagram for the tunnel of this host. Out: the ifindex of the device that the stack's answers leave by, with the packet that it held in its
 * place; the uplink's, with the frame as it was; or 0, with it counted and told as dropped. It stands by itself because the verifier goes twice
 * through what follows it otherwise.
 */
GLOBAL int unwrap(struct __sk_buff *skb)
{
	struct overlay *o = overlay_get();
	__u32 dev = skb->ifindex;
	enum drop_reason reason;

	/* The verifier wants the field at an offset from the context itself, and not whichever of two addresses. */
	asm volatile("" : "+r"(dev));
	if (o && o->kind == PEER_VXLAN)
		return vxlan_open(skb) ? o->ifindex : dev;
	reason = datagram_open(skb);
	if (!reason && o)
		return o->ifindex;
	refuse(skb, reason ? reason : DROP_NOT_PEER);
	return 0;
}

/* Out: the hook that what came in a datagram would have come by. */
static __always_inline enum hook hook_behind(void)
{
	struct overlay *o = overlay_get();

	return o && o->kind == PEER_VXLAN ? HOOK_FROM_OVERLAY : HOOK_FROM_PEER;
}

/* The wire. */
SEC("tc")
int from_uplink(struct __sk_buff *skb)
{
	int verdict = VERDICT_NEXT;
	enum drop_reason reason;
	struct packet p = {};
	__u32 dev = skb->ifindex;

	/* A device that listens to all also shows the frames that are for others. */
	if (skb->pkt_type == PACKET_OTHERHOST)
		return verdict;
	/* What came in a datagram is from here on as if it came by the device that the answers leave by. */
	if (datagram_is_tunnel(skb)) {
		dev = unwrap(skb);
		if (!dev)
			return VERDICT_DROP;
	}
	reason = packet_parse(skb, ZONE_WIRE, &p);
	p.dev = dev;
	if (likely(!reason && !p.pass))
		verdict = carry(skb, &p, resolve_uplink, &reason);
	verdict = done(skb, &p, p.dev == skb->ifindex ? HOOK_FROM_UPLINK : hook_behind(), reason, verdict);
	return verdict == VERDICT_NEXT && p.dev != skb->ifindex ? datagram_leave(skb, p.dev) : verdict;
}

/* What leaves by an uplink without having been translated: the host's own, and what the stack forwards for a container. */
SEC("tc")
int to_uplink(struct __sk_buff *skb)
{
	enum drop_reason reason = DROP_NONE;
	int verdict = VERDICT_NEXT;
	struct packet p = {};
	struct scratch *s;
	struct flow4 *f;
	__u32 bridge;

	if (unmark(skb) == MARK_DONE)
		return verdict;
	if (skb->ingress_ifindex)
		offload_witness(skb, skb->ingress_ifindex, ZONE_WIRE);
	/* What is malformed here came through the stack, and is its business; but a container's is not to be seen. */
	reason = packet_parse(skb, ZONE_LOCAL, &p);
	if (reason && bridge_to_masquerade(p.key.saddr, &bridge))
		return done(skb, &p, HOOK_TO_UPLINK, reason, verdict);
	if (reason || p.pass)
		return verdict;
	p.dev = 0;
	if (p.icmp_other && !p.fragment) {
		carry_error(skb, &p, &reason);
		if (!reason && !p.pass)
			return verdict;
	}
	if (p.lost)
		frag_find(&p);
	if (addr_is_host(p.key.saddr)) {
		verdict = carry_host(skb, &p, &reason);
		return done(skb, &p, HOOK_TO_UPLINK, reason, verdict);
	}
	reason = resolve_leaving_source(&p);
	if (p.pass)
		return verdict;
	if (reason)
		return done(skb, &p, HOOK_TO_UPLINK, reason, verdict);
	f = flow_use(skb, &p, false);
	s = scratch_get();
	if (!f && s) {
		s->packet = p;
		reason = resolve_leaving(skb);
		if (reason)
			return done(skb, &p, HOOK_TO_UPLINK, reason, verdict);
		f = flow_begun(&p.key);
	}
	if (f && p.fragment && !p.later)
		reason = remember_pieces(&p, f);
	if (f && !reason)
		verdict = flow_send_leaving(skb, &p, f, &reason);
	else if (!f)
		reason = DROP_FLOW_TABLE;
	return done(skb, &p, HOOK_TO_UPLINK, reason, verdict);
}

/* What comes up from a bridge to the host. */
SEC("tc")
int from_bridge(struct __sk_buff *skb)
{
	int verdict = VERDICT_NEXT;
	enum drop_reason reason;
	struct packet p = {};

	if (unmark(skb) || skb->pkt_type != PACKET_HOST)
		return verdict;
	reason = packet_parse(skb, ZONE_LOCAL, &p);
	if (!reason && !p.pass)
		verdict = carry(skb, &p, resolve_stranger, &reason);
	if (verdict == VERDICT_NEXT)
		unmark(skb);
	return done(skb, &p, HOOK_FROM_BRIDGE, reason, verdict);
}

/* What the host's stack sends down a bridge. */
SEC("tc")
int to_bridge(struct __sk_buff *skb)
{
	int verdict = VERDICT_NEXT;
	enum drop_reason reason;
	struct packet p = {};

	/* It goes on to a veth, where the mark is asked for again. */
	if (skb->tc_index == MARK_DONE)
		return verdict;
	unmark(skb);
	reason = packet_parse(skb, ZONE_LOCAL, &p);
	p.dev = 0;
	if (likely(!reason && !p.pass))
		verdict = carry(skb, &p, resolve_bridge, &reason);
	return done(skb, &p, HOOK_TO_BRIDGE, reason, verdict);
}

/* What comes out of the tunnel to other hosts. */
SEC("tc")
int from_overlay(struct __sk_buff *skb)
{
	int verdict = VERDICT_NEXT;
	enum drop_reason reason;
	struct packet p = {};

	/* What from_uplink has taken out and looked at, and is for the stack. The frame is still the one that it came in. */
	if (unmark(skb) == MARK_OPENED) {
		bpf_skb_change_type(skb, PACKET_HOST);
		return verdict;
	}
	/* For another tunnel endpoint. */
	if (skb->pkt_type == PACKET_OTHERHOST)
		return verdict;
	reason = packet_parse(skb, ZONE_WIRE, &p);
	if (!reason && !p.pass)
		reason = tunnel_check(skb, &p);
	if (!reason && !p.pass)
		verdict = carry(skb, &p, resolve_tunnel, &reason);
	return done(skb, &p, HOOK_FROM_OVERLAY, reason, verdict);
}

/* What came in a datagram, was looked at then, and is for the stack: by the near end of the pair of devices that the stack's answers leave by. */
SEC("tc")
int from_peer(struct __sk_buff *skb)
{
	/* The frame is still the one that the datagram came in, for the uplink's address. */
	if (unmark(skb) == MARK_OPENED)
		bpf_skb_change_type(skb, PACKET_HOST);
	return VERDICT_NEXT;
}

/*
 * What the host's stack sends into the tunnel: its own, and what was too big for a program. What a program sent is ready for it already.
 */
SEC("tc")
int to_overlay(struct __sk_buff *skb)
{
	enum drop_reason reason;
	struct packet p = {};

	if (unmark(skb) == MARK_DONE)
		return VERDICT_NEXT;
	packet_hold(&p);
	reason = packet_parse(skb, ZONE_LOCAL, &p);
	packet_hold(&p);
	if (!reason)
		reason = p.pass ? DROP_NO_PEER : tunnel_enter(skb, &p);
	return done(skb, &p, HOOK_TO_OVERLAY, reason, VERDICT_NEXT);
}

/* What is for another host in a datagram: containers' and the host's own, on the far end of the pair of devices that it was sent through. */
SEC("tc")
int to_peer(struct __sk_buff *skb)
{
	struct bpf_redir_neigh neigh = {};
	enum drop_reason reason;
	struct packet p = {};
	struct scratch *s;

	unmark(skb);
	packet_hold(&p);
	reason = packet_parse(skb, ZONE_LOCAL, &p);
	packet_hold(&p);
	s = scratch_get();
	if (p.pass || !s)
		reason = DROP_NO_PEER;
	if (!reason && s) {
		s->packet = p;
		reason = datagram_wrap(skb);
	}
	if (reason || !s)
		return done(skb, &p, HOOK_TO_PEER, reason, VERDICT_DROP);
	neigh.nh_family = FAMILY_INET;
	neigh.ipv4_nh = s->route.nexthop;
	skb->tc_index = MARK_DONE;
	return bpf_redirect_neigh(s->route.oif, &neigh, sizeof(neigh), 0);
}

/* Never attached: run by the agent to read the clock that the entries' times are in. Out: now, in ticks. */
SEC("tc")
int clock(struct __sk_buff *skb)
{
	return ticks_now();
}
