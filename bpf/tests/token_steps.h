/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Steps of the token stages that tests call one by one: input and output stand in the slot.  token_test.bpf.c makes a
 * program of each, host/host.c a native function; tests/token/ runs both on the same vectors.
 */
#ifndef PC_TOKEN_STEPS_H
#define PC_TOKEN_STEPS_H

#include "../lib/budget.h"
#include "../lib/cache.h"
#include "../lib/jwt.h"
#include "../lib/memo.h"
#include "../lib/path.h"
#include "../lib/policy.h"
#include "../lib/refused.h"
#include "../lib/revoked.h"

/* SHA-256 of head[0 .. n) into jwt.sha. */
static __always_inline int pc_step_sha256(struct pc_slot *s)
{
	return pc_sha256(s, 0, s->n);
}

/* The signature in json[8 ..) of the digest jwt.sha, with key jwt.key.  1: valid. */
#define PC_STEP_RSA(bits) \
	static __always_inline int pc_step_rsa##bits(struct pc_slot *s) \
	{ \
		u32 index = s->jwt.key; \
		struct pc_rsa##bits##_key *k = pc_map_get(pc_rsa##bits, &index); \
\
		return k ? pc_rsa##bits##_verify(&s->rsa, &s->jwt, k) : -1; \
	}
PC_STEP_RSA(2048)
PC_STEP_RSA(3072)
PC_STEP_RSA(4096)

static __always_inline int pc_step_p256(struct pc_slot *s)
{
	return pc_p256_verify(&s->p256, &s->jwt, s->jwt.key);
}

/* base64url of head[0 .. n) into json: its length, or -1. */
static __always_inline int pc_step_b64url(struct pc_slot *s)
{
	return pc_b64_decode(s, 0, s->n, 0);
}

/* The object json[0 .. end) with the known members jwt.mask: 0, or -1. */
static __always_inline int pc_step_json(struct pc_slot *s)
{
	return pc_claim_walk(&s->jwt, 0, s->jwt.end, s->jwt.mask);
}

/* All but the signature: 0, or -1. */
static __always_inline int pc_step_jwt_parse(struct pc_slot *s)
{
	return pc_jwt_parse(s);
}

/* The signature of a parsed token, by jwt.alg; the reason. */
#define PC_STEP_SIGNATURE(name) \
	static __always_inline int pc_step_jwt_##name(struct pc_slot *s) \
	{ \
		pc_jwt_##name(s); \
		return s->jwt.reason; \
	}
PC_STEP_SIGNATURE(rs256_2048)
PC_STEP_SIGNATURE(rs256_3072)
PC_STEP_SIGNATURE(rs256_4096)
PC_STEP_SIGNATURE(es256)

/* The cache: jwt.{tok,tok_len,now_s}, d.generation, id. */
static __always_inline int pc_step_cache_get(struct pc_slot *s)
{
	return pc_cache_get(s);
}

static __always_inline int pc_step_cache_put(struct pc_slot *s)
{
	pc_cache_put(s);
	return 0;
}

static __always_inline int pc_step_refused_get(struct pc_slot *s)
{
	return pc_refused_get(s);
}

static __always_inline int pc_step_refused_put(struct pc_slot *s)
{
	return pc_refused_put(s);
}

/* Parses, then looks at the revocations; -1 when the token does not parse. */
static __always_inline int pc_step_revoked(struct pc_slot *s)
{
	return pc_jwt_parse(s) ? -1 : pc_revoked_token(&s->jwt);
}

/* Source: the first 16 bytes of head, IPv6 when h.minor is set; now: run.entry_ns. */
static __always_inline int pc_step_budget_open(struct pc_slot *s)
{
	return pc_budget_open(pc_source_of((u64 *)s->head, s->h.minor), s->run.entry_ns);
}

/* Start: run.verify_start_ns; valid: token_state == PC_TOKEN_VALID. */
static __always_inline int pc_step_budget_close(struct pc_slot *s)
{
	pc_budget_close(pc_source_of((u64 *)s->head, s->h.minor), s->run.verify_start_ns, s->run.entry_ns,
			s->token_state == PC_TOKEN_VALID);
	return 0;
}

/* Head, host and path, all read: the head's length, or what refused it. */
static __always_inline int pc_step_memo_read(struct pc_slot *s)
{
	int r = pc_http_head(s);

	if (r <= 0)
		return r;
	int h = pc_host(s), p = h ? h : pc_path(s);

	return p < 0 ? p : r;
}

/* Keeps what pc_step_memo_read left, with d.*, token_state and id, for connection 1. */
static __always_inline int pc_step_memo_learn(struct pc_slot *s)
{
	return pc_memo_learn(s, 1);
}

static __always_inline int pc_step_memo_try(struct pc_slot *s)
{
	return pc_memo_try(s, 1);
}

/* What the automaton that starts at row 1 says of path[0 .. path_len), for d.policy.  With h.minor the way that the step
 * before went is known; without, none is. */
static __always_inline int pc_step_walk(struct pc_slot *s)
{
	u32 zero = 0;
	struct pc_classes *c = pc_map_get(pc_classes, &zero);

	s->known = s->trail;
	if (!s->h.minor)
		s->known.n = 0;
	s->trail.n = 0;
	s->trail.policy = s->d.policy;
	return c ? pc_dfa_path(s, c, 1) : -1;
}

#define PC_TOKEN_STEPS(X) \
	X(sha256) \
	X(rsa2048) \
	X(rsa3072) \
	X(rsa4096) \
	X(p256) \
	X(b64url) \
	X(json) \
	X(jwt_parse) \
	X(jwt_rs256_2048) \
	X(jwt_rs256_3072) \
	X(jwt_rs256_4096) \
	X(jwt_es256) \
	X(cache_get) \
	X(cache_put) \
	X(refused_get) \
	X(refused_put) \
	X(revoked) \
	X(budget_open) \
	X(budget_close) \
	X(memo_read) \
	X(memo_learn) \
	X(memo_try) \
	X(walk)

#endif
