//go:build ignore

/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * sock.c: the cgroup programs for the host's own sockets. A socket that dials a published port by one of the host's addresses is led to the
 * container when it connects, once, and is told that it talks to the address it dialled. Sockets of other network namespaces, so all of
 * the containers', are not touched: a container's 127.0.0.1 is its own.
 */
#include <linux/bpf.h>
#include <linux/in.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "config.h"
#include "maps.h"
#include "publish.h"
#include "stats.h"
#include "types.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* The programs never refuse a call. */
#define VERDICT_ALLOW 1

/* An address and a port that a socket names. v6 is set where it named ::1, which stands for 127.0.0.1 then. */
struct target {
	__be32 addr;
	__be16 port;
	bool v6;
};

static __always_inline bool sock_is_host(struct bpf_sock_addr *ctx)
{
	__u64 cookie = bpf_get_netns_cookie(ctx);

	if (host_netns_cookie)
		return cookie == host_netns_cookie;
	return cookie == bpf_get_netns_cookie(NULL);
}

static __always_inline bool addr_is_local(__be32 addr)
{
	struct addr4 key = {.addr = addr};

	return (addr & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000) || bpf_map_lookup_elem(&host_addrs4, &key);
}

/*
 * In: what a socket dials. Out: true with the container's address and port in t, where it is a published port of the host. ::1 only reaches
 * what is published on every address, as it would without us.
 */
static __always_inline bool sock_translate(struct bpf_sock_addr *ctx, struct target *t)
{
	struct target dialled = *t;
	struct sock4_key key = {};
	struct endpoint4 *ep;
	struct publish4 *pub;
	struct bridge4 *bridge;
	struct addr4 addr;
	struct sock4 sock = {};

	if (ctx->protocol != IPPROTO_TCP && ctx->protocol != IPPROTO_UDP)
		return false;
	/* Dialling 0.0.0.0 is dialling oneself (RFC 1122, section 3.2.1.3, and Linux's habit). */
	if (!t->v6 && !t->addr)
		t->addr = bpf_htonl(0x7f000001);
	if (!t->v6 && !addr_is_local(t->addr))
		return false;
	pub = publish_find(t->v6 ? 0 : t->addr, t->port, ctx->protocol);
	if (!pub)
		return false;
	addr.addr = pub->addr;
	ep = bpf_map_lookup_elem(&endpoints4, &addr);
	if (!ep || ep->id != pub->id)
		return false;
	/* Where the host's own rules decide they also translate. */
	bridge = bpf_map_lookup_elem(&bridges4, &ep->bridge);
	if (!bridge || (bridge->flags & BRIDGE_OFFLOAD))
		return false;

	key.cookie = bpf_get_socket_cookie(ctx);
	key.addr = pub->addr;
	key.port = pub->port;
	sock.addr = dialled.v6 ? 0 : t->addr;
	sock.port = dialled.port;
	sock.loopback6 = dialled.v6;
	if (bpf_map_update_elem(&socks4, &key, &sock, BPF_ANY))
		return false;
	stats_tally(TALLY_SOCKET, 1);
	t->addr = pub->addr;
	t->port = pub->port;
	return true;
}

/* In: the peer that the kernel names to the socket. Out: true with what the socket dialled to reach it, where that was another address. */
static __always_inline bool sock_dialled(struct bpf_sock_addr *ctx, struct target *t)
{
	struct sock4_key key = {.cookie = bpf_get_socket_cookie(ctx), .addr = t->addr, .port = t->port};
	struct sock4 *sock = bpf_map_lookup_elem(&socks4, &key);

	if (!sock)
		return false;
	t->addr = sock->addr;
	t->port = sock->port;
	t->v6 = sock->loopback6;
	return true;
}

static __always_inline void target_read4(struct bpf_sock_addr *ctx, struct target *t)
{
	t->addr = ctx->user_ip4;
	t->port = ctx->user_port;
}

static __always_inline void target_write4(struct bpf_sock_addr *ctx, const struct target *t)
{
	ctx->user_ip4 = t->addr;
	ctx->user_port = t->port;
}

/* Out: true where an IPv6 socket names an IPv4 address (RFC 4291, section 2.5.5.2), or ::1 or :: for itself. */
static __always_inline bool target_read6(struct bpf_sock_addr *ctx, struct target *t)
{
	t->port = ctx->user_port;
	if (ctx->user_ip6[0] || ctx->user_ip6[1])
		return false;
	if (ctx->user_ip6[2] == bpf_htonl(0xffff)) {
		t->addr = ctx->user_ip6[3];
		return true;
	}
	t->v6 = !ctx->user_ip6[2] && (ctx->user_ip6[3] == bpf_htonl(1) || !ctx->user_ip6[3]);
	return t->v6;
}

static __always_inline void target_write6(struct bpf_sock_addr *ctx, const struct target *t)
{
	ctx->user_ip6[0] = 0;
	ctx->user_ip6[1] = 0;
	ctx->user_ip6[2] = t->v6 ? 0 : bpf_htonl(0xffff);
	ctx->user_ip6[3] = t->v6 ? bpf_htonl(1) : t->addr;
	ctx->user_port = t->port;
}

/* In: a target that is dialled by its own address. What the same socket dialled before to get there no longer counts. */
static __always_inline void sock_forget(struct bpf_sock_addr *ctx, const struct target *t)
{
	struct sock4_key key = {.cookie = bpf_get_socket_cookie(ctx), .addr = t->addr, .port = t->port};

	bpf_map_delete_elem(&socks4, &key);
}

/* Out: whether a datagram is sent on a connected socket: a v6 socket names its v4 peer with each, though its user does not. */
static __always_inline bool sock_is_connected(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;

	return sk && sk->state == BPF_TCP_ESTABLISHED;
}

static __always_inline int sock_dial4(struct bpf_sock_addr *ctx, bool forget)
{
	struct target t = {};

	if (!sock_is_host(ctx))
		return VERDICT_ALLOW;
	target_read4(ctx, &t);
	if (sock_translate(ctx, &t))
		target_write4(ctx, &t);
	else if (forget)
		sock_forget(ctx, &t);
	return VERDICT_ALLOW;
}

static __always_inline int sock_dial6(struct bpf_sock_addr *ctx, bool forget)
{
	struct target t = {};

	if (!sock_is_host(ctx) || !target_read6(ctx, &t))
		return VERDICT_ALLOW;
	if (!sock_translate(ctx, &t)) {
		if (forget)
			sock_forget(ctx, &t);
		return VERDICT_ALLOW;
	}
	t.v6 = false;
	target_write6(ctx, &t);
	return VERDICT_ALLOW;
}

static __always_inline int sock_hear4(struct bpf_sock_addr *ctx)
{
	struct target t = {};

	if (!sock_is_host(ctx))
		return VERDICT_ALLOW;
	target_read4(ctx, &t);
	if (sock_dialled(ctx, &t))
		target_write4(ctx, &t);
	return VERDICT_ALLOW;
}

static __always_inline int sock_hear6(struct bpf_sock_addr *ctx)
{
	struct target t = {};

	if (!sock_is_host(ctx) || !target_read6(ctx, &t) || t.v6 || !sock_dialled(ctx, &t))
		return VERDICT_ALLOW;
	target_write6(ctx, &t);
	return VERDICT_ALLOW;
}

SEC("cgroup/connect4")
int sock_connect4(struct bpf_sock_addr *ctx)
{
	return sock_dial4(ctx, true);
}

SEC("cgroup/connect6")
int sock_connect6(struct bpf_sock_addr *ctx)
{
	return sock_dial6(ctx, true);
}

/* Sockets that are not connected name their target with each datagram. */
SEC("cgroup/sendmsg4")
int sock_sendmsg4(struct bpf_sock_addr *ctx)
{
	return sock_dial4(ctx, !sock_is_connected(ctx));
}

/* The kernel sends no datagram whose v6 target becomes a v4 one here (udpv6_sendmsg), so an unconnected socket's ::1 stays the host's own. */
SEC("cgroup/sendmsg6")
int sock_sendmsg6(struct bpf_sock_addr *ctx)
{
	struct target t = {};

	if (!target_read6(ctx, &t) || t.v6)
		return VERDICT_ALLOW;
	return sock_dial6(ctx, !sock_is_connected(ctx));
}

SEC("cgroup/recvmsg4")
int sock_recvmsg4(struct bpf_sock_addr *ctx)
{
	return sock_hear4(ctx);
}

SEC("cgroup/recvmsg6")
int sock_recvmsg6(struct bpf_sock_addr *ctx)
{
	return sock_hear6(ctx);
}

SEC("cgroup/getpeername4")
int sock_getpeername4(struct bpf_sock_addr *ctx)
{
	return sock_hear4(ctx);
}

SEC("cgroup/getpeername6")
int sock_getpeername6(struct bpf_sock_addr *ctx)
{
	return sock_hear6(ctx);
}
