/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* publish.h: which container a published port leads to. */
#ifndef EBPFNET_PUBLISH_H
#define EBPFNET_PUBLISH_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "maps.h"
#include "types.h"

/*
 * In: an address that is known to be the host's, a port and a protocol. Out: what is published there, or NULL. A port published on this
 * address goes before one published on all.
 */
static __always_inline struct publish4 *publish_find(__be32 addr, __be16 port, __u8 proto)
{
	struct publish4_key key = {.addr = addr, .port = port, .proto = proto};
	struct publish4 *p = bpf_map_lookup_elem(&publish4, &key);

	if (p)
		return p;
	key.addr = 0;
	return bpf_map_lookup_elem(&publish4, &key);
}

#endif
