/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* options.h: the options of an IP header (RFC 791, section 3.1). */
#ifndef EBPFNET_OPTIONS_H
#define EBPFNET_OPTIONS_H

#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "csum.h"
#include "global.h"
#include "parse.h"

/*
 * In: a packet with IP options. Out: 1 where one of them asks for source routing (RFC 791, section 3.1), which nobody may ask of us, or
 * has no sane length.
 */
GLOBAL int packet_source_routed(struct __sk_buff *skb)
{
	__u32 off = IP_OFF + sizeof(struct iphdr), end;
	__u8 option[2], ihl;

	if (bpf_skb_load_bytes(skb, IP_OFF, &ihl, sizeof(ihl)))
		return 1;
	end = IP_OFF + (ihl & 0xf) * 4;
	for (int i = 0; i < IP_OPTIONS_MAX; i++) {
		if (off >= end)
			return 0;
		/* Behind an option in the header's last byte stands layer 4: no length that would do. */
		if (bpf_skb_load_bytes(skb, off, option, sizeof(option)))
			return 1;
		if (option[0] == IPOPT_END)
			return 0;
		if (option[0] == IPOPT_NOOP) {
			off++;
			continue;
		}
		if (option[0] == IPOPT_LSRR || option[0] == IPOPT_SSRR || option[1] < 2 || off + option[1] > end)
			return 1;
		off += option[1];
	}
	return 0;
}

/* In: where an option begins that is a record of the route. Its address field, and the pointer to it, are filled in if there is room. */
static __always_inline void record_write(struct __sk_buff *skb, __u32 off, __u8 len, __be32 addr)
{
	__u8 header[sizeof(struct iphdr) + IP_OPTIONS_MAX] = {}, ihl, at;
	__u32 sum = 0;
	__be16 check;

	if (bpf_skb_load_bytes(skb, off + 2, &at, sizeof(at)) || at < 4 || at + 3 > len)
		return;
	if (bpf_skb_store_bytes(skb, off + at - 1, &addr, sizeof(addr), 0))
		return;
	at += sizeof(addr);
	if (bpf_skb_store_bytes(skb, off + 2, &at, sizeof(at), 0))
		return;
	/* The fields may begin at an odd byte, so the header is summed as a whole. */
	if (bpf_skb_load_bytes(skb, IP_OFF, &ihl, sizeof(ihl)))
		return;
	ihl = (ihl & 0xf) * 4;
	if (ihl < sizeof(struct iphdr) || ihl > sizeof(header) || bpf_skb_load_bytes(skb, IP_OFF, header, ihl))
		return;
	for (int i = 0; i < (int)sizeof(header); i += 2) {
		if (i != offsetof(struct iphdr, check))
			sum += header[i] << 8 | header[i + 1];
	}
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	check = bpf_htons(~sum);
	bpf_skb_store_bytes(skb, IP_OFF + offsetof(struct iphdr, check), &check, sizeof(check), 0);
}

/* In: a packet with IP options that is valid, and the host's address on its way. Out: the packet with the address in its record of the route. */
GLOBAL int options_record(struct __sk_buff *skb, __be32 addr)
{
	__u32 off = IP_OFF + sizeof(struct iphdr), end;
	__u8 option[2], ihl;

	if (bpf_skb_load_bytes(skb, IP_OFF, &ihl, sizeof(ihl)))
		return 0;
	end = IP_OFF + (ihl & 0xf) * 4;
	for (int i = 0; i < IP_OPTIONS_MAX; i++) {
		if (off >= end || bpf_skb_load_bytes(skb, off, option, sizeof(option)) || option[0] == IPOPT_END)
			return 0;
		if (option[0] == IPOPT_NOOP) {
			off++;
			continue;
		}
		if (option[1] < 2 || off + option[1] > end)
			return 0;
		if (option[0] == IPOPT_RR) {
			record_write(skb, off, option[1], addr);
			return 0;
		}
		off += option[1];
	}
	return 0;
}

#endif
