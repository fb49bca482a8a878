/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * RSA verification for one modulus size; rsa.h includes this once per size and holds the argument.
 *
 * PC_RSA_BITS   bits of the modulus
 * PC_RSA_COLS   limbs of a number below 2n
 * PC_RSA_LIMBS  the same rounded up to a multiple of four, with R = 2^(31 * LIMBS) > 4n
 * PC_RSA_KEY, PC_RSA(name)  key structure and function names of this size
 * All are undefined at the end.
 */

_Static_assert(PC_RSA_LIMBS % 4 == 0 && PC_RSA_LIMBS - PC_RSA_COLS < 4, "blocks of four rows");
_Static_assert(31 * PC_RSA_LIMBS >= PC_RSA_BITS + 2 && 31 * PC_RSA_COLS > PC_RSA_BITS + 1, "R > 4n; 2n fits");
_Static_assert(sizeof(((struct pc_rsa_work *)0)->t) >= 4 * (2 * PC_RSA_LIMBS + 8), "work area");

/* Montgomery reduction of w->t in place: the result is t[LIMBS .. LIMBS + COLS). */
PC_FN int PC_RSA(redc)(struct pc_rsa_work *w, PC_RSA_KEY *k)
{
	if (!w || !k)
		return 0;
	u32 *n = k->n;
	u64 n0 = k->n0;

	PC_NO_UNROLL
	for (u32 i = 0; i < PC_RSA_LIMBS / 4; i++) {
		u32 *t = w->t + 4 * i;
		u64 b0, b1, b2, b3, x, c;

		/* the four quotient digits: each makes its column a multiple of 2^31 */
		x = t[0];
		b0 = (x * n0) & PC_M31;
		c = (x + n[0] * b0) >> 31;
		x = t[1] + n[1] * b0 + c;
		b1 = (x * n0) & PC_M31;
		c = (x + n[0] * b1) >> 31;
		x = t[2] + n[2] * b0 + n[1] * b1 + c;
		b2 = (x * n0) & PC_M31;
		c = (x + n[0] * b2) >> 31;
		x = t[3] + n[3] * b0 + n[2] * b1 + n[1] * b2 + c;
		b3 = (x * n0) & PC_M31;
		c = (x + n[0] * b3) >> 31;
		PC_FENCE;
		struct pc_rsa_pass p = { n + 4, t + 4, c };

		pc_rsa_run(&p, PC_RSA_COLS - 4, b0, b1, b2, b3);
		t = p.t;
		c = p.carry;
		PC_RSA_TOP(n, PC_RSA_COLS);
		/* the top limb of n has a few bits, so c is small: below 2^32, and the next pass carries it on */
		t[3] += c;
		PC_FENCE;
	}
	return 0;
}

/* a = from[0 .. COLS), d = 2a */
static __always_inline void PC_RSA(take)(struct pc_rsa_work *w, u32 *from)
{
	u64 prev = 0;

#pragma clang loop unroll_count(4)
	for (u32 j = 0; j < PC_RSA_COLS; j++) {
		u64 x = from[j];

		w->a[j] = x;
		w->d[j] = ((x << 1) | prev) & PC_M31;
		prev = x >> 30;
	}
}

static __always_inline void PC_RSA(zero)(struct pc_rsa_work *w)
{
#pragma clang loop unroll_count(8)
	for (u32 j = 0; j < 2 * PC_RSA_LIMBS + 8; j += 2) {
		*(u64 *)(w->t + j) = 0;
		PC_FENCE;
	}
}

/* t = a^2, where a is s (first) or the result of the last reduction. */
PC_FN int PC_RSA(sqr)(struct pc_rsa_work *w, int first)
{
	if (!w)
		return 0;
	if (first)
		PC_RSA(take)(w, w->s);
	else
		PC_RSA(take)(w, w->t + PC_RSA_LIMBS);
	PC_FENCE;
	PC_RSA(zero)(w);
	PC_FENCE;
	u32 *t, *x, *d;
	u64 c, b0, b1, b2, b3;

	PC_NO_UNROLL
	for (u32 i = 0; i < PC_RSA_LIMBS / 4 - 2; i++) {
		t = w->t + 8 * i, x = w->a + 4 * i, d = w->d + 4 * i;
		b0 = x[0], b1 = x[1], b2 = x[2], b3 = x[3];
		PC_RSA_DIAGONAL_LOW();
		PC_RSA_DIAGONAL_HIGH();
		PC_FENCE;
		struct pc_rsa_pass p = { d + 8, t + 8, c };

		pc_rsa_run(&p, PC_RSA_COLS - 8 - 4 * i, b0, b1, b2, b3);
		t = p.t;
		c = p.carry;
		PC_RSA_TOP(w->d, PC_RSA_COLS);
		t[3] = c;
		PC_FENCE;
	}
	/* the last two diagonal blocks; limbs from COLS on are zero */
	t = w->t + 2 * PC_RSA_LIMBS - 16, x = w->a + PC_RSA_LIMBS - 8, d = w->d + PC_RSA_LIMBS - 8;
	b0 = x[0], b1 = x[1], b2 = x[2], b3 = x[3];
	PC_RSA_DIAGONAL_LOW();
	PC_RSA_DIAGONAL_HIGH();
	PC_PUT(8, t[8] + b1 * d[7] + b2 * d[6] + b3 * d[5] + c);
	PC_PUT(9, t[9] + b2 * d[7] + b3 * d[6] + c);
	PC_PUT(10, t[10] + b3 * d[7] + c);
	t[11] = c;
	PC_FENCE;
	t += 8, x += 4, d += 4;
	b0 = x[0], b1 = x[1], b2 = x[2], b3 = x[3];
	PC_RSA_DIAGONAL_LOW();
	PC_PUT(4, t[4] + b1 * d[3] + b2 * b2 + c);
	PC_PUT(5, t[5] + b2 * (d[3] & ~1u) + c);
	PC_PUT(6, t[6] + b3 * b3 + c);
	t[7] = c;
	return 0;
}

/* t[0 .. COLS + 4) += v * (b0 .. b3) */
static __always_inline void PC_RSA(rows)(u32 *t, u32 *v, u64 b0, u64 b1, u64 b2, u64 b3)
{
	u64 c;

	PC_PUT(0, t[0] + v[0] * b0);
	PC_PUT(1, t[1] + v[1] * b0 + v[0] * b1 + c);
	PC_PUT(2, t[2] + v[2] * b0 + v[1] * b1 + v[0] * b2 + c);
	PC_FENCE;
	struct pc_rsa_pass p = { v + 3, t + 3, c };

	pc_rsa_run(&p, PC_RSA_COLS - 3, b0, b1, b2, b3);
	t = p.t;
	c = p.carry;
	PC_RSA_TOP(v, PC_RSA_COLS);
	t[3] += c;
	PC_FENCE;
}

/* t = a * s + k1 + h * c1, where a is the result of the last reduction. */
PC_FN int PC_RSA(last)(struct pc_rsa_work *w, PC_RSA_KEY *k)
{
	if (!w || !k)
		return 0;
#pragma clang loop unroll_count(4)
	for (u32 j = 0; j < PC_RSA_COLS; j++)
		w->a[j] = w->t[PC_RSA_LIMBS + j];
	PC_FENCE;
	PC_RSA(zero)(w);
#pragma clang loop unroll_count(4)
	for (u32 j = 0; j < PC_RSA_COLS; j++)
		w->t[j] = k->k1[j];
	PC_FENCE;
	PC_NO_UNROLL
	for (u32 i = 0; i < 3; i++) {
		u32 *x = w->h + 4 * i;

		PC_RSA(rows)(w->t + 4 * i, k->c1, x[0], x[1], x[2], x[3]);
	}
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_RSA_LIMBS / 4; i++) {
		u32 *x = w->s + 4 * i;

		PC_RSA(rows)(w->t + 4 * i, w->a, x[0], x[1], x[2], x[3]);
	}
	return 0;
}

/* In: w->s (signature) and w->h (digest), zero above their limbs.  1: the signature is valid. */
PC_FN int PC_RSA(check)(struct pc_rsa_work *w, PC_RSA_KEY *k)
{
	if (!w || !k)
		return 0;
	u64 borrow = 0;
	u32 diff = 0;

	/* RFC 8017 section 5.2.2 step 1: s < n.
	 * VERIFIER: PC_OPAQUE keeps clang from making the borrow a branch; the loop that it emits then has its latch
	 * before its header, which kernel 6.1 refuses as a back-edge. */
	PC_NO_UNROLL
	for (u32 j = 0; j < PC_RSA_COLS; j++) {
		u64 x = w->s[j];

		x -= k->n[j];
		x -= borrow;
		PC_OPAQUE(x);
		borrow = x >> 63;
	}
	if (!borrow)
		return 0;
	PC_NO_UNROLL
	for (int i = 0; i < 16; i++) {
		PC_RSA(sqr)(w, i == 0);
		PC_RSA(redc)(w, k);
	}
	PC_RSA(last)(w, k);
	PC_RSA(redc)(w, k);
#pragma clang loop unroll_count(4)
	for (u32 j = 0; j < PC_RSA_COLS; j++)
		diff |= w->t[PC_RSA_LIMBS + j] ^ k->n[j];
	return diff == 0;
}

/* 31 bits from bit 31 * i of the big-endian octets that end at p + 8. */
static __always_inline u32 PC_RSA(limb)(const u8 *p, u32 i)
{
	return (__builtin_bswap64(pc_ld8(p - (31 * i >> 3))) >> (31 * i & 7)) & PC_M31;
}

/* 1: the octets json[8 ..) are a valid signature of the digest j->sha; json[0 .. 8) must be zero. */
PC_FN int PC_RSA(verify)(struct pc_rsa_work *w, struct pc_jwt *j, PC_RSA_KEY *k)
{
	if (!w || !j || !k)
		return 0;
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_RSA_COLS; i++) {
		w->s[i] = PC_RSA(limb)(j->json + PC_RSA_BITS / 8, i);
		PC_FENCE;
	}
	for (u32 i = PC_RSA_COLS; i < PC_RSA_LIMBS + 4; i++)
		w->s[i] = 0;
	/* a and d are read up to LIMBS */
	for (u32 i = PC_RSA_COLS; i < PC_RSA_LIMBS + 8; i++)
		w->a[i] = w->d[i] = 0;
	u32 *h = j->sha.h;
	u64 h3 = (u64)h[0] << 32 | h[1], h2 = (u64)h[2] << 32 | h[3];
	u64 h1 = (u64)h[4] << 32 | h[5], h0 = (u64)h[6] << 32 | h[7];

	w->h[0] = h0 & PC_M31;
	w->h[1] = h0 >> 31 & PC_M31;
	w->h[2] = (h0 >> 62 | h1 << 2) & PC_M31;
	w->h[3] = h1 >> 29 & PC_M31;
	w->h[4] = (h1 >> 60 | h2 << 4) & PC_M31;
	w->h[5] = h2 >> 27 & PC_M31;
	w->h[6] = (h2 >> 58 | h3 << 6) & PC_M31;
	w->h[7] = h3 >> 25 & PC_M31;
	w->h[8] = h3 >> 56;
	w->h[9] = w->h[10] = w->h[11] = 0;
	return PC_RSA(check)(w, k);
}

#undef PC_RSA_BITS
#undef PC_RSA
#undef PC_RSA_KEY
#undef PC_RSA_LIMBS
#undef PC_RSA_COLS
