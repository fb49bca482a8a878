/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Arithmetic modulo the order n of P-256 (SP 800-186 section 3.2.1.3), and signed digits of scalars.
 *
 * Scalars are nine 30-bit limbs, least significant first, in s64.  Inversion: 600 divsteps of the half-delta variant
 * (Bernstein and Yang, eprint 2019/266; 590 suffice for 256 bits), in 20 batches of 30 that work on the low words
 * and are then applied to the whole numbers; after libsecp256k1's modinv32.  A batch is free of branches; the batches
 * end early when g is 0.  All operands are public.
 */
#ifndef PC_P256_SCALAR_H
#define PC_P256_SCALAR_H

#include "slot.h"

#define PC_M30 0x3fffffffLL

static const s64 pc_p256_n30[9] = { 0x3c632551, 0xee72b0b, 0x3179e84f, 0x39beab69, 0x3fffffbc,
				    0x3fffffff, 0xfff,     0x3fffc000, 0xffff };
/* 2^270 mod n */
static const s64 pc_p256_r270[9] = { 0x36abc000, 0x353d039c, 0x5ec3118, 0x15258e86, 0x10c641,
				     0,          0x3c000000, 0xfffffff, 0 };
/* n^-1 mod 2^30 */
#define PC_P256_N_INVERSE 0x11ff43b1ULL

/* 256 bits in four words as nine limbs. */
static __always_inline void pc_scalar_limbs(s64 *o, const u64 *w)
{
	u64 a = w[0], b = w[1], c = w[2], d = w[3];

	o[0] = a & PC_M30;
	o[1] = a >> 30 & PC_M30;
	o[2] = (a >> 60 | b << 4) & PC_M30;
	o[3] = b >> 26 & PC_M30;
	o[4] = (b >> 56 | c << 8) & PC_M30;
	o[5] = c >> 22 & PC_M30;
	o[6] = (c >> 52 | d << 12) & PC_M30;
	o[7] = d >> 18 & PC_M30;
	o[8] = d >> 48;
}

/*
 * 30 divsteps on the low 60 bits of f and g.
 * u and v share a word, u in the low half, and so do q and r: the steps are linear, and each number stays within
 * [-2^30, 2^30].
 * VERIFIER: zeta and the unit matrix come out of memory; as constants they would be followed through the masks of the
 * first steps, each value its own path.
 */
static __always_inline void pc_scalar_divsteps(struct pc_divsteps *m, s64 f, s64 g)
{
	m->u = 1;
	m->r = 1LL << 32;
	PC_FENCE;
	s64 zeta = m->zeta, uv = m->u, qr = m->r;

	PC_NO_UNROLL
	for (u32 i = 0; i < 5; i++) {
#pragma clang loop unroll(full)
		for (u32 j = 0; j < 6; j++) {
			s64 below = zeta >> 63, odd = -(g & 1);

			/* VERIFIER: PC_OPAQUE keeps clang from making the masks branches, whose paths double at each step */
			PC_OPAQUE(below);
			PC_OPAQUE(odd);
			s64 x = (f ^ below) - below, y = (uv ^ below) - below;

			g += x & odd;
			qr += y & odd;
			below &= odd;
			zeta = (zeta ^ below) - 1;
			f += g & below;
			uv += qr & below;
			g >>= 1;
			uv <<= 1;
		}
	}
	m->zeta = zeta;
	m->u = (s32)uv;
	m->v = (uv - m->u) >> 32;
	m->q = (s32)qr;
	m->r = (qr - m->q) >> 32;
}

/* (d, e) = matrix * (d, e) / 2^30 mod n, each staying within (-2n, n). */
static __always_inline void pc_scalar_update_de(struct pc_p256_work *w)
{
	s64 u = w->m.u, v = w->m.v, q = w->m.q, r = w->m.r;
	s64 d_sign = w->d[8] >> 63, e_sign = w->e[8] >> 63, di = w->d[0], ei = w->e[0];
	/* multiples of n to add: n for negative inputs, and what makes the low limb 0 */
	s64 md = (u & d_sign) + (v & e_sign), me = (q & d_sign) + (r & e_sign);
	s64 cd = u * di + v * ei, ce = q * di + r * ei;

	md -= ((u64)cd * PC_P256_N_INVERSE + (u64)md) & PC_M30;
	me -= ((u64)ce * PC_P256_N_INVERSE + (u64)me) & PC_M30;
	cd = (cd + pc_p256_n30[0] * md) >> 30;
	ce = (ce + pc_p256_n30[0] * me) >> 30;
	PC_NO_UNROLL
	for (u32 i = 1; i < 9; i++) {
		s64 ni = pc_p256_n30[i];

		di = w->d[i];
		ei = w->e[i];
		cd += u * di + v * ei + ni * md;
		ce += q * di + r * ei + ni * me;
		w->d[i - 1] = cd & PC_M30;
		w->e[i - 1] = ce & PC_M30;
		cd >>= 30;
		ce >>= 30;
	}
	w->d[8] = cd;
	w->e[8] = ce;
	PC_FENCE;
}

/* (f, g) = matrix * (f, g) / 2^30, which is exact.  0: g has become 0. */
static __always_inline u64 pc_scalar_update_fg(struct pc_p256_work *w)
{
	s64 u = w->m.u, v = w->m.v, q = w->m.q, r = w->m.r, fi = w->f[0], gi = w->g[0];
	s64 cf = (u * fi + v * gi) >> 30, cg = (q * fi + r * gi) >> 30;
	u64 any = 0;

	PC_NO_UNROLL
	for (u32 i = 1; i < 9; i++) {
		fi = w->f[i];
		gi = w->g[i];
		cf += u * fi + v * gi;
		cg += q * fi + r * gi;
		w->f[i - 1] = cf & PC_M30;
		w->g[i - 1] = cg & PC_M30;
		any |= cg & PC_M30;
		cf >>= 30;
		cg >>= 30;
	}
	w->f[8] = cf;
	w->g[8] = cg;
	PC_FENCE;
	return any | cg;
}

/*
 * d += n when `times` is 1, nothing when it is 0; limbs 0..7 in [0, 2^30) afterwards.
 * VERIFIER: a product, and PC_OPAQUE so that clang does not make it a mask.  Kernel 6.18 follows `mask & constant` twice
 * when it knows that the mask is 0 or -1: nine limbs would double the paths nine times.
 */
static __always_inline void pc_scalar_add_n(struct pc_p256_work *w, u64 times)
{
	s64 c = 0;

	PC_OPAQUE(times);
#pragma clang loop unroll(full)
	for (u32 i = 0; i < 8; i++) {
		c += w->d[i] + pc_p256_n30[i] * (s64)times;
		w->d[i] = c & PC_M30;
		c >>= 30;
	}
	w->d[8] += c + pc_p256_n30[8] * (s64)times;
	PC_FENCE;
}

/*
 * w->d = 2^270 / w->s mod n, in [0, 2n); s in [1, n).
 * The inverse carries the factor because e starts as 2^270 instead of 1: pc_scalar_mul takes it out.
 */
PC_FN int pc_scalar_inverse(struct pc_p256_work *w)
{
	if (!w)
		return 0;
	for (u32 i = 0; i < 9; i++) {
		w->f[i] = pc_p256_n30[i];
		w->d[i] = 0;
		w->e[i] = pc_p256_r270[i];
	}
	pc_scalar_limbs(w->g, w->s);
	w->m.zeta = -1;
	PC_FENCE;
	PC_NO_UNROLL
	for (u32 i = 0; i < 20; i++) {
		pc_scalar_divsteps(&w->m, w->f[0] | w->f[1] << 30, w->g[0] | w->g[1] << 30);
		pc_scalar_update_de(w);
		if (!pc_scalar_update_fg(w))
			break;
	}
	/* f is 1 or -1, and d has its sign */
	s64 sign = w->f[8] >> 63;

	for (u32 i = 0; i < 9; i++)
		w->d[i] = (w->d[i] ^ sign) - sign;
	pc_scalar_add_n(w, 0);
	pc_scalar_add_n(w, (u64)w->d[8] >> 63);
	pc_scalar_add_n(w, (u64)w->d[8] >> 63);
	return 0;
}

/* w->u = w->t * w->d / 2^270 mod n, in [0, n]; t below 2^256, d below 2n.  Product scanning as in p256_field.h:
 * a column has at most 18 products of 2^60, below 2^64.2 only if all limbs were full; limb 8 has 17 bits, so 16 are. */
PC_FN int pc_scalar_mul(struct pc_p256_work *w)
{
	if (!w)
		return 0;
	u64 acc = 0;

	PC_NO_UNROLL
	for (u32 c = 0; c < 9; c++) {
		PC_NO_UNROLL
		for (u32 i = 0; i < c; i++) {
			acc += (u64)w->t[i] * (u64)w->d[c - i];
			acc += (u64)w->q[i] * (u64)pc_p256_n30[c - i];
		}
		acc += (u64)w->t[c] * (u64)w->d[0];
		u64 q = (0 - acc * PC_P256_N_INVERSE) & PC_M30;

		w->q[c] = q;
		acc = (acc + q * (u64)pc_p256_n30[0]) >> 30;
	}
	PC_NO_UNROLL
	for (u32 c = 9; c < 17; c++) {
		PC_NO_UNROLL
		for (u32 i = c - 8; i < 9; i++) {
			acc += (u64)w->t[i] * (u64)w->d[c - i];
			acc += (u64)w->q[i] * (u64)pc_p256_n30[c - i];
		}
		w->u[c - 9] = acc & PC_M30;
		acc >>= 30;
	}
	w->u[8] = acc;
	return 0;
}

/*
 * Signed digits without carries: with off = sum of 2^(w-1) * 2^(w*i) over the windows i, the unsigned digits of
 * u + off, each less 2^(w-1), are digits of u in [-2^(w-1), 2^(w-1)).
 * PC_P256_OFFSET(w, n, k) is word k of off for n <= 40 windows.
 */
#define PC_P256_OFFSET_BIT(w, n, i, k) \
	((i) < (n) && ((w) * (i) + (w) - 1) / 64 == (k) ? 1ULL << (((w) * (i) + (w) - 1) % 64) : 0)
#define PC_P256_OFFSET4(w, n, i, k) \
	(PC_P256_OFFSET_BIT(w, n, i, k) | PC_P256_OFFSET_BIT(w, n, (i) + 1, k) | \
	 PC_P256_OFFSET_BIT(w, n, (i) + 2, k) | PC_P256_OFFSET_BIT(w, n, (i) + 3, k))
#define PC_P256_OFFSET(w, n, k) \
	(PC_P256_OFFSET4(w, n, 0, k) | PC_P256_OFFSET4(w, n, 4, k) | PC_P256_OFFSET4(w, n, 8, k) | \
	 PC_P256_OFFSET4(w, n, 12, k) | PC_P256_OFFSET4(w, n, 16, k) | PC_P256_OFFSET4(w, n, 20, k) | \
	 PC_P256_OFFSET4(w, n, 24, k) | PC_P256_OFFSET4(w, n, 28, k) | PC_P256_OFFSET4(w, n, 32, k) | \
	 PC_P256_OFFSET4(w, n, 36, k))
#define PC_P256_WINDOWS_OK(w, n, points) \
	((n) == (257 + (w) - 1) / (w) && (n) <= 40 && (points) == (n) << ((w) - 1))
_Static_assert(PC_P256_WINDOWS_OK(PC_P256_WINDOW_G, PC_P256_WINDOWS_G, PC_P256_POINTS_G),
	       "windows of the generator");
_Static_assert(PC_P256_WINDOWS_OK(PC_P256_WINDOW_Q, PC_P256_WINDOWS_Q, PC_P256_POINTS_Q), "windows of a key");

/* Word k of w->k = x + off; the carry goes on. */
#define PC_P256_RECODE(wd, n, k_, x) \
	do { \
		u64 t_ = (x) + carry, off_ = PC_P256_OFFSET(wd, n, k_); \
		carry = t_ < carry; \
		t_ += off_; \
		carry += t_ < off_; \
		w->k[k_] = t_; \
		PC_FENCE; \
	} while (0)

/* w->digit[first ...] = the digits of w->u. */
#define PC_P256_DIGITS(wd, n, first) \
	do { \
		s64 *u_ = w->u; \
		u64 carry = 0; \
		PC_P256_RECODE(wd, n, 0, (u64)u_[0] | (u64)u_[1] << 30 | (u64)u_[2] << 60); \
		PC_P256_RECODE(wd, n, 1, (u64)u_[2] >> 4 | (u64)u_[3] << 26 | (u64)u_[4] << 56); \
		PC_P256_RECODE(wd, n, 2, (u64)u_[4] >> 8 | (u64)u_[5] << 22 | (u64)u_[6] << 52); \
		PC_P256_RECODE(wd, n, 3, (u64)u_[6] >> 12 | (u64)u_[7] << 18 | (u64)u_[8] << 48); \
		PC_P256_RECODE(wd, n, 4, (u64)u_[8] >> 16); \
		w->k[5] = 0; \
		PC_NO_UNROLL \
		for (u32 i = 0; i < (n); i++) { \
			u32 at = i * (wd); \
			u64 x = w->k[at >> 6] >> (at & 63); \
			if ((at & 63) + (wd) > 64) \
				x |= w->k[(at >> 6) + 1] << (64 - (at & 63)); \
			w->digit[(first) + i] = (s64)(x & ((1 << (wd)) - 1)) - (1 << ((wd) - 1)); \
			PC_FENCE; \
		} \
	} while (0)

/* Digits of h / s and r / s, where w->d is 2^270 / s. */
PC_FN int pc_scalar_digits(struct pc_p256_work *w)
{
	if (!w)
		return 0;
	pc_scalar_limbs(w->t, w->h);
	pc_scalar_mul(w);
	PC_P256_DIGITS(PC_P256_WINDOW_G, PC_P256_WINDOWS_G, 0);
	pc_scalar_limbs(w->t, w->r);
	pc_scalar_mul(w);
	PC_P256_DIGITS(PC_P256_WINDOW_Q, PC_P256_WINDOWS_Q, PC_P256_WINDOWS_G);
	return 0;
}

#endif
