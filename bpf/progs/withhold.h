/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Parts of a head that the application does not get before the head is complete and allowed.
 *
 * A read that blocks on a socket under control is told EAGAIN when anything wakes it without data (tcp_msg_wait_data waits
 * once), and some programs take that for the end of the stream, and so for the end of the head that they hold a part of.
 * Their reads therefore get nothing of a head that is not decided: its bytes are taken out of the buffer and kept in
 * pc_heads, and put back in front of the next buffer, which is then read as if all had come at once.
 *
 * Bytes taken out are not counted in copied_seq (tcp_eat_skb counts skb->len), those put back are when they are read or
 * dropped, so the sum is right.  In between copied_seq lags, and poll says that there is something to read: a read that
 * blocks then waits, but a program that reads without blocking would go round in circles.  Such programs expect EAGAIN,
 * and get the part.  Those that are set not to block only after something was withheld are found by the agent
 * (enforcer/src/kernel/heads.rs), which ends the connection.
 */
#ifndef PC_WITHHOLD_H
#define PC_WITHHOLD_H

#include "deny.h"
#include "../lib/http1.h"

#define PC_O_NONBLOCK 04000 /* x86 and arm64 */

/* Whether reads of the socket block, or may. */
static __always_inline int pc_reads_block(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct tcp_sock *tp = sk ? bpf_skc_to_tcp_sock(sk) : 0;

	return !tp || !(tp->inet_conn.icsk_inet.sk.sk_socket->file->f_flags & PC_O_NONBLOCK);
}

/* Moves the start of the buffer by n bytes, at most PC_HEAD_MAX: down for what is put back (grow), up for what is taken
 * out.  0 = done. */
PC_FN int pc_move_start(struct __sk_buff *skb, u32 n, u32 grow)
{
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_HEAD_MAX / PC_TRIM_MAX + 1 && n; i++) {
		u32 k = n > PC_TRIM_MAX ? PC_TRIM_MAX : n;

		if (bpf_skb_adjust_room(skb, grow ? (s32)k : -(s32)k, 0, 0))
			return -1;
		n -= k;
	}
	return n ? -1 : 0;
}

/* Puts the bytes that were withheld in front of the buffer; how many, or -1. */
static __always_inline int pc_head_return(struct __sk_buff *skb, struct pc_conn *conn)
{
	u64 cookie = bpf_get_socket_cookie(skb);
	struct pc_pending_head *p = bpf_map_lookup_elem(&pc_heads, &cookie);
	u32 n = (conn->head_n - 1) & PC_HM;

	PC_OPAQUE(n);
	n++;
	if (!p || pc_move_start(skb, n, 1) || bpf_skb_store_bytes(skb, 0, p->b, n, 0))
		return -1;
	conn->head_n = conn->withheld = 0;
	bpf_map_delete_elem(&pc_heads, &cookie);
	return n;
}

/* Whether the client has gone in the middle of the head in hand: its end, which was dropped, comes behind what was seen. */
static __always_inline int pc_head_is_left(struct pc_conn *conn)
{
	return conn->head_n && *(volatile u32 *)&conn->ended && conn->end_seq == conn->exp_seq;
}

/* Takes the bytes from run.withhold_at on out of the buffer; the verdict over the rest. */
static __always_inline int pc_head_withhold(struct __sk_buff *skb, struct pc_slot *s, struct pc_conn *conn)
{
	struct bpf_sock *sk = skb->sk;
	struct tcp_sock *tp = sk ? bpf_skc_to_tcp_sock(sk) : 0;
	u64 key = 0;

	if (s->run.withhold_at) {
		/* refused when more than 16 KiB stand in front (BPF_SKB_MAX_LEN) */
		if (bpf_skb_change_tail(skb, s->run.withhold_at, 0))
			return pc_kill(skb, s, conn);
		return SK_PASS;
	}
	if (pc_move_start(skb, s->run.len, 0))
		return pc_kill(skb, s, conn);
	int verdict = bpf_sk_redirect_hash(skb, &pc_sinks, &key, 0);

	/* a silent drop would leave the buffers behind this one where they are until more comes */
	return tp && tp->inet_conn.icsk_inet.sk.sk_receive_queue.qlen ? SK_DROP : verdict;
}

#endif
