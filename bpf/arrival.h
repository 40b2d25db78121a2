/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * arrival.h: what belongs to no flow of ours and may yet not pass: frames that are no IPv4, and what comes to a container from somebody on
 * its bridge whom no program has looked at.
 */
#ifndef EBPFNET_ARRIVAL_H
#define EBPFNET_ARRIVAL_H

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "begin.h"
#include "forward.h"
#include "maps.h"
#include "parse.h"
#include "rules.h"
#include "scratch.h"
#include "stack.h"
#include "types.h"

/* An ARP packet of IPv4 over Ethernet, from its sender's addresses on (RFC 826). */
#define ARP_SENDER_OFF (ETH_HLEN + 8)

struct arp_sender {
	__u8 mac[ETH_ALEN];
	__u8 addr[4];
};

static __always_inline bool frame_is_arp(struct __sk_buff *skb)
{
	return skb->protocol == bpf_htons(ETH_P_ARP) && !skb->vlan_present;
}

/* In: an ARP packet, and the veth that it comes by. Out: whether it says of another's address that it is behind this veth. */
static __always_inline bool arp_lies(struct __sk_buff *skb, const struct veth *veth, __u32 dev)
{
	struct endpoint4 *ep;
	__u8 sender[sizeof(struct arp_sender)];
	__be32 addr;

	if (bpf_skb_load_bytes(skb, ARP_SENDER_OFF, sender, sizeof(sender)))
		return true;
	if (!mac_equal(sender, veth->mac))
		return true;
	__builtin_memcpy(&addr, sender + ETH_ALEN, sizeof(addr));
	/* A probe for whether an address is free names none (RFC 5227, section 2.1.1). */
	if (!addr)
		return false;
	ep = endpoint_find(addr);
	return ep ? ep->ifindex != dev : addr_is_host(addr);
}

/* In: a frame of a container that is no IPv4. Out: 0, or the reason to drop it. */
GLOBAL int frame_refuse(struct __sk_buff *skb)
{
	struct scratch *s = scratch_get();
	struct bridge4 *bridge;
	__u32 dev = skb->ifindex, index;
	struct veth *veth;

	veth = bpf_map_lookup_elem(&veths, &dev);
	if (!s || !veth || !veth->id)
		return DROP_NONE;
	index = veth->bridge;
	bridge = bpf_map_lookup_elem(&bridges4, &index);
	if (!bridge)
		return DROP_NONE;
	if ((veth->flags & VETH_EGRESS) && !frame_is_arp(skb))
		return DROP_POLICY_EGRESS;
	if (bpf_skb_load_bytes(skb, offsetof(struct ethhdr, h_source), s->h_source, sizeof(s->h_source)))
		return DROP_TRUNCATED;
	if (veth_spoofs(veth, bridge, s->h_source))
		return DROP_SPOOFED;
	if (!(bridge->flags & BRIDGE_SPOOFING) && veth_is_known(veth) && frame_is_arp(skb) && arp_lies(skb, veth, dev))
		return DROP_SPOOFED;
	return DROP_NONE;
}

/*
 * In: a frame that the bridge brings to a container which rules select, and whether a program has seen it where it was sent. Out: 0, or the
 * reason to drop it. The host's own, and what its stack forwards, has been looked at on its way down the bridge.
 */
GLOBAL int arrival_refuse(struct __sk_buff *skb, __u32 seen)
{
	struct scratch *s = scratch_get();
	struct bridge4 *bridge;
	__u32 dev = skb->ifindex, index;
	struct endpoint4 *to;
	struct packet *p;
	struct veth *veth;

	veth = bpf_map_lookup_elem(&veths, &dev);
	if (!s || !veth)
		return DROP_NONE;
	index = veth->bridge;
	bridge = bpf_map_lookup_elem(&bridges4, &index);
	if (!bridge || !skb->ingress_ifindex)
		return DROP_NONE;
	if (bpf_skb_load_bytes(skb, offsetof(struct ethhdr, h_source), s->h_source, sizeof(s->h_source)))
		return DROP_TRUNCATED;
	if (mac_equal(s->h_source, bridge->mac) || frame_is_arp(skb))
		return DROP_NONE;
	p = &s->packet;
	__builtin_memset(p, 0, sizeof(*p));
	if (packet_parse(skb, ZONE_LOCAL, p) || p->pass || addr_is_multicast(p->key.daddr))
		return DROP_POLICY_INGRESS;
	if (seen)
		return DROP_NONE;
	to = endpoint_find(p->key.daddr);
	if (!to || to->ifindex != dev)
		return DROP_POLICY_INGRESS;
	return rules_ask_late(p, to);
}

#endif
