/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * hold.h: pieces of a datagram that come before its first piece. Nobody knows their ports yet, so they are kept in a map. When the first one
 * comes, it and they are sent in by the same device again, in the order in which they can be carried.
 */
#ifndef EBPFNET_HOLD_H
#define EBPFNET_HOLD_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "frag.h"
#include "global.h"
#include "maps.h"
#include "overlay.h"
#include "parse.h"
#include "scratch.h"
#include "stats.h"
#include "time.h"
#include "types.h"

/* As many pieces of one datagram are kept: 64 KiB in frames of 1500 bytes are 45. */
#define HOLD_PIECES 48

/* A piece that comes while the first one is on its way in again goes round too; so often for one datagram. */
#define HOLD_ROUNDS 64

/* What becomes of a piece whose first piece has not passed. */
enum hold_fate {
	HOLD_LEAVE, /* to the stack, where the first one is */
	HOLD_KEPT,
	HOLD_AGAIN, /* it is to come in once more, behind the first */
	HOLD_LOST,  /* it is too long, or too many are kept */
};

/* Where a piece is put together before it goes into the map: it would not fit on the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct piece4);
	__uint(max_entries, 1);
} piece_buffer SEC(".maps");

static __always_inline bool hold_is_old(__u32 now, const struct piece4 *piece)
{
	return ticks_since(now, piece->seen) > FRAG_SECONDS * ticks_per_second;
}

/*
 * In: in scratch a later piece, in piece_buffer its frame, and a slot of its datagram. Out: 1 where that slot has it now. The slot of a piece that
 * is too old is free.
 */
GLOBAL int hold_put(__u32 slot)
{
	struct piece4_key key = {.slot = slot};
	struct scratch *s = scratch_get();
	struct piece4 *piece, *old;
	__u32 zero = 0;

	piece = bpf_map_lookup_elem(&piece_buffer, &zero);
	if (!s || !piece)
		return 0;
	frag_key(&s->packet, &key.datagram);
	if (!bpf_map_update_elem(&pieces4, &key, piece, BPF_NOEXIST))
		return 1;
	old = bpf_map_lookup_elem(&pieces4, &key);
	return old && hold_is_old(piece->seen, old) && !bpf_map_update_elem(&pieces4, &key, piece, BPF_ANY);
}

/* In: in scratch a later piece, and the number of those of its datagram that are kept. Out: whether it is kept now. */
static __always_inline bool hold_keep(struct __sk_buff *skb, __u32 count)
{
	struct piece4 *piece;
	__u32 zero = 0, len = skb->len;

	piece = bpf_map_lookup_elem(&piece_buffer, &zero);
	if (!piece || !len || len > PIECE_BYTES)
		return false;
	/* Older verifiers want to see both bounds where the length is used. */
	len = ((len - 1) & (PIECE_BYTES - 1)) + 1;
	if (bpf_skb_load_bytes(skb, 0, piece->frame, len))
		return false;
	piece->len = len;
	piece->seen = ticks_now();
	/* Another CPU may take a slot in between; the next one is as good. */
	for (__u32 i = 0; i < HOLD_PIECES; i++) {
		if (i >= count && hold_put(i))
			return true;
	}
	return false;
}

/* In: in scratch a later piece of which nobody knows the ports. Out: what becomes of it, an enum hold_fate. */
GLOBAL int hold_piece(struct __sk_buff *skb)
{
	struct frag4 fresh = {.state = FRAG_WAITING};
	struct scratch *s = scratch_get();
	struct overlay *o = overlay_get();
	struct frag4_key key = {};
	struct frag4 *frag;

	/* The tunnel's own header would be gone when the piece comes in again; and what comes by it keeps its addresses. */
	if (!s || (o && o->ifindex == s->packet.dev))
		return HOLD_LEAVE;
	frag_key(&s->packet, &key);
	fresh.seen = ticks_now();
	frag = bpf_map_lookup_elem(&frags4, &key);
	if (!frag || frag_is_old(frag)) {
		bpf_map_update_elem(&frags4, &key, &fresh, BPF_ANY);
		frag = bpf_map_lookup_elem(&frags4, &key);
		if (!frag)
			return HOLD_LOST;
	}
	switch (frag->state) {
	case FRAG_LEFT:
		return HOLD_LEAVE;
	case FRAG_WAITING:
		if (!hold_keep(skb, frag->count))
			return HOLD_LOST;
		frag->count++;
		stats_tally(TALLY_FRAGMENT_HELD, 1);
		return HOLD_KEPT;
	default: /* the first has just been let in, or was refused */
		return frag->count++ < HOLD_ROUNDS ? HOLD_AGAIN : HOLD_LOST;
	}
}

/*
 * In: in scratch the first piece of a datagram. Out: 1 where others of it were kept: then it and they are on their way in again, the first
 * before the others, and the packet itself has become one of them. 0 where none were.
 */
GLOBAL int hold_release(struct __sk_buff *skb)
{
	struct scratch *s = scratch_get();
	struct piece4_key key = {};
	struct piece4 *piece;
	struct frag4 *frag;
	__u32 dev, len;

	if (!s)
		return 0;
	dev = s->packet.dev;
	frag_key(&s->packet, &key.datagram);
	frag = bpf_map_lookup_elem(&frags4, &key.datagram);
	if (!frag || frag->state != FRAG_WAITING || frag_is_old(frag))
		return 0;
	frag->state = FRAG_RELEASED;
	frag->count = 0;
	if (bpf_clone_redirect(skb, dev, BPF_F_INGRESS))
		return 0;
	for (__u32 i = 0; i < HOLD_PIECES; i++) {
		key.slot = i;
		piece = bpf_map_lookup_elem(&pieces4, &key);
		if (!piece)
			continue;
		len = ((piece->len - 1) & (PIECE_BYTES - 1)) + 1;
		if (!hold_is_old(ticks_now(), piece) && !bpf_skb_change_tail(skb, len, 0) &&
		    !bpf_skb_store_bytes(skb, 0, piece->frame, len, BPF_F_RECOMPUTE_CSUM) && !bpf_clone_redirect(skb, dev, BPF_F_INGRESS))
			stats_tally(TALLY_FRAGMENT_RELEASED, 1);
		bpf_map_delete_elem(&pieces4, &key);
	}
	return 1;
}

#endif
