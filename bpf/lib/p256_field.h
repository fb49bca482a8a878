/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Arithmetic modulo p = 2^256 - 2^224 + 2^192 + 2^96 - 1 (FIPS 186-5, SP 800-186 section 3.2.1.3).
 *
 * A value is nine signed 64-bit words of radix 2^29, in Montgomery form with R = 2^261.  A reduced value has words
 * 0..7 in [0, 2^29) and a small signed word 8; the difference of two reduced values, word by word and without a
 * carry, is a valid operand too.  Values are bounded, |v| < 8p, and not unique: pc_fe_is_zero decides.
 *
 * Products are summed column by column.  Because p = -1 mod 2^96, the Montgomery digit of a column is its own low
 * 29 bits q, and adding q * p * 2^(29k) clears column k and adds
 *	q << 9 to column k + 3,  q << 18 to k + 6,  -(q << 21) to k + 7,  q << 24 to k + 8.
 * The digits stand in the result until the words of the result replace them, so the result must not be an operand.
 *
 * Overflow: |word| <= 2^29, so a column of pc_fe_msub has at most 18 products of 2^58, below 2^62.2; the four terms of
 * the digits and the carry are below 2^54.  The sum stays below 2^63.
 * Range: |a|, |b| < 8p give a * b / R in (-2p, 2p), and the digits add [0, p): the result is in (-2p, 3p).
 *
 * Time depends on nothing.  Reference: Montgomery multiplication by product scanning (Handbook of Applied Cryptography
 * 14.32 with 14.12's columns).
 */
#ifndef PC_P256_FIELD_H
#define PC_P256_FIELD_H

#include "slot.h"

#define PC_M29 0x1fffffffLL

/* Column k: what the digits q of earlier columns add to the sum s. */
#define PC_FE_DIGITS(k) \
	(((k) >= 3 && (k) < 12 ? q[((k) - 3) % 9] << 9 : 0) + \
	 ((k) >= 6 && (k) < 15 ? q[((k) - 6) % 9] << 18 : 0) - \
	 ((k) >= 7 && (k) < 16 ? q[((k) - 7) % 9] << 21 : 0) + \
	 ((k) >= 8 && (k) < 17 ? q[((k) - 8) % 9] << 24 : 0))

/* Ends column k: the low 29 bits are the digit (k < 9) or word k - 9 of the result, the rest is carried. */
#define PC_FE_COLUMN(k, sum) \
	do { \
		s64 s_ = (sum); \
		s_ += PC_FE_DIGITS(k); \
		PC_OPAQUE(s_); \
		s_ += carry; \
		carry = s_ >> 29; \
		q[(k) % 9] = s_ & PC_M29; \
		PC_FENCE; \
	} while (0)

/* Columns of a product, from the diagonal's first operand index. */
#define PC_FE_SUM0(a, b, i, k) ((a)[i] * (b)[(k) - (i)])
#define PC_FE_SUM1(a, b, i, k) (PC_FE_SUM0(a, b, i, k) + PC_FE_SUM0(a, b, (i) + 1, k))
#define PC_FE_SUM2(a, b, i, k) (PC_FE_SUM1(a, b, i, k) + PC_FE_SUM0(a, b, (i) + 2, k))
#define PC_FE_SUM3(a, b, i, k) (PC_FE_SUM2(a, b, i, k) + PC_FE_SUM0(a, b, (i) + 3, k))
#define PC_FE_SUM4(a, b, i, k) (PC_FE_SUM3(a, b, i, k) + PC_FE_SUM0(a, b, (i) + 4, k))
#define PC_FE_SUM5(a, b, i, k) (PC_FE_SUM4(a, b, i, k) + PC_FE_SUM0(a, b, (i) + 5, k))
#define PC_FE_SUM6(a, b, i, k) (PC_FE_SUM5(a, b, i, k) + PC_FE_SUM0(a, b, (i) + 6, k))
#define PC_FE_SUM7(a, b, i, k) (PC_FE_SUM6(a, b, i, k) + PC_FE_SUM0(a, b, (i) + 7, k))
#define PC_FE_SUM8(a, b, i, k) (PC_FE_SUM7(a, b, i, k) + PC_FE_SUM0(a, b, (i) + 8, k))

/* All columns of a sum that M(k, n, first) names: n + 1 products, from index `first` of the first operand. */
#define PC_FE_COLUMNS(M) \
	PC_FE_COLUMN(0, M(0, 0, 0)); \
	PC_FE_COLUMN(1, M(1, 1, 0)); \
	PC_FE_COLUMN(2, M(2, 2, 0)); \
	PC_FE_COLUMN(3, M(3, 3, 0)); \
	PC_FE_COLUMN(4, M(4, 4, 0)); \
	PC_FE_COLUMN(5, M(5, 5, 0)); \
	PC_FE_COLUMN(6, M(6, 6, 0)); \
	PC_FE_COLUMN(7, M(7, 7, 0)); \
	PC_FE_COLUMN(8, M(8, 8, 0)); \
	PC_FE_COLUMN(9, M(9, 7, 1)); \
	PC_FE_COLUMN(10, M(10, 6, 2)); \
	PC_FE_COLUMN(11, M(11, 5, 3)); \
	PC_FE_COLUMN(12, M(12, 4, 4)); \
	PC_FE_COLUMN(13, M(13, 3, 5)); \
	PC_FE_COLUMN(14, M(14, 2, 6)); \
	PC_FE_COLUMN(15, M(15, 1, 7)); \
	PC_FE_COLUMN(16, M(16, 0, 8))

/* o = a * b / R */
PC_FN int pc_fe_mul(struct pc_fe *o, struct pc_fe *fa, struct pc_fe *fb)
{
	if (!o || !fa || !fb)
		return 0;
	s64 *a = fa->v, *b = fb->v, *q = o->v, carry = 0;

#define PC_FE_PRODUCT(k, n, first) PC_FE_SUM##n(a, b, first, k)
	PC_FE_COLUMNS(PC_FE_PRODUCT);
#undef PC_FE_PRODUCT
	q[8] = carry;
	return 0;
}

/* o = (a * b - c * d) / R */
PC_FN int pc_fe_msub(struct pc_fe *o, struct pc_fe *fa, struct pc_fe *fb, struct pc_fe *fc, struct pc_fe *fd)
{
	if (!o || !fa || !fb || !fc || !fd)
		return 0;
	s64 *a = fa->v, *b = fb->v, *c = fc->v, *d = fd->v, *q = o->v, carry = 0;

#define PC_FE_DIFFERENCE(k, n, first) (PC_FE_SUM##n(a, b, first, k) - PC_FE_SUM##n(c, d, first, k))
	PC_FE_COLUMNS(PC_FE_DIFFERENCE);
#undef PC_FE_DIFFERENCE
	q[8] = carry;
	return 0;
}

/* o = a^2 / R: products beside the diagonal count twice */
PC_FN int pc_fe_sqr(struct pc_fe *o, struct pc_fe *fa)
{
	if (!o || !fa)
		return 0;
	s64 *a = fa->v, *q = o->v, carry = 0;

	PC_FE_COLUMN(0, a[0] * a[0]);
	PC_FE_COLUMN(1, 2 * PC_FE_SUM0(a, a, 0, 1));
	PC_FE_COLUMN(2, 2 * PC_FE_SUM0(a, a, 0, 2) + a[1] * a[1]);
	PC_FE_COLUMN(3, 2 * PC_FE_SUM1(a, a, 0, 3));
	PC_FE_COLUMN(4, 2 * PC_FE_SUM1(a, a, 0, 4) + a[2] * a[2]);
	PC_FE_COLUMN(5, 2 * PC_FE_SUM2(a, a, 0, 5));
	PC_FE_COLUMN(6, 2 * PC_FE_SUM2(a, a, 0, 6) + a[3] * a[3]);
	PC_FE_COLUMN(7, 2 * PC_FE_SUM3(a, a, 0, 7));
	PC_FE_COLUMN(8, 2 * PC_FE_SUM3(a, a, 0, 8) + a[4] * a[4]);
	PC_FE_COLUMN(9, 2 * PC_FE_SUM3(a, a, 1, 9));
	PC_FE_COLUMN(10, 2 * PC_FE_SUM2(a, a, 2, 10) + a[5] * a[5]);
	PC_FE_COLUMN(11, 2 * PC_FE_SUM2(a, a, 3, 11));
	PC_FE_COLUMN(12, 2 * PC_FE_SUM1(a, a, 4, 12) + a[6] * a[6]);
	PC_FE_COLUMN(13, 2 * PC_FE_SUM1(a, a, 5, 13));
	PC_FE_COLUMN(14, 2 * PC_FE_SUM0(a, a, 6, 14) + a[7] * a[7]);
	PC_FE_COLUMN(15, 2 * PC_FE_SUM0(a, a, 7, 15));
	PC_FE_COLUMN(16, a[8] * a[8]);
	q[8] = carry;
	return 0;
}

/* Whether a is 0 modulo p, by one multiplication with 1, whose result is in [0, p] when |a| < 8p. */
PC_FN int pc_fe_is_zero(struct pc_fe *a, struct pc_fe *scratch)
{
	if (!a || !scratch)
		return 0;
	static const s64 p[9] = { PC_M29, PC_M29, PC_M29, 0x1ff, 0, 0, 1 << 18, 0x1fe00000, 0xffffff };
	struct pc_fe one = { { 1 } };
	u64 zero = 0, modulus = 0;

	pc_fe_mul(scratch, a, &one);
#pragma clang loop unroll(full)
	for (u32 i = 0; i < 9; i++) {
		zero |= scratch->v[i];
		modulus |= scratch->v[i] ^ p[i];
	}
	return !zero || !modulus;
}

#endif
