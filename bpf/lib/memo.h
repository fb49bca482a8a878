/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The last allowed request of a connection.  A client sends the same field lines again and again, most of the time
 * with another path, often with the same one; bytes that are equal need not be read again.
 *
 *   pc_memo_try(s, cookie)     a head was fetched: what is known of it
 *   pc_memo_learn(s, cookie)   a request was allowed: keeps it
 *
 * Equal field lines have the same meaning behind any request line of the same minor version, so parse, host and identity
 * are taken over: PC_MEMO_SECTION.  So are the states of the path automaton as far as both paths are alike.  With an
 * equal request line the decision is, too: PC_MEMO_WHOLE.  All of it holds in one generation of keys, policies and
 * revocations only, and the times of the token are held against the clock again.
 *
 * Unlike elements of an LRU map, those here belong to one connection, whose socket lock serialises all use.
 */
#ifndef PC_MEMO_H
#define PC_MEMO_H

#include "cache.h"
#include "http1.h"

#define PC_MEMO_MASK (PC_MEMO_LINE_MAX - 1)

struct pc_memo {
	u64 generation;
	u32 whole;        /* 1: the decision holds for the same request line, too */
	u32 token_state;  /* PC_TOKEN_VALID, or PC_TOKEN_NONE when none was sent */
	struct pc_head h; /* of text */
	struct pc_decision d, c;
	u32 path_len; /* canonical path: that many bytes of the target */
	u32 host_len;
	struct pc_identity id;
	struct pc_trail trail;
	u8 host[PC_EVENT_HOST_MAX];
	/* VERIFIER: longer than any head in it, because start and length are judged by the sum of their maxima. */
	u8 text[PC_MEMO_HEAD_MAX + PC_MEMO_LINE_MAX + 64];
};
_Static_assert(sizeof(struct pc_memo) < 4000, "an element of pc_memos fits a page");
PC_HASH_ALLOC(pc_memos, u64, struct pc_memo, PC_MEMOS_MAX)
PC_ARRAY(pc_memo_none, struct pc_memo, 1)

enum { PC_MEMO_MISS = 0, PC_MEMO_SECTION = 1, PC_MEMO_WHOLE = 2 };

/* Whether n bytes of the head from off on are those of the memo's text from at on; 8 <= n <= PC_MEMO_HEAD_MAX. */
PC_FN int pc_memo_same(struct pc_slot *s, struct pc_memo *m, u32 off, u32 at, u32 n)
{
	if (!s || !m)
		return 0;
	u32 last = n - 8;

	if (last > PC_MEMO_HEAD_MAX - 8)
		return 0;
	/* VERIFIER: the other lengths come out of the one that was compared, as far as clang is told */
	PC_OPAQUE(last);
	n = last + 8;
	u32 full = n / 64, from = n & ~63u, words = n / 8 & 7;
	u64 diff = 0;

	off &= PC_HEAD_MAX - 1;
	at &= PC_MEMO_MASK;
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_MEMO_HEAD_MAX / 64; i++) {
		if (i >= full)
			break;
		const u8 *a = s->head + off + 64 * i, *b = m->text + at + 64 * i;

#pragma clang loop unroll(full)
		for (u32 k = 0; k < 64; k += 8) {
			diff |= pc_ld8(a + k) ^ pc_ld8(b + k);
			PC_FENCE;
		}
	}
	PC_NO_UNROLL
	for (u32 i = 0; i < 7; i++) {
		if (i >= words)
			break;
		diff |= pc_ld8(s->head + off + from + 8 * i) ^ pc_ld8(m->text + at + from + 8 * i);
	}
	/* the last word, which ends where they end */
	diff |= pc_ld8(s->head + off + last) ^ pc_ld8(m->text + at + last);
	return diff == 0;
}

/* Takes over what the memo says of the section behind a request line that ends at s->h.rl_end. */
PC_FN int pc_memo_take(struct pc_slot *s, struct pc_memo *m)
{
	if (!s || !m)
		return 0;
	u32 shift = s->h.rl_end - m->h.rl_end;

	s->h.seen = m->h.seen;
	s->h.hend = m->h.hend + shift;
	s->h.host = m->h.host ? m->h.host + shift : 0;
	s->h.host_len = m->h.host_len;
	s->h.tok = m->h.tok ? m->h.tok + shift : 0;
	s->h.tok_len = m->h.tok_len;
	s->h.lines = m->h.lines;
	s->host_len = m->host_len;
	__builtin_memcpy(s->host, m->host, sizeof(m->host));
	s->id = m->id;
	s->token_state = m->token_state;
	s->token_reason = 0;
	return 1;
}

/* The request line is another one: reads it.  1 = the memo's section may stand behind it. */
PC_FN int pc_memo_line(struct pc_slot *s, struct pc_memo *m)
{
	if (!s || !m)
		return 0;
	__builtin_memset(&s->h, 0, sizeof(s->h));
	return pc_http_request_line(s) > 0 && s->h.minor == m->h.minor && !s->h.abs_host_len;
}

/* The request line is the same: path and decision as well.  The path is the target's own bytes. */
PC_FN int pc_memo_decided(struct pc_slot *s, struct pc_memo *m)
{
	if (!s || !m)
		return 0;
	u32 tgt = m->h.tgt & PC_MEMO_MASK;

	s->d = m->d;
	s->c = m->c;
	s->path_len = m->path_len;
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_EVENT_PATH_MAX; i += 8) {
		*(u64 *)(s->path + i) = pc_ld8(s->head + tgt + i);
		PC_FENCE;
	}
	return 1;
}

/*
 * In: a fetched head, none of it from an earlier buffer; s->d.generation, s->jwt.now_s.
 * PC_MEMO_SECTION: s->h, s->host, s->id, s->token_state, s->known are set.  PC_MEMO_WHOLE: also s->d, and as much of s->path as a
 * record shows.  PC_MEMO_MISS: nothing is, read it all.
 */
PC_FN int pc_memo_try(struct pc_slot *s, u64 cookie)
{
	if (!s)
		return PC_MEMO_MISS;
	struct pc_memo *m = pc_map_get(pc_memos, &cookie);

	if (!m || m->generation != s->d.generation)
		return PC_MEMO_MISS;
	u32 line = m->h.rl_end, section = m->h.hend - line;
	int same = s->n >= line && pc_memo_same(s, m, 0, 0, line);

	if (same)
		s->h = m->h;
	else if (!pc_memo_line(s, m))
		return PC_MEMO_MISS;
	if (s->h.rl_end + section > s->n || !pc_memo_same(s, m, s->h.rl_end, line, section))
		return PC_MEMO_MISS;
	pc_memo_take(s, m);
	if (s->token_state == PC_TOKEN_VALID && pc_cache_times(s))
		return PC_MEMO_MISS;
	if (!same || !m->whole) {
		s->known = m->trail;
		return PC_MEMO_SECTION;
	}
	pc_memo_decided(s, m);
	return PC_MEMO_WHOLE;
}

/* Whether the request in hand, which was allowed, can be kept.  What frames a body or changes the protocol is read
 * anew each time. */
static __always_inline int pc_memo_fits(struct pc_slot *s)
{
	u32 seen = s->h.seen, without = PC_H_LENGTH | PC_H_CODING | PC_H_UPGRADE | PC_H_EXPECT;

	if ((seen & without) || s->h.abs_host_len || !(seen & PC_H_HOST))
		return 0;
	if (s->h.hend > PC_MEMO_HEAD_MAX || s->h.rl_end >= PC_MEMO_LINE_MAX ||
	    s->host_len > PC_EVENT_HOST_MAX)
		return 0;
	return s->token_state == PC_TOKEN_VALID || !(seen & PC_H_BEARER);
}

/* Copies the request in hand.  The path must be the target's own bytes: path_len <= tlen, checked by the bytes. */
PC_FN int pc_memo_fill(struct pc_slot *s, struct pc_memo *m)
{
	if (!s || !m)
		return 0;
	u32 words = (s->h.hend + 7) / 8, tgt = s->h.tgt & PC_MEMO_MASK;
	u64 diff = 0;

	/* an interrupted copy must not be found */
	m->generation = ~0ULL;
	m->token_state = s->token_state;
	m->h = s->h;
	m->d = s->d;
	m->c = s->c;
	m->path_len = s->path_len;
	m->host_len = s->host_len;
	m->id = s->id;
	m->trail = s->trail;
	__builtin_memcpy(m->host, s->host, sizeof(m->host));
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_MEMO_HEAD_MAX / 8; i++) {
		if (i >= words)
			break;
		*(u64 *)(m->text + 8 * i) = pc_ld8(s->head + 8 * i);
		PC_FENCE;
	}
	/* a path that was not its own canonical form is written differently, so its bytes differ somewhere */
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_MEMO_LINE_MAX; i++) {
		if (i >= s->path_len)
			break;
		diff |= s->path[i] ^ s->head[tgt + i];
	}
	/* what depends on the time more than by exp and nbf is decided anew */
	m->whole = !diff && s->path_len <= s->h.tlen && !s->d.mfa_max_age_s && !s->c.mfa_max_age_s;
	m->generation = s->d.generation;
	return 1;
}

/* 1 = kept. */
PC_FN int pc_memo_learn(struct pc_slot *s, u64 cookie)
{
	u32 zero = 0;

	if (!s || !pc_memo_fits(s))
		return 0;
	struct pc_memo *m = pc_map_get(pc_memos, &cookie);

	if (!m) {
		struct pc_memo *none = pc_map_get(pc_memo_none, &zero);

		if (!none || pc_map_put(pc_memos, &cookie, none))
			return 0;
		m = pc_map_get(pc_memos, &cookie);
		if (!m)
			return 0;
	}
	return pc_memo_fill(s, m);
}

#endif
