/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * event.h: what was decided about a packet, told to whoever looks. While nobody does, a packet costs one read of a word that does not change,
 * and nothing is written.
 */
#ifndef EBPFNET_EVENT_H
#define EBPFNET_EVENT_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "begin.h"
#include "deliver.h"
#include "flow.h"
#include "global.h"
#include "likely.h"
#include "maps.h"
#include "parse.h"
#include "scratch.h"
#include "types.h"

/*
 * What was decided about packets, while somebody looks. Written by the programs, read by the agent that loaded them; it is not
 * pinned, and goes with them.
 */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__type(value, struct event);
	__uint(max_entries, 2 << 20);
} events SEC(".maps");

/* Bits of enum monitor_bit: what is told. Written by the agent; it is 0 when the programs are loaded, so that nothing outlives an agent. */
volatile enum monitor_bit monitor = 0;

/* Events that found no room. Written by the programs, read by the agent. */
volatile __u64 events_lost = 0;

/* Writes the tuple that the packet has now: that of its flow after translation, with the addresses that stand in the header. */
static __always_inline void event_translated(struct __sk_buff *skb, const struct flow4 *f, struct event *e)
{
	__be32 addrs[2];

	e->after = e->before;
	if (f) {
		e->after.sport = f->sport;
		e->after.dport = f->dport;
	}
	if (!bpf_skb_load_bytes(skb, IP_OFF + offsetof(struct iphdr, saddr), addrs, sizeof(addrs))) {
		e->after.saddr = addrs[0];
		e->after.daddr = addrs[1];
	}
}

/* Writes which endpoints send and receive: as the flow has it, or, without one, by the sender's device and by the addresses. */
static __always_inline void event_ends(struct __sk_buff *skb, const struct flow4 *f, struct event *e)
{
	__u32 dev = skb->ifindex;
	struct endpoint4 *ep;
	struct veth *veth;

	if (f) {
		e->src_id = f->src_id;
		e->dst_id = f->dst_id;
		return;
	}
	veth = e->hook == HOOK_FROM_CONTAINER ? bpf_map_lookup_elem(&veths, &dev) : NULL;
	if (veth) {
		e->src_id = veth->id;
	} else {
		ep = endpoint_find(e->before.saddr);
		if (ep)
			e->src_id = ep->id;
	}
	ep = endpoint_find(e->after.daddr);
	if (ep)
		e->dst_id = ep->id;
}

/*
 * In: in scratch, a packet as it came, the hook and what was decided there. Out: 0, with an event written for it, or counted as lost where
 * the ring is full.
 */
GLOBAL int event_write(struct __sk_buff *skb)
{
	struct scratch *s = scratch_get();
	__u32 dev = skb->ifindex;
	struct event *e;
	struct flow4 *f;
	__u64 captured;
	bool ip;

	if (!s)
		return 0;
	/* The verifier wants the field at an offset from the context itself, and not whichever of two addresses. */
	asm volatile("" : "+r"(dev));
	if (s->event.hook == HOOK_FROM_PEER || s->event.hook == HOOK_FROM_OVERLAY)
		dev = s->packet.dev;
	/* An error about a flow is told with that flow, whose key it has left in scratch. */
	f = flow_entered(s->packet.icmp_other ? &s->key : &s->packet.key);
	ip = s->packet.pass != PASS_NOT_IPV4;
	/* The host's own: nothing is decided about it. */
	if (s->event.hook == HOOK_TO_UPLINK && !f && !s->event.drop && !s->packet.pass)
		return 0;
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		__sync_fetch_and_add(&events_lost, 1);
		return 0;
	}
	__builtin_memset(e, 0, offsetof(struct event, data));
	e->time = bpf_ktime_get_ns();
	e->before = s->packet.key;
	e->ifindex = dev;
	e->len = skb->len;
	e->hook = s->event.hook;
	e->verdict = s->event.drop ? VERDICT_DROP : s->event.verdict >= VERDICT_VXLAN ? VERDICT_REDIRECT : s->event.verdict;
	e->drop = s->event.drop;
	e->pass = e->drop ? PASS_NONE : s->packet.pass;
	e->rule = s->packet.judged ? s->ask.rule : 0;
	e->partial = s->packet.icmp_other || s->packet.lost;
	if (f && !s->packet.icmp_other) {
		e->known = 1;
		e->path = f->path;
		e->oif = f->oif;
	}
	if (ip) {
		event_translated(skb, s->packet.icmp_other ? NULL : f, e);
		event_ends(skb, s->packet.icmp_other ? NULL : f, e);
	}
	captured = skb->len;
	if (captured > sizeof(e->data))
		captured = sizeof(e->data);
	/* The verifier of kernel 5.10 does not learn from a comparison with 0 that it is not 0: it is shown one less. */
	captured--;
	asm volatile("" : "+r"(captured));
	if (captured < sizeof(e->data) && !bpf_skb_load_bytes(skb, 0, e->data, captured + 1))
		e->captured = captured + 1;
	bpf_ringbuf_submit(e, 0);
	return 0;
}

/*
 * Keeps what is known of a packet in one place, and not in as many variables of the compiler's as it has fields: the verifier of kernel 5.10
 * forgets what it knows of a number that is put aside. Elsewhere functions that are given a part of it do the same.
 */
static __always_inline void packet_hold(struct packet *p)
{
	asm volatile("" : : "r"(p) : "memory");
}

/* Tells, where somebody looks, what became of a packet. In: the packet as it came, the hook, the reason of a drop or 0, the verdict. */
static __always_inline void event_tell(struct __sk_buff *skb, const struct packet *p, enum hook hook, enum drop_reason reason, int verdict)
{
	enum monitor_bit wanted = monitor;
	struct scratch *s;

	if (likely(!wanted) || !(wanted & (reason ? MONITOR_DROPS : MONITOR_TRACE)))
		return;
	s = scratch_get();
	if (!s)
		return;
	s->packet = *p;
	s->event.hook = hook;
	s->event.drop = reason;
	s->event.verdict = verdict;
	event_write(skb);
}

#endif
