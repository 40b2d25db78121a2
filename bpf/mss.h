/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * mss.h: the largest segment that the ends of a TCP connection announce (RFC 9293, section 3.7.1) is lowered to what the way between them
 * takes, so that a connection through a smaller uplink works at once, whoever swallows ICMP errors.
 */
#ifndef EBPFNET_MSS_H
#define EBPFNET_MSS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "config.h"
#include "parse.h"
#include "scratch.h"
#include "types.h"

#define TCPOPT_END 0
#define TCPOPT_NOOP 1
#define TCPOPT_MSS 2

/* How many options are looked at. Every stack that is known puts this one first. */
#define TCP_OPTIONS 8

/* The option that says the segment size, and the start of every other that is not a lone byte. */
struct tcp_option {
	__u8 type;
	__u8 size;
	__be16 mss;
};

/* IPv4 and TCP without options: what an MTU holds beside the segment. */
#define MSS_OVERHEAD (sizeof(struct iphdr) + sizeof(struct tcphdr))

/*
 * In: in scratch a SYN, and in s->mtu the smaller MTU of its connection's two directions, 0 where neither is known. Out: the segment size
 * that it announces is no larger than that MTU allows, and than the setting. A SYN that announces none is left so: the peer then takes 536.
 */
GLOBAL int mss_clamp(struct __sk_buff *skb)
{
	struct scratch *s = scratch_get();
	__u16 most = mss_limit;
	__u32 l4, off, end;
	__u8 doff;

	if (!s)
		return 0;
	if (s->mtu > MSS_OVERHEAD && s->mtu - MSS_OVERHEAD < most)
		most = s->mtu - MSS_OVERHEAD;
	l4 = s->packet.l4_off & 0x7f;
	if (bpf_skb_load_bytes(skb, l4 + 12, &doff, sizeof(doff)))
		return 0;
	off = l4 + sizeof(struct tcphdr);
	end = l4 + (doff >> 4) * 4;
	for (int i = 0; i < TCP_OPTIONS; i++) {
		__u16 mss, from_sum, to_sum;
		struct tcp_option option;
		__be16 to;

		if (off + sizeof(option) > end || bpf_skb_load_bytes(skb, off, &option, sizeof(option)))
			return 0;
		if (option.type == TCPOPT_END)
			return 0;
		if (option.type == TCPOPT_MSS && option.size == sizeof(option)) {
			mss = bpf_ntohs(option.mss);
			if (mss <= most)
				return 0;
			to = bpf_htons(most);
			/* At an odd place each byte is the other half of the checksum's word. */
			from_sum = (off - l4) & 1 ? mss : option.mss;
			to_sum = (off - l4) & 1 ? most : to;
			bpf_skb_store_bytes(skb, off + offsetof(struct tcp_option, mss), &to, sizeof(to), 0);
			bpf_l4_csum_replace(skb, l4 + offsetof(struct tcphdr, check), from_sum, to_sum, sizeof(to_sum));
			return 1;
		}
		if (option.type != TCPOPT_NOOP && option.size < 2)
			return 0;
		off += option.type == TCPOPT_NOOP ? 1 : option.size;
	}
	return 0;
}

#endif
