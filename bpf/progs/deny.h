/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * How a denied request is dropped and answered.
 *
 * First choice: the buffer is dropped without waking the application, and the agent injects the whole reply.
 * When the agent is gone its sink has left pc_sinks, the redirect says so, and the kernel answers by itself with
 * a reply of exactly the buffer's length (tcp_read_skb counts skb->len after the program, so any other length
 * leaves copied_seq wrong).
 */
#ifndef PC_DENY_H
#define PC_DENY_H

#include "event.h"

/*
 * Whether more buffers wait behind this one while the reader itself has the programs run (tcp_bpf_recvmsg_parser, for
 * what came before it read for the first time).  A silent drop ends that pass, and a reader that then finds its queue
 * not empty gets EAGAIN.  A plain drop goes on to the next buffer; the wake-up at the end meets nobody, since the reader
 * is awake.
 */
static __always_inline int pc_more(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct tcp_sock *tp = sk ? bpf_skc_to_tcp_sock(sk) : 0;

	return tp && tp->inet_conn.icsk_inet.sk.sk_receive_queue.qlen &&
	       tp->inet_conn.icsk_inet.sk.sk_lock.owned;
}

/* SK_PASS: the buffer will go to the sink, which drops it without waking the reader.  SK_DROP: there is no sink. */
static __always_inline int pc_sink(struct __sk_buff *skb)
{
	u64 key = 0;

	PC_COUNT_N(dropped_bytes, skb->len);
	return bpf_sk_redirect_hash(skb, &pc_sinks, &key, 0);
}

/* Drops without waking the reader, unless there is no sink. */
static __always_inline int pc_drop_silently(struct __sk_buff *skb)
{
	int verdict = pc_sink(skb);

	return pc_more(skb) ? SK_DROP : verdict;
}

/* Texts from the longest to the shortest; what a short request has no room for is left out.  A 401 must carry a
 * challenge, and a challenge a parameter (RFC 9110 section 15.5.2, RFC 6750 section 3); where that does not fit, 503 says as
 * truly that there is no access now. */
#define PC_TEXT_400 "HTTP/1.1 400 Bad Request\r\n"
#define PC_TEXT_401 "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"portcullis\"\r\n"
#define PC_TEXT_403 "HTTP/1.1 403 Forbidden\r\n"
#define PC_TEXT_431 "HTTP/1.1 431 Request Header Fields Too Large\r\n"
#define PC_TEXT_503 "HTTP/1.1 503 Service Unavailable\r\n"
#define PC_TEXT_CLOSE "Connection: close\r\n"
#define PC_TEXT_LENGTH "Content-Length: 000000\r\n\r\n"
#define PC_SHORT_401 "HTTP/1.1 401 \r\nWWW-Authenticate:Bearer realm=\"\"\r\n"
#define PC_SHORT_503 "HTTP/1.1 503 \r\n"
#define PC_SHORT_CLOSE "Connection:close\r\n"
#define PC_SHORT_LENGTH "Content-Length:000000\r\n\r\n"
#define PC_DENY_PUT(text) \
	do { \
		__builtin_memcpy(s->head, text, sizeof(text) - 1); \
		n = sizeof(text) - 1; \
	} while (0)
#define PC_PUT_CASE(text, closing, length) \
	do { \
		if (close) \
			PC_DENY_PUT(text closing length); \
		else \
			PC_DENY_PUT(text length); \
	} while (0)

/* The full header section for a status; its length. */
PC_FN int pc_reply_full(struct pc_slot *s, u32 status, u32 close)
{
	if (!s)
		return 0;
	u32 n;

	switch (status) {
	case 400:
		PC_PUT_CASE(PC_TEXT_400, PC_TEXT_CLOSE, PC_TEXT_LENGTH);
		break;
	case 401:
		PC_PUT_CASE(PC_TEXT_401, PC_TEXT_CLOSE, PC_TEXT_LENGTH);
		break;
	case 403:
		PC_PUT_CASE(PC_TEXT_403, PC_TEXT_CLOSE, PC_TEXT_LENGTH);
		break;
	case 431:
		PC_PUT_CASE(PC_TEXT_431, PC_TEXT_CLOSE, PC_TEXT_LENGTH);
		break;
	default:
		PC_PUT_CASE(PC_TEXT_503, PC_TEXT_CLOSE, PC_TEXT_LENGTH);
		break;
	}
	return n;
}

/* A header section of at most `want` bytes with few words; its length, or 0 when even that does not fit. */
PC_FN int pc_reply_short(struct pc_slot *s, u32 status, u32 close, u32 want)
{
	if (!s)
		return 0;
	u32 n;

	if (status == 401) {
		PC_PUT_CASE(PC_SHORT_401, PC_SHORT_CLOSE, PC_SHORT_LENGTH);
		if (n <= want)
			return n;
	}
	PC_PUT_CASE(PC_SHORT_503, PC_SHORT_CLOSE, PC_SHORT_LENGTH);
	if (n > want) {
		/* no room to say that it closes, but it does */
		PC_DENY_PUT(PC_SHORT_503 PC_SHORT_LENGTH);
	}
	if (n > want)
		return 0;
	/* these say more in as many bytes */
	if (status == 400 || status == 403 || status == 431) {
		s->head[9] = '4';
		s->head[10] = '0' + status / 10 % 10;
		s->head[11] = '0' + status % 10;
	}
	return n;
}

/* Header section for `want` bytes in s->head; its length, or 0 when want is too small or too large. */
PC_FN int pc_reply_head(struct pc_slot *s, u32 status, u32 close, u32 want)
{
	if (!s)
		return 0;
	u32 n = pc_reply_full(s, status, close);

	if (n > want)
		n = pc_reply_short(s, status, close, want);
	n &= 255;
	if (!n || want < n || want - n > 999999)
		return 0;
	u32 body = want - n;

	PC_NO_UNROLL
	for (u32 i = 0; i < 6; i++) {
		/* the last digit stands five bytes before the end of the header section */
		s->head[(n - 5 - i) & PC_HM] = '0' + body % 10;
		body /= 10;
	}
	return n;
}

/* Fills s->head[from ..] with spaces, from below 256: white space is a legal body of any length. */
PC_FN int pc_reply_pad(struct pc_slot *s, u32 from)
{
	if (!s)
		return 0;
	from &= 255;
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_HEAD_MAX / 8; i++) {
		*(u64 *)(s->head + from + i * 8) = PC_K(' ');
		PC_FENCE; /* clang would call memset, which BPF does not have */
	}
	return 0;
}

/* Overwrites the whole buffer with a reply; 1 = done. */
PC_FN int pc_reply_store(struct __sk_buff *skb, struct pc_slot *s, u32 status, u32 close)
{
	if (!s)
		return 0;
	u32 left = skb->len, off = 0;
	int n = pc_reply_head(s, status, close, left);

	if (n <= 0)
		return 0;
	pc_reply_pad(s, n);
	PC_NO_UNROLL
	for (u32 i = 0; i < 16; i++) {
		u32 k = left > PC_HEAD_MAX ? PC_HEAD_MAX : left;

		if (!left)
			return 1;
		k = (k - 1) & PC_HM;
		PC_OPAQUE(k);
		k++;
		if (bpf_skb_store_bytes(skb, off, s->head, k, 0))
			return 0;
		off += k;
		left -= k;
		if (i == 0)
			pc_reply_pad(s, 0);
	}
	return left == 0;
}

/* The connection cannot go on. */
PC_FN int pc_kill(struct __sk_buff *skb, struct pc_slot *s, struct pc_conn *conn)
{
	if (!conn)
		return SK_DROP;
	if (conn->state != PC_ST_POISON)
		PC_COUNT(poisoned);
	conn->state = PC_ST_POISON;
	PC_COUNT(no_reply);
	pc_ask_destroy(skb, s);
	return pc_drop_silently(skb);
}

/* Answers in the kernel: the buffer becomes the reply and goes out on the same socket.  It has a body, because it must be as
 * long as the request; of a HEAD the client reads none (RFC 9110 section 9.3.2), so nothing may follow. */
PC_FN int pc_reply_kernel(struct __sk_buff *skb, struct pc_slot *s, struct pc_conn *conn, u32 close)
{
	if (!s || !conn)
		return SK_DROP;
	u64 cookie = bpf_get_socket_cookie(skb);

	close |= s->h.method == PC_M_HEAD;
	if (!pc_reply_store(skb, s, pc_status(s->d.reason), close))
		return pc_kill(skb, s, conn);
	if (close)
		conn->state = PC_ST_POISON;
	PC_COUNT(replies_kernel);
	return bpf_sk_redirect_hash(skb, &pc_socks, &cookie, 0);
}

/*
 * Replies on their way.  Verdict runs of a connection follow each other under its socket lock; pc_inject does not take it,
 * and runs beside them.  What both change is in `pending`, count and close bit in one word, so that of a run that wants
 * the last reply to close and an injection one is first:
 * - the run (pc_replies_close) finds the count at 0: the reply is out, and the connection is destroyed;
 * - or it finds a reply on its way: the compare-and-swap of pc_inject then sees the bit, and no last reply without
 *   `Connection: close` is injected any more.
 * pc_inject adds to `injected` before it takes 1 off the count, and pc_replies_due reads the count first: who sees the
 * count at 0 sees the bytes, and waits until TCP has them.  All of these are ordered: atomic instructions of BPF that
 * give a value back are full barriers.
 */
static __always_inline u32 pc_replies_due(struct pc_conn *conn, struct tcp_sock *tp)
{
	/* plain: set by an earlier run of this connection */
	if (!conn->asked)
		return 0;
	u32 pending = __sync_fetch_and_add(&conn->pending, 0);

	return (pending & ~PC_PENDING_CLOSE) ||
	       (conn->injected && (!tp || tp->write_seq - conn->deny_wseq < conn->injected));
}

/* Another reply is on its way; `last`: it closes the connection.  In this order: the bit is for a count that has it. */
static __always_inline void pc_replies_add(struct pc_conn *conn, u32 last)
{
	conn->asked = 1;
	__sync_fetch_and_add(&conn->pending, 1);
	if (last)
		__sync_fetch_and_or(&conn->pending, PC_PENDING_CLOSE);
}

/* The last reply on its way must close the connection; 0 = there is none on its way any more. */
static __always_inline u32 pc_replies_close(struct pc_conn *conn)
{
	return __sync_fetch_and_or(&conn->pending, PC_PENDING_CLOSE) & ~PC_PENDING_CLOSE;
}

/* A reply of `len` bytes is about to go out; `last`: it closes the connection. */
static __always_inline u32 pc_replies_take(struct pc_conn *conn, u32 len, u32 last)
{
	u32 r = PC_INJECTED_MUST_CLOSE;

	__sync_fetch_and_add(&conn->injected, len);
	/* a run changes the word once; that it happens as often as this takes many runs in some nanoseconds */
	PC_NO_UNROLL
	for (u32 i = 0; i < 8; i++) {
		u32 pending = conn->pending, count = pending & ~PC_PENDING_CLOSE;

		if (!count)
			r = PC_INJECTED_NOT;
		if (!count || (count == 1 && (pending & PC_PENDING_CLOSE) && !last))
			break;
		if (__sync_val_compare_and_swap(&conn->pending, pending, pending - 1) == pending)
			return PC_INJECTED;
	}
	__sync_fetch_and_add(&conn->injected, -len);
	return r;
}

/* Whether the agent answers: one that hangs keeps its sink, but lets the time run out. */
static __always_inline int pc_agent_well(void)
{
	u32 zero = 0;
	u64 *until = bpf_map_lookup_elem(&pc_beat, &zero);

	return until && *until > bpf_ktime_get_boot_ns();
}

/* Drops the buffer and has the request answered; the verdict. */
PC_FN int pc_deny(struct __sk_buff *skb, struct pc_slot *s, struct pc_conn *conn, u32 queued)
{
	if (!s || !conn)
		return SK_DROP;
	/* Bytes behind a silently dropped buffer are not looked at before the next segment: close then.  A body that
	 * is still to come, and a head of which the application holds a part, end the connection too. */
	u32 close = s->run.close || conn->state != PC_ST_HEAD;
	struct pc_reply *r = pc_agent_well() ? bpf_ringbuf_reserve(&pc_replies, sizeof(*r), 0) : 0;

	if (r) {
		u32 agent_close = close || queued;

		pc_reply_fill(skb, s, r, PC_REPLY_SEND, agent_close);
		if (pc_sink(skb) == SK_PASS) {
			if (agent_close)
				conn->state = PC_ST_POISON;
			pc_replies_add(conn, agent_close);
			bpf_ringbuf_submit(r, 0);
			PC_COUNT(replies_agent);
			return pc_more(skb) ? SK_DROP : SK_PASS;
		}
		bpf_ringbuf_discard(r, 0);
	}
	/* it would overtake the reply that the agent still has to inject */
	if (s->run.reply_due) {
		conn->state = PC_ST_POISON;
		return pc_replies_close(conn) ? pc_drop_silently(skb) : pc_kill(skb, s, conn);
	}
	return pc_reply_kernel(skb, s, conn, close);
}

#endif
