/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* icmphdr.h: the ICMP header (RFC 792). linux/icmp.h would draw in the C library's headers, which know no BPF target. */
#ifndef EBPFNET_ICMPHDR_H
#define EBPFNET_ICMPHDR_H

#include <linux/types.h>

struct icmphdr {
	__u8 type;
	__u8 code;
	__sum16 checksum;
	__be16 id; /* of queries and their replies */
	__be16 sequence;
};

enum icmp_type {
	ICMP_ECHO_REPLY = 0,
	ICMP_UNREACHABLE = 3,
	ICMP_SOURCE_QUENCH = 4,
	ICMP_REDIRECT = 5,
	ICMP_ECHO = 8,
	ICMP_TIME_EXCEEDED = 11,
	ICMP_PARAMETER_PROBLEM = 12,
	ICMP_TIMESTAMP = 13,
	ICMP_TIMESTAMP_REPLY = 14,
	ICMP_INFORMATION = 15,
	ICMP_INFORMATION_REPLY = 16,
	ICMP_ADDRESS_MASK = 17,
	ICMP_ADDRESS_MASK_REPLY = 18,
};

#endif
