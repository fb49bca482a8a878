/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Verification of a compact JWS (RFC 7515 section 3.1) that carries a JWT claims set (RFC 7519).
 *
 *   pc_jwt_parse(s)         everything but the signature, and s->id
 *   pc_jwt_rs256_2048(s)    the signature, for jwt.alg == PC_ALG_RS256_2048; likewise 3072 and 4096
 *   pc_jwt_es256(s)         the signature, for jwt.alg == PC_ALG_ES256
 *
 * Each may stand in a program of its own (tail call between them); s->jwt carries the state.  A token is verified
 * only when both succeeded: s->id is filled before the signature is known and must not be used without it.
 *
 * Order of the checks, each with its reason: size, compact form and base64url of header and payload, JOSE header,
 * algorithm name, claims set, issuer, audience, key, algorithm of the key, exp, nbf, iat, signature.
 * core/token makes the same checks in the same order; both must name the same reason for every token.
 */
#ifndef PC_JWT_H
#define PC_JWT_H

#include "b64url.h"
#include "claims.h"
#include "names.h"
#include "p256.h"
#include "rsa.h"
#include "sha256.h"

/* Characters of an ES256 signature. */
#define PC_ES256_CHARS 86

/* Algorithms that a JOSE header can name. */
enum { PC_HEADER_RS256 = 1, PC_HEADER_ES256 = 2 };

static __always_inline int pc_jwt_fail(struct pc_jwt *j, u32 reason)
{
	j->reason = reason;
	return -1;
}

/* Position of the first '.' in head[pos .. end), or end. */
PC_FN int pc_jwt_dot(struct pc_slot *s, u32 pos, u32 end)
{
	if (!s)
		return 0;
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_TOKEN_MAX / 8 + 1; i++) {
		if (pos >= end)
			break;
		u32 p = pos & (PC_HEAD_MAX - 1);
		u64 c = pc_ld8(s->head + p) ^ PC_K('.');
		/* borrows only out of zero bytes, which are flagged themselves: the lowest flag is exact */
		u64 m = (c - PC_K(1)) & ~c & PC_K80;

		if (m) {
			p += pc_lowbyte(m);
			return p < end ? p : end;
		}
		pos = p + 8;
	}
	return end;
}

/*
 * Size, three non-empty parts, base64url of header and payload.  The decoded parts stand one behind the other in
 * jwt.json, each followed by zeros; there is room, since they are three quarters of PC_TOKEN_MAX together.
 */
PC_FN int pc_jwt_compact(struct pc_slot *s)
{
	if (!s)
		return -1;
	struct pc_jwt *j = &s->jwt;
	u32 tok = j->tok, len = j->tok_len, end = tok + len;

	if (len > PC_TOKEN_MAX)
		return pc_jwt_fail(j, PC_R_TOKEN_TOO_LARGE);
	if (tok >= PC_HEAD_MAX || end > PC_HEAD_MAX)
		return pc_jwt_fail(j, PC_R_INTERNAL);
	u32 d1 = pc_jwt_dot(s, tok, end);
	u32 d2 = d1 < end ? pc_jwt_dot(s, d1 + 1, end) : end;

	if (d2 >= end || d1 == tok || d2 == d1 + 1 || d2 + 1 == end)
		return pc_jwt_fail(j, PC_R_TOKEN_MALFORMED);
	if ((u32)pc_jwt_dot(s, d2 + 1, end) != end)
		return pc_jwt_fail(j, PC_R_TOKEN_MALFORMED);
	j->dot1 = d1 - tok;
	j->dot2 = d2 - tok;
	int header = pc_b64_decode(s, tok, d1 - tok, 0);

	if (header < 0)
		return pc_jwt_fail(j, PC_R_TOKEN_MALFORMED);
	j->header_len = header;
	j->payload = ((u32)header + PC_JSON_TAIL + 7) & ~7u;
	int payload = pc_b64_decode(s, d1 + 1, d2 - d1 - 1, j->payload);

	if (payload < 0)
		return pc_jwt_fail(j, PC_R_TOKEN_MALFORMED);
	j->payload_len = payload;
	return 0;
}

/* x with A-Z in lower case; exact for every byte. */
static __always_inline u64 pc_jwt_lower(u64 x)
{
	u64 z = x & PC_K(0x7f);
	u64 upper = (z + PC_K(0x80 - 'A')) & ~(z + PC_K(0x7f - 'Z')) & ~x & PC_K80;

	return x | upper >> 2;
}

/* `typ`: JWT or at+jwt, in any case, with or without application/ (RFC 7515 section 4.1.9, RFC 9068 section 4). */
PC_FN int pc_jwt_typ(struct pc_jwt *j)
{
	if (!j)
		return -1;
	u32 p = j->last[PC_C_TYP].off, n = j->last[PC_C_TYP].len;

	if (n > 18)
		return -1;
	u64 a = pc_jwt_lower(pc_claim_word(j, p, n, 0)), b = pc_jwt_lower(pc_claim_word(j, p, n, 8));
	u64 c = pc_jwt_lower(pc_claim_word(j, p, n, 16));

	if (n == 3)
		return a == PC_J4('j', 'w', 't', 0) ? 0 : -1;
	if (n == 6)
		return a == PC_J8('a', 't', '+', 'j', 'w', 't', 0, 0) ? 0 : -1;
	if (a != PC_J8('a', 'p', 'p', 'l', 'i', 'c', 'a', 't'))
		return -1;
	if (n == 15)
		return b == PC_J8('i', 'o', 'n', '/', 'j', 'w', 't', 0) ? 0 : -1;
	if (n == 18)
		return b == PC_J8('i', 'o', 'n', '/', 'a', 't', '+', 'j') && c == PC_J4('w', 't', 0, 0) ? 0
													: -1;
	return -1;
}

/* JOSE header: alg, kid, typ; crit and b64 are refused, key members (jwk, jku, x5u, x5c) mean nothing here. */
PC_FN int pc_jwt_header(struct pc_jwt *j)
{
	if (!j)
		return -1;
	if (j->header_len > PC_JOSE_MAX || pc_claim_walk(j, 0, j->header_len, PC_CLAIMS_JOSE))
		return pc_jwt_fail(j, PC_R_TOKEN_HEADER);
	if (!(j->seen & PC_CB(ALG)))
		return pc_jwt_fail(j, PC_R_TOKEN_HEADER);
	if ((j->seen & PC_CB(TYP)) && pc_jwt_typ(j))
		return pc_jwt_fail(j, PC_R_TOKEN_HEADER);
	u32 n = j->last[PC_C_ALG].len;
	u64 alg = pc_claim_word(j, j->last[PC_C_ALG].off, n, 0);

	if (n == 5 && alg == PC_J8('R', 'S', '2', '5', '6', 0, 0, 0))
		j->header_alg = PC_HEADER_RS256;
	else if (n == 5 && alg == PC_J8('E', 'S', '2', '5', '6', 0, 0, 0))
		j->header_alg = PC_HEADER_ES256;
	else
		return pc_jwt_fail(j, PC_R_TOKEN_ALG);
	j->has_kid = (j->seen & PC_CB(KID)) != 0;
	return 0;
}

/* Claims set: syntax, types, and the claims that must be there. */
PC_FN int pc_jwt_claims(struct pc_jwt *j)
{
	if (!j)
		return -1;
	if (pc_claim_walk(j, j->payload, j->payload + j->payload_len, PC_CLAIMS_SET))
		return pc_jwt_fail(j, PC_R_TOKEN_CLAIMS);
	if ((j->seen & (PC_CB(ISS) | PC_CB(EXP))) != (PC_CB(ISS) | PC_CB(EXP)))
		return pc_jwt_fail(j, PC_R_TOKEN_CLAIMS);
	return 0;
}

/* Value of the last string of a known member in pc_names, or -1. */
PC_FN int pc_jwt_lookup(struct pc_jwt *j, u32 claim, u32 kind, u32 scope)
{
	if (!j)
		return -1;
	claim &= 31;
	return pc_name_get(j, kind, scope, j->last[claim].off, j->last[claim].len);
}

/* 1 when value i is an audience of the issuer. */
PC_FN int pc_jwt_is_audience(struct pc_jwt *j, u32 i, u32 issuer)
{
	if (!j)
		return 0;
	i &= PC_CLAIM_VALUES_MAX - 1;
	if (j->v[i].claim != PC_C_AUD)
		return 0;
	return pc_name_get(j, PC_N_AUDIENCE, issuer, j->v[i].off, j->v[i].len) >= 0;
}

/* Whether the token names an audience of the issuer (RFC 7519 section 4.1.3). */
PC_FN int pc_jwt_audience(struct pc_jwt *j, u32 issuer)
{
	if (!j)
		return 0;
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_CLAIM_VALUES_MAX; i++) {
		if (i >= j->nvals)
			break;
		if (pc_jwt_is_audience(j, i, issuer))
			return 1;
	}
	return 0;
}

/* RFC 7519 sections 4.1.4 to 4.1.6, Unix seconds; absent nbf and iat are 0.  The reason of a refusal, or 0. */
static __always_inline u32 pc_times(u64 now, u64 leeway, u64 exp, u64 nbf, u64 iat)
{
	if (now >= exp + leeway)
		return PC_R_TOKEN_EXPIRED;
	if (now + leeway < nbf)
		return PC_R_TOKEN_NOT_YET;
	if (now + leeway < iat)
		return PC_R_TOKEN_IAT;
	return 0;
}

/* Issuer, audience, key, the key's algorithm, times. */
PC_FN int pc_jwt_bind(struct pc_jwt *j)
{
	if (!j)
		return -1;
	int issuer = pc_jwt_lookup(j, PC_C_ISS, PC_N_ISSUER, 0);

	if (issuer < 0)
		return pc_jwt_fail(j, PC_R_TOKEN_ISSUER);
	u32 index = issuer;
	struct pc_issuer *trusted = pc_map_get(pc_issuers, &index);

	if (!trusted)
		return pc_jwt_fail(j, PC_R_INTERNAL);
	if (!pc_jwt_audience(j, issuer))
		return pc_jwt_fail(j, PC_R_TOKEN_AUDIENCE);
	int key = j->has_kid ? pc_jwt_lookup(j, PC_C_KID, PC_N_KID, issuer) : -1;

	if (key < 0)
		return pc_jwt_fail(j, PC_R_TOKEN_KEY);
	j->issuer = issuer;
	j->alg = (u32)key >> 16;
	j->key = key & 0xffff;
	if (j->header_alg != (j->alg == PC_ALG_ES256 ? PC_HEADER_ES256 : PC_HEADER_RS256))
		return pc_jwt_fail(j, PC_R_TOKEN_ALG);
	j->reason = pc_times(j->now_s, trusted->leeway_s, j->exp, j->nbf, j->iat);
	return j->reason ? -1 : 0;
}

/*
 * Text for records, out[0 .. 8 * words): the length capped at 255 in the first byte, then as much of the text as fits,
 * then zeros.  A JSON string never starts at 0, so the byte before it can be loaded and replaced by the length.
 */
static __always_inline void pc_jwt_text(struct pc_jwt *j, u64 *out, u32 words, u32 off, u32 n)
{
	const u8 *s = j->json + ((off - 1) & PC_JM);

#pragma clang loop unroll(full)
	for (u32 i = 0; i < words; i++) {
		s64 v = (s64)n + 1 - 8 * (s64)i;
		u64 in = ~(u64)((v - 8) >> 63), part = (u64)((v - 8) >> 63) & ~(u64)(v >> 63);

		out[i] = pc_ld8(s + 8 * i) & (in | (((1ULL << ((u64)(v << 3) & 63)) - 1) & part));
	}
	*(u8 *)out = n < 255 ? n : 255;
}

/* sub, email and kid of s->id. */
PC_FN int pc_jwt_texts(struct pc_slot *s)
{
	if (!s)
		return 0;
	struct pc_jwt *j = &s->jwt;
	u32 sub = j->seen & PC_CB(SUB) ? j->last[PC_C_SUB].len : 0;
	u32 email = j->seen & PC_CB(EMAIL) ? j->last[PC_C_EMAIL].len : 0;

	pc_jwt_text(j, (u64 *)&s->id.sub, 8, j->last[PC_C_SUB].off, sub);
	pc_jwt_text(j, (u64 *)&s->id.email, 8, j->last[PC_C_EMAIL].off, email);
	pc_jwt_text(j, (u64 *)&s->id.kid_len, 4, j->last[PC_C_KID].off, j->last[PC_C_KID].len);
	return 0;
}
_Static_assert(sizeof(struct pc_text64) == 64 && offsetof(struct pc_identity, sub) % 8 == 0,
	       "texts as words");
_Static_assert(offsetof(struct pc_identity, kid_len) % 8 == 0 && sizeof(((struct pc_identity *)0)->kid) == 31,
	       "kid");

/* Bit of value i in pc_bits, when a policy names it. */
PC_FN int pc_jwt_principal(struct pc_slot *s, u32 i)
{
	if (!s)
		return 0;
	struct pc_jwt *j = &s->jwt;
	u32 kind;

	i &= PC_CLAIM_VALUES_MAX - 1;
	switch (j->v[i].claim) {
	case PC_C_ROLES:
		kind = PC_N_ROLE;
		break;
	case PC_C_PERMISSIONS:
		kind = PC_N_PERMISSION;
		break;
	case PC_C_GROUPS:
		kind = PC_N_GROUP;
		break;
	case PC_C_ORG_ID:
		kind = PC_N_ORG;
		break;
	default:
		return 0;
	}
	int bit = pc_name_get(j, kind, 0, j->v[i].off, j->v[i].len);

	if (bit >= 0)
		s->id.bits.w[((u32)bit >> 6) & (PC_PRINCIPAL_WORDS - 1)] |= 1ULL << (bit & 63);
	return 0;
}

/* s->id from the claims. */
PC_FN int pc_jwt_identity(struct pc_slot *s)
{
	if (!s)
		return -1;
	struct pc_jwt *j = &s->jwt;
	struct pc_identity *id = &s->id;
	u32 flags = 0;

	if (j->seen & PC_CB(NBF))
		flags |= PC_ID_NBF;
	if (j->seen & PC_CB(IAT))
		flags |= PC_ID_IAT;
	if (j->seen & PC_CB(AUTH_TIME))
		flags |= PC_ID_AUTH_TIME;
	id->flags = j->mfa ? flags | PC_ID_MFA : flags;
	id->exp = j->exp;
	id->nbf = j->nbf;
	id->iat = j->iat;
	id->auth_time = j->auth_time;
	id->issuer = j->issuer;
	for (u32 i = 0; i < PC_PRINCIPAL_WORDS; i++)
		id->bits.w[i] = 0;
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_CLAIM_VALUES_MAX; i++) {
		if (i >= j->nvals)
			break;
		pc_jwt_principal(s, i);
	}
	return pc_jwt_texts(s);
}

/*
 * In: s->jwt.{tok,tok_len,half,now_s}.  0: all but the signature is in order, s->id and jwt.{alg,key} are filled.
 * -1: refused, jwt.reason says why.
 */
static __always_inline int pc_jwt_parse(struct pc_slot *s)
{
	struct pc_jwt *j = &s->jwt;

	j->reason = 0;
	if (pc_jwt_compact(s) || pc_jwt_header(j) || pc_jwt_claims(j) || pc_jwt_bind(j))
		return -1;
	return pc_jwt_identity(s);
}

/* json[8 ..) = the signature, if it has exactly so many characters, and jwt.sha = the digest of what it signs.  0, or -1.
 * base64url of n octets has a fixed number of characters, so this is the check of its length too. */
PC_FN int pc_jwt_signature(struct pc_slot *s, u32 chars)
{
	if (!s)
		return -1;
	struct pc_jwt *j = &s->jwt;
	u32 from = j->dot2 + 1;

	if (j->tok_len != from + chars)
		return -1;
	*(u64 *)j->json = 0;
	if (pc_b64_decode(s, j->tok + from, chars, 8) < 0)
		return -1;
	return pc_sha256(s, j->tok, j->dot2);
}

/* RS256 over head[tok .. tok + dot2).  RFC 8017 section 8.2.2 step 1: the length is the modulus's. */
#define PC_JWT_RS256(bits) \
	PC_FN int pc_jwt_rs256_##bits(struct pc_slot *s) \
	{ \
		if (!s) \
			return 0; \
		u32 index = s->jwt.key; \
		struct pc_rsa##bits##_key *k = pc_map_get(pc_rsa##bits, &index); \
\
		s->jwt.reason = PC_R_TOKEN_SIGNATURE; \
		if (!k || s->jwt.alg != PC_ALG_RS256_##bits) \
			return 0; \
		if (pc_jwt_signature(s, (bits + 5) / 6) || !pc_rsa##bits##_verify(&s->rsa, &s->jwt, k)) \
			return 0; \
		s->jwt.reason = PC_R_NONE; \
		return 1; \
	}

/* The signature.  1: valid.  0: not, and jwt.reason says so. */
PC_JWT_RS256(2048)
PC_JWT_RS256(3072)
PC_JWT_RS256(4096)

/* ES256 (RFC 7518 section 3.4): 64 octets. */
PC_FN int pc_jwt_es256(struct pc_slot *s)
{
	if (!s)
		return 0;
	s->jwt.reason = PC_R_TOKEN_SIGNATURE;
	if (s->jwt.alg != PC_ALG_ES256 || pc_jwt_signature(s, PC_ES256_CHARS))
		return 0;
	if (!pc_p256_verify(&s->p256, &s->jwt, s->jwt.key))
		return 0;
	s->jwt.reason = PC_R_NONE;
	return 1;
}

#endif
