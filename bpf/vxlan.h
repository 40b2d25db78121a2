/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * vxlan.h: packets between hosts in VXLAN, as the kernel's device writes and reads them (RFC 7348, section 5). What containers exchange goes past
 * that device; what the host itself sends or is to have, and whatever is not as it should be, goes through it, and from_overlay is behind it.
 */
#ifndef EBPFNET_VXLAN_H
#define EBPFNET_VXLAN_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "begin.h"
#include "deliver.h"
#include "global.h"
#include "maps.h"
#include "parse.h"
#include "peer.h"
#include "scratch.h"
#include "stats.h"
#include "tunnel.h"
#include "types.h"

/* The only flag: the network's number is valid. */
#define VXLAN_HAS_VNI 0x08000000

/* The ports that it is sent from, one for each flow, so that hosts and routers can tell flows apart (RFC 7348, section 5). */
#define VXLAN_PORT_MIN 49152
#define VXLAN_PORT_MASK 0x3fff

/*
 * How room is made for it, with the kernel told of what stands there, so that it may cut the packet inside up and finish its checksum later
 * (linux/bpf.h). What it calls the link layer begins behind the outer UDP header, and with its own addresses behind VXLAN's.
 */
#define VXLAN_ROOM (BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP | BPF_F_ADJ_ROOM_ENCAP_L2(ETH_HLEN) | BPF_F_ADJ_ROOM_FIXED_GSO)

/* A link-layer header, in words that may be copied. */
struct link_header {
	__u16 words[ETH_HLEN / 2];
};

/* What VXLAN adds to a packet, from the outer IPv4 header on. */
struct vxlan {
	struct iphdr ip;
	struct udphdr udp;
	__be32 flags;
	__be32 vni; /* in the upper 24 bits */
	struct ethhdr eth;
} __attribute__((packed));
_Static_assert(sizeof(struct vxlan) == VXLAN_OVERHEAD, "what the MTU is smaller by");

/* The headers of a packet in VXLAN. */
struct vxlan_packet {
	struct vxlan outer;
	struct iphdr inner;
} __attribute__((packed));

/*
 * In: a datagram for this host's tunnel. Out: 1 with the packet that it held in its place: one of a container of the host that sent it. 0 with
 * the frame as it was, for the kernel's device.
 */
GLOBAL int vxlan_open(struct __sk_buff *skb)
{
	struct overlay *o = overlay_get();
	struct vxlan_packet v;
	struct peer4 *peer;

	if (!o || !o->ifindex || bpf_skb_load_bytes(skb, IP_OFF, &v, sizeof(v)))
		return 0;
	/* A sum over everything is the kernel's to check. */
	if ((v.outer.ip.frag_off & bpf_htons(IP_MORE_FRAGMENTS | IP_OFFSET_MASK)) || v.outer.udp.check)
		return 0;
	if (v.outer.flags != bpf_htonl(VXLAN_HAS_VNI) || v.outer.vni != bpf_htonl(o->vni << 8))
		return 0;
	if (v.outer.eth.h_proto != bpf_htons(ETH_P_IP) || !mac_equal(v.outer.eth.h_dest, o->mac) || v.inner.version != 4)
		return 0;
	if (bpf_ntohs(v.outer.ip.tot_len) != bpf_ntohs(v.inner.tot_len) + sizeof(v.outer))
		return 0;
	/* A mark of congestion that does not stand inside yet is the device's to copy, and to drop the packet where it cannot be. */
	if ((v.outer.ip.tos & ECN_MASK) == ECN_CE && (v.inner.tos & ECN_MASK) != ECN_CE)
		return 0;
	/* See datagram_holds. */
	if (skb->gso_size && v.inner.protocol != IPPROTO_TCP)
		return 0;
	/* What is for the host itself, or for nobody, takes the device's way. */
	if (!endpoint_find(v.inner.daddr))
		return 0;
	peer = peer_find(v.inner.saddr);
	if (!peer || peer->kind != PEER_VXLAN || peer->addr != v.outer.ip.saddr)
		return 0;
	if (bpf_skb_adjust_room(skb, -(__s32)sizeof(v.outer), BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO))
		return 0;
	return 1;
}

/* Makes room for VXLAN's headers behind the link-layer header. Out: 0, or an error with the packet as it was. */
static __always_inline long vxlan_room(struct __sk_buff *skb)
{
	long err = bpf_skb_adjust_room(skb, sizeof(struct vxlan), BPF_ADJ_ROOM_MAC, VXLAN_ROOM | BPF_F_ADJ_ROOM_ENCAP_L2_ETH);

	/* Kernels before 5.13 do not know of an inner link layer, and need not where there is nothing to be cut up. */
	if (err && !skb->gso_size)
		err = bpf_skb_adjust_room(skb, sizeof(struct vxlan), BPF_ADJ_ROOM_MAC, VXLAN_ROOM);
	return err;
}

/* Drops a packet that could not be wrapped, though nothing was wrong with it. Out: the verdict. */
static __always_inline int vxlan_fail(struct __sk_buff *skb)
{
	stats_drop(skb, DROP_REWRITE);
	return VERDICT_DROP;
}

/*
 * In: a translated packet as a container sends it, whose checksum may have been left to a device, and which may be several segments, with the
 * link-layer addresses of the tunnel's two ends; in scratch the way to the host that has its destination. Out: the verdict, with the packet in
 * VXLAN on that way; or as it was, on its way to the kernel's device, which wraps it: where there is a header before the packet already, where its
 * length would not fit into one, and where the kernel could not cut it up behind one.
 */
GLOBAL int vxlan_send(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct bpf_redir_neigh neigh = {};
	struct scratch *s = scratch_get();
	struct overlay *o = overlay_get();
	struct link_header eth;
	struct iphdr *ip;
	struct udphdr *udp;
	__be32 *header;
	__u32 len;
	__u8 tos;

	packet_mark(skb, MARK_DONE);
	ip = data + IP_OFF;
	if (!s || !o || (void *)(ip + 1) > end)
		return vxlan_fail(skb);
	eth = *(struct link_header *)data;
	tos = ip->tos;
	len = (skb->gso_size ? skb->len - IP_OFF : bpf_ntohs(ip->tot_len)) + sizeof(struct vxlan);
	if (s->way.oif == o->ifindex || len > 0xffff || vxlan_room(skb))
		return tunnel_wrap(skb, o, s->way.host) ? vxlan_fail(skb) : bpf_redirect(o->ifindex, 0);
	data = (void *)(long)skb->data;
	end = (void *)(long)skb->data_end;
	if (data + IP_OFF + sizeof(struct vxlan) > end)
		return vxlan_fail(skb);
	ip = data + IP_OFF;
	*ip = tunnel_ip(o, s->way.host, len, tos, false);
	udp = (void *)(ip + 1);
	udp->source = bpf_htons(VXLAN_PORT_MIN | (s->way.hash & VXLAN_PORT_MASK));
	udp->dest = o->port;
	udp->len = bpf_htons(len - sizeof(*ip));
	/* The packet inside has its own (RFC 7348, section 4.1). */
	udp->check = 0;
	header = (void *)(udp + 1);
	header[0] = bpf_htonl(VXLAN_HAS_VNI);
	header[1] = bpf_htonl(o->vni << 8);
	*(struct link_header *)(header + 2) = eth;
	neigh.nh_family = FAMILY_INET;
	neigh.ipv4_nh = s->way.nexthop;
	return bpf_redirect_neigh(s->way.oif, &neigh, sizeof(neigh), 0);
}

#endif
