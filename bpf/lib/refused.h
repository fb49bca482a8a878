/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Tokens whose signature was bad, so that sending the same one again costs no second signature check.
 *
 * The key is SipHash-2-4 (Aumasson and Bernstein, 2012) of the whole token under a secret of the agent: with part of
 * the token as key, one changed byte elsewhere would get somebody else's valid token refused, and without the secret a
 * collision could be searched for.  A map of its own: a flood of bad tokens must not push valid ones out of their cache.
 * Only what cannot change within a generation is remembered: a bad signature, no times.
 */
#ifndef PC_REFUSED_H
#define PC_REFUSED_H

#include "maps.h"

PC_LRU_HASH(pc_refused, u64, u64, PC_REFUSED_MAX)
/* The last generation in which something was refused: in others there is nothing to find. */
PC_ARRAY(pc_refused_in, u64, 1)

struct pc_siphash {
	u64 v0, v1, v2, v3;
};

static __always_inline u64 pc_rotl64(u64 x, u32 n)
{
	return x << n | x >> (64 - n);
}

static __always_inline void pc_sipround(struct pc_siphash *h)
{
	h->v0 += h->v1;
	h->v1 = pc_rotl64(h->v1, 13) ^ h->v0;
	h->v0 = pc_rotl64(h->v0, 32);
	h->v2 += h->v3;
	h->v3 = pc_rotl64(h->v3, 16) ^ h->v2;
	h->v0 += h->v3;
	h->v3 = pc_rotl64(h->v3, 21) ^ h->v0;
	h->v2 += h->v1;
	h->v1 = pc_rotl64(h->v1, 17) ^ h->v2;
	h->v2 = pc_rotl64(h->v2, 32);
}

static __always_inline void pc_sipword(struct pc_siphash *h, u64 word)
{
	h->v3 ^= word;
	pc_sipround(h);
	pc_sipround(h);
	h->v0 ^= word;
}

/* SipHash-2-4 of head[off .. off + n), n <= PC_TOKEN_MAX. */
PC_FN u64 pc_siphash(struct pc_slot *s, struct pc_secret *secret, u32 off, u32 n)
{
	if (!s || !secret || n > PC_TOKEN_MAX)
		return 0;
	u64 k0 = secret->key[0], k1 = secret->key[1];
	struct pc_siphash h = { k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261,
				k1 ^ 0x7465646279746573 };
	u32 words = n / 8;

	off &= PC_HEAD_MAX - 1;
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_TOKEN_MAX / 8; i++) {
		if (i >= words)
			break;
		pc_sipword(&h, pc_ld8(s->head + off + 8 * i));
	}
	u64 last = pc_ld8(s->head + ((off + (n & ~7u)) & (2 * PC_HEAD_MAX - 1)));

	pc_sipword(&h, (last & ((1ULL << ((n & 7) * 8)) - 1)) | (u64)n << 56);
	h.v2 ^= 0xff;
	pc_sipround(&h);
	pc_sipround(&h);
	pc_sipround(&h);
	pc_sipround(&h);
	return h.v0 ^ h.v1 ^ h.v2 ^ h.v3;
}

/* s->fingerprint = the key of the token in hand, or 0 while the agent has set no secret. */
PC_FN int pc_refused_key(struct pc_slot *s)
{
	if (!s)
		return 0;
	u32 zero = 0;
	struct pc_secret *secret = pc_map_get(pc_secret, &zero);

	s->fingerprint = 0;
	if (secret && (secret->key[0] | secret->key[1]))
		s->fingerprint = pc_siphash(s, secret, s->jwt.tok, s->jwt.tok_len);
	return 0;
}

/* Whether the token's signature is known to be bad in this generation. */
PC_FN int pc_refused_get(struct pc_slot *s)
{
	u32 zero = 0;
	u64 *in = pc_map_get(pc_refused_in, &zero);

	if (!s || !in || *in != s->d.generation)
		return 0;
	pc_refused_key(s);
	u64 key = s->fingerprint;
	u64 *generation = key ? pc_map_get(pc_refused, &key) : NULL;

	return generation && *generation == s->d.generation;
}

/* Remembers that the signature of the token in hand is bad. */
PC_FN int pc_refused_put(struct pc_slot *s)
{
	u32 zero = 0;

	if (!s)
		return 0;
	pc_refused_key(s);
	u64 key = s->fingerprint, generation = s->d.generation;

	if (key && !pc_map_put(pc_refused, &key, &generation))
		pc_map_put(pc_refused_in, &zero, &generation);
	return 0;
}

#endif
