/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * carry.h: a packet's way through any of the programs, from its tuple to the verdict: its flow's entry, or a first packet's resolver, the
 * pieces of a datagram, an error about a flow, and what is counted and told at the end.
 */
#ifndef EBPFNET_CARRY_H
#define EBPFNET_CARRY_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "begin.h"
#include "datagram.h"
#include "deliver.h"
#include "event.h"
#include "flow.h"
#include "frag.h"
#include "hold.h"
#include "icmp.h"
#include "likely.h"
#include "maps.h"
#include "parse.h"
#include "scratch.h"
#include "stack.h"
#include "stats.h"
#include "types.h"
#include "vxlan.h"

/* Takes our mark off a packet. Out: which it was, or 0. */
static __always_inline __u32 unmark(struct __sk_buff *skb)
{
	__u32 mark = skb->tc_index;

	if (likely(mark != MARK_LEFT && mark != MARK_DONE && mark != MARK_OPENED))
		return 0;
	packet_mark(skb, 0);
	return mark;
}

/* Ends a packet's way through a program: counts what was decided, and gives the verdict. */
static __always_inline int done(struct __sk_buff *skb, const struct packet *p, enum hook hook, enum drop_reason reason, int verdict)
{
	struct endpoint4 *ep;

	event_tell(skb, p, hook, reason, verdict);
	if (unlikely(reason)) {
		stats_drop(skb, reason);
		ep = endpoint_find(p->key.daddr);
		if (ep)
			stats_received_dropped(skb, ep->slot);
		return VERDICT_DROP;
	}
	if (unlikely(p->pass)) {
		stats_pass(skb, p->pass);
		return VERDICT_NEXT;
	}
	if (unlikely(verdict == VERDICT_VXLAN))
		return vxlan_send(skb);
	return unlikely(verdict == VERDICT_DATAGRAM) ? datagram_send(skb) : verdict;
}

/* As done, for the hooks where the endpoint that sends is known by its device. */
static __always_inline int done_container(struct __sk_buff *skb, const struct packet *p, enum drop_reason reason, int verdict)
{
	__u32 dev = skb->ifindex;
	struct veth *veth;

	if (unlikely(reason || (p->pass && p->pass != PASS_NOT_IPV4))) {
		veth = bpf_map_lookup_elem(&veths, &dev);
		if (veth && veth->id)
			reason ? stats_sent_dropped(skb, veth->slot) : stats_sent(skb, veth->slot, stats_packets(skb));
	}
	/* What a stranger behind the veth sends is for from_bridge to look at. */
	if (unlikely(p->pass && p->pass != PASS_UNKNOWN_SOURCE))
		packet_mark(skb, MARK_LEFT);
	return done(skb, p, HOOK_FROM_CONTAINER, reason, verdict);
}

/* What the first packet of a flow is put to on a hook: one of the functions of forward.h. */
typedef int (*resolver)(struct __sk_buff *skb);

/* In: the first piece of a datagram, and its flow's entry. Leaves the ports for the other pieces. */
static __always_inline enum drop_reason remember_pieces(struct packet *p, const struct flow4 *f)
{
	struct scratch *s = scratch_get();
	enum drop_reason reason;

	if (!s)
		return DROP_FRAGMENT;
	s->packet = *p;
	s->flow = *f;
	reason = frag_enter();
	p->new_id = s->packet.new_id;
	return reason;
}

/*
 * In: a piece of a datagram, and its flow's entry, or NULL with p->pass set where the stack is to have it. Out: true where the packet's way
 * ends here: with *verdict, or with *reason where it is dropped. A piece that comes before the first one waits for it; the first leaves its
 * ports for the others, or the way to the stack. What the stack sends is in order. An offloaded flow's pieces are the kernel's, which puts them
 * together before its rules see them.
 */
static __always_inline bool gather_pieces(struct __sk_buff *skb, struct packet *p, const struct flow4 *f, enum drop_reason *reason, int *verdict)
{
	struct scratch *s = scratch_get();

	if (!s) {
		*reason = DROP_FRAGMENT;
		return true;
	}
	if (p->later) {
		if (!p->lost || p->pass != PASS_FRAGMENT || !p->dev)
			return false;
		s->packet = *p;
		switch (hold_piece(skb)) {
		case HOLD_LEAVE:
			return false;
		case HOLD_KEPT:
			break;
		case HOLD_AGAIN:
			*verdict = bpf_redirect(p->dev, BPF_F_INGRESS);
			break;
		default:
			*reason = DROP_FRAGMENT_ORDER;
		}
		p->pass = PASS_NONE;
		return true;
	}
	s->packet = *p;
	if (p->dev && hold_release(skb)) {
		p->pass = PASS_NONE;
		return true;
	}
	if (f && !(f->flags & FLOW_OFFLOAD)) {
		*reason = remember_pieces(p, f);
		return *reason;
	}
	if (p->dev)
		frag_leave(p);
	if (!f)
		return false;
	p->pass = PASS_FRAGMENT;
	*verdict = VERDICT_NEXT;
	return true;
}

/*
 * In: an ICMP message that is no query. Out: the verdict where it is an error about a flow of ours; VERDICT_NEXT with p->pass set where it
 * is not.
 */
static __always_inline int carry_error(struct __sk_buff *skb, struct packet *p, enum drop_reason *reason)
{
	struct scratch *s = scratch_get();
	struct flow4 *f;

	if (!s)
		return VERDICT_NEXT;
	s->packet = *p;
	*reason = icmp_translate(skb);
	p->pass = s->packet.pass;
	/* The stack's own error, about a packet that was handed to it, is on its way already. */
	if (*reason || p->pass || !p->dev)
		return VERDICT_NEXT;
	f = flow_entered(&s->key);
	if (!f) {
		*reason = DROP_FLOW_TABLE;
		return VERDICT_DROP;
	}
	return flow_send_error(skb, f, reason);
}

/*
 * In: a parsed packet. Out: the verdict, the reason where it is a drop, p->pass where the stack is to go on with the packet. What its flow's
 * entry says is done; without one the resolver makes it first. The zone tells whether the packet comes from the wire; p->dev is 0 for what
 * the stack sends.
 */
static __always_inline int carry(struct __sk_buff *skb, struct packet *p, resolver resolve, enum drop_reason *reason)
{
	int verdict = VERDICT_DROP;
	struct flow4 *f = NULL;
	struct scratch *s;

	if (unlikely(p->options) && p->dev && packet_source_routed(skb)) {
		*reason = DROP_SOURCE_ROUTE;
		return VERDICT_DROP;
	}
	if (unlikely(p->icmp_other) && !p->fragment) {
		verdict = carry_error(skb, p, reason);
		if (*reason || !p->pass)
			return verdict;
		p->pass = PASS_NONE;
		verdict = VERDICT_DROP;
	}
	if (unlikely(p->lost))
		frag_find(p);
	if (likely(!p->lost && !p->icmp_other))
		f = flow_use(skb, p, p->key.zone == ZONE_LOCAL);
	if (unlikely(!f)) {
		s = scratch_get();
		if (!s) {
			*reason = DROP_FLOW_TABLE;
			return VERDICT_DROP;
		}
		s->packet = *p;
		*reason = resolve(skb);
		p->pass = s->packet.pass;
		p->judged = s->packet.judged;
		if (*reason)
			return VERDICT_DROP;
		if (!p->pass) {
			f = flow_begun(&p->key);
			if (!f) {
				*reason = DROP_FLOW_TABLE;
				return VERDICT_DROP;
			}
		}
	}
	if (unlikely(p->fragment) && gather_pieces(skb, p, f, reason, &verdict))
		return verdict;
	return likely(f) ? flow_send(skb, p, f, reason) : VERDICT_NEXT;
}

/*
 * In: a parsed packet with an address of the host as its source. Out: the verdict. Only where a container's flow holds the same tuple on the
 * wire is the host's translated; what tells so costs a look-up for the first packet of a connection, and none after it until there is such
 * a flow.
 */
static __always_inline int carry_host(struct __sk_buff *skb, struct packet *p, enum drop_reason *reason)
{
	struct scratch *s = scratch_get();
	struct flow4 *f = NULL;
	struct notes *noted;
	__u32 zero = 0;

	noted = bpf_map_lookup_elem(&notes, &zero);
	if (!s || !noted || p->lost || p->icmp_other || p->icmp_reply)
		return VERDICT_NEXT;
	if (noted->host_conflicts)
		f = flow_use(skb, p, false);
	if (!f) {
		if (packet_is_midstream(p))
			return VERDICT_NEXT;
		s->packet = *p;
		if (!resolve_conflict(skb))
			return VERDICT_NEXT;
		f = flow_begun(&p->key);
	}
	if (!f || !(f->flags & FLOW_SNAT))
		return VERDICT_NEXT;
	return flow_send_leaving(skb, p, f, reason);
}

#endif
