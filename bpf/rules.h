/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * rules.h: what the user's own rules say of a flow's first packet. The agent has compiled them, so that their number does not matter: an
 * address has a class, two classes have a profile for each direction, and a profile has a verdict for a protocol and a port. For a flow that
 * is known nothing is asked. A refusal is a drop in both worlds, over Docker's rules too: nobody else knows of these.
 */
#ifndef EBPFNET_RULES_H
#define EBPFNET_RULES_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "begin.h"
#include "flow.h"
#include "global.h"
#include "maps.h"
#include "parse.h"
#include "scratch.h"
#include "types.h"

/* The bits of a profile's key before its protocol, as its own verdict is found under. */
#define CLASS_BITS 64
#define PROFILE_BITS 96

/* In: an address, with the set in scratch. Out: its class. */
static __always_inline __u32 class_find(struct ask *ask, __be32 addr)
{
	struct class4 *c;

	ask->class.prefixlen = CLASS_BITS;
	ask->class.set = ask->set;
	ask->class.addr = addr;
	c = bpf_map_lookup_elem(&classes4, &ask->class);
	return c ? c->class : 0;
}

/* In: a profile, and the question in scratch. Out: whether it lets it pass, with the rule that says so in scratch. */
static __always_inline bool profile_allows(struct ask *ask, __u32 profile)
{
	struct profile *v;

	if (profile == PROFILE_OPEN)
		return true;
	ask->rule = 0;
	if (profile == PROFILE_CLOSED)
		return false;
	ask->profile.prefixlen = PROFILE_BITS;
	ask->profile.set = ask->set;
	ask->profile.profile = profile;
	ask->profile.proto = ask->proto;
	ask->profile.pad = 0;
	ask->profile.port = ask->port;
	v = bpf_map_lookup_elem(&profiles, &ask->profile);
	if (!v)
		return false;
	ask->rule = v->rule;
	return v->allow;
}

/*
 * In: the question in scratch. Out: 0, or the reason to drop. At most three look-ups: one for the pair, and, for two containers, one for the
 * profile of each; or, with an address that is no container's, one for its class and one for the profile of the only container.
 */
GLOBAL int rules_judge(void)
{
	struct scratch *s = scratch_get();
	struct pair_key key = {};
	__u32 egress, ingress;
	struct pair *pair;
	struct ask *ask;

	if (!s)
		return DROP_POLICY_INGRESS;
	ask = &s->ask;
	egress = ask->from_here ? ask->from.egress : PROFILE_OPEN;
	ingress = ask->to_here ? ask->to.ingress : PROFILE_OPEN;
	key.set = ask->set;
	key.from = ask->from_here ? ask->from.class : class_find(ask, ask->saddr);
	key.to = ask->to_here ? ask->to.class : class_find(ask, ask->daddr);
	pair = bpf_map_lookup_elem(&pairs, &key);
	if (pair) {
		if (egress != PROFILE_CLOSED)
			egress = ask->from_here ? pair->egress : PROFILE_OPEN;
		if (ingress != PROFILE_CLOSED)
			ingress = ask->to_here ? pair->ingress : PROFILE_OPEN;
	}
	if (!profile_allows(ask, egress))
		return DROP_POLICY_EGRESS;
	if (!profile_allows(ask, ingress))
		return DROP_POLICY_INGRESS;
	return DROP_NONE;
}

/*
 * In: who dials, and who is dialled: an endpoint, or NULL for anybody else; the protocol and the addresses as the two have them, and the port
 * that is dialled there. Out: 0, or the reason to drop. Who is selected by no rule costs nothing.
 */
static __noinline enum drop_reason rules_ask(const struct endpoint4 *from, const struct endpoint4 *to, const struct flow4_key *key, __be32 daddr,
					     __be16 port)
{
	struct config *cfg = config_get();
	struct scratch *s = scratch_get();
	struct ask *ask;
	__u32 set;

	if (!cfg || !s)
		return DROP_NONE;
	set = cfg->policy_set & 1;
	ask = &s->ask;
	ask->from_here = from;
	ask->to_here = to;
	if (from)
		ask->from = from->policy[set];
	if (to)
		ask->to = to->policy[set];
	if (!(from && ask->from.egress) && !(to && ask->to.ingress))
		return DROP_NONE;
	/* Nobody is kept from himself. */
	if (from && to && from->id == to->id)
		return DROP_NONE;
	s->packet.judged = true;
	ask->set = set;
	ask->rule = 0;
	ask->saddr = key->saddr;
	ask->daddr = daddr;
	ask->proto = key->proto;
	ask->port = port;
	return rules_judge();
}

/*
 * In: a published port, who dials it, and the device by which he comes; 0 for who is on this host. Out: 0, or the reason why he may not.
 */
static __noinline enum drop_reason publish_refuse(const struct publish4 *pub, __be32 client, __u32 dev)
{
	struct publish_from4_key key = {.prefixlen = 64, .id = pub->from, .addr = client};

	if (pub->uplink && dev && pub->uplink != dev)
		return DROP_PUBLISH_UPLINK;
	if (pub->from && !bpf_map_lookup_elem(&publish_from4, &key))
		return DROP_PUBLISH_FROM;
	return DROP_NONE;
}

#endif
