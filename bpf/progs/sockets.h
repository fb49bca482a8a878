/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Which connections come under control, and what happens to those that cannot. */
#ifndef PC_SOCKETS_H
#define PC_SOCKETS_H

#include "maps.h"
#include "../lib/memo.h"

#define PC_PROTO_TCP 6
/* Flags of a TCP header, RFC 9293 section 3.1. */
#define PC_TCP_FIN 1
#define PC_TCP_SYN 2
/* include/uapi/asm-generic/socket.h */
#define PC_SOL_SOCKET 1
#define PC_SO_RCVLOWAT 18

/* An accepted connection of a protected port goes into pc_socks before its first byte is read. */
static __always_inline void pc_take(struct bpf_sock_ops *ops)
{
	u32 port = ops->local_port;

	if (!bpf_map_lookup_elem(&pc_ports, &port))
		return;
	u64 cookie = bpf_get_socket_cookie(ops);
	struct pc_conn fresh = { .exp_seq = ops->rcv_nxt };

	if (bpf_map_update_elem(&pc_conns, &cookie, &fresh, BPF_ANY)) {
		PC_COUNT(conn_refused);
		return;
	}
	/* Refused for an MPTCP subflow (EOPNOTSUPP) and when the map is full: the guard then drops its payload. */
	if (bpf_sock_hash_update(ops, &pc_socks, &cookie, BPF_ANY)) {
		bpf_map_delete_elem(&pc_conns, &cookie);
		PC_COUNT(conn_refused);
		return;
	}
	struct pc_conn *conn = bpf_map_lookup_elem(&pc_conns, &cookie);

	if (!conn)
		return;
	conn->flags = PC_CONN_CONTROLLED;
	bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG |
					       BPF_SOCK_OPS_RTT_CB_FLAG);
	PC_COUNT(conns);
}

/* The client's acknowledgements are of no interest any more. */
static __always_inline void pc_no_acks(struct bpf_sock_ops *ops)
{
	bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags & ~BPF_SOCK_OPS_RTT_CB_FLAG);
}

/*
 * The client has acknowledged something, and nothing was passed yet.  If what was denied came before accept(2),
 * copied_seq lags: tcp_bpf_recvmsg_parser notes it, lets the programs take the data off, and writes back what it had noted.
 * poll(2) would say for as long as the connection lives that there is something to read, and a program that polls by level
 * would go round in circles.  So the low-water mark is put above the lag; data that is passed shows whatever the mark is,
 * because it is in the socket's psock (sk_is_readable).  The mark must not be above the lag by more than one byte, because
 * TCP calls the programs by it, too (tcp_data_ready): it is set only while nothing was passed, so that nothing can be unread.
 */
static __always_inline void pc_mark_lag(struct bpf_sock_ops *ops)
{
	u64 cookie = bpf_get_socket_cookie(ops);
	struct pc_conn *conn = bpf_map_lookup_elem(&pc_conns, &cookie);
	struct bpf_sock *sk = ops->sk;
	struct tcp_sock *tp = sk ? bpf_skc_to_tcp_sock(sk) : 0;
	u32 end = ops->rcv_nxt;

	/* nothing was decided yet, or only denied: what has to be marked may come */
	if (conn && conn->owed) {
		pc_no_acks(ops);
		return;
	}
	if (!conn || !tp || conn->torn || conn->head_n || conn->exp_seq != end)
		return;
	int mark = end - tp->copied_seq + 1;

	if (mark > 1 && !bpf_setsockopt(ops, PC_SOL_SOCKET, PC_SO_RCVLOWAT, &mark, sizeof(mark)))
		pc_no_acks(ops);
}

/*
 * A connection that a process of this host opened, and whose ephemeral port is a protected one: the guard leaves it
 * alone.  Nobody else can get into this state:
 * - a socket accepted by a listener, also with TCP Fast Open, and one of a simultaneous open (RFC 9293 section 3.5) are
 *   established passively;
 * - a restored one (TCP_REPAIR) is established actively, whoever opened it, but without the SYN-ACK;
 * - a subflow of MPTCP may belong to a connection that was accepted (RFC 8684 section 3.2), so none is;
 * - a socket that is used again passes through TCP_CLOSE first, which deletes the entry.
 */
static __always_inline void pc_leave(struct bpf_sock_ops *ops)
{
	u32 port = ops->local_port;
	struct bpf_sock *sk = ops->sk;

	if (!(ops->skb_tcp_flags & PC_TCP_SYN) || !sk || !bpf_map_lookup_elem(&pc_ports, &port))
		return;
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);

	if (!tp || (PC_HAS_FIELD(tp->is_mptcp) && tp->is_mptcp))
		return;
	u64 cookie = bpf_get_socket_cookie(ops);
	struct pc_conn fresh = { .flags = PC_CONN_OUTGOING };

	if (!bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG))
		bpf_map_update_elem(&pc_conns, &cookie, &fresh, BPF_ANY);
}

SEC("sockops")
int pc_sockops(struct bpf_sock_ops *ops)
{
	if (ops->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB) {
		pc_take(ops);
	} else if (ops->op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB) {
		pc_leave(ops);
	} else if (ops->op == BPF_SOCK_OPS_RTT_CB) {
		pc_mark_lag(ops);
	} else if (ops->op == BPF_SOCK_OPS_STATE_CB && ops->args[1] == BPF_TCP_CLOSE) {
		u64 cookie = bpf_get_socket_cookie(ops);

		bpf_map_delete_elem(&pc_conns, &cookie);
		bpf_map_delete_elem(&pc_heads, &cookie);
		bpf_map_delete_elem(&pc_memos, &cookie);
		bpf_map_delete_elem(&pc_tunnels, &cookie);
	}
	return 1;
}

/* IPv6 extension headers that may stand before TCP, and how many are walked (RFC 8200 section 4). */
#define PC_PROTO_HOPOPTS 0
#define PC_PROTO_ROUTING 43
#define PC_PROTO_FRAGMENT 44
#define PC_PROTO_DSTOPTS 60
#define PC_IPV6_HEADERS 6

/* Where the TCP header of an IP packet begins, or 0 when that cannot be told. */
static __always_inline u32 pc_tcp_offset(struct __sk_buff *skb)
{
	u8 first, next, ext[2];
	u32 at = 40;

	if (bpf_skb_load_bytes(skb, 0, &first, 1))
		return 0;
	if (first >> 4 == 4)
		return (first & 15) * 4;
	if (bpf_skb_load_bytes(skb, 6, &next, 1))
		return 0;
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_IPV6_HEADERS; i++) {
		if (next == PC_PROTO_TCP)
			return at;
		if (next != PC_PROTO_HOPOPTS && next != PC_PROTO_ROUTING && next != PC_PROTO_FRAGMENT &&
		    next != PC_PROTO_DSTOPTS)
			return 0;
		if (bpf_skb_load_bytes(skb, at, ext, sizeof(ext)))
			return 0;
		at += next == PC_PROTO_FRAGMENT ? 8 : (ext[1] + 1) * 8;
		next = ext[0];
	}
	return 0;
}

/* What the programs of the cgroup look at in a TCP header. */
struct pc_segment {
	u32 seq;
	u32 fin, syn;
	u32 payload; /* where it begins */
};

/* 0 = done, -1 = the packet cannot be read. */
static __always_inline int pc_segment(struct __sk_buff *skb, struct pc_segment *g)
{
	u8 tcp[14];
	u32 at = pc_tcp_offset(skb);

	if (!at || bpf_skb_load_bytes(skb, at, tcp, sizeof(tcp)))
		return -1;
	g->seq = (u32)tcp[4] << 24 | (u32)tcp[5] << 16 | (u32)tcp[6] << 8 | tcp[7];
	g->fin = tcp[13] & PC_TCP_FIN;
	g->syn = tcp[13] & PC_TCP_SYN;
	g->payload = at + (tcp[12] >> 4) * 4;
	return 0;
}

/* The protected port of a TCP socket, if it has one of these flags. */
static __always_inline struct pc_port *pc_port_with(struct bpf_sock *sk, u32 flags)
{
	if (!sk || sk->protocol != PC_PROTO_TCP)
		return 0;
	u32 key = sk->src_port;
	struct pc_port *port = bpf_map_lookup_elem(&pc_ports, &key);

	return port && (port->flags & flags) ? port : 0;
}

/*
 * The answer to a request that asks for websocket.  Its first bytes (101: RFC 9110 section 15.2.2) decide whether the
 * connection speaks HTTP from then on or is left alone; the client cannot know it before, so it sends nothing before.
 * Everything else only passes.
 */
SEC("cgroup_skb/egress")
int pc_egress(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk ? bpf_sk_fullsock(skb->sk) : 0;

	if (!pc_port_with(sk, PC_PORT_UPGRADE))
		return 1;
	u64 cookie = bpf_get_socket_cookie(skb);
	struct pc_conn *conn = bpf_map_lookup_elem(&pc_conns, &cookie);
	struct pc_segment g = {};
	u32 got[3] = {};

	if (!conn || conn->state != PC_ST_UPGRADE)
		return 1;
	int r = pc_segment(skb, &g);

	if (r == 0 && (skb->len <= g.payload || g.seq != conn->pass_wseq))
		return 1;
	if (r == 0)
		r = bpf_skb_load_bytes(skb, g.payload, got, sizeof(got));
	u32 switching = got[0] == PC_L4('H', 'T', 'T', 'P') && got[1] == PC_L4('/', '1', '.', '1') &&
			got[2] == PC_L4(' ', '1', '0', '1');

	if (r == 0 && switching) {
		conn->flags |= PC_CONN_SWITCHED;
		conn->state = PC_ST_OPAQUE;
	} else {
		conn->state = PC_ST_HEAD;
	}
	return 1;
}

/* Asks the agent to end a connection whose client has gone in the middle of a head. */
static __always_inline void pc_ask_end(struct __sk_buff *skb, struct bpf_sock *sk)
{
	struct pc_reply *r = bpf_ringbuf_reserve(&pc_replies, sizeof(*r), 0);

	if (!r)
		return;
	__builtin_memset(r, 0, sizeof(*r));
	r->cookie = bpf_get_socket_cookie(skb);
	r->boot_ns = bpf_ktime_get_boot_ns();
	r->kind = PC_REPLY_DESTROY;
	r->close = 1;
	r->sport = __builtin_bswap16(sk->dst_port);
	r->dport = sk->src_port;
	r->device = sk->bound_dev_if;
	if (sk->family == 10 /* AF_INET6 */) {
		u32 *s = (u32 *)r->saddr, *d = (u32 *)r->daddr;

		for (u32 i = 0; i < 4; i++) {
			s[i] = sk->dst_ip6[i];
			d[i] = sk->src_ip6[i];
		}
		r->ipv6 = 1;
	} else {
		*(u32 *)r->saddr = sk->dst_ip4;
		*(u32 *)r->daddr = sk->src_ip4;
	}
	bpf_ringbuf_submit(r, 0);
}

/*
 * A packet of a connection under control.  FIN is dropped while not all bytes before it have been judged, and the client
 * sends it again.  While the application holds a part of a head it never sees FIN: the agent destroys the connection,
 * which readers are told as an error.
 *
 * A client sends FIN again after twice as long each time, so where it came long before an application got round to reading,
 * the next one may be as far off.  The run that finds out that what stands in front of it is only a part of a head knows
 * from here that there will be no rest (pc_head_is_left).
 */
static __always_inline int pc_end_may_pass(struct __sk_buff *skb, struct bpf_sock *sk, struct pc_conn *conn)
{
	struct pc_segment g = {};

	/* it may carry the end, or not */
	if (pc_segment(skb, &g)) {
		PC_COUNT(guard_dropped);
		return 0;
	}
	if (!g.fin)
		return 1;
	/* in this order: a run, which may be under way beside this, says that it judges before it says what */
	u32 exp_seq = conn->exp_seq;

	PC_FENCE;
	if (!conn->torn && (s32)(exp_seq - g.seq) >= 0)
		return 1;
	PC_COUNT(guard_dropped);
	conn->end_seq = g.seq + (skb->len - g.payload);
	/* Of this and a run beside it that keeps a part of a head, at least one sees the other: between what each writes and what it
	 * reads stands an atomic operation, here and where the run gives its slot back. */
	__sync_fetch_and_or(&conn->ended, 1);
	if (*(volatile u32 *)&conn->torn & PC_TORN_HELD)
		pc_ask_end(skb, sk);
	return 0;
}

/*
 * Payload to a protected port passes only when the connection is under control: closes what sockops could not
 * take (MPTCP subflows, a full map, connections older than the attachment).  Ports that only monitor are left
 * alone: monitor mode changes nothing.
 *
 * A packet for the listening socket carries payload only in a handshake: TCP Fast Open (RFC 7413), or data with the
 * acknowledgement that completes it.  Whether the new connection can be taken is not known at that time, and the
 * payload would be in its queue before it is: so it is dropped, and the client sends it again once the connection
 * stands.  A listener that defers accept (TCP_DEFER_ACCEPT) lets none stand without payload: the agent looks for one when
 * such a port has dropped some.
 */
SEC("cgroup_skb/ingress")
int pc_guard(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk ? bpf_sk_fullsock(skb->sk) : 0;

	struct pc_port *port = pc_port_with(sk, PC_PORT_ENFORCE);

	if (!port)
		return 1;
	u64 cookie = bpf_get_socket_cookie(skb);
	struct pc_conn *conn = bpf_map_lookup_elem(&pc_conns, &cookie);
	struct pc_segment g = {};

	if (conn && (conn->flags & PC_CONN_CONTROLLED))
		return pc_end_may_pass(skb, sk, conn);
	if (conn && (conn->flags & PC_CONN_OUTGOING) && sk->state != BPF_TCP_LISTEN)
		return 1;
	if (pc_segment(skb, &g) == 0 && skb->len <= g.payload)
		return 1;
	PC_COUNT(guard_dropped);
	if (sk->state == BPF_TCP_LISTEN && !g.syn)
		port->held++;
	return 0;
}

#endif
