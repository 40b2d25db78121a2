/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * frag.h: datagrams in pieces. Only the first piece has ports, so it leaves them here for the others. Two containers may use one IP id
 * towards one peer; hidden behind one address their pieces would be mixed up, so a datagram whose source changes reserves its id on the wire
 * as a flow reserves its port.
 */
#ifndef EBPFNET_FRAG_H
#define EBPFNET_FRAG_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "config.h"
#include "maps.h"
#include "parse.h"
#include "scratch.h"
#include "stats.h"
#include "time.h"
#include "types.h"

/* How long a host waits for the rest of a datagram (net.ipv4.ipfrag_time). */
#define FRAG_SECONDS 30
#define FRAG_TRIES 16

static __always_inline void frag_key(const struct packet *p, struct frag4_key *key)
{
	key->saddr = p->key.saddr;
	key->daddr = p->key.daddr;
	key->ip_id = p->ip_id;
	key->proto = p->key.proto;
	key->zone = p->key.zone;
}

static __always_inline bool frag_is_old(const struct frag4 *frag)
{
	return ticks_since(ticks_now(), frag->seen) > FRAG_SECONDS * ticks_per_second;
}

/* In: a later piece. Out: true with the ports of its first piece in p, or false where that has not passed. */
static __noinline bool frag_find(struct packet *p)
{
	struct frag4_key key = {};
	struct frag4 *frag;

	frag_key(p, &key);
	frag = bpf_map_lookup_elem(&frags4, &key);
	if (!frag || frag->state != FRAG_CARRIED || frag_is_old(frag))
		return false;
	p->key.sport = frag->sport;
	p->key.dport = frag->dport;
	p->new_id = frag->ip_id;
	p->lost = false;
	stats_tally(TALLY_FRAGMENT_LATER, 1);
	return true;
}

/* In: a first piece that goes to the stack. The others have to follow it. */
static __noinline void frag_leave(const struct packet *p)
{
	struct frag4 frag = {.state = FRAG_LEFT, .seen = ticks_now()};
	struct frag4_key key = {};

	frag_key(p, &key);
	bpf_map_update_elem(&frags4, &key, &frag, BPF_ANY);
}

/* In: the addresses that a datagram leaves with. Out: an IP id that no other datagram between them has now, its own if it can be. */
static __always_inline __be16 frag_reserve(const struct packet *p, __be32 saddr, __be32 daddr)
{
	struct frag4_key key = {.saddr = saddr, .daddr = daddr, .ip_id = p->ip_id, .proto = p->key.proto, .zone = ZONE_WIRE};
	struct frag4 mine = {.seen = ticks_now()};

	for (int i = 0; i < FRAG_TRIES; i++) {
		struct frag4 *other = bpf_map_lookup_elem(&frags4, &key);

		if (other && frag_is_old(other))
			bpf_map_delete_elem(&frags4, &key);
		if (!bpf_map_update_elem(&frags4, &key, &mine, BPF_NOEXIST))
			break;
		key.ip_id = bpf_get_prandom_u32();
	}
	return key.ip_id;
}

/* In: in scratch a first piece, and what its flow makes of it. Out: its ports stand ready for the others, and its id in p->new_id. */
GLOBAL int frag_enter(void)
{
	struct scratch *s = scratch_get();
	struct frag4_key key = {};
	struct frag4 frag = {};
	struct packet *p;

	if (!s)
		return DROP_FRAGMENT;
	p = &s->packet;
	p->new_id = p->ip_id;
	if (s->flow.saddr != p->key.saddr)
		p->new_id = frag_reserve(p, s->flow.saddr, s->flow.daddr);
	frag.sport = p->key.sport;
	frag.dport = p->key.dport;
	frag.ip_id = p->new_id;
	frag.seen = ticks_now();
	frag_key(p, &key);
	if (bpf_map_update_elem(&frags4, &key, &frag, BPF_ANY))
		return DROP_FRAGMENT;
	stats_tally(TALLY_FRAGMENT_FIRST, 1);
	return DROP_NONE;
}

#endif
