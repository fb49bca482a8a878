// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The datapath.
 *
 * pc_sockops takes every accepted connection of a protected port into pc_socks; pc_entry then sees each of its
 * socket buffers before the application does and tail-calls pc_http, which reads requests and decides; pc_token and a
 * program for its algorithm verify a token and call back.  pc_guard drops payload of connections that pc_socks does not hold.
 * pc_inject carries the agent's replies to the clients.  pc_splice and pc_zerocopy refuse reads that go around pc_entry.
 */
#include "run.h"
#include "sockets.h"
#include "around.h"
#include "../lib/budget.h"
#include "../lib/cache.h"
#include "../lib/jwt.h"
#include "../lib/refused.h"
#include "../lib/revoked.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* A free scratch slot, or NULL.  Claimed with cmpxchg: a run may be interrupted by another one on the same CPU (softirq
 * over process context; one thread over others where the kernel preempts), and a nested run must take another slot.
 * When all of this CPU are taken, one of the next CPUs. */
static __always_inline struct pc_slot *pc_slot_claim(struct pc_conn *conn)
{
	u32 base = bpf_get_smp_processor_id() * PC_SLOTS_PER_CPU;

	PC_NO_UNROLL
	for (u32 i = 0; i < PC_SLOTS_TRIED; i++) {
		u32 k = base + i;
		struct pc_slot *s = bpf_map_lookup_elem(&pc_slots, &k);

		if (!s && i >= PC_SLOTS_PER_CPU) {
			/* after the last CPU comes the first */
			k = i - PC_SLOTS_PER_CPU;
			s = bpf_map_lookup_elem(&pc_slots, &k);
		}
		if (!s)
			return 0;
		if (__sync_val_compare_and_swap(&s->busy, 0, 1) == 0) {
			conn->slot = k + 1;
			return s;
		}
	}
	return 0;
}

static __always_inline void pc_slot_release(struct pc_slot *s, struct pc_conn *conn)
{
	conn->slot = 0;
	PC_FENCE;
	__sync_lock_test_and_set(&s->busy, 0);
}

static __always_inline struct pc_slot *pc_slot_of(struct pc_conn *conn)
{
	u32 k = conn->slot - 1;

	return conn->slot ? bpf_map_lookup_elem(&pc_slots, &k) : 0;
}

/* Starts a run: what was configured at this moment decides every request of the buffer. */
static __always_inline void pc_run_start(struct __sk_buff *skb, struct pc_slot *s, struct pc_conn *conn,
					 u32 back)
{
	u32 zero = 0;
	u64 *active = bpf_map_lookup_elem(&pc_active, &zero);
	struct tcp_sock *tp = pc_tcp(skb);

	__builtin_memset(&s->run, 0, sizeof(s->run));
	s->run.entry_ns = bpf_ktime_get_boot_ns();
	s->run.len = skb->len;
	s->run.back = back;
	s->run.reply_due = pc_replies_due(conn, tp);
	s->d.half = active ? *active & 1 : 0;
	s->d.generation = active ? *active >> 1 : 0;
	s->d.port = skb->local_port;
	s->token_state = PC_TOKEN_NONE;
	s->known.n = 0;
}

/*
 * The buffer must continue the stream exactly where the last one ended.  An overlapping retransmission is handed
 * over whole (tcp_read_skb does not trim as recv does), so its known bytes are cut off here.  1 = fine.
 * Until a stream parser is attached, skb->cb[0] is TCP_SKB_CB(skb)->seq.
 */
static __always_inline int pc_sequence(struct __sk_buff *skb, struct pc_conn *conn)
{
	u32 seq = skb->cb[0], overlap = conn->exp_seq - seq;

	/* before exp_seq says that the buffer was seen */
	conn->torn |= PC_TORN_JUDGED;
	PC_FENCE;

	if (conn->skbs == 0 && (overlap || (conn->flags & PC_CONN_ADOPTED))) {
		/* TCP Fast Open: data of the SYN was queued before the connection was established.  Of an adopted connection,
		 * the application may have read a part of the buffer. */
		struct tcp_sock *tp = pc_tcp(skb);

		if (tp && (conn->flags & PC_CONN_ADOPTED))
			overlap = tp->copied_seq - seq;
		else if (tp && tp->copied_seq == seq)
			overlap = 0;
	}
	if (overlap) {
		/* all of it was seen, but the end: TCP sends data and FIN again as one segment */
		u32 ended = overlap == skb->len && skb->cb[1] == seq + skb->len + 1;

		if (overlap >= skb->len && !ended)
			return 0;
		seq += overlap;
		PC_NO_UNROLL
		for (u32 i = 0; i < PC_TRIM_STEPS && overlap; i++) {
			u32 k = overlap > PC_TRIM_MAX ? PC_TRIM_MAX : overlap;

			if (bpf_skb_adjust_room(skb, -(s32)k, 0, 0))
				return 0;
			overlap -= k;
		}
		if (overlap)
			return 0;
		PC_COUNT(trimmed);
	}
	conn->exp_seq = seq + skb->len;
	conn->skbs++;
	return 1;
}

SEC("sk_skb/stream_verdict")
int pc_entry(struct __sk_buff *skb)
{
	/* Live connections keep the program that was attached when they came; a tail call lets the agent replace the
	 * rest under them. */
	bpf_tail_call(skb, &pc_progs, PC_PROG_HTTP);
	PC_COUNT(tail_call_failed);
	return SK_DROP;
}

/* Whether the port refuses what cannot be read, at this moment; 0 also when it is not protected. */
static __always_inline int pc_enforces_now(struct __sk_buff *skb)
{
	u32 zero = 0, key = skb->local_port;
	u64 *active = bpf_map_lookup_elem(&pc_active, &zero);
	struct pc_port *port = bpf_map_lookup_elem(&pc_ports, &key);
	u32 half = active ? *active & 1 : 0;

	return port && port->enforce[half];
}

/* Cases that need no scratch: SK_PASS or SK_DROP, or -1 to go on. */
static __always_inline int pc_quick(struct __sk_buff *skb, struct pc_conn *conn)
{
	if (conn->state == PC_ST_POISON)
		return pc_drop_silently(skb);
	/* what was read of it before may be a half of something: nothing that follows from here on is to be trusted */
	if ((conn->flags & PC_CONN_ADOPTED) && pc_enforces_now(skb))
		return pc_kill(skb, 0, conn);
	if (conn->state == PC_ST_OPAQUE) {
		if (conn->until && pc_unix_s(bpf_ktime_get_boot_ns()) >= conn->until && pc_enforces_now(skb))
			return pc_kill(skb, 0, conn);
		/* lost while the port only monitored, or was not protected: nobody has read what comes now */
		if (!(conn->flags & PC_CONN_SWITCHED) && pc_enforces_now(skb))
			return pc_kill(skb, 0, conn);
		PC_COUNT_N(passed_bytes, skb->len);
		return SK_PASS;
	}
	if (conn->state == PC_ST_BODY && conn->remain > skb->len && !conn->pending) {
		conn->remain -= skb->len;
		if (conn->denied)
			return pc_drop_silently(skb);
		PC_COUNT_N(passed_bytes, skb->len);
		return SK_PASS;
	}
	return -1;
}

/* A buffer that cannot be read at all: ends the connection, or passes unread from then on when the port only monitors
 * (THREATS T21). */
static __always_inline int pc_unreadable(struct __sk_buff *skb, struct pc_conn *conn)
{
	u32 key = skb->local_port;

	/* what was withheld would be missing in front */
	if (conn->pending || conn->withheld || conn->state == PC_ST_POISON ||
	    !bpf_map_lookup_elem(&pc_ports, &key) || pc_enforces_now(skb))
		return pc_kill(skb, 0, conn);
	conn->state = PC_ST_OPAQUE;
	conn->torn = 0;
	PC_COUNT_N(passed_bytes, skb->len);
	return SK_PASS;
}

SEC("sk_skb/stream_verdict")
int pc_http(struct __sk_buff *skb)
{
	u64 cookie = bpf_get_socket_cookie(skb);
	struct pc_conn *conn = bpf_map_lookup_elem(&pc_conns, &cookie);
	struct pc_slot *s;
	int r = PC_STEP_GO;

	if (skb->len == 0)
		return SK_PASS; /* a bare FIN carries no byte */
	if (!conn) {
		PC_COUNT(no_conn);
		return SK_DROP;
	}
	s = pc_slot_of(conn);
	if (!s) {
		PC_COUNT(verdicts);
		if (!pc_sequence(skb, conn)) {
			PC_COUNT(stream_gap);
			return pc_unreadable(skb, conn);
		}
		/* nothing but the end is new of what was sent again */
		r = skb->len ? pc_quick(skb, conn) : SK_PASS;
		if (r >= 0) {
			conn->torn &= ~PC_TORN_JUDGED;
			return r;
		}
		s = pc_slot_claim(conn);
		if (!s) {
			PC_COUNT(no_slot);
			return pc_unreadable(skb, conn);
		}
		int back = conn->withheld ? pc_head_return(skb, conn) : 0;

		if (back < 0) {
			pc_slot_release(s, conn);
			return pc_kill(skb, 0, conn);
		}
		pc_run_start(skb, s, conn, back);
	}
	PC_NO_UNROLL
	/* a request takes a step for its head, one for its token, and one for each 16 KiB of its body's framing */
	for (u32 i = 0; i < 4 * PC_MSGS_PER_SKB_MAX; i++) {
		r = pc_step(skb, s, conn);
		if (s->run.learn)
			pc_learn(skb, s, conn);
		if (r != PC_STEP_GO)
			break;
	}
	if (r == PC_STEP_KEEP)
		pc_head_keep(skb, s, conn);
	if (s->run.tunnel)
		pc_tunnel_keep(skb, s, conn);
	if (r == PC_STEP_TOKEN) {
		s->run.phase = PC_PHASE_TOKEN;
		s->run.verify_start_ns = bpf_ktime_get_boot_ns();
		bpf_tail_call(skb, &pc_progs, PC_PROG_TOKEN);
		/* The chain is at its limit of 33 calls, or the program is missing. */
		PC_COUNT(tail_call_failed);
		s->run.phase = PC_PHASE_NEXT;
		s->token_state = PC_TOKEN_INVALID;
		s->token_reason = PC_R_INTERNAL;
		pc_decide(s);
		pc_settle(s, conn);
	}
	r = pc_finish(skb, s, conn);
	/* only now, with the token judged, is it known whether what the application held was allowed */
	if (!conn->head_n && s->run.outcome == PC_OUT_PASS && conn->state != PC_ST_POISON)
		conn->torn &= ~PC_TORN_HELD;
	PC_FENCE;
	conn->torn &= ~PC_TORN_JUDGED;
	pc_slot_release(s, conn);
	if (pc_head_is_left(conn))
		pc_ask_destroy(skb, 0);
	return r;
}

/* Back to pc_http with the token's state. */
static __always_inline int pc_token_done(struct __sk_buff *skb, struct pc_slot *s, struct pc_conn *conn,
					 u32 reason)
{
	s->token_state = reason ? PC_TOKEN_INVALID : PC_TOKEN_VALID;
	s->token_reason = reason;
	if (reason)
		PC_COUNT(verify_bad);
	else
		PC_COUNT(verify_ok);
	bpf_tail_call(skb, &pc_progs, PC_PROG_HTTP);
	PC_COUNT(tail_call_failed);
	int r = pc_kill(skb, 0, conn);

	pc_slot_release(s, conn);
	return r;
}

static __always_inline struct pc_source pc_source(struct __sk_buff *skb)
{
	u64 addr[2] = {};
	u32 ipv6 = pc_addresses(skb, (u8 *)addr, 0);

	return pc_source_of(addr, ipv6);
}

/* Everything but the signature, which is checked by the program of the key's algorithm: cheap refusals first. */
SEC("sk_skb/stream_verdict")
int pc_token(struct __sk_buff *skb)
{
	u64 cookie = bpf_get_socket_cookie(skb);
	struct pc_conn *conn = bpf_map_lookup_elem(&pc_conns, &cookie);
	struct pc_slot *s = conn ? pc_slot_of(conn) : 0;

	if (!conn || !s)
		return SK_DROP;
	s->jwt.tok = s->h.tok;
	s->jwt.tok_len = s->h.tok_len;
	s->jwt.half = s->d.half;
	s->jwt.reason = 0;
	s->jwt.now_s = pc_unix_s(s->run.entry_ns);
	if (!s->jwt.now_s)
		return pc_token_done(skb, s, conn, PC_R_INTERNAL);
	int hit = pc_cache_get(s);

	s->run.cache_hit = hit > 0;
	if (hit > 0)
		PC_COUNT(cache_hit);
	if (hit)
		return pc_token_done(skb, s, conn, hit > 0 ? 0 : s->jwt.reason);
	PC_COUNT(cache_miss);
	if (pc_jwt_parse(s))
		return pc_token_done(skb, s, conn, s->jwt.reason ? s->jwt.reason : PC_R_INTERNAL);
	if (pc_refused_get(s))
		return pc_token_done(skb, s, conn, PC_R_TOKEN_SIGNATURE);
	/* the signature will stand where the claims do now; whether they are revoked is not for a forger to learn */
	s->jwt.revoked = pc_revoked_token(&s->jwt);
	s->run.crypto_start_ns = bpf_ktime_get_ns();
	if (!pc_budget_open(pc_source(skb), s->run.crypto_start_ns))
		return pc_token_done(skb, s, conn, PC_R_NO_CAPACITY);
	bpf_tail_call(skb, &pc_progs, PC_PROG_TOKEN + s->jwt.alg);
	return pc_token_done(skb, s, conn, PC_R_INTERNAL);
}

/* The signature is checked: accounts, remembers, and goes back. */
static __always_inline int pc_signature_done(struct __sk_buff *skb, struct pc_slot *s, struct pc_conn *conn,
					     int valid)
{
	/* A revoked token is not kept, so it is verified each time, and charged like a forged one. */
	pc_budget_close(pc_source(skb), s->run.crypto_start_ns, bpf_ktime_get_ns(), valid && !s->jwt.revoked);
	if (!valid) {
		pc_refused_put(s);
		return pc_token_done(skb, s, conn, PC_R_TOKEN_SIGNATURE);
	}
	if (s->jwt.revoked)
		return pc_token_done(skb, s, conn, PC_R_TOKEN_REVOKED);
	pc_cache_put(s);
	return pc_token_done(skb, s, conn, 0);
}

#define PC_SIGNATURE_PROGRAM(name, verify) \
	SEC("sk_skb/stream_verdict") \
	int name(struct __sk_buff *skb) \
	{ \
		u64 cookie = bpf_get_socket_cookie(skb); \
		struct pc_conn *conn = bpf_map_lookup_elem(&pc_conns, &cookie); \
		struct pc_slot *s = conn ? pc_slot_of(conn) : 0; \
\
		if (!conn || !s) \
			return SK_DROP; \
		return pc_signature_done(skb, s, conn, verify(s) == 1); \
	}
PC_SIGNATURE_PROGRAM(pc_rs256, pc_jwt_rs256_2048)
PC_SIGNATURE_PROGRAM(pc_rs256_3072, pc_jwt_rs256_3072)
PC_SIGNATURE_PROGRAM(pc_rs256_4096, pc_jwt_rs256_4096)
PC_SIGNATURE_PROGRAM(pc_es256, pc_jwt_es256)

/*
 * What the agent sends: to the client of pc_target, if it has a denial that waits for its reply.  A redirect of what is
 * sent is done with when the send returns (tcp_bpf_push_locked): no worker of the kernel holds the reply, as one would of
 * a redirected buffer.
 *
 * Never SK_DROP: tcp_bpf_send_verdict keeps that verdict for everything that is sent later (psock->eval).  What nobody
 * gets goes to the far end of the agent's own connection, as does the byte that primes the sink.
 */
SEC("sk_msg")
int pc_inject(struct sk_msg_md *msg)
{
	u32 zero = 0;
	struct pc_target *t = bpf_map_lookup_elem(&pc_target, &zero);

	if (!t)
		return SK_PASS;
	t->injected = PC_INJECTED_NOT;
	if (!t->cookie)
		return SK_PASS;
	u64 cookie = t->cookie;
	struct pc_conn *conn = bpf_map_lookup_elem(&pc_conns, &cookie);

	t->injected = conn ? pc_replies_take(conn, msg->size, t->last) : PC_INJECTED_NOT;
	if (t->injected == PC_INJECTED_NOT)
		PC_COUNT(inject_refused);
	if (t->injected == PC_INJECTED && bpf_msg_redirect_hash(msg, &pc_socks, &cookie, 0) != SK_PASS)
		t->injected = PC_INJECTED_NOT; /* closed between the two maps */
	return SK_PASS;
}
