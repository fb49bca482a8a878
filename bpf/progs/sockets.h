/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Which connections come under control, and what happens to those that cannot. */
#ifndef PC_SOCKETS_H
#define PC_SOCKETS_H

#include "maps.h"
#include "../lib/memo.h"

#define PC_PROTO_TCP 6
/* Flag of a TCP header, RFC 9293 section 3.1. */
#define PC_TCP_FIN 1

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
	bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
	PC_COUNT(conns);
}

SEC("sockops")
int pc_sockops(struct bpf_sock_ops *ops)
{
	if (ops->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB) {
		pc_take(ops);
	} else if (ops->op == BPF_SOCK_OPS_STATE_CB && ops->args[1] == BPF_TCP_CLOSE) {
		u64 cookie = bpf_get_socket_cookie(ops);

		bpf_map_delete_elem(&pc_conns, &cookie);
		bpf_map_delete_elem(&pc_heads, &cookie);
		bpf_map_delete_elem(&pc_memos, &cookie);
	}
	return 1;
}

/* Whether an IP packet carries TCP payload; 1 also when that cannot be told. */
static __always_inline int pc_has_payload(struct __sk_buff *skb)
{
	u8 first, doff, next;
	u32 header = 40;

	if (bpf_skb_load_bytes(skb, 0, &first, 1))
		return 1;
	if (first >> 4 == 4) {
		header = (first & 15) * 4;
	} else {
		/* extension headers before TCP: too rare to walk, so treated as payload */
		if (bpf_skb_load_bytes(skb, 6, &next, 1) || next != PC_PROTO_TCP)
			return 1;
	}
	if (bpf_skb_load_bytes(skb, header + 12, &doff, 1))
		return 1;
	return skb->len > header + (doff >> 4) * 4;
}

/* Reads the beginning of an IP packet's TCP payload; its sequence number goes to seq.  0 = done. */
static __always_inline int pc_payload(struct __sk_buff *skb, u8 *to, u32 n, u32 *seq)
{
	u8 first, doff, next;
	u32 header = 40, s;

	if (bpf_skb_load_bytes(skb, 0, &first, 1))
		return -1;
	if (first >> 4 == 4)
		header = (first & 15) * 4;
	else if (bpf_skb_load_bytes(skb, 6, &next, 1) || next != PC_PROTO_TCP)
		return -1;
	if (bpf_skb_load_bytes(skb, header + 12, &doff, 1) || bpf_skb_load_bytes(skb, header + 4, &s, 4))
		return -1;
	*seq = __builtin_bswap32(s);
	return bpf_skb_load_bytes(skb, header + (doff >> 4) * 4, to, n);
}

/*
 * The answer to a request that asks for websocket.  Its first bytes (101: RFC 9110 section 15.2.2) decide whether the connection speaks HTTP from then
 * on or is left alone; the client cannot know it before, so it sends nothing before.  Everything else only passes.
 */
SEC("cgroup_skb/egress")
int pc_egress(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	if (!sk)
		return 1;
	sk = bpf_sk_fullsock(sk);
	if (!sk || sk->protocol != PC_PROTO_TCP)
		return 1;
	u32 key = sk->src_port;
	struct pc_port *port = bpf_map_lookup_elem(&pc_ports, &key);

	if (!port || !(port->flags & PC_PORT_UPGRADE))
		return 1;
	u64 cookie = bpf_get_socket_cookie(skb);
	struct pc_conn *conn = bpf_map_lookup_elem(&pc_conns, &cookie);
	u32 got[3] = {}, seq = 0;

	if (!conn || conn->state != PC_ST_UPGRADE)
		return 1;
	int r = pc_payload(skb, (u8 *)got, sizeof(got), &seq);

	if (!pc_has_payload(skb) || (r == 0 && seq != conn->pass_wseq))
		return 1;
	u32 switching = got[0] == PC_L4('H', 'T', 'T', 'P') && got[1] == PC_L4('/', '1', '.', '1') &&
			got[2] == PC_L4(' ', '1', '0', '1');

	conn->state = r == 0 && switching ? PC_ST_OPAQUE : PC_ST_HEAD;
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
 */
static __always_inline int pc_end_may_pass(struct __sk_buff *skb, struct bpf_sock *sk, struct pc_conn *conn)
{
	u8 first, tcp[14];
	u32 header = 40;

	if (bpf_skb_load_bytes(skb, 0, &first, 1))
		return 0;
	if (first >> 4 == 4)
		header = (first & 15) * 4;
	/* behind IPv6 extension headers what is read here is something else: too rare, so the end is held back */
	if (bpf_skb_load_bytes(skb, header, tcp, sizeof(tcp)))
		return 0;
	if (!(tcp[13] & PC_TCP_FIN))
		return 1;
	u32 seq = (u32)tcp[4] << 24 | (u32)tcp[5] << 16 | (u32)tcp[6] << 8 | tcp[7];

	if (!conn->torn && (s32)(conn->exp_seq - seq) >= 0)
		return 1;
	PC_COUNT(guard_dropped);
	if (conn->torn & PC_TORN_HELD)
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
 * stands.
 */
SEC("cgroup_skb/ingress")
int pc_guard(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	if (!sk)
		return 1;
	sk = bpf_sk_fullsock(sk);
	if (!sk || sk->protocol != PC_PROTO_TCP)
		return 1;
	u32 key = sk->src_port;
	struct pc_port *port = bpf_map_lookup_elem(&pc_ports, &key);

	if (!port || !(port->flags & PC_PORT_ENFORCE))
		return 1;
	u64 cookie = bpf_get_socket_cookie(skb);
	struct pc_conn *conn = bpf_map_lookup_elem(&pc_conns, &cookie);

	if (conn && (conn->flags & PC_CONN_CONTROLLED))
		return pc_end_may_pass(skb, sk, conn);
	if (!pc_has_payload(skb))
		return 1;
	PC_COUNT(guard_dropped);
	return 0;
}

#endif
