/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * types.h: every struct and enum that the control plane sees. Go's types are generated from it, so a field has one home. Addresses and
 * ports are in network byte order and say so by their type; everything else is in the machine's order. Padding is explicit, because a
 * key is compared byte by byte. What decides about packets is here; what is counted and told of them is in told.h, at the end.
 */
#ifndef EBPFNET_TYPES_H
#define EBPFNET_TYPES_H

#include <linux/types.h>

/* An enum that takes one byte in a struct. */
#define BYTE_ENUM __attribute__((packed))

/* Where a tuple is seen. One packet has two tuples when it is translated; the zone keeps a container's from the wire's. */
enum zone {
	ZONE_WIRE = 0,	/* on an uplink, or beyond it */
	ZONE_LOCAL = 1, /* on a bridge: a container's own view, and the host's view of a container */
} BYTE_ENUM;

/* Which way a flow goes, seen from the side that began it. The metric label is the enumerator without its prefix, in lower case. */
enum flow_path {
	PATH_LOCAL = 0,	  /* container to container, by whatever address */
	PATH_IN = 1,	  /* from outside to a published port */
	PATH_OUT = 2,	  /* from a container to outside */
	PATH_HOST = 3,	  /* between the host and a container */
	PATH_OVERLAY = 4, /* between containers of two hosts */
	PATH_MAX = 5,
} BYTE_ENUM;

/* What to do with a packet of a known flow once it is translated. From VERB_NEIGH on it leaves the host, by a route that is looked up anew. */
enum verb {
	VERB_STACK = 0, /* leave it on its way through the host's stack */
	VERB_PEER = 1,	/* into the namespace behind the veth oif */
	VERB_DEV = 2,	/* out of the veth oif, link-layer header as it is */
	VERB_NEIGH = 3, /* out of oif to the neighbour nexthop, whose address the kernel resolves */
	VERB_VXLAN = 4, /* as the next, but in VXLAN, for the tunnel endpoint dmac; where oif is its device, the kernel wraps it */
	VERB_DATAGRAM = 5, /* in a UDP datagram to host, out of oif to the neighbour nexthop */
} BYTE_ENUM;

/* Bits of flow4.flags. */
enum flow_flag {
	FLOW_REPLY = 1 << 0,	/* this entry is for the answering direction */
	FLOW_DNAT = 1 << 1,	/* the originator dialled a published address, not the container */
	FLOW_SNAT = 1 << 2,	/* the originator's address is hidden behind one of the host's */
	FLOW_ROUTED = 1 << 3,	/* crosses a network: one TTL is spent, the link-layer header is new */
	FLOW_ANSWERED = 1 << 4, /* a reply has been seen */
	FLOW_KERNEL = 1 << 5,	/* the kernel's own rules carry this flow; both directions stay with it */
	FLOW_OFFLOAD = 1 << 6,	/* the host's rules decide about it, and it is carried here where they just have (offload.h) */
} BYTE_ENUM;

/*
 * skb->tc_index between two of our hooks on one packet's way. Others' values are left alone, and ours does not outlive the second hook.
 */
enum mark {
	MARK_LEFT = 0xeb01, /* from_container has left it to the stack */
	MARK_DONE = 0xeb02, /* translated and counted */
	MARK_OPENED = 0xeb03, /* it came in a datagram of the host that has its source, and is for the stack */
};

/* Bits of flow4.tcp, kept alike in both entries of a flow. "Reply" is the answering side. */
enum tcp_seen {
	TCP_SYN = 1 << 0,
	TCP_SYN_REPLY = 1 << 1,
	TCP_FIN = 1 << 2,
	TCP_FIN_REPLY = 1 << 3,
	TCP_RST = 1 << 4,
} BYTE_ENUM;

/*
 * A tuple as it is seen in a zone. An ICMP echo request has its id in sport and 0 in dport, a reply 0 in sport and the id in dport, so
 * that the inverse of a tuple is its swap for every protocol. Protocols without ports have 0 in both.
 */
struct flow4_key {
	__be32 saddr;
	__be32 daddr;
	__be16 sport;
	__be16 dport;
	__u8 proto;
	enum zone zone;
	__u16 pad;
};

/* One direction of a flow: how to rewrite its packets, and where they go. Times are in ticks (see config.h), and wrap. */
struct flow4 {
	__be32 saddr; /* the tuple after translation */
	__be32 daddr;
	__be16 sport;
	__be16 dport;
	enum verb verb;
	enum flow_path path;
	enum flow_flag flags;
	enum tcp_seen tcp;
	__u32 iif;	/* where this direction's packets come in; a container's must */
	__u32 oif;	/* where they go, for all but VERB_STACK */
	__be32 nexthop; /* for VERB_NEIGH, VERB_VXLAN and VERB_DATAGRAM */
	__u8 dmac[6];	/* for VERB_PEER where FLOW_ROUTED, and VERB_VXLAN */
	__u8 smac[6];
	__u32 addr_diff; /* checksum difference of the addresses, and of the ports (bpf_csum_diff) */
	__u32 port_diff;
	__u32 epoch;  /* the configuration that it was decided under */
	__u32 src_id; /* endpoint ids of the two ends of this direction; 0: not a container */
	__u32 dst_id;
	__u16 src_slot; /* their slots in endpoint_stats */
	__u16 dst_slot;
	__u16 bridge_slot; /* in path_stats */
	__u16 mtu;	   /* the largest IP packet that oif takes; 0: not known, not checked */
	__u32 synced;	   /* tick of the last look at the partner */
	__u32 routed;	   /* tick of the last route look-up, for VERB_NEIGH */
	__u32 seen;	   /* tick of the last packet of either direction */
	__u32 created;
	enum zone partner_zone; /* zone of the other direction's key */
	enum verb partner_verb; /* and what becomes of its packets */
	__u16 publish_slot;	/* in publish_stats; 0: nothing is counted there */
	__u32 judged; /* with FLOW_OFFLOAD: tick in which the host's rules last let a packet of this direction through */
	__be32 host; /* with PATH_OVERLAY, on the way there: the host that has the destination */
	__u64 packets; /* of this direction */
	__u64 bytes;   /* link-layer header included */
};

/* A slot that no counters stand in. */
#define NO_SLOT 0xffff

/* An IPv4 address, as a key. */
struct addr4 {
	__be32 addr;
};

/* Numbers of profiles. These two are in no map. */
enum profile_id {
	PROFILE_OPEN = 0,	     /* no rule asks: everything may pass */
	PROFILE_CLOSED = 0xffffffff, /* the rules that would decide could not be written: nothing may pass */
};

/* What an address is to the rules. Containers of one class are alike to all of them. */
struct ident {
	__u32 class;   /* 0: an address that no rule names */
	enum profile_id egress;	 /* of what it may send to whom the pairs do not name */
	enum profile_id ingress; /* and of what it may be sent by them */
};

/* The rules stand in the maps twice: packets are judged by one set, and the next is written into the other. */
#define POLICY_SETS 2

/* A container's address. Any network namespace behind a veth of an attached bridge is one, whoever made it. */
struct endpoint4 {
	__u32 id;      /* never used for another endpoint while the maps live; never 0 */
	__u32 ifindex; /* the host's end of the veth */
	__u32 bridge;  /* ifindex */
	__u16 slot;    /* in endpoint_stats */
	__u16 mtu;
	__u8 mac[6]; /* the container's */
	__u16 pad;
	__be32 egress; /* leave with this address of the host; 0: as its bridge does; EGRESS_NONE: that address is not there */
	struct ident policy[POLICY_SETS];
};

/* In endpoint4.egress: the address that it is to leave with is not there, so that nothing leaves. */
#define EGRESS_NONE 0xffffffff

/* Bits of veth.flags: who is behind it is selected by rules, so that what no rule can judge (no IPv4) does not pass. */
enum veth_flag {
	VETH_EGRESS = 1 << 0,
	VETH_INGRESS = 1 << 1,
} BYTE_ENUM;

/* The class of the addresses in a prefix, as an LPM key: prefixlen counts the bits of set and addr. */
struct class4_key {
	__u32 prefixlen;
	__u32 set;
	__be32 addr;
};

struct class4 {
	__u32 class;
};

/* Two classes, of whom dials and of who is dialled, where the rules have more to say than the profile of each. */
struct pair_key {
	__u32 set;
	__u32 from;
	__u32 to;
};

struct pair {
	enum profile_id egress;	 /* for the one who dials */
	enum profile_id ingress; /* and for the one who is dialled */
};

/* What a profile says of a port, as an LPM key: prefixlen counts the bits from set on. */
struct profile_key {
	__u32 prefixlen;
	__u32 set;
	__u32 profile;
	__u8 proto;
	__u8 pad;
	__be16 port;
};

/* A verdict, and the rule that gives it. */
struct profile {
	__u32 allow; /* 1: may pass */
	__u32 rule;
};

/* The addresses that may use a published port, as an LPM key: prefixlen counts the bits of id and addr. */
struct publish_from4_key {
	__u32 prefixlen;
	__u32 id;
	__be32 addr;
};

struct publish_from4 {
	__u32 allow; /* always 1 */
};

/* Bits of bridge4.flags. */
enum bridge_flag {
	BRIDGE_MASQUERADE = 1 << 0, /* containers leave with an address of the host */
	BRIDGE_ICC = 1 << 1,	    /* containers of this bridge may talk to each other */
	BRIDGE_INTERNAL = 1 << 2,   /* no way out and no way in */
	BRIDGE_DOCKER_RULES = 1 << 3, /* netfilter rules of Docker stand behind us: what we do not decide, they do */
	BRIDGE_OFFLOAD = 1 << 4,      /* the host's own rules decide about every flow, and only what they let through is carried here */
	BRIDGE_CLOSED = 1 << 6,	      /* nobody is served whom the agent does not know yet */
	BRIDGE_SPOOFING = 1 << 5,     /* its containers may send from addresses that are not theirs */
	BRIDGE_MEMBER = 1 << 7,	      /* other hosts reach its containers: its subnet is this host's share of their network */
	BRIDGE_FILTERED = 1 << 8,     /* rules that are not Docker's could drop what the stack forwards for its containers */
};

/* What of a container's own address may be dialled from outside, by who has a route to it. */
enum direct_flag {
	DIRECT_PUBLISHED = 1 << 0, /* the ports that are published */
	DIRECT_ALL = 1 << 1,
	DIRECT_ECHO = 1 << 2, /* it may be pinged */
} BYTE_ENUM;

#define TRUSTED_DEVICES 4

/* An attached bridge. Key: ifindex. */
struct bridge4 {
	__be32 addr; /* the gateway address */
	enum bridge_flag flags;
	__u16 slot;  /* in path_stats */
	__u8 mac[6];
	__be32 masquerade; /* leave with this address; 0: the route's own */
	__u16 mtu;
	enum direct_flag direct; /* by every uplink */
	__u8 pad;
	__u32 trusted[TRUSTED_DEVICES]; /* ifindexes of uplinks by which DIRECT_PUBLISHED holds; 0: none */
};

/* The host's end of a container's veth. Key: ifindex. */
struct veth {
	__u32 bridge; /* ifindex */
	__u32 id;     /* endpoint id */
	__u16 slot;   /* in endpoint_stats */
	enum veth_flag flags;
	__u8 pad;
	__u8 mac[6]; /* of the container's end; 0: not known */
	__u16 pad2;
};

#define UPLINK_ADDRS 8

/* A device that leads outside. Key: ifindex. */
struct uplink4 {
	__u16 mtu;
	__u16 naddrs;
	__be32 addrs[UPLINK_ADDRS]; /* the device's addresses, primary first, and their masks */
	__be32 masks[UPLINK_ADDRS];
};

/* An address of the host itself. */
struct host_addr4 {
	__u32 ifindex;
};

/* A prefix, as an LPM key: prefixlen counts bits of addr. */
struct prefix4 {
	__u32 prefixlen;
	__be32 addr;
};

/* The bridge that a subnet belongs to. */
struct subnet4 {
	__u32 bridge; /* ifindex */
};

/* How packets get to the containers of another host. */
enum peer_kind {
	PEER_NONE = 0,	/* not at all: an address of the network that no host has now */
	PEER_DIRECT = 1, /* as they are, by the host as the next hop */
	PEER_VXLAN = 2, /* in VXLAN (RFC 7348) */
	PEER_UDP = 3,	/* as all that a UDP datagram holds */
} BYTE_ENUM;

/* Bits of peer4.flags. */
enum peer_flag {
	PEER_EBPFNET = 1 << 0, /* it runs a datapath of ours: a datagram may reach it with all the segments in it that the kernel sends as one */
} BYTE_ENUM;

/* Another host's share of the network, and where the host is. The network's own prefix has an entry too, of PEER_NONE. */
struct peer4 {
	__be32 addr; /* of the host; 0 with PEER_NONE */
	enum peer_kind kind;
	__u8 mac[6]; /* of its tunnel endpoint */
	enum peer_flag flags;
};

/* An address of another host itself. Key of peer_hosts4. */
struct peer_host4 {
	__u32 direct; /* 1: it may send to containers without a tunnel */
};

/* Bits of overlay.flags. */
enum overlay_flag {
	OVERLAY_KERNEL = 1 << 0, /* IPsec may have its say about what leaves in VXLAN: the kernel's device wraps it */
} BYTE_ENUM;

/* This host's place among the others. Entry 0 of its map. */
struct overlay {
	__u32 ifindex; /* of the device that leads into the tunnel; 0: there is none */
	__u32 vni;
	__be32 local; /* the address that the other hosts know */
	__be32 addr;  /* what containers that they do not reach show them */
	__u16 mtu;    /* of packets before they are wrapped */
	__u8 mac[6];
	__be16 port; /* of UDP that all hosts' tunnels use; 0: there is no tunnel */
	enum peer_kind kind; /* of the tunnel */
	enum overlay_flag flags;
};

/*
 * A published port. addr 0 stands for every address of the host; a port with its own address wins. A container's own address and port, where
 * they may be dialled from outside, lead to themselves.
 */
struct publish4_key {
	__be32 addr;
	__be16 port;
	__u8 proto;
	__u8 pad;
};

struct publish4 {
	__be32 addr; /* the container's */
	__be16 port;
	__u16 slot; /* in publish_stats; 0: not counted */
	__u32 id; /* endpoint id */
	__u32 from;   /* of publish_from4, whose addresses alone may use it; 0: all */
	__u32 uplink; /* ifindex of the one device by which the wire may reach it; 0: every one */
};

/* What a host socket dialled, so that it hears its answers from there. */
struct sock4_key {
	__u64 cookie;
	__be32 addr; /* the container's */
	__be16 port;
	__u16 pad;
};

struct sock4 {
	__be32 addr; /* as dialled */
	__be16 port;
	__u16 loopback6; /* 1: ::1 was dialled, and addr is 0 */
};

/* A datagram in pieces, as it is seen in a zone (RFC 791, section 3.2). */
struct frag4_key {
	__be32 saddr;
	__be32 daddr;
	__be16 ip_id;
	__u8 proto;
	enum zone zone;
};

/* How far a datagram in pieces has come. */
enum frag_state {
	FRAG_CARRIED = 0, /* the first piece has told of the rest; or the id is reserved */
	FRAG_LEFT,	  /* the first piece went to the stack */
	FRAG_WAITING,	  /* later pieces have come, and are kept */
	FRAG_RELEASED,	  /* the first has come, and they are on their way in again behind it */
} BYTE_ENUM;

/* What its first piece told of the rest. */
struct frag4 {
	__be16 sport;
	__be16 dport;
	__be16 ip_id; /* it leaves with this one */
	enum frag_state state;
	__u8 count; /* FRAG_WAITING: pieces that are kept; FRAG_RELEASED: pieces that came too early again */
	__u32 seen; /* tick of the first piece that came */
};

/* The longest frame that is kept for its datagram's first piece, in bytes. A power of two. */
#define PIECE_BYTES 2048

struct piece4_key {
	struct frag4_key datagram;
	__u32 slot; /* in the order of their coming */
};

struct piece4 {
	__u32 seen; /* tick */
	__u32 len;
	__u8 frame[PIECE_BYTES];
};

/* What the programs note for themselves. Entry 0 of its map. */
struct notes {
	__u32 host_conflicts; /* flows of the host that had to be translated, since the maps were made */
};

/* What may change while the programs run. Entry 0 of its map. Timeouts are in ticks. */
struct config {
	__u32 epoch;
	__u32 tcp_established;
	__u32 tcp_handshake;
	__u32 tcp_closing;
	__u32 tcp_closed;
	__u32 udp_new;
	__u32 udp_stream;
	__u32 icmp;
	__u32 generic;
	__u32 next_id; /* for the agent alone: the next endpoint id to give out */
	__u32 policy_set; /* the set of rules in force: 0 or 1 */
};

#include "told.h"

#endif
