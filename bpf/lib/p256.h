/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * ECDSA verification with P-256 and SHA-256 (FIPS 186-5 section 6.4.2) with tables of multiples of the generator and of
 * the key, which the agent computes (abi.h, struct pc_p256_point).
 *
 * u1 * G + u2 * Q, with u1 = h / s and u2 = r / s, is the sum of one table point per window of each scalar: mixed
 * additions (Jacobian plus affine) only, no doubling.  All points are fetched before the first addition, so that
 * the cache misses overlap.  The sum's x coordinate is X / Z^2; it equals r mod n iff X == r * Z^2 or, when r + n < p,
 * X == (r + n) * Z^2, which needs no inversion in the field.
 *
 * The addition formula is not complete: equal x of both operands makes Z = 0 for good, and Z = 0 is refused.  A sound
 * key cannot come there except by chance (2^-250), because the partial sums' logarithms are known to nobody; a wrong
 * refusal is all that could come of it.  u1 = n stands for 0 when the digest is n itself, and ends the same way.
 *
 * The curve's other invariants are the agent's: Q is on the curve, is not the point at infinity, and the tables hold
 * what they should.  Nothing here is secret; time depends on the scalars through windows that are zero.
 */
#ifndef PC_P256_H
#define PC_P256_H

#include "maps.h"
#include "p256_field.h"
#include "p256_scalar.h"

/* The order n and p - n, least significant word first. */
static const u64 pc_p256_n[4] = { 0xf3b9cac2fc632551, 0xbce6faada7179e84, ~0ULL, 0xffffffff00000000 };
static const u64 pc_p256_p_minus_n[4] = { 0x0c46353d039cdaae, 0x4319055358e8617b, 0, 0 };

/* o = the number in four words, or its negative when negate is -1 (else 0). */
static __always_inline void pc_p256_unpack(struct pc_fe *o, const u64 *w, s64 negate)
{
	u64 a = w[0], b = w[1], c = w[2], d = w[3];

#define PC_P256_WORD(i, x) o->v[i] = (((s64)(x) & PC_M29) ^ negate) - negate
	PC_P256_WORD(0, a);
	PC_P256_WORD(1, a >> 29);
	PC_P256_WORD(2, a >> 58 | b << 6);
	PC_P256_WORD(3, b >> 23);
	PC_P256_WORD(4, b >> 52 | c << 12);
	PC_P256_WORD(5, c >> 17);
	PC_P256_WORD(6, c >> 46 | d << 18);
	PC_P256_WORD(7, d >> 11);
	PC_P256_WORD(8, d >> 40);
#undef PC_P256_WORD
}

static __always_inline int pc_p256_less(const u64 *a, const u64 *b)
{
	if (a[3] != b[3])
		return a[3] < b[3];
	if (a[2] != b[2])
		return a[2] < b[2];
	if (a[1] != b[1])
		return a[1] < b[1];
	return a[0] < b[0];
}

/* w->point[i] = the multiple that digit i selects; nothing for the digit 0.  A missing table sets w->bad. */
PC_FN int pc_p256_fetch(struct pc_p256_work *w, u32 i, u32 key)
{
	if (!w || i >= PC_P256_WINDOWS)
		return 0;
	s64 digit = w->digit[i], negate = digit >> 63;
	u32 m = (digit ^ negate) - negate, index;
	struct pc_p256_point *p;

	if (!m)
		return 0;
	if (i < PC_P256_WINDOWS_G) {
		index = (i << (PC_P256_WINDOW_G - 1)) + m - 1;
		p = pc_map_get(pc_p256_g, &index);
	} else {
		index = key * PC_P256_POINTS_Q + ((i - PC_P256_WINDOWS_G) << (PC_P256_WINDOW_Q - 1)) + m - 1;
		p = pc_map_get(pc_p256_q, &index);
	}
	if (!p) {
		w->bad = 1;
		return 0;
	}
	pc_p256_unpack(&w->point[i].x, p->x, 0);
	pc_p256_unpack(&w->point[i].y, p->y, negate);
	return 0;
}

/*
 * (x, y, z) += p (madd-2004-hmv of the explicit-formulas database).
 * With the ranges of p256_field.h: |x| < 3.6p, |y| < 1.8p, |z| < 1.2p before and after; H and b stay below 4.8p.
 */
PC_FN int pc_p256_madd(struct pc_p256_work *w, struct pc_p256_affine *p)
{
	if (!w || !p)
		return 0;
	s64 carry = 0;

	pc_fe_sqr(&w->zz, &w->z);
	pc_fe_mul(&w->a, &p->x, &w->zz);
	pc_fe_mul(&w->b, &w->zz, &w->z);
	pc_fe_mul(&w->rr, &p->y, &w->b);
	/* a = H = x2 * z^2 - x, rd = y2 * z^3 - y */
#pragma clang loop unroll(full)
	for (u32 i = 0; i < 9; i++) {
		w->a.v[i] -= w->x.v[i];
		w->rd.v[i] = w->rr.v[i] - w->y.v[i];
		PC_FENCE;
	}
	pc_fe_mul(&w->b, &w->z, &w->a);
#pragma clang loop unroll(full)
	for (u32 i = 0; i < 9; i++) {
		w->z.v[i] = w->b.v[i];
		PC_FENCE;
	}
	pc_fe_sqr(&w->hh, &w->a);
	pc_fe_mul(&w->hhh, &w->a, &w->hh);
	pc_fe_mul(&w->v, &w->x, &w->hh);
	pc_fe_sqr(&w->rr, &w->rd);
	/* x = rd^2 - H^3 - 2V, carried; b = V - x */
#pragma clang loop unroll(full)
	for (u32 i = 0; i < 9; i++) {
		s64 v = w->v.v[i], x;

		carry += w->rr.v[i] - w->hhh.v[i] - 2 * v;
		x = i < 8 ? carry & PC_M29 : carry;
		carry >>= 29;
		w->x.v[i] = x;
		w->b.v[i] = v - x;
		PC_FENCE;
	}
	pc_fe_msub(&w->a, &w->rd, &w->b, &w->y, &w->hhh);
#pragma clang loop unroll(full)
	for (u32 i = 0; i < 9; i++) {
		w->y.v[i] = w->a.v[i];
		PC_FENCE;
	}
	return 0;
}

/* Adds point i, unless its digit is 0. */
PC_FN int pc_p256_add(struct pc_p256_work *w, u32 i)
{
	if (!w || i >= PC_P256_WINDOWS || !w->digit[i])
		return 0;
	/* 1 in Montgomery form, 2^261 mod p */
	static const s64 one[9] = { 0x20, 0, 0, 0x1fffc000, PC_M29, PC_M29, 0x1f7fffff, 0x3ffffff, 0 };
	struct pc_p256_affine *p = &w->point[i];

	if (w->have)
		return pc_p256_madd(w, p);
	w->have = 1;
#pragma clang loop unroll(full)
	for (u32 k = 0; k < 9; k++) {
		w->x.v[k] = p->x.v[k];
		w->y.v[k] = p->y.v[k];
		w->z.v[k] = one[k];
	}
	return 0;
}

/* Whether x == r * zz. */
PC_FN int pc_p256_same_x(struct pc_p256_work *w)
{
	if (!w)
		return 0;
	/* 2^522 mod p: takes r into Montgomery form */
	static const s64 square[9] = { 0xc00,  0,      0x1fff0000, 0x1fdfffff, 0x1fbfffff,
				       PC_M29, PC_M29, 0x1ffffffe, 0x13 };

	for (u32 i = 0; i < 9; i++)
		w->rr.v[i] = square[i];
	pc_p256_unpack(&w->b, w->r, 0);
	pc_fe_mul(&w->v, &w->b, &w->rr);
	pc_fe_mul(&w->b, &w->v, &w->zz);
#pragma clang loop unroll(full)
	for (u32 i = 0; i < 9; i++) {
		w->v.v[i] = w->b.v[i] - w->x.v[i];
		PC_FENCE;
	}
	return pc_fe_is_zero(&w->v, &w->b);
}

/* w->r += n */
static __always_inline void pc_p256_r_plus_n(struct pc_p256_work *w)
{
	u64 carry = 0;

#pragma clang loop unroll(full)
	for (u32 i = 0; i < 4; i++) {
		u64 t = w->r[i] + carry;

		carry = t < carry;
		t += pc_p256_n[i];
		carry += t < pc_p256_n[i];
		w->r[i] = t;
		PC_FENCE;
	}
}

/* In: w->r, w->s, w->h.  1: a valid signature by the key whose table is number key of pc_p256_q. */
PC_FN int pc_p256_check(struct pc_p256_work *w, u32 key)
{
	if (!w)
		return 0;
	/* FIPS 186-5 section 6.4.2 step 1: r and s in [1, n) */
	if (!(w->r[0] | w->r[1] | w->r[2] | w->r[3]) || !(w->s[0] | w->s[1] | w->s[2] | w->s[3]))
		return 0;
	if (!pc_p256_less(w->r, pc_p256_n) || !pc_p256_less(w->s, pc_p256_n))
		return 0;
	pc_scalar_inverse(w);
	pc_scalar_digits(w);
	w->have = w->bad = 0;
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_P256_WINDOWS; i++)
		pc_p256_fetch(w, i, key);
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_P256_WINDOWS; i++)
		pc_p256_add(w, i);
	if (!w->have || w->bad || pc_fe_is_zero(&w->z, &w->b))
		return 0;
	pc_fe_sqr(&w->zz, &w->z);
	if (pc_p256_same_x(w))
		return 1;
	if (!pc_p256_less(w->r, pc_p256_p_minus_n))
		return 0;
	pc_p256_r_plus_n(w);
	return pc_p256_same_x(w);
}

/* 1: the octets json[8 .. 72), r then s (RFC 7518 section 3.4), are a valid signature of the digest j->sha. */
PC_FN int pc_p256_verify(struct pc_p256_work *w, struct pc_jwt *j, u32 key)
{
	if (!w || !j)
		return 0;
#pragma clang loop unroll(full)
	for (u32 i = 0; i < 4; i++) {
		w->r[3 - i] = __builtin_bswap64(pc_ld8(j->json + 8 + 8 * i));
		w->s[3 - i] = __builtin_bswap64(pc_ld8(j->json + 40 + 8 * i));
		w->h[3 - i] = (u64)j->sha.h[2 * i] << 32 | j->sha.h[2 * i + 1];
		PC_FENCE;
	}
	return pc_p256_check(w, key);
}

#endif
