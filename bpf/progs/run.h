/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* One run over one socket buffer: which requests it holds, what is decided for each, what becomes of the buffer. */
#ifndef PC_RUN_H
#define PC_RUN_H

#include "maps.h"
#include "chunk.h"
#include "deny.h"
#include "withhold.h"
#include "../lib/http1.h"
#include "../lib/memo.h"
#include "../lib/path.h"
#include "../lib/policy.h"
#include "../lib/tunnel.h"

/* What a step asks of pc_http: another step, the end, a token verified, an incomplete head kept. */
enum { PC_STEP_GO = 0, PC_STEP_STOP = 1, PC_STEP_TOKEN = 2, PC_STEP_KEEP = 3 };

static __always_inline u32 pc_enforced(struct pc_slot *s)
{
	return s->d.mode == PC_MODE_ENFORCE;
}

/* Unix seconds at a time of CLOCK_BOOTTIME, or 0 while the agent has not set the clock. */
static __always_inline u64 pc_unix_s(u64 boot_ns)
{
	u32 zero = 0;
	struct pc_clock *c = bpf_map_lookup_elem(&pc_clock, &zero);

	if (!c || c->boot_to_unix_ns <= 0)
		return 0;
	return (boot_ns + (u64)c->boot_to_unix_ns) / 1000000000ULL;
}

/* The stream cannot be followed any further: closed when the port enforces, passed on as it is when it monitors. */
static __always_inline int pc_lost(struct pc_slot *s, struct pc_conn *conn, u32 enforce)
{
	conn->state = enforce ? PC_ST_POISON : PC_ST_OPAQUE;
	s->run.off = s->run.len;
	return PC_STEP_STOP;
}

static __always_inline void pc_outcome(struct pc_slot *s, u32 outcome)
{
	if (outcome > s->run.outcome)
		s->run.outcome = outcome;
}

/* A denied head: the buffer can be answered only when it holds nothing that was to be passed. */
static __always_inline void pc_outcome_denied(struct pc_slot *s)
{
	if (s->run.head_off || s->run.outcome != PC_OUT_PASS)
		pc_outcome(s, PC_OUT_KILL);
	else
		pc_outcome(s, PC_OUT_REPLY);
	if (s->run.had || s->run.back)
		s->run.close = 1;
}

/* Mode of a request that could not be read far enough to find its policy. */
static __always_inline u32 pc_port_enforces(struct pc_slot *s)
{
	u32 key = s->d.port;
	struct pc_port *port = bpf_map_lookup_elem(&pc_ports, &key);

	return port ? port->enforce[s->d.half & 1] : 1;
}

/* Whether some rule of the port enforces; what only monitors changes nothing. */
static __always_inline int pc_port_guards(struct pc_slot *s)
{
	u32 key = s->d.port;
	struct pc_port *port = bpf_map_lookup_elem(&pc_ports, &key);

	return port && (port->flags & PC_PORT_ENFORCE);
}

static __always_inline void pc_new_decision(struct pc_slot *s)
{
	s->run.decision = (u64)bpf_get_prandom_u32() << 32 | bpf_get_prandom_u32();
	s->run.event = 1;
	s->run.verify_ns = 0;
	s->run.messages++;
}

/* A request refused for its form.  head_known: its framing was read, so monitor mode can go on behind it. */
PC_FN int pc_refuse(struct pc_slot *s, struct pc_conn *conn, u32 reason, u32 head_known)
{
	if (!s || !conn)
		return PC_STEP_STOP;
	u32 enforce = pc_port_enforces(s);

	pc_new_decision(s);
	conn->requests++;
	s->token_state = PC_TOKEN_NONE;
	s->d.policy = s->d.rule = s->d.token = 0;
	s->d.mfa_max_age_s = 0;
	s->d.reason = reason;
	s->c.candidate = 0; /* refused whatever the policies are */
	s->d.mode = enforce ? PC_MODE_ENFORCE : PC_MODE_MONITOR;
	PC_COUNT(requests);
	if (!enforce) {
		PC_COUNT(would_deny);
		if (head_known) {
			conn->denied = 0;
			s->run.passed_head = 1;
			return PC_STEP_GO;
		}
		return pc_lost(s, conn, 0);
	}
	PC_COUNT(denied);
	pc_outcome_denied(s);
	s->run.close = 1;
	return pc_lost(s, conn, 1);
}

/* Whether the request may switch the connection to websocket.  Only the first one may: behind others, an answer of 101
 * could be a part of somebody else's response. */
static __always_inline int pc_switches(struct pc_slot *s, struct pc_conn *conn)
{
	u32 seen = s->h.seen;

	return (seen & PC_H_WEBSOCKET) && !(seen & (PC_H_LENGTH | PC_H_CODING)) && s->d.upgrade &&
	       pc_allowed(s->d.reason) && s->h.method == PC_M_GET && s->h.minor == 1 && conn->requests == 1;
}

/* The decision of the request in hand is made. */
PC_FN int pc_settle(struct pc_slot *s, struct pc_conn *conn)
{
	if (!s || !conn)
		return PC_STEP_STOP;
	PC_COUNT(requests);
	if (pc_allowed(s->d.reason)) {
		PC_COUNT(allowed);
	} else if (!pc_enforced(s)) {
		PC_COUNT(would_deny);
	} else {
		PC_COUNT(denied);
		conn->denied = 1;
		/* RFC 9112 section 9.3: who asks for the end, and who speaks 1.0 without keep-alive, waits for it */
		if ((s->h.seen & PC_H_CLOSE) || (!s->h.minor && !(s->h.seen & PC_H_KEEP)))
			s->run.close = 1;
		pc_outcome_denied(s);
		return s->run.outcome == PC_OUT_KILL ? PC_STEP_STOP : PC_STEP_GO;
	}
	conn->denied = 0;
	s->run.passed_head = 1;
	if (pc_switches(s, conn)) {
		conn->state = PC_ST_UPGRADE;
		s->run.tunnel = s->token_state == PC_TOKEN_VALID && s->d.token;
	}
	s->run.learn = !s->run.had && !s->run.memo && pc_allowed(s->d.reason);
	return PC_STEP_GO;
}

/* What follows the head in the stream (RFC 9112 section 6.3). */
static __always_inline void pc_frame(struct pc_slot *s, struct pc_conn *conn)
{
	conn->remain = 0;
	conn->chunk_digits = conn->trailer = 0;
	conn->state = PC_ST_HEAD;
	if (s->h.seen & PC_H_CODING) {
		conn->state = PC_ST_CHUNK_SIZE;
	} else if (s->h.content_length) {
		conn->state = PC_ST_BODY;
		conn->remain = s->h.content_length;
	}
}

/* Appends n bytes of the buffer at off to the split head in pc_heads; 0 = done. */
static __always_inline int pc_head_load(struct __sk_buff *skb, struct pc_slot *s, u32 had, u32 off, u32 n)
{
	u32 at = had & PC_HM;

	n = (n - 1) & PC_HM;
	PC_OPAQUE(n);
	n++;
	if (at + n > PC_HEAD_MAX)
		return -1;
	return bpf_skb_load_bytes(skb, off, s->head + at, n);
}

/* Copies the split head back into the slot. */
PC_FN int pc_head_restore(struct pc_slot *s, struct pc_pending_head *p, u32 n)
{
	if (!s || !p)
		return 0;
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_HEAD_MAX / 8; i++) {
		if (i * 8 >= n)
			break;
		*(u64 *)(s->head + i * 8) = *(u64 *)(p->b + i * 8);
	}
	return 0;
}

/* Zero bytes behind the head: every scan stops there. */
PC_FN int pc_head_terminate(struct pc_slot *s)
{
	if (!s)
		return 0;
	u32 n = s->n;

	if (n > PC_HEAD_MAX)
		return 0;
	u64 *z = (u64 *)(s->head + n);

	for (u32 i = 0; i < PC_HEAD_TAIL / 8; i++) {
		z[i] = 0;
		PC_FENCE;
	}
	return 0;
}

/* Brings the head at run.off into the slot; 0 = done, else a negative reason. */
PC_FN int pc_head_fetch(struct __sk_buff *skb, struct pc_slot *s, struct pc_conn *conn)
{
	if (!s || !conn)
		return -PC_R_INTERNAL;
	u32 had = conn->head_n, avail = s->run.len - s->run.off;

	s->run.had = had;
	s->run.head_off = s->run.off;
	if (had >= PC_HEAD_MAX)
		return -PC_R_HEAD_TOO_LARGE;
	if (had) {
		u64 cookie = bpf_get_socket_cookie(skb);
		struct pc_pending_head *p = bpf_map_lookup_elem(&pc_heads, &cookie);

		if (!p)
			return -PC_R_INTERNAL;
		pc_head_restore(s, p, had);
	}
	u32 n = avail > PC_HEAD_MAX - had ? PC_HEAD_MAX - had : avail;

	if (pc_head_load(skb, s, had, s->run.off, n))
		return -PC_R_INTERNAL;
	s->n = had + n;
	pc_head_terminate(s);
	return 0;
}

/* The head is not complete: keeps what is there.  Its bytes go to the application only when its reads do not block, which
 * then cannot act on them (withhold.h).
 * VERIFIER: inline in pc_http, because up to kernel 6.1 a value to store may not be a global function's argument. */
static __always_inline int pc_head_keep(struct __sk_buff *skb, struct pc_slot *s, struct pc_conn *conn)
{
	u64 cookie = bpf_get_socket_cookie(skb);

	/* the end of the stream comes with it: some servers take that for the end of the head */
	if (skb->cb[1] != conn->exp_seq)
		return pc_refuse(s, conn, PC_R_BAD_HEADER, 0);
	if (bpf_map_update_elem(&pc_heads, &cookie, s->head, BPF_ANY))
		return pc_refuse(s, conn, PC_R_NO_CAPACITY, 0);
	conn->head_n = s->n;
	if (!s->run.had && pc_port_guards(s) && pc_reads_block(skb)) {
		conn->withheld = 1;
		s->run.withhold = 1;
		s->run.withhold_at = s->run.off;
	} else {
		conn->torn |= PC_TORN_HELD;
	}
	s->run.off = s->run.len;
	return PC_STEP_STOP;
}

static __always_inline void pc_head_done(struct __sk_buff *skb, struct pc_conn *conn)
{
	if (conn->head_n) {
		u64 cookie = bpf_get_socket_cookie(skb);

		bpf_map_delete_elem(&pc_heads, &cookie);
		conn->head_n = 0;
	}
}

static __always_inline int pc_needs_token(struct pc_slot *s)
{
	return s->d.need == PC_NEED_TOKEN || s->c.need == PC_NEED_TOKEN;
}

/* Live and candidate, from the state of the token. */
PC_FN int pc_decide(struct pc_slot *s)
{
	pc_candidate_decide(s);
	return pc_policy_decide(s);
}

/* A head is complete: host, path, policy, and whether a token must be verified. */
static __always_inline int pc_request(struct pc_slot *s, struct pc_conn *conn)
{
	if (!s || !conn)
		return PC_STEP_STOP;
	int r = pc_host(s);

	if (r == 0)
		r = pc_path(s);
	if (r < 0)
		return pc_refuse(s, conn, -r, 1);
	conn->requests++;
	pc_new_decision(s);
	s->token_state = PC_TOKEN_NONE;
	s->token_reason = 0;
	pc_policy_match(s);
	pc_candidate_match(s);
	if (pc_needs_token(s) && (s->h.seen & PC_H_BEARER))
		return PC_STEP_TOKEN;
	pc_decide(s);
	return pc_settle(s, conn);
}

/* A head whose field lines are those of the last request: it has no body, and its token is valid or none. */
static __always_inline int pc_known(struct pc_slot *s, struct pc_conn *conn)
{
	s->run.off += s->h.hend;
	conn->remain = 0;
	conn->state = PC_ST_HEAD;
	conn->memo_vain = 0;
	if (s->run.memo == PC_MEMO_SECTION) {
		int r = pc_path(s);

		if (r < 0)
			return pc_refuse(s, conn, -r, 1);
		pc_policy_match(s);
		pc_candidate_match(s);
		pc_decide(s);
	}
	PC_COUNT(memo_hit);
	conn->requests++;
	pc_new_decision(s);
	s->run.cache_hit = s->token_state == PC_TOKEN_VALID && (s->d.token || s->c.token);
	return pc_settle(s, conn);
}

/* First bytes of a TLS record: handshake, version 3.x (RFC 8446 section 5.1). */
static __always_inline u32 pc_head_reason(struct pc_slot *s, u32 reason)
{
	return s->head[0] == 0x16 && s->head[1] == 3 ? PC_R_NOT_HTTP1 : reason;
}

/* Whether the port is protected no more, or not yet: the generation in force does not cover it.  Its connections are
 * then left alone.  The entry is there while either half covers the port. */
static __always_inline int pc_unprotected(struct pc_slot *s)
{
	u32 key = s->d.port, half = s->d.half & 1;
	struct pc_port *port = bpf_map_lookup_elem(&pc_ports, &key);

	return !port || (!port->policy[half] && !port->host_row[half]);
}

static __always_inline int pc_step_head(struct __sk_buff *skb, struct pc_slot *s, struct pc_conn *conn)
{
	if (!s || !conn)
		return PC_STEP_STOP;
	if (s->run.outcome == PC_OUT_REPLY) {
		/* A request behind a denied one in the same buffer: the answer closes the connection. */
		s->run.close = 1;
		return pc_lost(s, conn, 1);
	}
	if (s->run.messages >= PC_MSGS_PER_SKB_MAX)
		return PC_STEP_STOP;
	if (!s->run.reply_due && pc_unprotected(s)) {
		pc_head_done(skb, conn);
		return pc_lost(s, conn, 0);
	}
	pc_event_flush(skb, s, conn);
	s->path_len = s->host_len = 0;
	int r = pc_head_fetch(skb, s, conn);

	if (r == 0 && conn->memo && !s->run.had) {
		s->jwt.now_s = pc_unix_s(s->run.entry_ns);
		s->run.memo = s->jwt.now_s ? pc_memo_try(s, bpf_get_socket_cookie(skb)) : PC_MEMO_MISS;
		if (s->run.memo)
			return pc_known(s, conn);
	}
	if (r == 0)
		r = pc_http_head(s);
	if (r == PC_HTTP_MORE)
		return s->n < PC_HEAD_MAX ? PC_STEP_KEEP : pc_refuse(s, conn, PC_R_HEAD_TOO_LARGE, 0);
	u32 had = s->run.had;

	s->run.memo = PC_MEMO_MISS;
	pc_head_done(skb, conn);
	if (r <= 0)
		return pc_refuse(s, conn, pc_head_reason(s, r ? -r : PC_R_INTERNAL), 0);
	if ((u32)r <= had)
		return pc_refuse(s, conn, PC_R_INTERNAL, 0);
	s->run.off += r - had;
	pc_frame(s, conn);
	return pc_request(s, conn);
}

/* Bytes that mean nothing, behind those that the application holds: no answer fits. */
PC_FN int pc_senseless(struct __sk_buff *skb, struct pc_slot *s, struct pc_conn *conn, u32 reason)
{
	if (!s || !conn)
		return PC_STEP_STOP;
	pc_event_flush(skb, s, conn);
	s->path_len = s->host_len = 0;
	s->run.head_off = s->run.off;
	s->run.had = 1;
	/* the request came in a buffer before this one: what the slot says is of another connection's */
	if (!s->run.messages) {
		__builtin_memset(&s->h, 0, sizeof(s->h));
		__builtin_memset(s->head, 0, PC_EVENT_METHOD_MAX);
	}
	pc_refuse(s, conn, reason, 0);
	if (conn->state == PC_ST_POISON)
		s->run.outcome = PC_OUT_KILL;
	return PC_STEP_STOP;
}

PC_FN int pc_step_body(struct __sk_buff *skb, struct pc_slot *s, struct pc_conn *conn)
{
	if (!s || !conn)
		return PC_STEP_STOP;
	u32 avail = s->run.len - s->run.off;

	if (conn->denied && s->run.outcome == PC_OUT_PASS)
		pc_outcome(s, s->run.off ? PC_OUT_KILL : PC_OUT_BODY);
	if (!conn->denied)
		s->run.passed_body = 1;
	if (conn->state == PC_ST_BODY) {
		u64 k = avail > conn->remain ? conn->remain : avail;

		conn->remain -= k;
		s->run.off += k;
		if (!conn->remain)
			conn->state = PC_ST_HEAD;
		return PC_STEP_GO;
	}
	int r = pc_chunked(skb, conn, s, s->run.off, avail);

	if (r > 0) {
		s->run.off += r;
		return PC_STEP_GO;
	}
	return pc_senseless(skb, s, conn, PC_R_BAD_CHUNK);
}

/* Keeps the token of a request to switch to websocket.  Without room for it the answer is not looked for, and what the
 * client sends is read as requests.
 * VERIFIER: inline in pc_http, as pc_head_keep. */
static __always_inline void pc_tunnel_keep(struct __sk_buff *skb, struct pc_slot *s, struct pc_conn *conn)
{
	u64 cookie = bpf_get_socket_cookie(skb);
	struct pc_tunnel *t = &s->tunnel;

	s->run.tunnel = 0;
	t->sport = pc_remote_port(skb);
	t->dport = skb->local_port;
	t->ipv6 = pc_addresses(skb, t->saddr, t->daddr);
	t->device = pc_device(skb);
	if (pc_tunnel_fill(s) && !bpf_map_update_elem(&pc_tunnels, &cookie, t, BPF_ANY)) {
		conn->until = t->until;
	} else {
		PC_COUNT(tunnel_refused);
		conn->state = PC_ST_HEAD;
	}
}

/* In the middle of a stream that nobody has read: it passes, and is followed from a buffer on that begins with a whole
 * head.  Only what monitors is adopted, so a body that looks like a head costs a wrong record and nothing else. */
static __always_inline int pc_step_seek(struct __sk_buff *skb, struct pc_slot *s, struct pc_conn *conn)
{
	if (!s || !conn)
		return PC_STEP_STOP;
	if (!s->run.off && !pc_head_fetch(skb, s, conn) && pc_http_head(s) > 0) {
		conn->state = PC_ST_HEAD;
		return PC_STEP_GO;
	}
	s->run.off = s->run.len;
	return PC_STEP_STOP;
}

/* Keeps the request that was allowed. */
PC_FN int pc_learn(struct __sk_buff *skb, struct pc_slot *s, struct pc_conn *conn)
{
	if (!s || !conn)
		return 0;
	s->run.learn = 0;
	if (conn->memo_vain >= PC_MEMO_VAIN_MAX)
		return conn->memo = 0;
	conn->memo_vain++;
	return conn->memo = pc_memo_learn(s, bpf_get_socket_cookie(skb));
}

/* One message or part of one.
 * VERIFIER: pc_step_head, pc_step_seek and pc_request are inlined: calls may be eight frames deep, and lib/ needs six of
 * them. */
PC_FN int pc_step(struct __sk_buff *skb, struct pc_slot *s, struct pc_conn *conn)
{
	if (!s || !conn)
		return PC_STEP_STOP;
	if (s->run.phase == PC_PHASE_TOKEN) {
		s->run.phase = PC_PHASE_NEXT;
		s->run.verify_ns = bpf_ktime_get_boot_ns() - s->run.verify_start_ns;
		pc_decide(s);
		return pc_settle(s, conn);
	}
	if (s->run.off >= s->run.len)
		return PC_STEP_STOP;
	if (conn->state == PC_ST_POISON || conn->state == PC_ST_OPAQUE)
		return PC_STEP_STOP;
	if (conn->state == PC_ST_HEAD)
		return pc_step_head(skb, s, conn);
	if (conn->state == PC_ST_UPGRADE)
		return pc_senseless(skb, s, conn, PC_R_UPGRADE_REFUSED);
	if (conn->state == PC_ST_SEEKING)
		return pc_step_seek(skb, s, conn);
	return pc_step_body(skb, s, conn);
}

static __always_inline struct tcp_sock *pc_tcp(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	return sk ? bpf_skc_to_tcp_sock(sk) : 0;
}

/* The request in hand was allowed but must not pass: a reply to an earlier one is still due. */
static __always_inline void pc_overrule(struct pc_slot *s)
{
	if (s->run.event) {
		s->d.reason = PC_R_PIPELINE_REFUSED;
		s->d.mode = PC_MODE_ENFORCE;
	}
}

/*
 * Whether the client may lack a part of the response to the request that was passed last: the application has not written
 * since, or the client has not acknowledged all that was written.  A client that waits for a response acknowledges all of
 * it with its next request: TCP has seen that acknowledgement before the programs see the request.
 */
static __always_inline int pc_response_owed(struct pc_conn *conn, struct tcp_sock *tp)
{
	return !tp || tp->write_seq == conn->pass_wseq || tp->snd_una != tp->write_seq;
}

static __always_inline int pc_finish_denied(struct __sk_buff *skb, struct pc_slot *s, struct pc_conn *conn,
					    struct tcp_sock *tp)
{
	/* The reply would overtake the response that the application still owes: never interleave. */
	if (!s->run.reply_due && (conn->owed == PC_OWED_MORE || (conn->owed && pc_response_owed(conn, tp)))) {
		pc_event_flush(skb, s, conn);
		return pc_kill(skb, s, conn);
	}
	pc_event_flush(skb, s, conn);
	return pc_deny(skb, s, conn, tp ? tp->inet_conn.icsk_inet.sk.sk_receive_queue.qlen : 1);
}

/* The verdict over the whole buffer. */
static __always_inline int pc_finish(struct __sk_buff *skb, struct pc_slot *s, struct pc_conn *conn)
{
	struct tcp_sock *tp = pc_tcp(skb);

	if (s->run.off < s->run.len && s->run.outcome != PC_OUT_KILL && conn->state != PC_ST_OPAQUE &&
	    conn->state != PC_ST_POISON) {
		/* more messages than one run looks at */
		pc_event_flush(skb, s, conn);
		pc_refuse(s, conn, PC_R_PIPELINE_REFUSED, 0);
		if (conn->state == PC_ST_POISON)
			s->run.outcome = PC_OUT_KILL;
	}
	if (s->run.messages) {
		if (s->run.reply_due && (s->run.outcome != PC_OUT_REPLY || conn->state == PC_ST_POISON)) {
			/* Answer what is due with close; pass nothing. */
			pc_overrule(s);
			pc_event_flush(skb, s, conn);
			conn->state = PC_ST_POISON;
			if (pc_replies_close(conn))
				return pc_drop_silently(skb);
			return pc_kill(skb, s, conn);
		}
		if (!s->run.reply_due) {
			conn->injected = 0;
			if (tp)
				conn->deny_wseq = tp->write_seq;
		}
	}
	switch (s->run.outcome) {
	case PC_OUT_PASS:
		if (s->run.withhold && !s->run.withhold_at)
			return pc_head_withhold(skb, s, conn);
		/* With its body too: what was written before the request's end (100 Continue) is not its response. */
		if (s->run.passed_head && conn->owed != PC_OWED_MORE)
			conn->owed = s->run.messages > 1 || (conn->owed && pc_response_owed(conn, tp))
					     ? PC_OWED_MORE
					     : PC_OWED;
		if (s->run.passed_head || s->run.passed_body)
			conn->pass_wseq = tp ? tp->write_seq : 0;
		pc_event_flush(skb, s, conn);
		if (s->run.withhold) {
			PC_COUNT_N(passed_bytes, s->run.withhold_at);
			return pc_head_withhold(skb, s, conn);
		}
		PC_COUNT_N(passed_bytes, s->run.len);
		return SK_PASS;
	case PC_OUT_BODY:
		if (s->run.withhold)
			break;
		return pc_drop_silently(skb);
	case PC_OUT_REPLY:
		return pc_finish_denied(skb, s, conn, tp);
	}
	pc_event_flush(skb, s, conn);
	return pc_kill(skb, s, conn);
}

#endif
