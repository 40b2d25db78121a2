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

/* What option_at says instead of where the next one begins. */
#define OPTIONS_DONE 0
#define OPTIONS_WRONG (-1)

/* The kind of an option that option_at has found, and where the next one begins. */
#define OPTION_KIND(at) ((at) >> 8)
#define OPTION_NEXT(at) ((at) & 0xff)

/* Out: where the options of a packet end, from the start of the frame; 0 where that cannot be read. */
static __always_inline __u32 options_end(struct __sk_buff *skb)
{
	__u8 ihl;

	return bpf_skb_load_bytes(skb, IP_OFF, &ihl, sizeof(ihl)) ? 0 : IP_OFF + (ihl & 0xf) * 4;
}

/*
 * In: where an option begins, and where all of them end. Out: what OPTION_KIND and OPTION_NEXT take apart; OPTIONS_DONE behind the last one;
 * OPTIONS_WRONG where it has no sane length. By itself, so that a verifier looks at it once, and not in every order that options may have.
 */
GLOBAL int option_at(struct __sk_buff *skb, __u32 off, __u32 end)
{
	__u8 option[2];

	if (off >= end)
		return OPTIONS_DONE;
	/* Behind an option in the header's last byte stands layer 4: no length that would do. */
	if (bpf_skb_load_bytes(skb, off, option, sizeof(option)))
		return OPTIONS_WRONG;
	if (option[0] == IPOPT_END)
		return OPTIONS_DONE;
	if (option[0] == IPOPT_NOOP)
		return option[0] << 8 | (off + 1);
	if (option[1] < 2 || off + option[1] > end)
		return OPTIONS_WRONG;
	return option[0] << 8 | (off + option[1]);
}

/*
 * In: a packet with IP options. Out: 1 where one of them asks for source routing (RFC 791, section 3.1), which nobody may ask of us, or
 * has no sane length.
 */
GLOBAL int packet_source_routed(struct __sk_buff *skb)
{
	__u32 off = IP_OFF + sizeof(struct iphdr), end = options_end(skb);

	if (!end)
		return 1;
	for (int i = 0; i < IP_OPTIONS_MAX; i++) {
		int at = option_at(skb, off, end);

		if (at == OPTIONS_DONE)
			return 0;
		if (at == OPTIONS_WRONG || OPTION_KIND(at) == IPOPT_LSRR || OPTION_KIND(at) == IPOPT_SSRR)
			return 1;
		off = OPTION_NEXT(at);
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
	__u32 off = IP_OFF + sizeof(struct iphdr), end = options_end(skb);

	for (int i = 0; i < IP_OPTIONS_MAX; i++) {
		int at = option_at(skb, off, end);

		if (at == OPTIONS_DONE || at == OPTIONS_WRONG)
			return 0;
		if (OPTION_KIND(at) == IPOPT_RR) {
			record_write(skb, off, OPTION_NEXT(at) - off, addr);
			return 0;
		}
		off = OPTION_NEXT(at);
	}
	return 0;
}

#endif
