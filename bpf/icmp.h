/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * icmp.h: ICMP errors. An error quotes a packet that was carried one way (RFC 792: the IP header and at least 8 bytes), and goes back the
 * other. So the entry for the answers to the quoted packet says how to translate both the quotation and the error. Errors refresh no flow.
 */
#ifndef EBPFNET_ICMP_H
#define EBPFNET_ICMP_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "csum.h"
#include "flow.h"
#include "icmphdr.h"
#include "maps.h"
#include "nat.h"
#include "parse.h"
#include "scratch.h"
#include "stats.h"
#include "types.h"
#include "valid.h"

/* The first 8 bytes of any layer 4 header, as much as every quotation has. */
union quoted_l4 {
	__be16 word[4];
	struct icmphdr icmp;
};

/* Where a quotation's parts stand in the frame, and what they say. */
struct quotation {
	struct iphdr ip;
	union quoted_l4 l4;
	__u32 ip_off;
	__u32 l4_off;
	__u32 check_off; /* 0: no checksum to change in what is quoted */
};

static __always_inline bool icmp_is_error(__u8 type)
{
	return type == ICMP_UNREACHABLE || type == ICMP_SOURCE_QUENCH || type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETER_PROBLEM;
}

/*
 * In: an ICMP error. Out: 0 and the quotation, with found unset where it has no ports to look for (a later fragment, a protocol without
 * ports is looked for by address alone), or why it is malformed.
 */
static __always_inline enum drop_reason quotation_read(struct __sk_buff *skb, const struct packet *p, struct quotation *q, bool *found)
{
	__u32 ihl, check, end = IP_OFF + p->tot_len;

	*found = false;
	q->ip_off = (p->l4_off & 0x7f) + sizeof(struct icmphdr);
	if (q->ip_off + sizeof(q->ip) > end || bpf_skb_load_bytes(skb, q->ip_off, &q->ip, sizeof(q->ip)))
		return DROP_ICMP_ERROR;
	ihl = q->ip.ihl * 4;
	if (q->ip.version != 4 || ihl < sizeof(q->ip))
		return DROP_ICMP_ERROR;
	q->l4_off = q->ip_off + ihl;
	if (q->l4_off + sizeof(q->l4) > end || bpf_skb_load_bytes(skb, q->l4_off, &q->l4, sizeof(q->l4)))
		return DROP_ICMP_ERROR;
	if (q->ip.frag_off & bpf_htons(IP_OFFSET_MASK))
		return DROP_NONE;
	check = nat_check_off(q->ip.protocol);
	if (check && q->l4_off + check + sizeof(__sum16) <= end)
		q->check_off = q->l4_off + check;
	*found = true;
	return DROP_NONE;
}

/* In: a quotation. Out: the tuple of an answer to the quoted packet, in the zone in which the error is seen. */
static __always_inline bool quotation_answer(const struct quotation *q, enum zone zone, struct flow4_key *key)
{
	struct flow4_key quoted = {};

	key->saddr = q->ip.daddr;
	key->daddr = q->ip.saddr;
	key->proto = q->ip.protocol;
	key->zone = zone;
	if (q->ip.protocol == IPPROTO_ICMP) {
		if (!icmp_ports(&q->l4.icmp, &quoted))
			return false;
		key->sport = quoted.dport;
		key->dport = quoted.sport;
	} else if (nat_has_port(q->ip.protocol)) {
		key->sport = q->l4.word[1];
		key->dport = q->l4.word[0];
	}
	return true;
}

/* Writes a 16-bit word of the quotation, and what that does to the error's own checksum. */
static __always_inline bool quotation_write(struct __sk_buff *skb, __u32 icmp_check, __u32 off, __u16 from, __u16 to)
{
	if (from == to)
		return true;
	return !bpf_skb_store_bytes(skb, off, &to, sizeof(to), 0) && !bpf_l4_csum_replace(skb, icmp_check, from, to, sizeof(to));
}

/* Translates what is quoted: it went the other way, so f's destination was its source. */
static __always_inline bool quotation_rewrite(struct __sk_buff *skb, const struct packet *p, struct quotation *q, const struct flow4_key *key,
					      const struct flow4 *f)
{
	__u32 icmp_check = (p->l4_off & 0x7f) + offsetof(struct icmphdr, checksum);
	__u16 check, before = q->ip.check;

	/* The header's own checksum takes its addresses' change back: the error's stays as it is. */
	q->ip.saddr = f->daddr;
	q->ip.daddr = f->saddr;
	if (f->addr_diff)
		q->ip.check = csum_apply(before, f->addr_diff);
	if (bpf_skb_store_bytes(skb, q->ip_off, &q->ip, sizeof(q->ip), 0))
		return false;
	if (f->port_diff && q->ip.protocol == IPPROTO_ICMP) {
		if (!quotation_write(skb, icmp_check, q->l4_off + offsetof(struct icmphdr, id), q->l4.word[2], f->sport ? f->sport : f->dport))
			return false;
	} else if (f->port_diff) {
		if (!quotation_write(skb, icmp_check, q->l4_off, q->l4.word[0], f->dport) ||
		    !quotation_write(skb, icmp_check, q->l4_off + sizeof(__be16), q->l4.word[1], f->sport))
			return false;
	}
	if (!q->check_off)
		return true;
	if (bpf_skb_load_bytes(skb, q->check_off, &check, sizeof(check)))
		return false;
	if (q->ip.protocol == IPPROTO_UDP && !check)
		return true;
	before = check;
	if (f->addr_diff && q->ip.protocol != IPPROTO_ICMP)
		check = csum_apply(check, f->addr_diff);
	if (f->port_diff)
		check = csum_apply(check, f->port_diff);
	if (q->ip.protocol == IPPROTO_UDP && !check)
		check = 0xffff;
	return quotation_write(skb, icmp_check, q->check_off, before, check);
}

/*
 * In: in scratch an ICMP message that is no query. Out: 0 with the packet translated, but for its link layer, and its flow's key in s->key; 0 with s->packet.pass set where no flow of ours is meant (the host's own flows get errors too); or the reason to drop.
 */
GLOBAL int icmp_translate(struct __sk_buff *skb)
{
	struct scratch *s = scratch_get();
	struct quotation q = {};
	enum drop_reason reason;
	struct config *cfg;
	struct packet *p;
	struct flow4 *f;
	struct iphdr ip;
	bool found, fresh;
	__be32 saddr;
	__u8 type;

	if (!s)
		return DROP_ICMP_ERROR;
	p = &s->packet;
	p->pass = PASS_ICMP_ERROR;
	if (bpf_skb_load_bytes(skb, p->l4_off & 0x7f, &type, sizeof(type)) || !icmp_is_error(type))
		return DROP_NONE;
	reason = quotation_read(skb, p, &q, &found);
	if (reason || !found)
		return reason;
	/* An error goes to whom the quoted packet names as its sender; else somebody made it up. */
	__builtin_memset(&s->key, 0, sizeof(s->key));
	if (q.ip.saddr != p->key.daddr || !quotation_answer(&q, p->key.zone, &s->key))
		return DROP_NONE;
	f = flow_find(&s->key, &fresh);
	if (!f || (f->flags & (FLOW_KERNEL | FLOW_OFFLOAD)))
		return DROP_NONE;
	cfg = config_get();
	if (cfg && f->epoch != cfg->epoch && !flow_valid())
		return DROP_NONE;
	if (p->key.zone == ZONE_LOCAL && f->src_id && p->dev && f->iif != p->dev)
		return DROP_SPOOFED;

	if (p->dev && (f->flags & FLOW_ROUTED) && p->ttl <= 1) {
		p->pass = PASS_TTL;
		return DROP_NONE;
	}
	p->pass = PASS_NONE;
	if ((f->addr_diff || f->port_diff) && !quotation_rewrite(skb, p, &q, &s->key, f))
		return DROP_REWRITE;
	if (bpf_skb_load_bytes(skb, IP_OFF, &ip, sizeof(ip)))
		return DROP_REWRITE;
	/* A container's error comes from whom its peer talks to. A router's on the way, and the stack's, keep their own address. */
	saddr = ip.saddr;
	if (p->dev && (p->key.zone == ZONE_LOCAL || ip.saddr == s->key.saddr))
		saddr = f->saddr;
	ip_rewrite(&ip, saddr, f->daddr, csum_diff_pair(ip.saddr, ip.daddr, saddr, f->daddr), p->dev && f->flags & FLOW_ROUTED);
	if (bpf_skb_store_bytes(skb, IP_OFF, &ip, sizeof(ip), 0))
		return DROP_REWRITE;
	stats_tally(TALLY_ICMP_ERROR, 1);
	return DROP_NONE;
}

#endif
