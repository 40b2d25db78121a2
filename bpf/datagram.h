/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * datagram.h: packets between hosts as all that a UDP datagram holds, as flannel's udp backend sends them: an IPv4 and a UDP header before
 * the packet, and nothing in between. Where the receiver is ours too, and its packets are a TCP stream's, they are wrapped before they are cut
 * into segments, and the kernel cuts them as late as it can: in the last device, or never between hosts that are namespaces or virtual machines.
 */
#ifndef EBPFNET_DATAGRAM_H
#define EBPFNET_DATAGRAM_H

#include <linux/bpf.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "csum.h"
#include "deliver.h"
#include "global.h"
#include "maps.h"
#include "parse.h"
#include "peer.h"
#include "scratch.h"
#include "stats.h"
#include "tunnel.h"
#include "types.h"

/*
 * How room is made for it: the kernel is told what stands there, so that it knows where the packet inside begins, and may cut that up and finish
 * its checksum later (linux/bpf.h). The segments stay as long as they are.
 */
#define DATAGRAM_FLAGS (BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP | BPF_F_ADJ_ROOM_FIXED_GSO)

/* What a datagram adds to a packet. The link-layer header that the stack wrote stands before it until the kernel writes another. */
struct datagram {
	struct iphdr ip;
	struct udphdr udp;
};
_Static_assert(sizeof(struct datagram) == UDP_OVERHEAD, "what the MTU is smaller by");

/* In: what a UDP datagram is for, in network order. Out: 1 where that is the tunnel of this host. */
GLOBAL int datagram_for_tunnel(__u32 addr, __u32 port)
{
	struct overlay *o = overlay_get();

	return o && port == o->port && addr == o->local;
}

/*
 * In: any frame from an uplink. Out: whether it is a datagram for the tunnel of this host. It is asked before anything else is known, because
 * what is known then would not find room on the stack beside it. Nobody sends such datagrams with IP options.
 */
static __always_inline bool datagram_is_tunnel(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct datagram *d;

	if (skb->protocol != bpf_htons(ETH_P_IP) || skb->vlan_present)
		return false;
	if (data + IP_OFF + sizeof(*d) > end) {
		if (!packet_pull(skb, IP_OFF + sizeof(*d)))
			return false;
		data = (void *)(long)skb->data;
		end = (void *)(long)skb->data_end;
	}
	d = data + IP_OFF;
	if ((void *)(d + 1) > end || d->ip.version != 4 || d->ip.ihl != sizeof(d->ip) / 4 || d->ip.protocol != IPPROTO_UDP)
		return false;
	return datagram_for_tunnel(d->ip.daddr, d->udp.dest);
}

/* In: a packet's length and type of service. Writes the outer headers into room for them. */
static __always_inline long datagram_write(struct __sk_buff *skb, const struct overlay *o, __be32 host, __u16 len, __u8 tos)
{
	struct datagram d = {};

	/* Only who has the whole datagram finds the packet in it. */
	d.ip = tunnel_ip(o, host, len + sizeof(d), tos, true);
	/* What a receiver of flannel's answers to, and what an error about the datagram is found by. */
	d.udp.source = d.udp.dest = o->port;
	/* No checksum (RFC 768): the packet inside has its own. */
	d.udp.len = bpf_htons(len + sizeof(d.udp));
	return bpf_skb_store_bytes(skb, IP_OFF, &d, sizeof(d), 0);
}

/*
 * In: in scratch a packet that has come through the pair of devices, so that it has whole checksums and is no larger than a wire takes: a
 * receiver of flannel's gets it as it is. Out:
 * 0 with it in a datagram for the host that has its destination, and the way there in scratch; or the reason to drop.
 */
GLOBAL int datagram_wrap(struct __sk_buff *skb)
{
	struct scratch *s = scratch_get();
	struct overlay *o = overlay_get();
	struct peer4 *peer;
	__be32 host;
	__u8 tos;

	if (!s || !o || o->kind != PEER_UDP)
		return DROP_NO_PEER;
	peer = peer_find(s->packet.key.daddr);
	if (!peer || peer->kind != PEER_UDP)
		return DROP_NO_PEER;
	host = peer->addr;
	if (bpf_skb_load_bytes(skb, IP_OFF + offsetof(struct iphdr, tos), &tos, sizeof(tos)))
		return DROP_TRUNCATED;
	if (!peer_route(skb, s, host, skb->ifindex))
		return DROP_NO_PEER;
	if (bpf_skb_adjust_room(skb, sizeof(struct datagram), BPF_ADJ_ROOM_MAC, 0))
		return DROP_REWRITE;
	if (datagram_write(skb, o, host, s->packet.tot_len, tos))
		return DROP_REWRITE;
	stats_to_peer(skb, host);
	return DROP_NONE;
}

/*
 * In: the header of a packet of several segments, and the length of the frame with the datagram's headers. Out: whether it can be wrapped as it
 * is, or has been. When the headers are taken off, the kernel (6.18) does not forget that there were some: it would not know how to cut a UDP
 * socket's packet again, which it does at the receiver, and has nothing to cut of TCP's. More than 64 KiB have no length in a header.
 */
static __always_inline bool datagram_holds(const struct iphdr *inner, __u32 len)
{
	return inner->protocol == IPPROTO_TCP && len <= IP_OFF + 0xffff;
}

/*
 * In: a translated packet as a container sends it, whose checksum may have been left to a device, and which may be several segments; in scratch
 * the way to the host that has its destination. Out: the verdict, with the packet in a datagram on that way; where the kernel has to finish it
 * before, on its way to the device that does. It is counted under the host.
 */
GLOBAL int datagram_send(struct __sk_buff *skb)
{
	struct bpf_redir_neigh neigh = {};
	struct scratch *s = scratch_get();
	struct overlay *o = overlay_get();
	struct iphdr inner;
	__u32 packets;

	packet_mark(skb, MARK_DONE);
	if (!s || !o || bpf_skb_load_bytes(skb, IP_OFF, &inner, sizeof(inner)))
		return VERDICT_DROP;
	if (s->way.oif == o->ifindex)
		return bpf_redirect(o->ifindex, 0);
	packets = stats_packets(skb);
	if (skb->gso_size && !datagram_holds(&inner, skb->len + sizeof(struct datagram)))
		return bpf_redirect(o->ifindex, 0);
	/* The kernel refuses what has a header before it already, where a container is a router. */
	if (bpf_skb_adjust_room(skb, sizeof(struct datagram), BPF_ADJ_ROOM_MAC, DATAGRAM_FLAGS))
		return bpf_redirect(o->ifindex, 0);
	if (datagram_write(skb, o, s->way.host, bpf_ntohs(inner.tot_len), inner.tos)) {
		stats_drop(skb, DROP_REWRITE);
		return VERDICT_DROP;
	}
	stats_to_peer_as(skb, s->way.host, packets);
	neigh.nh_family = FAMILY_INET;
	neigh.ipv4_nh = s->way.nexthop;
	return bpf_redirect_neigh(s->way.oif, &neigh, sizeof(neigh), 0);
}

/*
 * In: a datagram for this host's tunnel, with sane headers. Out: 0 with the packet that it holds in its place. Or the reason to drop it: it is
 * not from the host that has the packet's source, it is only a piece, or it was marked for congestion around a packet that cannot tell of it
 * (RFC 6040, section 4.2).
 */
GLOBAL int datagram_open(struct __sk_buff *skb)
{
	struct overlay *o = overlay_get();
	struct iphdr outer, inner;
	struct peer4 *peer;
	const __u32 room = sizeof(struct datagram);
	__u8 tos;

	if (!o || !o->ifindex || bpf_skb_load_bytes(skb, IP_OFF, &outer, sizeof(outer)))
		return DROP_TRUNCATED;
	if (outer.frag_off & bpf_htons(IP_MORE_FRAGMENTS | IP_OFFSET_MASK))
		return DROP_FRAGMENT;
	if (bpf_skb_load_bytes(skb, IP_OFF + room, &inner, sizeof(inner)))
		return DROP_TRUNCATED;
	if (inner.version != 4)
		return DROP_IP_HEADER;
	peer = peer_find(inner.saddr);
	if (!peer || peer->kind != PEER_UDP || peer->addr != outer.saddr)
		return DROP_NOT_PEER;
	if ((outer.tos & ECN_MASK) == ECN_CE && !(inner.tos & ECN_MASK))
		return DROP_CONGESTION;
	/* Several datagrams that the kernel has put one behind the other have the header before the first of them alone. */
	if (skb->gso_size && (!datagram_holds(&inner, skb->len) || bpf_ntohs(outer.tot_len) != bpf_ntohs(inner.tot_len) + room))
		return DROP_REWRITE;
	stats_from_peer(skb, peer->addr);
	if (bpf_skb_adjust_room(skb, -(__s32)room, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO))
		return DROP_REWRITE;
	if ((outer.tos & ECN_MASK) == ECN_CE && (inner.tos & ECN_MASK) != ECN_CE) {
		tos = inner.tos | ECN_CE;
		/* The type of service is the lower byte of its word. */
		inner.check = csum_apply(inner.check, (__u32)bpf_htons((__u16)~inner.tos) + bpf_htons(tos));
		if (bpf_skb_store_bytes(skb, IP_OFF + offsetof(struct iphdr, tos), &tos, sizeof(tos), 0) ||
		    bpf_skb_store_bytes(skb, IP_OFF + offsetof(struct iphdr, check), &inner.check, sizeof(inner.check), 0))
			return DROP_REWRITE;
	}
	return DROP_NONE;
}

/*
 * In: a packet that came in a datagram and is for the stack, and the device that the answers leave by. Out: the verdict that lets it come in
 * by that device, because the stack may ask for it (net.ipv4.conf.*.rp_filter). from_peer lets it pass there.
 */
static __always_inline int datagram_leave(struct __sk_buff *skb, __u32 near)
{
	packet_mark(skb, MARK_OPENED);
	return bpf_redirect(near, BPF_F_INGRESS);
}

#endif
