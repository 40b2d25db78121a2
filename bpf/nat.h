/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* nat.h: the tuple that a flow leaves with, and the change of a packet from one to the other. */
#ifndef EBPFNET_NAT_H
#define EBPFNET_NAT_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "config.h"
#include "csum.h"
#include "flow.h"
#include "likely.h"
#include "maps.h"
#include "parse.h"
#include "publish.h"
#include "scratch.h"
#include "sctp.h"
#include "stats.h"
#include "types.h"

/*
 * How many ports are tried at most, how many of them at random, and how many of these in a privileged port's own class. What is taken often
 * lies side by side, because hosts give out ports in order: a search from one to the next would end in it.
 */
#define NAT_TRIES 128
#define NAT_RANDOM 96
#define NAT_PRIVILEGED 8

/* In: a protocol. Out: whether its packets have a port, or an id, that translation may change. */
static __always_inline bool nat_has_port(__u8 proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == IPPROTO_SCTP || proto == IPPROTO_ICMP || proto == IPPROTO_UDPLITE ||
	       proto == IPPROTO_DCCP;
}

/* In: a port in network order. Out: whether the administrator keeps it for somebody. */
static __always_inline bool nat_port_reserved(__be16 port)
{
	__u32 number = bpf_ntohs(port), at = number / 64;
	__u64 *bits = bpf_map_lookup_elem(&reserved_ports, &at);

	return bits && (*bits >> (number % 64)) & 1;
}

/*
 * In: the tuple with which replies would come back, as partner_key in scratch. Out: whether its local port belongs to somebody already: to
 * a published port, or to a socket of the host, listening or connected to this very peer.
 */
GLOBAL int nat_port_taken(struct __sk_buff *skb)
{
	struct scratch *s = scratch_get();
	struct bpf_sock_tuple tuple = {};
	struct flow4_key *reply;
	struct bpf_sock *sk;

	if (!s)
		return 1;
	reply = &s->partner_key;
	if (reply->proto == IPPROTO_ICMP)
		return 0;
	if (nat_port_reserved(reply->dport))
		return 1;
	if (publish_find(reply->daddr, reply->dport, reply->proto))
		return 1;
	if (reply->proto != IPPROTO_TCP && reply->proto != IPPROTO_UDP)
		return 0;
	tuple.ipv4.saddr = reply->saddr;
	tuple.ipv4.daddr = reply->daddr;
	tuple.ipv4.sport = reply->sport;
	tuple.ipv4.dport = reply->dport;
	if (reply->proto == IPPROTO_TCP)
		sk = bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	else
		sk = bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	if (!sk)
		return 0;
	bpf_sk_release(sk);
	return 1;
}

/*
 * In: the flow's own port in network order, where the scan starts, and how often it did not do. Out: the next to try. First its own; then
 * some at random, of its class if it is privileged, because servers ask for that (RFC 1179 and the like); then one after the other.
 */
GLOBAL __u32 nat_candidate(__u32 own, __u32 start, __u32 tries)
{
	__u32 low = nat_port_min, high = nat_port_max, own_port = bpf_ntohs((__be16)own);

	if (!tries)
		return own;
	if (tries <= NAT_PRIVILEGED && own_port && own_port < 1024) {
		low = own_port < 512 ? 1 : 512;
		high = own_port < 512 ? 511 : 1023;
	}
	if (tries <= NAT_RANDOM)
		start = bpf_get_prandom_u32();
	return bpf_htons(low + (start + tries) % (high - low + 1));
}

/* What became of the attempt to enter a flow. */
enum nat_result {
	NAT_OK,
	NAT_JOINED, /* half of it was there */
	NAT_TAKEN, /* the reply's tuple is another flow's */
	NAT_FULL,  /* the table takes nothing */
	NAT_LOST,  /* another CPU entered this flow at the same moment */
};

/*
 * In: in scratch a flow of which the other half stands in a table already: its own was pushed out, or another CPU is entering it at this
 * moment. Out: as nat_enter, with its own half entered in the same table.
 */
static __always_inline enum nat_result nat_join(struct scratch *s, bool fresh)
{
	int err; /* see nat_enter */

	if (fresh) {
		err = bpf_map_update_elem(&flows4_new, &s->key, &s->flow, BPF_NOEXIST);
	} else {
		s->flow.flags |= FLOW_ANSWERED;
		err = bpf_map_update_elem(&flows4, &s->key, &s->flow, BPF_NOEXIST);
	}
	if (err == -EEXIST)
		return NAT_LOST;
	return err ? NAT_FULL : NAT_JOINED;
}

/* In: in scratch a flow's tuple and its own entry. Out: its differences are filled. A function of its own for the stack that it takes. */
GLOBAL int nat_diffs(void)
{
	struct scratch *s = scratch_get();

	if (s)
		flow_diffs(&s->key, &s->flow);
	return 0;
}

/*
 * In: in scratch a flow's tuple and its own entry, whose source port is the candidate. Out: NAT_OK with both entries in flows4_new. The
 * reply's entry, which must not have existed, is the reservation; what follows it is rolled back with it.
 *
 * Errors are ints: before 6.4 the functions that a program's call of a map's helper becomes return one, and what stands in the upper half of
 * the register is not the sign.
 */
GLOBAL int nat_enter(struct __sk_buff *skb)
{
	struct scratch *s = scratch_get();
	struct flow4 *other;
	bool fresh;
	int err;

	if (!s)
		return NAT_FULL;
	nat_diffs();
	flow_partner(skb);
	other = flow_find(&s->partner_key, &fresh);
	/* Of no use any more: the kernel carried it, or the connection is closed and a new one begins. */
	if (other && ((other->flags & FLOW_KERNEL) || (s->syn && flow_is_closed(other)))) {
		flow_delete(&s->partner_key, other);
		other = NULL;
	}
	err = other ? -EEXIST : bpf_map_update_elem(&flows4_new, &s->partner_key, &s->partner, BPF_NOEXIST);
	if (err && err != -EEXIST)
		return NAT_FULL;
	/* Another CPU may have been faster since the look, with this very flow. */
	if (err && !other)
		other = flow_find(&s->partner_key, &fresh);
	if (err)
		return other && flow_is_partner(&s->key, other) ? nat_join(s, fresh) : NAT_TAKEN;
	/* It may have moved from one table to the other between the look and the reservation. */
	if (bpf_map_lookup_elem(&flows4, &s->partner_key)) {
		bpf_map_delete_elem(&flows4_new, &s->partner_key);
		return NAT_TAKEN;
	}
	err = bpf_map_update_elem(&flows4_new, &s->key, &s->flow, BPF_NOEXIST);
	if (!err)
		return NAT_OK;
	/* Another CPU was first. If it has joined this reservation, that is its own now. */
	other = bpf_map_lookup_elem(&flows4_new, &s->key);
	if (!other || other->saddr != s->flow.saddr || other->sport != s->flow.sport)
		bpf_map_delete_elem(&flows4_new, &s->partner_key);
	return err == -EEXIST ? NAT_LOST : NAT_FULL;
}

/*
 * In: in scratch a flow's tuple and its own entry. Out: 1 where another CPU has just entered the same flow. What stands under the tuple
 * otherwise is what this packet could not use, and is removed.
 */
GLOBAL int nat_is_entered(void)
{
	struct scratch *s = scratch_get();
	struct flow4 *own;
	bool fresh;

	if (!s)
		return 0;
	own = flow_find(&s->key, &fresh);
	if (!own)
		return 0;
	if (own->iif == s->flow.iif && own->epoch == s->flow.epoch && !(s->syn && flow_is_closed(own)))
		return 1;
	flow_delete(&s->key, own);
	return 0;
}

/* In: as nat_enter, and the port to try. Out: as nat_enter. Where the address or the port is not the flow's own, sockets count too. */
GLOBAL int nat_try(struct __sk_buff *skb, __u32 port, __u32 own)
{
	struct scratch *s = scratch_get();

	if (!s)
		return NAT_FULL;
	s->tries++;
	s->flow.sport = port;
	if (port != own)
		s->flow.flags |= FLOW_SNAT;
	if (s->flow.saddr != s->key.saddr || port != own) {
		flow_partner_key(&s->key, &s->flow, &s->partner_key);
		if (nat_port_taken(skb))
			return NAT_TAKEN;
	}
	return nat_enter(skb);
}

/*
 * In: in scratch a flow, and how many ports were tried for it. Counts the flow as entered or as one for which there was no port, and the
 * ports that were tried for it where its source is translated.
 */
static __noinline void nat_count(bool entered)
{
	enum tally flow = TALLY_FLOW_OTHER, bucket = TALLY_TRIES_1;
	struct scratch *s = scratch_get();
	__u32 tries;

	if (!s)
		return;
	tries = s->tries;
	if (tries > 8)
		bucket = tries > 64 ? TALLY_TRIES_128 : tries > 32 ? TALLY_TRIES_64 : tries > 16 ? TALLY_TRIES_32 : TALLY_TRIES_16;
	else if (tries > 1)
		bucket = tries > 4 ? TALLY_TRIES_8 : tries > 2 ? TALLY_TRIES_4 : TALLY_TRIES_2;
	if (s->flow.flags & FLOW_SNAT) {
		stats_tally(bucket, 1);
		stats_tally(TALLY_NAT_TRIES, tries);
		if (!entered || tries > 1)
			stats_tally(TALLY_NAT_CONFLICT, entered ? tries - 1 : tries);
	}
	if (!entered) {
		stats_tally(TALLY_NAT_FAILURE, 1);
		return;
	}
	if (s->key.proto == IPPROTO_TCP)
		flow = TALLY_FLOW_TCP;
	else if (s->key.proto == IPPROTO_UDP)
		flow = TALLY_FLOW_UDP;
	else if (s->key.proto == IPPROTO_ICMP)
		flow = TALLY_FLOW_ICMP;
	stats_tally(flow, 1);
	if (s->flow.publish_slot)
		stats_connection(s->flow.publish_slot);
}

/*
 * In: as nat_enter. Out: 0 with the flow entered, under its own source port where that is free, else under another; or the reason to drop.
 * Where the source's address stays as it is, only flows compete for the port.
 */
GLOBAL int nat_allocate(struct __sk_buff *skb)
{
	struct scratch *s = scratch_get();
	__u32 start, own, tries;
	int result = NAT_TAKEN;

	if (!s)
		return DROP_FLOW_TABLE;
	if (!s->packet.unmet && nat_is_entered())
		return DROP_NONE;
	s->tries = 0;
	own = s->flow.sport;
	start = bpf_get_prandom_u32();
	tries = nat_has_port(s->key.proto) ? NAT_TRIES : 1;
	for (__u32 i = 0; i < NAT_TRIES; i++) {
		if (i >= tries || result != NAT_TAKEN)
			break;
		result = nat_try(skb, nat_candidate(own, start, i), own);
	}
	switch (result) {
	case NAT_OK:
		nat_count(true);
		return DROP_NONE;
	case NAT_JOINED:
	case NAT_LOST:
		return DROP_NONE;
	case NAT_FULL:
		return DROP_FLOW_TABLE;
	default:
		if (nat_is_entered())
			return DROP_NONE;
		nat_count(false);
		return DROP_NO_PORT;
	}
}

/* In: a protocol. Out: where its checksum field stands in its header; 0 where translation leaves the header alone. */
static __always_inline __u32 nat_check_off(__u8 proto)
{
	switch (proto) {
	case IPPROTO_TCP:
		return offsetof(struct tcphdr, check);
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
	case IPPROTO_DCCP: /* RFC 4340, section 5.1 */
		return offsetof(struct udphdr, check);
	case IPPROTO_ICMP:
		return offsetof(struct icmphdr, checksum);
	default:
		return 0;
	}
}

/* Writes addresses into an IP header. In: the difference that they make to a checksum. One TTL is spent where ttl is set. */
static __always_inline void ip_rewrite(struct iphdr *ip, __be32 saddr, __be32 daddr, __u32 diff, bool ttl)
{
	ip->saddr = saddr;
	ip->daddr = daddr;
	if (ttl) {
		/* The TTL is the upper byte of its word: one less is the complement of 0x0100 more. */
		ip->ttl--;
		diff += bpf_htons(0xfeff);
		if (diff < bpf_htons(0xfeff))
			diff++;
	}
	if (diff)
		ip->check = csum_apply(ip->check, diff);
}

/*
 * In: a packet of the flow f, and its tuple in p. Out: the packet with f's tuple, one TTL less where ttl is set, and every checksum right,
 * or DROP_REWRITE with the packet spoilt. The layer 4 checksum goes through the kernel's helper, which knows whether the sender has left it
 * to be finished later (CHECKSUM_PARTIAL) or the device has summed the frame (CHECKSUM_COMPLETE); a UDP checksum of 0 stays 0, and one that
 * becomes 0 is sent as 0xffff (RFC 768). The IP header's own sum changes nothing for either.
 */
static __always_inline enum drop_reason nat_rewrite(struct __sk_buff *skb, const struct packet *p, const struct flow4 *f, bool ttl)
{
	__u32 check = nat_check_off(p->key.proto), l4 = p->l4_off & 0x7f;
	__u64 mangled = p->key.proto == IPPROTO_UDP || p->key.proto == IPPROTO_UDPLITE ? BPF_F_MARK_MANGLED_0 : 0;
	void *data, *end, *ports;
	struct iphdr *ip;

	if (check && !p->later) {
		if (f->addr_diff && p->key.proto != IPPROTO_ICMP &&
		    bpf_l4_csum_replace(skb, l4 + check, 0, f->addr_diff, BPF_F_PSEUDO_HDR | mangled))
			return DROP_REWRITE;
		if (f->port_diff && bpf_l4_csum_replace(skb, l4 + check, 0, f->port_diff, mangled))
			return DROP_REWRITE;
	}
	if (unlikely(p->key.proto == IPPROTO_SCTP) && f->port_diff && !p->later && !sctp_rewrite(skb, p, f))
		return DROP_REWRITE;
	data = (void *)(long)skb->data;
	end = (void *)(long)skb->data_end;
	ip = data + IP_OFF;
	if ((void *)(ip + 1) > end)
		return DROP_REWRITE;
	ip_rewrite(ip, f->saddr, f->daddr, f->addr_diff, ttl);
	if (unlikely(p->fragment) && ip->id != p->new_id) {
		ip->check = csum_apply(ip->check, (__u32)(__u16)~ip->id + p->new_id);
		ip->id = p->new_id;
	}
	if (!f->port_diff || p->later || p->key.proto == IPPROTO_SCTP)
		return DROP_NONE;
	ports = data + l4;
	if (p->key.proto == IPPROTO_ICMP) {
		struct icmphdr *icmp = ports;

		if ((void *)(icmp + 1) > end)
			return DROP_REWRITE;
		icmp->id = f->sport ? f->sport : f->dport;
	} else {
		__be16 *port = ports;

		if ((void *)(port + 2) > end)
			return DROP_REWRITE;
		port[0] = f->sport;
		port[1] = f->dport;
	}
	return DROP_NONE;
}

#endif
