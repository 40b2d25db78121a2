/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* csum.h: Internet checksums, changed by difference (RFC 1624). */
#ifndef EBPFNET_CSUM_H
#define EBPFNET_CSUM_H

#include <linux/ip.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

/* In: a 32-bit one's complement sum. Out: the same in 16 bits. */
static __always_inline __u16 csum_fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* Out: the checksum of an IPv4 header without options, whose checksum field is 0. */
static __always_inline __u16 csum_ip(const struct iphdr *ip)
{
	const __be32 *words = (const void *)ip;
	__u64 sum = 0;

	for (int i = 0; i < sizeof(*ip) / sizeof(*words); i++)
		sum += words[i];
	sum = (sum & 0xffffffff) + (sum >> 32);
	return ~csum_fold((sum & 0xffffffff) + (sum >> 32));
}

/* In: a checksum field and a difference from bpf_csum_diff. Out: the field after the change. */
static __always_inline __u16 csum_apply(__u16 check, __u32 diff)
{
	__u64 sum = (__u16)~check + (__u64)diff;

	return ~csum_fold((sum & 0xffffffff) + (sum >> 32));
}

/* In: two pairs of 32-bit words in network order. Out: what changing the first into the second does to a checksum; 0 where they are alike. */
static __always_inline __u32 csum_diff_pair(__be32 from0, __be32 from1, __be32 to0, __be32 to1)
{
	__be32 from[2] = {from0, from1}, to[2] = {to0, to1};

	if (from0 == to0 && from1 == to1)
		return 0;
	return bpf_csum_diff(from, sizeof(from), to, sizeof(to), 0);
}

#endif
