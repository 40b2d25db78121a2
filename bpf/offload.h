/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * offload.h: flows about which the host's own rules decide. The kernel tracks and translates such a flow; the agent enters it here with the
 * kernel's translation, and its entries carry nothing until a packet has come out behind the rules. From then on they carry their direction
 * past the rules for a short while, after which the next packet takes the rules' way again: so what the rules say by then counts, the kernel
 * sees that its connection lives, and nobody has to be there to see to it.
 */
#ifndef EBPFNET_OFFLOAD_H
#define EBPFNET_OFFLOAD_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "config.h"
#include "flow.h"
#include "maps.h"
#include "parse.h"
#include "time.h"
#include "types.h"

/*
 * How long one packet that the rules let through speaks for those behind it. Well below the kernel's shortest timeout of an established
 * connection, and what a rule's change takes at the most where nobody tells of it.
 */
#define OFFLOAD_SECONDS 2

/* Out: whether the rules have let a packet of this direction through a short while ago. */
static __always_inline bool offload_holds(const struct flow4 *f, __u32 now)
{
	return ticks_since(now, f->judged) < OFFLOAD_SECONDS * ticks_per_second;
}

/* Has the rules decide about the next packet of this direction, and about those that looked at the clock some ticks before this. */
static __always_inline void offload_lapse(struct flow4 *f)
{
	f->judged = ticks_now() - 2 * OFFLOAD_SECONDS * ticks_per_second;
	f->synced--;
}

/*
 * In: a packet that leaves by a container's veth or an uplink, the bridge that it came from or goes to, and the zone of its tuple there. It has
 * been forwarded by the kernel, so the rules have let it through: its flow goes past them for a while in this direction, if it leaves by the
 * device that the flow's entry names.
 */
GLOBAL int offload_witness(struct __sk_buff *skb, __u32 index, __u32 zone)
{
	struct bridge4 *bridge = bpf_map_lookup_elem(&bridges4, &index);
	struct flow4_key back = {}, key = {};
	struct packet p = {};
	struct flow4 *f;

	if (!bridge || !(bridge->flags & BRIDGE_OFFLOAD) || packet_parse(skb, zone ? ZONE_LOCAL : ZONE_WIRE, &p) || p.pass || p.fragment)
		return 0;
	if (p.tcp_flags & (TH_SYN | TH_FIN | TH_RST))
		return 0;
	/* The tuple is the translated one; what leads back to its own entry is the entry of the answers. */
	back.saddr = p.key.daddr;
	back.daddr = p.key.saddr;
	back.sport = p.key.dport;
	back.dport = p.key.sport;
	back.proto = p.key.proto;
	back.zone = p.key.zone;
	f = bpf_map_lookup_elem(&flows4, &back);
	if (!f || !(f->flags & FLOW_OFFLOAD))
		return 0;
	flow_partner_key(&back, f, &key);
	f = bpf_map_lookup_elem(&flows4, &key);
	if (f && (f->flags & FLOW_OFFLOAD) && f->oif == skb->ifindex && flow_is_partner(&back, f))
		f->judged = ticks_now();
	return 0;
}

#endif
