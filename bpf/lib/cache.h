/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Tokens that were verified, so that the next request with the same bytes needs no signature check.
 *
 *   pc_cache_get(s)   before pc_jwt_parse
 *   pc_cache_put(s)   after the signature was found valid, and nothing else
 *
 * A hit means that all bytes of the token are those of a token that verified in this generation; no hash has to be
 * trusted.  The map's key is the end of the signature: who cannot sign cannot put an entry in or push one out, and the
 * twin (r, n - s) of an ECDSA signature has another end.  Times are checked again at every hit.  A change of keys,
 * policies or revocations counts the generation up, which empties the cache at once.
 *
 * Elements of an LRU map are reused while others still read them.  So the identity is first copied out, then held
 * against the seal, which binds it to the generation and the end of the signature: what another token's entry has
 * written meanwhile does not fit.  Bytes of the token that change during the comparison can at worst let a mixture of
 * two verified tokens pass as the one whose identity was copied.
 */
#ifndef PC_CACHE_H
#define PC_CACHE_H

#include "jwt.h"

_Static_assert(PC_CACHED_TOKEN_MAX == PC_TOKEN_MAX,
	       "every valid token is kept, so each costs one signature check");

struct pc_cache_key {
	u64 w[2];
};
PC_LRU_HASH(pc_token_cache, struct pc_cache_key, struct pc_cached_token, PC_TOKEN_CACHE_MAX)

#define PC_CACHE_ID_WORDS (sizeof(struct pc_identity) / 8)
/* Odd, with irregular bits: 2^64 divided by the golden ratio. */
#define PC_CACHE_MULTIPLIER 0x9e3779b97f4a7c15ULL

static __always_inline int pc_cache_fits(struct pc_slot *s)
{
	return s->jwt.tok_len >= sizeof(struct pc_cache_key) && s->jwt.tok_len <= PC_CACHED_TOKEN_MAX;
}

static __always_inline struct pc_cache_key pc_cache_key_of(struct pc_slot *s)
{
	u32 at = (s->jwt.tok + s->jwt.tok_len - sizeof(struct pc_cache_key)) & (PC_HEAD_MAX - 1);
	struct pc_cache_key key = { { pc_ld8(s->head + at), pc_ld8(s->head + at + 8) } };

	return key;
}

/* Seal of s->id.  No defence against somebody who chooses identities: those come from verified tokens only. */
PC_FN u64 pc_cache_seal(struct pc_slot *s)
{
	if (!s)
		return 0;
	struct pc_cache_key key = pc_cache_key_of(s);
	u64 *id = (u64 *)&s->id, h = s->d.generation ^ (u64)s->jwt.tok_len << 48;

	h = (h ^ key.w[0]) * PC_CACHE_MULTIPLIER;
	h = ((h ^ h >> 29) ^ key.w[1]) * PC_CACHE_MULTIPLIER;
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_CACHE_ID_WORDS; i++)
		h = ((h ^ h >> 29) ^ id[i]) * PC_CACHE_MULTIPLIER;
	return h ^ h >> 32;
}

/* Whether the n bytes of head from off on are those of the entry, n <= PC_CACHED_TOKEN_MAX. */
PC_FN int pc_cache_same(struct pc_slot *s, struct pc_cached_token *e, u32 off, u32 n)
{
	if (!s || !e || n > PC_CACHED_TOKEN_MAX)
		return 0;
	u32 full = n / 64;
	u64 diff = 0;

	off &= PC_HEAD_MAX - 1;
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_CACHED_TOKEN_MAX / 64; i++) {
		if (i >= full)
			break;
		const u8 *a = s->head + off + 64 * i, *b = e->token + 64 * i;

#pragma clang loop unroll(full)
		for (u32 k = 0; k < 64; k += 8) {
			diff |= pc_ld8(a + k) ^ pc_ld8(b + k);
			PC_FENCE;
		}
	}
	/* the last 0 to 63 bytes; v is how many remain at the word */
	u32 from = (n - (n & 63)) & (PC_CACHED_TOKEN_MAX - 1), rest = n & 63;

	PC_NO_UNROLL
	for (u32 i = 0; i < 8; i++) {
		s64 v = (s64)rest - 8 * (s64)i;
		u64 in = ~(u64)((v - 8) >> 63), part = (u64)((v - 8) >> 63) & ~(u64)(v >> 63);
		u64 keep = in | (((1ULL << ((u64)(v << 3) & 63)) - 1) & part);

		diff |= (pc_ld8(s->head + off + from + 8 * i) ^ pc_ld8(e->token + from + 8 * i)) & keep;
		PC_FENCE;
	}
	return diff == 0;
}

/* Whether the entry is the token, of this generation; s->id is then its identity. */
PC_FN int pc_cache_match(struct pc_slot *s, struct pc_cached_token *e)
{
	if (!s || !e)
		return 0;
	u64 *to = (u64 *)&s->id, *from = (u64 *)&e->id, seal = e->seal;

	if (e->generation != s->d.generation || e->len != s->jwt.tok_len)
		return 0;
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_CACHE_ID_WORDS; i++) {
		to[i] = from[i];
		PC_FENCE;
	}
	return pc_cache_seal(s) == seal && pc_cache_same(s, e, s->jwt.tok, s->jwt.tok_len);
}

/* Times of s->id at s->jwt.now_s, with the issuer's leeway.  The reason of a refusal, or 0. */
PC_FN int pc_cache_times(struct pc_slot *s)
{
	if (!s)
		return PC_R_INTERNAL;
	u32 index = s->id.issuer;
	struct pc_issuer *issuer = pc_map_get(pc_issuers, &index);

	if (!issuer)
		return PC_R_INTERNAL;
	return pc_times(s->jwt.now_s, issuer->leeway_s, s->id.exp, s->id.nbf, s->id.iat);
}

/*
 * In: s->jwt.{tok,tok_len,now_s}, s->d.generation.
 * 1: the token is valid and s->id is its identity.  0: not in the cache, s->id is undefined.  -1: it was valid and is
 * no longer (or not yet), jwt.reason says why.
 * VERIFIER: inline, because the key must be on the stack of the program that owns the map value.
 */
static __always_inline int pc_cache_get(struct pc_slot *s)
{
	if (!pc_cache_fits(s))
		return 0;
	struct pc_cache_key key = pc_cache_key_of(s);
	struct pc_cached_token *e = pc_map_get(pc_token_cache, &key);

	if (!e || !pc_cache_match(s, e))
		return 0;
	s->jwt.reason = pc_cache_times(s);
	return s->jwt.reason ? -1 : 1;
}

/* s->cached = the token and s->id. */
PC_FN int pc_cache_fill(struct pc_slot *s)
{
	if (!s)
		return 0;
	struct pc_cached_token *e = &s->cached;
	u32 off = s->jwt.tok & (PC_HEAD_MAX - 1), words = (s->jwt.tok_len + 7) / 8;

	e->generation = s->d.generation;
	e->len = s->jwt.tok_len;
	e->pad = 0;
	e->id = s->id;
	e->seal = pc_cache_seal(s);
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_CACHED_TOKEN_MAX / 8; i++) {
		if (i >= words)
			break;
		*(u64 *)(e->token + 8 * i) = pc_ld8(s->head + off + 8 * i);
		PC_FENCE;
	}
	return 0;
}

/* Keeps the token in hand: its signature is valid, s->id is its identity.  A token that is too long is not kept.
 * VERIFIER: inline, as pc_cache_get; up to kernel 6.1 a value to store may not be a global function's argument either. */
static __always_inline void pc_cache_put(struct pc_slot *s)
{
	if (!pc_cache_fits(s))
		return;
	struct pc_cache_key key = pc_cache_key_of(s);

	pc_cache_fill(s);
	pc_map_put(pc_token_cache, &key, &s->cached);
}

#endif
