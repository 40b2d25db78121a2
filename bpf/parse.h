/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* parse.h: from a frame to the facts that every later step needs, with every bound checked once. */
#ifndef EBPFNET_PARSE_H
#define EBPFNET_PARSE_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "global.h"
#include "icmphdr.h"
#include "likely.h"
#include "types.h"

#define IP_MORE_FRAGMENTS 0x2000
#define IP_DONT_FRAGMENT 0x4000
#define IP_OFFSET_MASK 0x1fff

/* The IPv4 header follows the Ethernet header on every device that a program is attached to. */
#define IP_OFF ETH_HLEN

/* The most options that an IP header has room for, of one byte each. */
#define IP_OPTIONS_MAX 40

/* Ethernet, IPv4 without options and TCP without options: what lies in the linear part of nearly every packet. */
#define COMMON_HEADERS (ETH_HLEN + sizeof(struct iphdr) + sizeof(struct tcphdr))

/* The same with UDP. */
#define SHORT_HEADERS (ETH_HLEN + sizeof(struct iphdr) + sizeof(struct udphdr))

/* SCTP's common header (RFC 9260, section 3.1). */
#define SCTP_HEADER 12

/* The second byte of TCP's flags word. */
enum tcp_flag_bit {
	TH_FIN = 0x01,
	TH_SYN = 0x02,
	TH_RST = 0x04,
	TH_ACK = 0x10,
};

/* What is known of a packet. Filled by packet_parse, then only read, but for pass. */
struct packet {
	struct flow4_key key;
	__u32 len;	/* of the largest IP packet that it becomes on a wire, in bytes */
	__u32 dev;	/* ifindex of the device it comes in by; 0: it comes from the stack */
	__u16 l4_off;	/* from the start of the frame */
	__u16 tot_len;	/* as the IP header says */
	__be16 ip_id;
	__be16 new_id;	/* of a fragment: the IP id that it leaves with */
	__u8 ttl;
	__u8 tcp_flags; /* enum tcp_flag_bit */
	bool fragment;	/* first or later piece of a datagram */
	bool later;	/* a piece without the layer 4 header */
	bool lost;	/* a later piece whose ports are not known */
	bool icmp_other; /* an ICMP message that belongs to no flow of its own */
	bool icmp_reply; /* an ICMP message that answers a query: it begins no flow */
	bool options;	/* the IP header has options */
	bool nobody;	/* an earlier packet of its flow has had no answer, and its next hop does not answer either */
	bool judged;	/* rules were asked about it, and the one that decided is in scratch */
	bool unmet;	/* no entry stands under its tuple */
	__u8 pad;
	enum pass_reason pass; /* set where the packet is to be left to the stack */
};

/* In: 32 bits in network order and a prefix length that is constant. Out: whether the address lies in the prefix. */
#define ADDR_IN(addr, a, b, c, d, bits) \
	(((addr)&bpf_htonl(0xffffffffU << (32 - (bits)))) == bpf_htonl((a) << 24 | (b) << 16 | (c) << 8 | (d)))

static __always_inline bool addr_is_loopback(__be32 addr)
{
	return ADDR_IN(addr, 127, 0, 0, 0, 8);
}

/* Multicast (RFC 5771), reserved and limited broadcast: all that starts at 224.0.0.0. */
static __always_inline bool addr_is_multicast(__be32 addr)
{
	return ADDR_IN(addr, 224, 0, 0, 0, 3);
}

/*
 * Leaves a mark on a packet for the next of our hooks. The verifier wants the field at an offset from the context itself, and the compiler
 * would keep its address, where it is written in several places.
 */
static __always_inline void packet_mark(struct __sk_buff *skb, __u32 mark)
{
	asm volatile("*(u32 *)(%0 + %1) = %2" : : "r"(skb), "i"(offsetof(struct __sk_buff, tc_index)), "r"(mark) : "memory");
}

/* Makes the first len bytes of the frame directly readable. Out: false where the frame is shorter. */
static __always_inline bool packet_pull(struct __sk_buff *skb, __u32 len)
{
	return skb->len >= len && !bpf_skb_pull_data(skb, len);
}

/* What an ICMP message is to its flow. */
enum icmp_kind {
	ICMP_KIND_OTHER,
	ICMP_KIND_QUERY,
	ICMP_KIND_REPLY,
};

/*
 * In: an ICMP header. Out: what it is, with the id where a port stands: queries are 8, 13, 15 and 17 and their replies 0, 14, 16 and 18
 * (RFC 792, RFC 950); a query's id is its source port, a reply's its destination port.
 */
static __always_inline enum icmp_kind icmp_ports(const struct icmphdr *icmp, struct flow4_key *key)
{
	switch (icmp->type) {
	case ICMP_ECHO:
	case ICMP_TIMESTAMP:
	case ICMP_INFORMATION:
	case ICMP_ADDRESS_MASK:
		key->sport = icmp->id;
		return ICMP_KIND_QUERY;
	case ICMP_ECHO_REPLY:
	case ICMP_TIMESTAMP_REPLY:
	case ICMP_INFORMATION_REPLY:
	case ICMP_ADDRESS_MASK_REPLY:
		key->dport = icmp->id;
		return ICMP_KIND_REPLY;
	default:
		return ICMP_KIND_OTHER;
	}
}

/*
 * In: where the layer 4 header begins (l4), the end of what may be read, and the bytes that the IP header says belong to it (l4_len). Out:
 * ports and flags in p, and the length of the layer 4 header in hlen.
 */
static __always_inline enum drop_reason packet_l4(struct packet *p, void *l4, void *end, __u32 l4_len, __u32 *hlen)
{
	*hlen = 0;
	switch (p->key.proto) {
	case IPPROTO_TCP: {
		struct tcphdr *tcp = l4;

		if (unlikely(l4_len < sizeof(*tcp) || (void *)(tcp + 1) > end))
			return DROP_TRUNCATED;
		if (unlikely(tcp->doff < 5 || tcp->doff * 4U > l4_len))
			return DROP_L4_HEADER;
		*hlen = tcp->doff * 4;
		p->key.sport = tcp->source;
		p->key.dport = tcp->dest;
		p->tcp_flags = ((__u8 *)tcp)[13];
		return DROP_NONE;
	}
	case IPPROTO_UDP: {
		struct udphdr *udp = l4;
		__u32 len;

		if (unlikely(l4_len < sizeof(*udp) || (void *)(udp + 1) > end))
			return DROP_TRUNCATED;
		len = bpf_ntohs(udp->len);
		if (unlikely(len < sizeof(*udp) || (len > l4_len && !p->fragment)))
			return DROP_L4_HEADER;
		*hlen = sizeof(*udp);
		p->key.sport = udp->source;
		p->key.dport = udp->dest;
		return DROP_NONE;
	}
	case IPPROTO_ICMP: {
		struct icmphdr *icmp = l4;
		enum icmp_kind kind;

		if (l4_len < sizeof(*icmp) || (void *)(icmp + 1) > end)
			return DROP_TRUNCATED;
		kind = icmp_ports(icmp, &p->key);
		p->icmp_other = kind == ICMP_KIND_OTHER;
		p->icmp_reply = kind == ICMP_KIND_REPLY;
		return DROP_NONE;
	}
	case IPPROTO_UDPLITE: /* where UDP has a length it has how much the checksum covers, which always is the pseudo-header too */
	case IPPROTO_DCCP: {
		__be16 *ports = l4;

		if (l4_len < sizeof(struct udphdr) || l4 + sizeof(struct udphdr) > end)
			return DROP_TRUNCATED;
		p->key.sport = ports[0];
		p->key.dport = ports[1];
		return DROP_NONE;
	}
	case IPPROTO_SCTP: {
		__be16 *ports = l4;

		if (l4_len < SCTP_HEADER || l4 + SCTP_HEADER > end)
			return DROP_TRUNCATED;
		p->key.sport = ports[0];
		p->key.dport = ports[1];
		return DROP_NONE;
	}
	default:
		return DROP_NONE;
	}
}

/* In: a frame. Out: whether all its headers can be read, though TCP's would not fit: a small datagram's way is short too. */
static __always_inline bool packet_is_short(void *data, void *end)
{
	struct iphdr *ip = data + IP_OFF;

	return data + SHORT_HEADERS <= end && ip->protocol == IPPROTO_UDP && ip->ihl * 4 == sizeof(*ip);
}

/*
 * In: a frame, and the zone in which its tuple is seen. Out: p filled, or p->pass set for what is not plain IPv4, or the reason why the
 * frame is malformed. Ethernet padding behind the datagram is not looked at.
 */
static __always_inline enum drop_reason packet_parse(struct __sk_buff *skb, enum zone zone, struct packet *p)
{
	enum drop_reason reason;
	__u32 ihl, tot_len, need, hlen;
	void *data, *end;
	struct iphdr *ip;

	if (unlikely(skb->protocol != bpf_htons(ETH_P_IP) || skb->vlan_present)) {
		p->pass = PASS_NOT_IPV4;
		return DROP_NONE;
	}
	data = (void *)(long)skb->data;
	end = (void *)(long)skb->data_end;
	if (unlikely(data + COMMON_HEADERS > end) && !packet_is_short(data, end)) {
		packet_pull(skb, skb->len < COMMON_HEADERS ? skb->len : COMMON_HEADERS);
		data = (void *)(long)skb->data;
		end = (void *)(long)skb->data_end;
	}
	ip = data + IP_OFF;
	if (unlikely((void *)(ip + 1) > end))
		return DROP_TRUNCATED;
	ihl = ip->ihl * 4;
	tot_len = bpf_ntohs(ip->tot_len);
	/* A packet of more than 64 KiB that offload holds together says 0 (include/net/ip.h, iph_totlen). */
	if (unlikely(!tot_len) && skb->gso_size)
		tot_len = skb->len - IP_OFF;
	if (unlikely(ip->version != 4 || ihl < sizeof(*ip) || tot_len < ihl))
		return DROP_IP_HEADER;
	if (unlikely(tot_len > skb->len - IP_OFF))
		return DROP_TRUNCATED;

	p->key.saddr = ip->saddr;
	p->key.daddr = ip->daddr;
	p->key.proto = ip->protocol;
	p->key.zone = zone;
	p->l4_off = IP_OFF + ihl;
	p->ip_id = ip->id;
	p->ttl = ip->ttl;
	p->options = ihl > sizeof(*ip);
	p->fragment = ip->frag_off & bpf_htons(IP_MORE_FRAGMENTS | IP_OFFSET_MASK);
	p->later = ip->frag_off & bpf_htons(IP_OFFSET_MASK);
	p->new_id = ip->id;
	p->lost = p->later;
	p->dev = skb->ifindex;
	p->tot_len = tot_len;
	p->len = tot_len;
	if (unlikely(p->later))
		return DROP_NONE;

	if (unlikely(p->options)) {
		need = p->l4_off + sizeof(struct tcphdr);
		packet_pull(skb, skb->len < need ? skb->len : need);
		data = (void *)(long)skb->data;
		end = (void *)(long)skb->data_end;
	}
	reason = packet_l4(p, data + (p->l4_off & 0x7f), end, tot_len - ihl, &hlen);
	if (!reason && skb->gso_size)
		p->len = ihl + hlen + skb->gso_size;
	return reason;
}

/* Out: whether the packet starts or repeats the opening of a TCP connection. */
static __always_inline bool packet_is_syn(const struct packet *p)
{
	return p->key.proto == IPPROTO_TCP && (p->tcp_flags & (TH_SYN | TH_ACK | TH_RST)) == TH_SYN;
}

/* Out: whether the packet belongs to a TCP connection that must have begun before it. */
static __always_inline bool packet_is_midstream(const struct packet *p)
{
	return p->key.proto == IPPROTO_TCP && !packet_is_syn(p);
}

#endif
