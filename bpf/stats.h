/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* stats.h: per-CPU counters. They are read at scrape; nothing is sent anywhere while packets pass. */
#ifndef EBPFNET_STATS_H
#define EBPFNET_STATS_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <bpf/bpf_helpers.h>

#include "config.h"
#include "global.h"
#include "maps.h"
#include "time.h"
#include "types.h"

/*
 * In: an IPv4 frame of several segments that nobody has counted, which is how a program leaves it that has put a header before it or taken one
 * off. Out: how many there are.
 */
GLOBAL int stats_segments(struct __sk_buff *skb)
{
	__u32 header, size = skb->gso_size, len = skb->len;
	struct iphdr ip;
	__u8 doff;

	if (!size || bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)))
		return 1;
	header = ETH_HLEN + ip.ihl * 4;
	if (ip.protocol != IPPROTO_TCP)
		header += sizeof(struct udphdr);
	else if (!bpf_skb_load_bytes(skb, header + 12, &doff, sizeof(doff)))
		header += (doff >> 4) * 4;
	return len > header ? (len - header + size - 1) / size : 1;
}

/* Out: how many packets the frame becomes on a wire. */
static __always_inline __u32 stats_packets(const struct __sk_buff *skb)
{
	if (skb->gso_segs)
		return skb->gso_segs;
	return skb->gso_size ? stats_segments((struct __sk_buff *)skb) : 1;
}

static __always_inline void stats_add_as(struct counter *c, const struct __sk_buff *skb, __u32 packets)
{
	c->packets += packets;
	c->bytes += skb->len;
}

static __always_inline void stats_add(struct counter *c, const struct __sk_buff *skb)
{
	stats_add_as(c, skb, stats_packets(skb));
}

/* Counts a packet that is dropped. */
static __always_inline void stats_drop(const struct __sk_buff *skb, enum drop_reason reason)
{
	struct counter *c = !count_packets ? NULL : bpf_map_lookup_elem(&drop_stats, &reason);

	if (c)
		stats_add(c, skb);
}

/* Counts a packet that is left to the host's stack. */
static __always_inline void stats_pass(const struct __sk_buff *skb, enum pass_reason reason)
{
	struct counter *c = !count_packets ? NULL : bpf_map_lookup_elem(&pass_stats, &reason);

	if (c)
		stats_add(c, skb);
}

/* Counts a frame that is delivered, under its bridge and path, as so many packets. */
static __always_inline void stats_path(const struct __sk_buff *skb, __u16 bridge_slot, enum flow_path path, __u32 packets)
{
	__u32 at = bridge_slot * PATH_MAX + path;
	struct counter *c = !count_packets ? NULL : bpf_map_lookup_elem(&path_stats, &at);

	if (c)
		stats_add_as(c, skb, packets);
}

/* Counts a frame that the endpoint in a slot sent, as so many packets. */
static __always_inline void stats_sent(const struct __sk_buff *skb, __u32 slot, __u32 packets)
{
	struct endpoint_counters *c = !count_packets ? NULL : bpf_map_lookup_elem(&endpoint_stats, &slot);

	if (c)
		stats_add_as(&c->tx, skb, packets);
}

/* Counts a frame that the endpoint in a slot receives, as so many packets. */
static __always_inline void stats_received(const struct __sk_buff *skb, __u32 slot, __u32 packets)
{
	struct endpoint_counters *c = !count_packets ? NULL : bpf_map_lookup_elem(&endpoint_stats, &slot);

	if (c)
		stats_add_as(&c->rx, skb, packets);
}

/* Counts a packet that the endpoint in a slot sent and that is dropped. */
static __always_inline void stats_sent_dropped(const struct __sk_buff *skb, __u32 slot)
{
	struct endpoint_counters *c = !count_packets ? NULL : bpf_map_lookup_elem(&endpoint_stats, &slot);

	if (c)
		c->tx_dropped += stats_packets(skb);
}

/* Counts a packet for the endpoint in a slot that is dropped on its way there. */
static __always_inline void stats_received_dropped(const struct __sk_buff *skb, __u32 slot)
{
	struct endpoint_counters *c = !count_packets ? NULL : bpf_map_lookup_elem(&endpoint_stats, &slot);

	if (c)
		c->rx_dropped += stats_packets(skb);
}

/* Counts one more of something. The socket programs can be interrupted by each other, so that the sum is made at once. */
static __noinline void stats_tally(enum tally what, __u64 n)
{
	__u64 *sum = !count_packets ? NULL : bpf_map_lookup_elem(&tallies, &what);

	if (sum)
		__sync_fetch_and_add(sum, n);
}

/* Counts a packet of a flow to a published port. In: the slot, which is not 0, and whether the packet goes back. */
static __always_inline void stats_published(const struct __sk_buff *skb, __u32 slot, bool reply)
{
	struct publish_counters *c = !count_packets ? NULL : bpf_map_lookup_elem(&publish_stats, &slot);

	if (c)
		stats_add(reply ? &c->tx : &c->rx, skb);
}

/* Counts a flow that begins to a published port. In: the slot, which is not 0. */
static __always_inline void stats_connection(__u32 slot)
{
	struct publish_counters *c = !count_packets ? NULL : bpf_map_lookup_elem(&publish_stats, &slot);

	if (c)
		c->connections++;
}

/* Counts a frame to another host as so many packets. In: the host's address. */
static __always_inline void stats_to_peer_as(const struct __sk_buff *skb, __be32 host, __u32 packets)
{
	struct addr4 key = {.addr = host};
	struct peer_counters *c = !count_packets ? NULL : bpf_map_lookup_elem(&peer_stats, &key);

	if (c)
		stats_add_as(&c->tx, skb, packets);
}

/* Counts a packet to another host. In: the host's address. */
static __always_inline void stats_to_peer(const struct __sk_buff *skb, __be32 host)
{
	stats_to_peer_as(skb, host, stats_packets(skb));
}

/* Counts a packet from another host. In: the host's address. */
static __always_inline void stats_from_peer(const struct __sk_buff *skb, __be32 host)
{
	struct addr4 key = {.addr = host};
	struct peer_counters *c = !count_packets ? NULL : bpf_map_lookup_elem(&peer_stats, &key);

	if (!c)
		return;
	stats_add(&c->rx, skb);
	c->seen = ticks_now();
}

#endif
