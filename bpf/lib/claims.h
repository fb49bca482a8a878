/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Walk over one JSON object that keeps the members Portcullis knows: the JOSE header (RFC 7515 section 4) or the
 * claims set (RFC 7519 section 4), by jwt.mask.
 *
 * Only members of the outermost object are known ones.  A known member that occurs twice or has another type than
 * its own ends the walk; so do more than PC_JSON_DEPTH_MAX levels, PC_JSON_TOKENS_MAX tokens or
 * PC_CLAIM_VALUES_MAX strings of known members.  Unknown members are checked for syntax and left out.
 * One token is one call of a global function, and all state is in the slot: the verifier sees the walk as a plain
 * loop (see docs/VERIFIER.md).
 */
#ifndef PC_CLAIMS_H
#define PC_CLAIMS_H

#include "json.h"

/* Known members: index of the bit in jwt.seen and jwt.mask. */
enum pc_claim {
	PC_C_ALG,
	PC_C_KID,
	PC_C_TYP,
	PC_C_CRIT,
	PC_C_B64,
	PC_C_ISS,
	PC_C_SUB,
	PC_C_AUD,
	PC_C_EXP,
	PC_C_NBF,
	PC_C_IAT,
	PC_C_AUTH_TIME,
	PC_C_JTI,
	PC_C_SID,
	PC_C_ORG_ID,
	PC_C_EMAIL,
	PC_C_ROLES,
	PC_C_PERMISSIONS,
	PC_C_GROUPS,
	PC_C_MFA_VERIFIED,
	PC_C_COUNT,
	PC_C_NONE = 31
};
#define PC_CB(name) (1u << PC_C_##name)
/* `crit` and `b64` have no acceptable type: their presence is an error (RFC 7515 section 4.1.11, RFC 7797). */
#define PC_CLAIMS_JOSE (PC_CB(ALG) | PC_CB(KID) | PC_CB(TYP) | PC_CB(CRIT) | PC_CB(B64))
#define PC_CLAIMS_SET (((1u << PC_C_COUNT) - 1) & ~PC_CLAIMS_JOSE)
#define PC_CLAIMS_STRING \
	(PC_CB(ALG) | PC_CB(KID) | PC_CB(TYP) | PC_CB(ISS) | PC_CB(SUB) | PC_CB(AUD) | PC_CB(JTI) | \
	 PC_CB(SID) | PC_CB(ORG_ID) | PC_CB(EMAIL))
#define PC_CLAIMS_LIST (PC_CB(AUD) | PC_CB(ROLES) | PC_CB(PERMISSIONS) | PC_CB(GROUPS))
#define PC_CLAIMS_INTEGER (PC_CB(EXP) | PC_CB(NBF) | PC_CB(IAT) | PC_CB(AUTH_TIME))
#define PC_CLAIMS_BOOL PC_CB(MFA_VERIFIED)

/* What the walk expects next. */
enum { PC_J_VALUE, PC_J_VALUE_OR_END, PC_J_KEY, PC_J_KEY_OR_END, PC_J_COLON, PC_J_NEXT, PC_J_DONE };

#define PC_J4(a, b, c, d) ((u32)(a) | (u32)(b) << 8 | (u32)(c) << 16 | (u32)(d) << 24)
#define PC_J8(a, b, c, d, e, f, g, h) ((u64)PC_J4(a, b, c, d) | (u64)PC_J4(e, f, g, h) << 32)

/* Bytes [from, from + 8) of a string of n bytes at p, those beyond n zero. */
static __always_inline u64 pc_claim_word(struct pc_jwt *j, u32 p, u32 n, u32 from)
{
	if (n <= from)
		return 0;
	u64 x = pc_ld8(j->json + (p & PC_JM) + from);

	return n >= from + 8 ? x : x & ((1ULL << (8 * (n - from) & 63)) - 1);
}

/* Which member the key just read names. */
PC_FN int pc_claim_of(struct pc_jwt *j)
{
	if (!j)
		return PC_C_NONE;
	u32 n = j->str_len, p = j->str_off;

	/* a key that ends in U+0000 would look like its zero-padded prefix */
	if (n > 16 || n == 0 || j->nul)
		return PC_C_NONE;
	u64 a = pc_claim_word(j, p, n, 0), b = pc_claim_word(j, p, n, 8);

	if (b) {
		if (a == PC_J8('a', 'u', 't', 'h', '_', 't', 'i', 'm') && b == 'e')
			return PC_C_AUTH_TIME;
		if (a == PC_J8('p', 'e', 'r', 'm', 'i', 's', 's', 'i') && b == PC_J4('o', 'n', 's', 0))
			return PC_C_PERMISSIONS;
		if (a == PC_J8('m', 'f', 'a', '_', 'v', 'e', 'r', 'i') && b == PC_J4('f', 'i', 'e', 'd'))
			return PC_C_MFA_VERIFIED;
		return PC_C_NONE;
	}
#define PC_CLAIM_IS(name, ...) \
	if (a == PC_J8(__VA_ARGS__)) \
		return PC_C_##name;
	PC_CLAIM_IS(ALG, 'a', 'l', 'g', 0, 0, 0, 0, 0)
	PC_CLAIM_IS(KID, 'k', 'i', 'd', 0, 0, 0, 0, 0)
	PC_CLAIM_IS(TYP, 't', 'y', 'p', 0, 0, 0, 0, 0)
	PC_CLAIM_IS(CRIT, 'c', 'r', 'i', 't', 0, 0, 0, 0)
	PC_CLAIM_IS(B64, 'b', '6', '4', 0, 0, 0, 0, 0)
	PC_CLAIM_IS(ISS, 'i', 's', 's', 0, 0, 0, 0, 0)
	PC_CLAIM_IS(SUB, 's', 'u', 'b', 0, 0, 0, 0, 0)
	PC_CLAIM_IS(AUD, 'a', 'u', 'd', 0, 0, 0, 0, 0)
	PC_CLAIM_IS(EXP, 'e', 'x', 'p', 0, 0, 0, 0, 0)
	PC_CLAIM_IS(NBF, 'n', 'b', 'f', 0, 0, 0, 0, 0)
	PC_CLAIM_IS(IAT, 'i', 'a', 't', 0, 0, 0, 0, 0)
	PC_CLAIM_IS(JTI, 'j', 't', 'i', 0, 0, 0, 0, 0)
	PC_CLAIM_IS(SID, 's', 'i', 'd', 0, 0, 0, 0, 0)
	PC_CLAIM_IS(ORG_ID, 'o', 'r', 'g', '_', 'i', 'd', 0, 0)
	PC_CLAIM_IS(EMAIL, 'e', 'm', 'a', 'i', 'l', 0, 0, 0)
	PC_CLAIM_IS(ROLES, 'r', 'o', 'l', 'e', 's', 0, 0, 0)
	PC_CLAIM_IS(GROUPS, 'g', 'r', 'o', 'u', 'p', 's', 0, 0)
#undef PC_CLAIM_IS
	return PC_C_NONE;
}

/* A key of the outermost object was read. */
PC_FN int pc_claim_key(struct pc_jwt *j)
{
	if (!j || pc_json_unescape(j))
		return -1;
	u32 c = pc_claim_of(j) & 31, bit = (1u << c) & j->mask;

	j->cur = PC_C_NONE;
	if (!bit)
		return 0;
	if (j->seen & bit)
		return -1;
	j->seen |= bit;
	j->cur = c;
	return 0;
}

/* A string value was read. */
PC_FN int pc_claim_string(struct pc_jwt *j)
{
	if (!j)
		return -1;
	u32 c = j->cur & 31, k = j->nvals & (PC_CLAIM_VALUES_MAX - 1);

	if (c == PC_C_NONE)
		return 0;
	/* deeper than the outermost object a known member can only be a list */
	if (j->depth == 1 && !((1u << c) & PC_CLAIMS_STRING))
		return -1;
	if (j->nvals >= PC_CLAIM_VALUES_MAX || pc_json_unescape(j) || j->nul)
		return -1;
	j->v[k].off = j->str_off;
	j->v[k].len = j->str_len;
	j->v[k].claim = c;
	j->last[c] = j->v[k];
	j->nvals++;
	return 0;
}

/* A number was read. */
PC_FN int pc_claim_number(struct pc_jwt *j)
{
	if (!j)
		return -1;
	u32 c = j->cur & 31;

	if (c == PC_C_NONE)
		return 0;
	if (j->depth != 1 || !((1u << c) & PC_CLAIMS_INTEGER) || pc_json_integer(j))
		return -1;
	switch (c) {
	case PC_C_EXP:
		j->exp = j->num;
		break;
	case PC_C_NBF:
		j->nbf = j->num;
		break;
	case PC_C_IAT:
		j->iat = j->num;
		break;
	default:
		j->auth_time = j->num;
	}
	return 0;
}

/* true, false or null at p: position behind it, or -1. */
PC_FN int pc_claim_literal(struct pc_jwt *j, u32 p)
{
	if (!j)
		return -1;
	u32 c = j->cur & 31, truth;

	p &= PC_JM;
	u64 x = pc_ld8(j->json + p);

	if ((u32)x == PC_J4('t', 'r', 'u', 'e')) {
		truth = 1;
		p += 4;
	} else if ((x & 0xffffffffffULL) == PC_J8('f', 'a', 'l', 's', 'e', 0, 0, 0)) {
		truth = 0;
		p += 5;
	} else if ((u32)x == PC_J4('n', 'u', 'l', 'l')) {
		return c == PC_C_NONE ? (int)p + 4 : -1;
	} else {
		return -1;
	}
	if (c == PC_C_NONE)
		return p;
	if (j->depth != 1 || !((1u << c) & PC_CLAIMS_BOOL))
		return -1;
	j->mfa = truth;
	return p;
}

/* A bracket opens: kind is 1 for an object. */
PC_FN int pc_claim_open(struct pc_jwt *j, u32 object)
{
	if (!j)
		return -1;
	u32 c = j->cur & 31, d = j->depth;

	if (d >= PC_JSON_DEPTH_MAX)
		return -1;
	if (d == 0 && !object)
		return -1;
	if (c != PC_C_NONE && (object || d > 1 || !((1u << c) & PC_CLAIMS_LIST)))
		return -1;
	d++;
	u64 bit = 1ULL << (d & 31);

	j->kinds = object ? j->kinds | bit : j->kinds & ~bit;
	j->depth = d;
	j->state = object ? PC_J_KEY_OR_END : PC_J_VALUE_OR_END;
	return 0;
}

/* A bracket closes. */
PC_FN int pc_claim_close(struct pc_jwt *j, u32 object)
{
	if (!j)
		return -1;
	u32 d = j->depth;

	if (d == 0 || (u32)(j->kinds >> (d & 31) & 1) != object)
		return -1;
	j->depth = d - 1;
	j->state = d == 1 ? PC_J_DONE : PC_J_NEXT;
	return 0;
}

/* The value at p: position behind its first token, or -1. */
PC_FN int pc_claim_value(struct pc_jwt *j, u32 p)
{
	if (!j)
		return -1;
	u8 c = j->json[p & PC_JM];
	int e;

	if (c == '{' || c == '[')
		return pc_claim_open(j, c == '{') ? -1 : (int)p + 1;
	if (j->depth == 0)
		return -1;
	if (c == ']' && j->state == PC_J_VALUE_OR_END)
		return pc_claim_close(j, 0) ? -1 : (int)p + 1;
	j->state = PC_J_NEXT;
	if (c == '"') {
		e = pc_json_string(j, p + 1);
		return e < 0 || pc_claim_string(j) ? -1 : e;
	}
	if (c == '-' || (c >= '0' && c <= '9')) {
		e = pc_json_number(j, p);
		return e < 0 || pc_claim_number(j) ? -1 : e;
	}
	return pc_claim_literal(j, p);
}

/* The key, or the end of an empty object, at p: position behind it, or -1. */
PC_FN int pc_claim_member(struct pc_jwt *j, u32 p)
{
	if (!j)
		return -1;
	u8 c = j->json[p & PC_JM];

	if (c == '}' && j->state == PC_J_KEY_OR_END)
		return pc_claim_close(j, 1) ? -1 : (int)p + 1;
	if (c != '"')
		return -1;
	int e = pc_json_string(j, p + 1);

	if (e < 0 || (j->depth == 1 && pc_claim_key(j)))
		return -1;
	j->state = PC_J_COLON;
	return e;
}

/* One token.  0: go on, 1: the object is complete, -1: refused. */
PC_FN int pc_claim_token(struct pc_jwt *j)
{
	if (!j)
		return -1;
	u32 p = j->pos & PC_JM, state = j->state;
	u8 c = j->json[p & PC_JM];

	/* most tokens follow at once */
	if (c <= ' ') {
		p = pc_json_space(j, p);
		c = j->json[p & PC_JM];
	}
	int e = p + 1;

	if (state == PC_J_DONE)
		return p == j->end ? 1 : -1;
	if (state == PC_J_VALUE || state == PC_J_VALUE_OR_END) {
		e = pc_claim_value(j, p);
	} else if (state == PC_J_KEY || state == PC_J_KEY_OR_END) {
		e = pc_claim_member(j, p);
	} else if (state == PC_J_COLON) {
		if (c != ':')
			return -1;
		j->state = PC_J_VALUE;
	} else if (c == ',') {
		j->state = j->kinds >> (j->depth & 31) & 1 ? PC_J_KEY : PC_J_VALUE;
	} else if (c != '}' && c != ']') {
		return -1;
	} else if (pc_claim_close(j, c == '}')) {
		return -1;
	}
	if (e < 0)
		return -1;
	j->pos = e;
	return 0;
}

/*
 * The object in json[from .. end), of which only members in mask are known.  0, or -1.
 * Out: seen, v, nvals, last, exp, nbf, iat, auth_time, mfa.
 * VERIFIER: inlined, as is pc_jwt_parse: from the program to pc_json_hex4 the calls are eight frames, the limit.
 */
static __always_inline int pc_claim_walk(struct pc_jwt *j, u32 from, u32 end, u32 mask)
{
	int r = 0;

	j->pos = from;
	j->end = end;
	j->mask = mask;
	j->depth = j->seen = j->nvals = j->mfa = 0;
	j->cur = PC_C_NONE;
	j->state = PC_J_VALUE;
	j->kinds = j->exp = j->nbf = j->iat = j->auth_time = 0;
	/* one turn more than tokens: the last one sees that nothing follows */
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_JSON_TOKENS_MAX + 1; i++) {
		r = pc_claim_token(j);
		if (r)
			break;
	}
	return r == 1 ? 0 : -1;
}

#endif
