/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * policy.h: who may talk to whom. Each function answers with the reason to drop, or 0. Where Docker's own rules stand behind a bridge, what
 * would be refused here is left to them, so that they decide as they always did.
 */
#ifndef EBPFNET_POLICY_H
#define EBPFNET_POLICY_H

#include "maps.h"
#include "parse.h"
#include "types.h"

/* In: a refusal and the bridge it is about. Out: the refusal, or 0 with the packet left to Docker's rules. */
static __always_inline enum drop_reason policy_refuse(struct packet *p, const struct bridge4 *bridge, enum drop_reason reason)
{
	if (reason && (bridge->flags & BRIDGE_DOCKER_RULES)) {
		p->pass = PASS_RULES;
		return DROP_NONE;
	}
	return reason;
}

/* In: a packet that begins no flow here yet, and a bridge that it is about. Out: true where the host's rules decide, with it left to them. */
static __always_inline bool policy_offload(struct packet *p, const struct bridge4 *bridge)
{
	if (!(bridge->flags & BRIDGE_OFFLOAD))
		return false;
	p->pass = PASS_RULES;
	return true;
}

/*
 * In: a packet from a device to a container's own address, and its bridge. Out: whether that may be dialled: Docker's gateway modes routed and
 * nat-unprotected, and trusted_host_interfaces.
 */
static __noinline bool policy_direct(const struct bridge4 *bridge, __u32 dev, __be32 addr, __be16 port, __u8 proto)
{
	struct publish4_key key = {.addr = addr, .port = port, .proto = proto};
	enum direct_flag direct = bridge->direct;

	for (int i = 0; i < TRUSTED_DEVICES; i++) {
		if (dev && bridge->trusted[i] == dev)
			direct |= DIRECT_PUBLISHED;
	}
	if (bridge->flags & BRIDGE_INTERNAL)
		return false;
	if (direct & DIRECT_ALL)
		return true;
	if (proto == IPPROTO_ICMP)
		return direct & DIRECT_ECHO;
	return (direct & DIRECT_PUBLISHED) && bpf_map_lookup_elem(&publish4, &key);
}

/*
 * In: the bridges of two containers, of which one dials the other's own address. Docker keeps bridges apart, and the containers of one
 * bridge where com.docker.network.bridge.enable_icc is off.
 */
static __always_inline enum drop_reason policy_local(const struct bridge4 *from, __u32 from_index, const struct bridge4 *to, __u32 to_index)
{
	if (from_index != to_index)
		return from->flags & BRIDGE_INTERNAL || to->flags & BRIDGE_INTERNAL ? DROP_INTERNAL : DROP_ISOLATED;
	return from->flags & BRIDGE_ICC ? DROP_NONE : DROP_ICC;
}

/* In: the bridge of a container that dials a published port of the host, and the bridge of the container behind it. */
static __always_inline enum drop_reason policy_published(const struct bridge4 *from, __u32 from_index, const struct bridge4 *to, __u32 to_index)
{
	if (from_index != to_index && (from->flags & BRIDGE_INTERNAL || to->flags & BRIDGE_INTERNAL))
		return DROP_INTERNAL;
	return DROP_NONE;
}

/* In: the bridge of a container that dials an address outside. */
static __always_inline enum drop_reason policy_out(const struct bridge4 *from)
{
	return from->flags & BRIDGE_INTERNAL ? DROP_INTERNAL : DROP_NONE;
}

/* In: the bridge of a container that dials an address of the host: an internal network reaches only its own gateway. */
static __always_inline enum drop_reason policy_host(const struct bridge4 *from, __be32 addr)
{
	return from->flags & BRIDGE_INTERNAL && addr != from->addr ? DROP_INTERNAL : DROP_NONE;
}

/* In: the bridge of a container whose published port is dialled from outside. */
static __always_inline enum drop_reason policy_in(const struct bridge4 *to)
{
	return to->flags & BRIDGE_INTERNAL ? DROP_INTERNAL : DROP_NONE;
}

#endif
