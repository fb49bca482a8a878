/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * RSA verification for one modulus size; rsa.h includes this once per size and holds the argument.
 *
 * PC_RSA_BITS       bits of the modulus
 * PC_RSA_LIMB_BITS  W, bits of a limb
 * PC_RSA_COLS       limbs that the modulus reaches into
 * PC_RSA_LIMBS      limbs of every number, R = 2^(W * LIMBS)
 * PC_RSA_KEY, PC_RSA(name)  key structure and function names of this size
 * All are undefined at the end.
 */

#define PC_RSA_MASK ((1ULL << PC_RSA_LIMB_BITS) - 1)
#define PC_RSA_HALF (1ULL << (PC_RSA_LIMB_BITS - 1))
/* Limbs of the digest. */
#define PC_RSA_DIGEST ((256 + PC_RSA_LIMB_BITS - 1) / PC_RSA_LIMB_BITS)

_Static_assert(PC_RSA_LIMBS % 4 == 0 && PC_RSA_LIMBS + 8 <= PC_RSA_WORK_LIMBS, "tiles of four columns");
_Static_assert(PC_RSA_LIMB_BITS *PC_RSA_COLS >= PC_RSA_BITS &&
		       PC_RSA_LIMB_BITS * (PC_RSA_COLS - 1) < PC_RSA_BITS,
	       "limbs of s");
/* N < 2^(BITS + W) */
_Static_assert(PC_RSA_LIMB_BITS *PC_RSA_LIMBS >= PC_RSA_BITS + PC_RSA_LIMB_BITS + 11, "N < R / 2^11");
/* The last operand's columns have most products: those of x16 * s, and of h * c1, where the limbs of h are unsigned.
 * 126 * 2^56 leaves 2^57 for the carry and single limbs. */
_Static_assert(PC_RSA_LIMB_BITS <= 29 && PC_RSA_LIMBS <= (126 - 2 * PC_RSA_DIGEST)
								 << (58 - 2 * PC_RSA_LIMB_BITS),
	       "sums of columns are below 2^63");
_Static_assert(PC_RSA_DIGEST <= 12 && sizeof(((struct pc_rsa_work *)0)->q) >= 8 * (PC_RSA_LIMBS + 24),
	       "c1 in q");

static __always_inline u64 PC_RSA(signed)(u64 sum)
{
	return ((sum + PC_RSA_HALF) & PC_RSA_MASK) - PC_RSA_HALF;
}

static __always_inline u64 PC_RSA(carry)(u64 sum)
{
	return (s64)(sum + PC_RSA_HALF) >> PC_RSA_LIMB_BITS;
}

#ifdef PC_HOST

/* t = a^2 */
PC_FN int PC_RSA(sqr)(struct pc_rsa_work *w)
{
	u64 c = 0;

	for (u32 k = 0; k < 2 * PC_RSA_LIMBS; k++) {
		for (u32 i = k < PC_RSA_LIMBS ? 0 : k - PC_RSA_LIMBS + 1; i <= k && i < PC_RSA_LIMBS; i++)
			c += w->a[i] * w->a[k - i];
		w->t[k] = c & PC_RSA_MASK;
		c = (s64)c >> PC_RSA_LIMB_BITS;
	}
	return 0;
}

/* a = REDC(t) */
PC_FN int PC_RSA(redc)(struct pc_rsa_work *w)
{
	u64 c = 0;

	for (u32 k = 0; k < 2 * PC_RSA_LIMBS; k++) {
		u32 low = k < PC_RSA_LIMBS;

		c += w->t[k];
		for (u32 i = low ? 0 : k - PC_RSA_LIMBS + 1; i < k && i < PC_RSA_LIMBS; i++)
			c += w->q[i] * w->n[k - i];
		*(low ? &w->q[k] : &w->a[k - PC_RSA_LIMBS]) = PC_RSA(signed)(c);
		c = PC_RSA(carry)(c);
	}
	return 0;
}

/* t += a * s */
PC_FN int PC_RSA(mul)(struct pc_rsa_work *w)
{
	u64 c = 0;

	for (u32 k = 0; k < 2 * PC_RSA_LIMBS; k++) {
		c += w->t[k];
		for (u32 i = k < PC_RSA_LIMBS ? 0 : k - PC_RSA_LIMBS + 1; i <= k && i < PC_RSA_LIMBS; i++)
			c += w->a[i] * w->s[k - i];
		w->t[k] = c & PC_RSA_MASK;
		c = (s64)c >> PC_RSA_LIMB_BITS;
	}
	w->t[2 * PC_RSA_LIMBS - 1] += c << PC_RSA_LIMB_BITS;
	return 0;
}

#else

#define PC_RSA_AT(field, limbs) (offsetof(struct pc_rsa_work, field) + 8 * (limbs))
#define PC_RSA_NUMBERS \
	[half] "i"(PC_RSA_HALF), [mask] "i"(PC_RSA_MASK), [bits] "i"(PC_RSA_LIMB_BITS), \
		[blocks] "i"(PC_RSA_LIMBS / 4)

/* t = a^2 */
PC_FN int PC_RSA(sqr)(struct pc_rsa_work *w)
{
	if (!w)
		return 0;
	pc_rsa_prefix(w->p, w->a, PC_RSA_LIMBS + 4);
	PC_FENCE;
	u64 c0, c1, c2, c3, u, v, x, y, b, base, k, k2, carry, turns, left;
	struct pc_rsa_work *a = w;

	asm volatile(PC_RSA_SQR_LOW
		     : PC_RSA_REGISTERS, [a] "+r"(a), [w] "=m"(base), [k] "=m"(k), [k2] "=m"(k2),
		       [carry] "=m"(carry), [turns] "=m"(turns), [left] "=m"(left)
		     : PC_RSA_NUMBERS, [p] "i"(PC_RSA_AT(p, 0)), [less] "i"(PC_RSA_AT(p, 0)),
		       [from] "i"(PC_RSA_AT(a, 0)), [mid] "i"(PC_RSA_AT(a, 0)), [t] "i"(PC_RSA_AT(t, 0))
		     : "memory");
	asm volatile(PC_RSA_SQR_HIGH
		     : PC_RSA_REGISTERS, [a] "=&r"(a), [w] "+m"(base), [k] "+m"(k), [k2] "+m"(k2),
		       [carry] "+m"(carry), [turns] "+m"(turns), [left] "+m"(left)
		     : PC_RSA_NUMBERS, [p] "i"(PC_RSA_AT(p, 0)), [less] "i"(PC_RSA_AT(p, PC_RSA_LIMBS / 2)),
		       [high] "i"(8 * PC_RSA_LIMBS), [from] "i"(PC_RSA_AT(a, 0)),
		       [mid] "i"(PC_RSA_AT(a, PC_RSA_LIMBS / 2)), [t] "i"(PC_RSA_AT(t, PC_RSA_LIMBS))
		     : "memory");
	return 0;
}

/* a = REDC(t) */
PC_FN int PC_RSA(redc)(struct pc_rsa_work *w)
{
	if (!w)
		return 0;
	u64 c0, c1, c2, c3, u, v, x, y, b, base, k, sum, carry, turns, left;
	struct pc_rsa_work *a = w;

	asm volatile(PC_RSA_REDC_LOW
		     : PC_RSA_REGISTERS, [a] "+r"(a), [w] "=m"(base), [k] "=m"(k), [sum] "=m"(sum),
		       [carry] "=m"(carry), [turns] "=m"(turns), [left] "=m"(left)
		     : PC_RSA_NUMBERS, [t] "i"(PC_RSA_AT(t, 0)), [f] "i"(PC_RSA_AT(f, 0)),
		       [q] "i"(PC_RSA_AT(q, 0)), [n] "i"(PC_RSA_AT(n, 0))
		     : "memory");
	asm volatile(
		PC_RSA_REDC_HIGH
		: PC_RSA_REGISTERS, [a] "=&r"(a), [w] "+m"(base), [k] "+m"(k), [sum] "+m"(sum),
		  [carry] "+m"(carry), [turns] "+m"(turns), [left] "+m"(left)
		: PC_RSA_NUMBERS, [t] "i"(PC_RSA_AT(t, PC_RSA_LIMBS)), [f] "i"(PC_RSA_AT(f, PC_RSA_LIMBS)),
		  [q] "i"(PC_RSA_AT(q, 0)), [n] "i"(PC_RSA_AT(n, PC_RSA_LIMBS)), [to] "i"(PC_RSA_AT(a, 0))
		: "memory");
	return 0;
}

/* t += a * s; the last limb of t has a sign.  Overwrites q. */
PC_FN int PC_RSA(mul)(struct pc_rsa_work *w)
{
	if (!w)
		return 0;
	pc_rsa_prefix(w->p, w->a, PC_RSA_LIMBS + 4);
	pc_rsa_prefix(w->q, w->s, PC_RSA_LIMBS + 4);
	PC_FENCE;
	u64 c0, c1, c2, c3, u, v, x, y, b, base, k, carry, turns, left;
	struct pc_rsa_work *a = w;

	asm volatile(PC_RSA_MUL_LOW
		     : PC_RSA_REGISTERS, [a] "+r"(a), [w] "=m"(base), [k] "=m"(k), [carry] "=m"(carry),
		       [turns] "=m"(turns), [left] "=m"(left)
		     : PC_RSA_NUMBERS, [p] "i"(PC_RSA_AT(p, 0)), [ps] "i"(PC_RSA_AT(q, 0)),
		       [rows] "i"(PC_RSA_AT(a, 0)), [cols] "i"(PC_RSA_AT(s, 0)), [t] "i"(PC_RSA_AT(t, 0))
		     : "memory");
	asm volatile(PC_RSA_MUL_HIGH
		     : PC_RSA_REGISTERS, [a] "=&r"(a), [w] "+m"(base), [k] "+m"(k), [carry] "+m"(carry),
		       [turns] "+m"(turns), [left] "+m"(left)
		     : PC_RSA_NUMBERS, [p] "i"(PC_RSA_AT(p, 0)), [all] "i"(PC_RSA_AT(p, PC_RSA_LIMBS)),
		       [ps] "i"(PC_RSA_AT(q, 0)), [less] "i"(PC_RSA_AT(q, PC_RSA_LIMBS)),
		       [rows] "i"(PC_RSA_AT(a, 0)), [cols] "i"(PC_RSA_AT(s, PC_RSA_LIMBS)),
		       [t] "i"(PC_RSA_AT(t, PC_RSA_LIMBS))
		     : "memory");
	w->t[2 * PC_RSA_LIMBS - 1] += carry << PC_RSA_LIMB_BITS;
	return 0;
}

#undef PC_RSA_AT
#undef PC_RSA_NUMBERS

#endif

/* t = k1 + h * c1 */
PC_FN int PC_RSA(message)(struct pc_rsa_work *w, PC_RSA_KEY *k)
{
	if (!w || !k)
		return 0;
	/* c1 with zeros on both sides */
	PC_NO_UNROLL
	for (u32 i = 0; i < 12; i++)
		w->q[i] = w->q[PC_RSA_LIMBS + 12 + i] = 0;
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_RSA_LIMBS; i++) {
		w->q[12 + i] = (s64)k->c1[i];
		w->t[i] = (s64)k->k1[i];
		w->t[PC_RSA_LIMBS + i] = 0;
	}
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_RSA_LIMBS + 12; i++) {
		u64 x = w->t[i], *b = w->q + 12 + i;

#pragma clang loop unroll(full)
		for (s32 j = 0; j < PC_RSA_DIGEST; j++)
			x += w->h[j] * b[-j];
		w->t[i] = x;
	}
	return 0;
}

/* n from the key, and what the reduction subtracts for its products of neighbours, by column. */
PC_FN int PC_RSA(modulus)(struct pc_rsa_work *w, PC_RSA_KEY *k)
{
	if (!w || !k)
		return 0;
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_RSA_LIMBS; i++)
		w->n[i] = (s64)k->n[i];
	for (u32 i = PC_RSA_LIMBS; i < PC_RSA_LIMBS + 8; i++)
		w->n[i] = w->a[i] = w->s[i] = 0;
	pc_rsa_prefix(w->p, w->n, PC_RSA_LIMBS + 4);
	PC_FENCE;
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_RSA_LIMBS; i += 4) {
#pragma clang loop unroll(full)
		for (u32 j = 0; j < 4; j++) {
			w->f[i + j] = w->p[i + j + 1] - w->p[j + 1];
			w->f[PC_RSA_LIMBS + i + j] = w->p[PC_RSA_LIMBS + j + 1] - w->p[i + j + 1];
		}
	}
	return 0;
}

/* In: w->t (signature, unsigned limbs), w->n.  w->a = signature, w->s = signature times m; 1: it is below the modulus
 * (RFC 8017 section 5.2.2 step 1). */
PC_FN int PC_RSA(signature)(struct pc_rsa_work *w, PC_RSA_KEY *k)
{
	if (!w || !k)
		return 0;
	u64 m = k->m, a = 0, s = 0, borrow = 0;

	/* VERIFIER: PC_OPAQUE keeps clang from making the borrow a branch; the loop that it emits then has its latch
	 * before its header, which kernel 6.1 refuses as a back-edge. */
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_RSA_LIMBS; i++) {
		a += w->t[i];
		w->a[i] = PC_RSA(signed)(a);
		s += w->a[i] * m;
		w->s[i] = PC_RSA(signed)(s);
		borrow += w->s[i] - w->n[i];
		PC_OPAQUE(borrow);
		borrow = (s64)borrow >> PC_RSA_LIMB_BITS;
		a = PC_RSA(carry)(a);
		s = PC_RSA(carry)(s);
	}
	return borrow >> 63;
}

/* In: w->t (signature) and w->h (digest), in unsigned limbs.  1: the signature is valid. */
PC_FN int PC_RSA(check)(struct pc_rsa_work *w, PC_RSA_KEY *k)
{
	if (!w || !k)
		return 0;
	u64 any = 0;

	PC_RSA(modulus)(w, k);
	if (!PC_RSA(signature)(w, k))
		return 0;
	PC_NO_UNROLL
	for (int i = 0; i < 16; i++) {
		PC_RSA(sqr)(w);
		PC_RSA(redc)(w);
	}
	PC_RSA(message)(w, k);
	PC_RSA(mul)(w);
	PC_RSA(redc)(w);
#pragma clang loop unroll_count(4)
	for (u32 i = 0; i < PC_RSA_LIMBS; i++)
		any |= w->a[i];
	return any == 0;
}

/* W bits from bit W * i of the big-endian octets that end at p + 8. */
static __always_inline u64 PC_RSA(limb)(const u8 *p, u32 i)
{
	return (__builtin_bswap64(pc_ld8(p - (PC_RSA_LIMB_BITS * i >> 3))) >> (PC_RSA_LIMB_BITS * i & 7)) &
	       PC_RSA_MASK;
}

/* 1: the octets json[8 ..) are a valid signature of the digest j->sha; json[0 .. 8) must be zero. */
PC_FN int PC_RSA(verify)(struct pc_rsa_work *w, struct pc_jwt *j, PC_RSA_KEY *k)
{
	if (!w || !j || !k)
		return 0;
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_RSA_COLS; i++) {
		w->t[i] = PC_RSA(limb)(j->json + PC_RSA_BITS / 8, i);
		PC_FENCE;
	}
	for (u32 i = PC_RSA_COLS; i < PC_RSA_LIMBS; i++)
		w->t[i] = 0;
	u32 *h = j->sha.h;
	u64 d[5] = { (u64)h[6] << 32 | h[7], (u64)h[4] << 32 | h[5], (u64)h[2] << 32 | h[3],
		     (u64)h[0] << 32 | h[1], 0 };

#pragma clang loop unroll(full)
	for (u32 i = 0; i < PC_RSA_DIGEST; i++) {
		u32 at = PC_RSA_LIMB_BITS * i, word = at >> 6, bit = at & 63;

		w->h[i] = (d[word] >> bit | d[word + 1] << 1 << (63 - bit)) & PC_RSA_MASK;
	}
	return PC_RSA(check)(w, k);
}

#undef PC_RSA_MASK
#undef PC_RSA_HALF
#undef PC_RSA_DIGEST
#undef PC_RSA_BITS
#undef PC_RSA
#undef PC_RSA_KEY
#undef PC_RSA_LIMBS
#undef PC_RSA_LIMB_BITS
#undef PC_RSA_COLS
