/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * vxlan.h: packets between hosts in VXLAN, as the kernel's device writes and reads them (RFC 7348, section 5). What is for a container is taken
 * out here, before the device has it; whatever is not as it should be is left to the device, and to from_overlay behind it.
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
#include "global.h"
#include "maps.h"
#include "parse.h"
#include "peer.h"
#include "stats.h"
#include "tunnel.h"
#include "types.h"

/* The only flag: the network's number is valid. */
#define VXLAN_HAS_VNI 0x08000000

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
	/* A mark of congestion is the device's to copy, and to drop where it cannot be. */
	if ((v.outer.ip.tos & ECN_MASK) == ECN_CE)
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
	stats_from_peer(skb, peer->addr);
	return 1;
}

#endif
