/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * told.h: what is counted of packets and told of them: counters, the reasons for which they are dropped or left to the stack, and events.
 * types.h includes it, and what is said there of fields and enumerators holds here.
 */
#ifndef EBPFNET_TOLD_H
#define EBPFNET_TOLD_H

struct counter {
	__u64 packets;
	__u64 bytes;
};

struct endpoint_counters {
	struct counter rx; /* received by the container */
	struct counter tx; /* sent by it */
	__u64 rx_dropped;
	__u64 tx_dropped;
};

/* A published port or range. */
struct publish_counters {
	__u64 connections; /* flows that were begun to it */
	struct counter rx; /* towards the container */
	struct counter tx; /* back */
};

/* Another host. */
struct peer_counters {
	struct counter rx; /* from it */
	struct counter tx; /* to it */
	__u32 seen;	   /* tick of the last packet from it */
	__u32 pad;
};

/* What else is counted. From TALLY_TRIES_1 on: how many ports were tried for a flow, up to so many and more than the one before. */
enum tally {
	TALLY_FLOW_TCP = 0, /* flows that were entered, by protocol */
	TALLY_FLOW_UDP,
	TALLY_FLOW_ICMP,
	TALLY_FLOW_OTHER,
	TALLY_NAT_TRIES,      /* ports that were tried */
	TALLY_NAT_CONFLICT,   /* of which somebody had it already */
	TALLY_NAT_FAILURE,    /* flows for which there was none */
	TALLY_FRAGMENT_FIRST, /* pieces of datagrams that were carried */
	TALLY_FRAGMENT_LATER,
	TALLY_ICMP_ERROR, /* errors that were translated */
	TALLY_SOCKET,	  /* the host's sockets that were led to a container */
	TALLY_TRIES_1,
	TALLY_TRIES_2,
	TALLY_TRIES_4,
	TALLY_TRIES_8,
	TALLY_TRIES_16,
	TALLY_TRIES_32,
	TALLY_TRIES_64,
	TALLY_TRIES_128,
	TALLY_FRAGMENT_HELD,	 /* pieces that came before the first, and were kept */
	TALLY_FRAGMENT_RELEASED, /* those whose first piece came */
	TALLY_MAX,
};

/*
 * Why a packet was dropped. The metric label, the monitor's text and the documentation take the enumerator's name without its prefix, in
 * lower case.
 */
enum drop_reason {
	DROP_NONE = 0,
	DROP_TRUNCATED,	     /* shorter than its headers say */
	DROP_IP_HEADER,	     /* wrong version, header length or total length */
	DROP_L4_HEADER,	     /* wrong UDP length or TCP data offset */
	DROP_SOURCE_ROUTE,   /* asks for source routing */
	DROP_MARTIAN_SOURCE, /* a source that cannot be: loopback, multicast, this network, or the destination itself */
	DROP_LOOPBACK,	     /* 127.0.0.0/8 outside the host */
	DROP_SPOOFED,	     /* a container sends with another container's address */
	DROP_ISOLATED,	     /* from one bridge to another */
	DROP_ICC,	     /* between containers of a bridge that forbids it */
	DROP_INTERNAL,	     /* into or out of an internal network */
	DROP_DIRECT,	     /* to a container's own address from outside */
	DROP_NO_UPLINK,	     /* out by a device that is not attached as an uplink */
	DROP_NO_ADDRESS,     /* the uplink has no address to leave with */
	DROP_NO_PORT,	     /* no free port left to leave with */
	DROP_FLOW_TABLE,     /* the flow table took no entry */
	DROP_FRAGMENT,	     /* a piece of a datagram whose first piece did not pass */
	DROP_ICMP_ERROR,     /* an ICMP error that quotes no sane packet */
	DROP_REWRITE,	     /* the kernel refused a change to the packet */
	DROP_NO_PEER,	     /* to an address of the hosts' network that no host has */
	DROP_NOT_PEER,	     /* from the hosts' network, by one who does not have that address */
	DROP_FRAGMENT_ORDER, /* a piece of a datagram that came before its first piece, and was too long, or one too many, to be kept */
	DROP_UNKNOWN_CONTAINER, /* from or to somebody on a bridge whom the agent does not know yet, where that is asked for */
	DROP_FORGED_TUNNEL, /* a container sends to the tunnel port of a host: it would pass for what its own host has wrapped */
	DROP_POLICY_EGRESS,  /* no rule lets the sender send this */
	DROP_POLICY_INGRESS, /* no rule lets the receiver be sent this */
	DROP_PUBLISH_FROM,   /* to a published port, by an address that may not use it */
	DROP_PUBLISH_UPLINK, /* to a published port, by a device that does not lead to it */
	DROP_CONGESTION, /* came in a datagram that was marked for congestion, and cannot tell of it */
	DROP_MAX,
};

/* Why a packet was left to the host's stack. Named as drop reasons are. */
enum pass_reason {
	PASS_NONE = 0,
	PASS_NOT_IPV4,	     /* ARP, IPv6, tagged frames and the like */
	PASS_NOT_OURS,	     /* the host's own traffic, or transit */
	PASS_HOST,	     /* from a container to the host itself */
	PASS_MULTICAST,	     /* multicast and broadcast: the bridge floods them */
	PASS_UNKNOWN_SOURCE, /* sent with an address that no endpoint has */
	PASS_UNKNOWN_TARGET, /* to an address of a bridge's subnet that no endpoint has */
	PASS_MIDSTREAM,	     /* TCP in the middle of a connection that Docker's rules may know */
	PASS_RULES,	     /* Docker's rules decide */
	PASS_FRAGMENT,	     /* a piece of a datagram whose first piece the stack has */
	PASS_ICMP_ERROR,     /* an ICMP error about no flow of ours, or a type without a flow */
	PASS_TTL,	     /* the kernel answers with time exceeded */
	PASS_MTU,	     /* the kernel fragments, or answers with fragmentation needed */
	PASS_ROUTE,	     /* no route, one that forbids, or nobody at its end: the kernel answers */
	PASS_MAX,
};

/* Where a packet was seen. Named as drop reasons are; each is the name of the program on that hook. */
enum hook {
	HOOK_NONE = 0,
	HOOK_FROM_CONTAINER,
	HOOK_TO_CONTAINER,
	HOOK_FROM_UPLINK,
	HOOK_TO_UPLINK,
	HOOK_FROM_BRIDGE,
	HOOK_TO_BRIDGE,
	HOOK_FROM_OVERLAY,
	HOOK_TO_OVERLAY,
	HOOK_FROM_PEER,
	HOOK_TO_PEER,
	HOOK_MAX,
} BYTE_ENUM;

/* What is told of while somebody looks. */
enum monitor_bit {
	MONITOR_DROPS = 1 << 0, /* packets that are dropped */
	MONITOR_TRACE = 1 << 1, /* all others that a program decides about */
} BYTE_ENUM;

/* As many bytes of a packet as an event holds: the headers of all but the oddest. */
#define EVENT_BYTES 164

/* What was decided about a packet. */
struct event {
	__u64 time; /* of CLOCK_MONOTONIC, in nanoseconds */
	struct flow4_key before; /* the tuple as the packet came */
	struct flow4_key after;	 /* and as it goes on */
	__u32 ifindex; /* of the hook's device */
	__u32 oif;     /* where its flow's entry sends it, where known */
	__u32 src_id;  /* endpoint ids; 0: not a container */
	__u32 dst_id;
	__u32 rule; /* the rule that decided; 0: none */
	__u32 len;  /* of the frame, in bytes */
	__s32 verdict; /* the program's answer to the kernel */
	enum drop_reason drop;
	enum pass_reason pass;
	__u16 captured; /* bytes in data */
	enum hook hook;
	enum flow_path path; /* where known */
	__u8 known;	     /* 1: it has an entry in the flow table */
	__u8 partial;	     /* 1: the tuples lack the ports */
	__u8 pad[2];
	__u8 data[EVENT_BYTES]; /* the beginning of the frame, as it goes on */
};

#endif
