/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * valid.h: whether a flow that was decided under an older configuration would be decided in the same way today. It is asked once for each
 * entry after a change, and reads what the first decision read.
 */
#ifndef EBPFNET_VALID_H
#define EBPFNET_VALID_H

#include "flow.h"
#include "global.h"
#include "maps.h"
#include "offload.h"
#include "peer.h"
#include "policy.h"
#include "publish.h"
#include "rules.h"
#include "scratch.h"
#include "types.h"

/* Out: the endpoint that has the address, if it is still the one with this id, behind this device. */
static __always_inline struct endpoint4 *valid_endpoint(__be32 addr, __u32 id, __u32 dev)
{
	struct addr4 key = {.addr = addr};
	struct endpoint4 *ep = bpf_map_lookup_elem(&endpoints4, &key);

	return ep && ep->id == id && ep->ifindex == dev ? ep : NULL;
}

/* Out: whether the address that hides the originator is still the host's. key is that of the originator's direction. */
static __always_inline bool valid_source(__be32 before, __be32 after)
{
	struct addr4 key = {.addr = after};

	return before == after || bpf_map_lookup_elem(&host_addrs4, &key);
}

/*
 * Out: whether the client, who comes by dev, is still led to the container's port when he dials addr:port. The flow is counted where the port
 * is counted now.
 */
static __always_inline bool valid_publish(struct flow4 *f, __be32 addr, __be16 port, __u8 proto, __be32 backend, __be16 backend_port,
					  __be32 client, __u32 dev)
{
	struct addr4 key = {.addr = addr};
	struct publish4 *pub;

	if (!bpf_map_lookup_elem(&host_addrs4, &key))
		return false;
	pub = publish_find(addr, port, proto);
	if (!pub || pub->addr != backend || pub->port != backend_port)
		return false;
	f->publish_slot = pub->slot;
	return !publish_refuse(pub, client, f->path == PATH_LOCAL ? 0 : dev);
}

/*
 * In: an entry of a flow with another host's container, or with that host itself, and the address. Out: whether somebody has it. The way
 * there is looked up anew before the next packet takes it.
 */
static __always_inline bool valid_peer(struct flow4 *f, __be32 remote)
{
	struct addr4 key = {.addr = remote};
	struct peer4 *peer = peer_find(remote);

	f->synced--;
	f->routed -= ticks_per_second;
	return peer ? peer->kind != PEER_NONE : !!bpf_map_lookup_elem(&peer_hosts4, &key);
}

/* Takes over what may change about a container without making it another: link-layer addresses and MTU. */
static __always_inline void flow_refresh(struct flow4 *f, const struct endpoint4 *ep, const struct bridge4 *bridge)
{
	if (!ep || !bridge)
		return;
	__builtin_memcpy(f->dmac, ep->mac, sizeof(f->dmac));
	__builtin_memcpy(f->smac, bridge->mac, sizeof(f->smac));
	f->mtu = ep->mtu;
}

/* In: the bridge of one of a flow's ends, or NULL. Out: whether it has the host's own rules decide. */
static __always_inline bool valid_offload(const struct bridge4 *bridge)
{
	return bridge && (bridge->flags & BRIDGE_OFFLOAD);
}

/* As rules_ask. */
static __always_inline enum drop_reason rules_ask_about(const struct endpoint4 *from, const struct endpoint4 *to, __u8 proto, __be32 saddr,
							__be32 daddr, __be16 port)
{
	struct flow4_key key = {.saddr = saddr, .proto = proto};

	return rules_ask(from, to, &key, daddr, port);
}

/* As flow_valid, of an entry and its key. */
static __always_inline bool valid_entry(const struct flow4_key *key, struct flow4 *f)
{
	bool reply = f->flags & FLOW_REPLY;
	/* The originator's and the target's own addresses, and what the one shows and the other is dialled by. */
	__be32 from = reply ? f->daddr : key->saddr, shown = reply ? key->daddr : f->saddr;
	__be32 to = reply ? key->saddr : f->daddr, dialled = reply ? f->saddr : key->daddr;
	__be16 to_port = reply ? key->sport : f->dport, dialled_port = reply ? f->sport : key->dport;
	__u32 from_id = reply ? f->dst_id : f->src_id, to_id = reply ? f->src_id : f->dst_id;
	struct bridge4 *from_bridge = NULL, *to_bridge = NULL;
	struct endpoint4 *from_ep = NULL, *to_ep = NULL;

	/* What the kernel carries is decided again, but for what a container has begun that only rules keep an entry for. */
	if ((f->flags & FLOW_KERNEL) && !from_id)
		return false;
	if (from_id) {
		from_ep = valid_endpoint(from, from_id, reply ? f->oif : f->iif);
		if (!from_ep)
			return false;
		from_bridge = bpf_map_lookup_elem(&bridges4, &from_ep->bridge);
		if (!from_bridge)
			return false;
	}
	if (to_id) {
		to_ep = valid_endpoint(to, to_id, reply ? f->iif : f->oif);
		if (!to_ep)
			return false;
		to_bridge = bpf_map_lookup_elem(&bridges4, &to_ep->bridge);
		if (!to_bridge)
			return false;
	}
	/* What the host itself dials is nobody's business but its own. */
	if ((f->path != PATH_HOST || from_ep) && rules_ask_about(from_ep, to_ep, key->proto, from, to, to_port))
		return false;
	if (f->flags & FLOW_KERNEL)
		return from_ep && (from_bridge->flags & BRIDGE_DOCKER_RULES);
	flow_refresh(f, reply ? from_ep : to_ep, reply ? from_bridge : to_bridge);
	if (f->flags & FLOW_OFFLOAD) {
		offload_lapse(f);
		return valid_offload(from_bridge) || valid_offload(to_bridge);
	}
	if (valid_offload(from_bridge) || valid_offload(to_bridge))
		return false;
	if ((f->flags & FLOW_SNAT) && !valid_source(from, shown))
		return false;
	if (f->path == PATH_OVERLAY && !valid_peer(f, from_id ? to : from))
		return false;
	if (f->flags & FLOW_DNAT) {
		if (!valid_publish(f, dialled, dialled_port, key->proto, to, to_port, from, reply ? f->oif : f->iif))
			return false;
		if (from_bridge && to_bridge)
			return !policy_published(from_bridge, from_ep->bridge, to_bridge, to_ep->bridge);
		return !to_bridge || !policy_in(to_bridge);
	}
	switch (f->path) {
	case PATH_IN:
		if (!to_bridge)
			return false;
		/* What Docker's rules once let in was taken over from the kernel. */
		return to_bridge->flags & BRIDGE_DOCKER_RULES || policy_direct(to_bridge, reply ? f->oif : f->iif, to, to_port, key->proto);
	case PATH_LOCAL:
		return from_bridge && to_bridge && !policy_local(from_bridge, from_ep->bridge, to_bridge, to_ep->bridge);
	case PATH_OUT:
		if (peer_find(to) || tunnel_is_dialled(to, dialled_port, key->proto))
			return false;
		if (!from_bridge)
			return true;
		if (from_ep->egress)
			return !policy_out(from_bridge) && shown == from_ep->egress;
		return !policy_out(from_bridge) && !!(from_bridge->flags & BRIDGE_MASQUERADE) == (shown != from);
	case PATH_OVERLAY:
		return from_bridge ? !policy_out(from_bridge) : to_bridge && !policy_in(to_bridge);
	case PATH_HOST:
		if (!from_bridge)
			return true;
		if (tunnel_is_dialled(dialled, dialled_port, key->proto))
			return false;
		return !policy_host(from_bridge, dialled) && !publish_find(dialled, dialled_port, key->proto);
	default:
		return true;
	}
}

/* In: in scratch the key of an entry of either direction. Out: 1 where it holds; then it is up to date, but for its epoch. */
GLOBAL int flow_valid(void)
{
	struct scratch *s = scratch_get();
	struct flow4 *f;

	if (!s)
		return 0;
	f = flow_entered(&s->key);
	return f && valid_entry(&s->key, f);
}

#endif
