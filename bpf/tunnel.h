/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* tunnel.h: the outer headers of a packet to another host. */
#ifndef EBPFNET_TUNNEL_H
#define EBPFNET_TUNNEL_H

#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "config.h"
#include "csum.h"
#include "parse.h"
#include "types.h"

/* Bits of the type of service (RFC 3168, section 5). */
#define ECN_MASK 0x03
#define ECN_CE 0x03

/* The TTL of the outer header. */
#define TUNNEL_TTL 64

/*
 * In: the host, the length of the packet with all that is put before it, and whether it may be cut on its way. Out: the outer header. Congestion
 * can be marked on the way where the packet inside can tell of it (RFC 6040, section 4.1).
 */
static __always_inline struct iphdr tunnel_ip(const struct overlay *o, __be32 host, __u16 len, __u8 tos, bool whole)
{
	struct iphdr ip = {
		.version = 4,
		.ihl = sizeof(ip) / 4,
		.tos = tos & ECN_MASK,
		.tot_len = bpf_htons(len),
		/* What nobody cuts needs no id (RFC 6864, section 4.1). */
		.id = whole ? 0 : bpf_get_prandom_u32(),
		.frag_off = whole ? bpf_htons(IP_DONT_FRAGMENT) : 0,
		.ttl = TUNNEL_TTL,
		.protocol = IPPROTO_UDP,
		.saddr = o->local,
		.daddr = host,
	};

	ip.check = csum_ip(&ip);
	return ip;
}

/*
 * In: a packet as another host's container is to see it, with its link-layer header written; the host's address. Out: 0 with the outer
 * header's facts attached: whoever sends it into the VXLAN device sends it there. The outer header may be fragmented, and has no checksum
 * of its own (RFC 7348, section 4.1): the inner one has.
 */
static __always_inline long tunnel_wrap(struct __sk_buff *skb, const struct overlay *o, __be32 host)
{
	struct bpf_tunnel_key key = {.tunnel_id = o->vni, .remote_ipv4 = bpf_ntohl(host), .tunnel_ttl = TUNNEL_TTL};

	/* Kernels before 5.19 take the struct without its last field, and choose the source as for any packet. */
	if (!has_tunnel_local)
		return bpf_skb_set_tunnel_key(skb, &key, offsetof(struct bpf_tunnel_key, local_ipv4), BPF_F_ZERO_CSUM_TX);
	key.local_ipv4 = bpf_ntohl(o->local);
	return bpf_skb_set_tunnel_key(skb, &key, sizeof(key), BPF_F_ZERO_CSUM_TX);
}

#endif
