/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * sctp.h: SCTP's checksum is a CRC32c over the whole packet (RFC 9260, section 6.8), addresses not included. A CRC is linear: what other ports
 * do to it depends on the ports and on how many bytes follow them, not on those bytes.
 */
#ifndef EBPFNET_SCTP_H
#define EBPFNET_SCTP_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "global.h"
#include "parse.h"
#include "scratch.h"
#include "types.h"

struct sctphdr {
	__be16 source;
	__be16 dest;
	__be32 vtag;
	__u32 checksum; /* its bytes in the order of a little-endian machine */
};

/* Castagnoli's polynomial, lowest power in the highest bit. */
#define CRC32C_POLY 0x82f63b78

/* x to the power of 8 * 2^k, modulo the polynomial: what 2^k further bytes do to a CRC. */
static const __u32 crc32c_bytes[] = {
	0x00800000, 0x00008000, 0x82f63b78, 0x6ea2d55c, 0x18b8ea18, 0x510ac59a,
	0xb82be955, 0xb8fdb1e7, 0x88e56f72, 0x74c360a4, 0xe4172b16, 0x0d65762a,
	0x35d73a62, 0x28461564, 0xbf455269, 0xe2ea32dc, 0xfe7740e6,
};

#define CRC32C_POWERS (sizeof(crc32c_bytes) / sizeof(crc32c_bytes[0]))

/* In: two polynomials. Out: their product modulo the polynomial. */
GLOBAL __u32 crc32c_multiply(__u32 a, __u32 b)
{
	__u32 product = 0;

	for (int i = 0; i < 32; i++) {
		product ^= b & -(a >> 31);
		a <<= 1;
		b = (b >> 1) ^ (CRC32C_POLY & -(b & 1));
	}
	return product;
}

/* In: the first four bytes' change, and how many bytes follow them. Out: the CRC's change. */
GLOBAL __u32 crc32c_change(__u32 diff, __u32 follow)
{
	for (int i = 0; i < 32; i++)
		diff = (diff >> 1) ^ (CRC32C_POLY & -(diff & 1));
	for (__u32 k = 0; k < CRC32C_POWERS; k++) {
		__u32 power = crc32c_bytes[k];

		if (follow & 1)
			diff = crc32c_multiply(power, diff);
		follow >>= 1;
	}
	return diff;
}

/*
 * In: an SCTP packet, and the ports that it shall have. Out: true with them in it and its checksum right. A checksum that the device shall
 * compute later (CHECKSUM_PARTIAL) is overwritten then. The first piece of a fragmented packet says nothing of the length: false.
 */
static __noinline bool sctp_rewrite(struct __sk_buff *skb, const struct packet *p, const struct flow4 *f)
{
	__u32 l4 = p->l4_off & 0x7f, before, after, len;
	struct sctphdr sctp;

	if (p->fragment || bpf_skb_load_bytes(skb, l4, &sctp, sizeof(sctp)))
		return false;
	len = p->tot_len - (l4 - IP_OFF);
	__builtin_memcpy(&before, &sctp.source, sizeof(before));
	sctp.source = f->sport;
	sctp.dest = f->dport;
	__builtin_memcpy(&after, &sctp.source, sizeof(after));
	sctp.checksum ^= crc32c_change(before ^ after, len - sizeof(before));
	return !bpf_skb_store_bytes(skb, l4, &sctp, sizeof(sctp), 0);
}

#endif
