/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * RSASSA-PKCS1-v1_5 verification with SHA-256 and e = 65537 (RFC 8017 section 8.2.2), one instance per modulus size.
 *
 * Numbers are little-endian arrays of 31-bit limbs in u32.  A multiply-accumulate pass holds four row limbs b0..b3
 * and walks the columns of the other operand once:
 *	t = T[c] + carry + a[j] * b0 + a[j-1] * b1 + a[j-2] * b2 + a[j-3] * b3;  T[c] = t mod 2^31;  carry = t >> 31
 * Overflow: limbs are at most 2^31 - 1, so four products are at most 2^64 - 2^34 + 4; carry < 2^33 and T[c] < 2^32
 * leave the sum below 2^64.
 *
 * No conversion to or from Montgomery form.  With R = 2^(31 * LIMBS) and REDC(x) = x / R mod n, sixteen squarings
 * and one product give s^65537 * R^-65536.  The signature is valid iff that equals EM * R^-65536 mod n, where EM is the
 * encoded message (RFC 8017 section 9.2) = EM0 + h: padding and DigestInfo are the constant EM0, h is the digest.  The
 * agent stores c1 = -R^-65535 mod n and k1 = EM0 * c1 mod n, and the last reduction is of x16 * s + k1 + h * c1, which is
 * congruent to 0 iff the signature is valid.  There is no padding parser that could accept too much.
 *
 * Range: R > 4n.  REDC of x < R * n gives less than 2n; a < 2n has a^2 < 4n^2 < R * n; the last operand is below
 * 2n^2 + n + 2^256 * n.  So no step needs a final subtraction, and the last result, which is below 2n and, k1 being
 * positive, above 0, is congruent to 0 iff it equals n.
 *
 * All operands are public; time does not depend on the signature except for the early refusal of s >= n.
 */
#ifndef PC_RSA_H
#define PC_RSA_H

#include "slot.h"

#define PC_M31 0x7fffffffULL

/* Columns per turn of the column loop: 8 measured fastest of 1, 4, 8, 16. */
#define PC_RSA_UNROLL 8

#ifdef PC_HOST

static __always_inline u64 pc_rsa_column(u32 *a, u32 *t, u64 carry, u64 b0, u64 b1, u64 b2, u64 b3)
{
	u64 x = a[0] * b0 + a[-1] * b1 + a[-2] * b2 + a[-3] * b3 + t[0] + carry;

	t[0] = x & PC_M31;
	return x >> 31;
}

static __always_inline u64 pc_rsa_columns8(u32 *a, u32 *t, u64 carry, u64 b0, u64 b1, u64 b2, u64 b3)
{
	for (u32 i = 0; i < PC_RSA_UNROLL; i++)
		carry = pc_rsa_column(a + i, t + i, carry, b0, b1, b2, b3);
	return carry;
}

#else

/* One column as BPF assembly: clang would add the carry first, which makes the chain of carries 7 cycles long
 * instead of 2 (measured 1.4 times slower in all). */
#define PC_RSA_COLUMN(o) \
	"%[x] = *(u32 *)(%[a] + " #o ")\n%[x] *= %[b0]\n" \
	"%[y] = *(u32 *)(%[a] + " #o " - 4)\n%[y] *= %[b1]\n%[x] += %[y]\n" \
	"%[y] = *(u32 *)(%[a] + " #o " - 8)\n%[y] *= %[b2]\n%[x] += %[y]\n" \
	"%[y] = *(u32 *)(%[a] + " #o " - 12)\n%[y] *= %[b3]\n%[x] += %[y]\n" \
	"%[y] = *(u32 *)(%[t] + " #o ")\n%[x] += %[y]\n" \
	"%[x] += %[c]\n%[c] = %[x]\n%[c] >>= 31\n%[x] &= 0x7fffffff\n" \
	"*(u32 *)(%[t] + " #o ") = %[x]\n"
#define PC_RSA_ASM(columns) \
	do { \
		u64 x_, y_; \
		asm volatile( \
			columns \
			: [x] "=&r"(x_), [y] "=&r"(y_), [c] "+r"(carry) \
			: [a] "r"(a), [t] "r"(t), [b0] "r"(b0), [b1] "r"(b1), [b2] "r"(b2), [b3] "r"(b3) \
			: "memory"); \
	} while (0)

static __always_inline u64 pc_rsa_column(u32 *a, u32 *t, u64 carry, u64 b0, u64 b1, u64 b2, u64 b3)
{
	PC_RSA_ASM(PC_RSA_COLUMN(0));
	return carry;
}

static __always_inline u64 pc_rsa_columns8(u32 *a, u32 *t, u64 carry, u64 b0, u64 b1, u64 b2, u64 b3)
{
	PC_RSA_ASM(PC_RSA_COLUMN(0) PC_RSA_COLUMN(4) PC_RSA_COLUMN(8) PC_RSA_COLUMN(12) PC_RSA_COLUMN(16)
			   PC_RSA_COLUMN(20) PC_RSA_COLUMN(24) PC_RSA_COLUMN(28));
	return carry;
}

#endif

/* The running state of a pass: next limb of the walked operand, next column, carry. */
struct pc_rsa_pass {
	u32 *a, *t;
	u64 carry;
};

/* count columns; a and t advance. */
static __always_inline void pc_rsa_run(struct pc_rsa_pass *p, u32 count, u64 b0, u64 b1, u64 b2, u64 b3)
{
	u32 *a = p->a, *t = p->t, k = 0;
	u64 carry = p->carry;

	PC_NO_UNROLL
	for (; k + PC_RSA_UNROLL <= count; k += PC_RSA_UNROLL) {
		carry = pc_rsa_columns8(a, t, carry, b0, b1, b2, b3);
		a += PC_RSA_UNROLL;
		t += PC_RSA_UNROLL;
	}
	PC_NO_UNROLL
	for (; k < count; k++) {
		carry = pc_rsa_column(a, t, carry, b0, b1, b2, b3);
		a++;
		t++;
	}
	p->a = a;
	p->t = t;
	p->carry = carry;
}

/* Column i of t: its sum is x, the carry goes to c. */
#define PC_PUT(i, x) \
	do { \
		u64 x_ = (x); \
		t[i] = x_ & PC_M31; \
		c = x_ >> 31; \
	} while (0)

/* The last columns of a pass, where fewer than four rows reach: v is the walked operand, cols its limbs. */
#define PC_RSA_TOP(v, cols) \
	PC_PUT(0, t[0] + (v)[(cols) - 1] * b1 + (v)[(cols) - 2] * b2 + (v)[(cols) - 3] * b3 + c); \
	PC_PUT(1, t[1] + (v)[(cols) - 1] * b2 + (v)[(cols) - 2] * b3 + c); \
	PC_PUT(2, t[2] + (v)[(cols) - 1] * b3 + c)

/* T[0..8) of a diagonal block of the squaring: x are the four row limbs, d the limbs of 2a beside them.  The doubled
 * operand's odd bit belongs to the limb below, so beside the diagonal it is masked. */
#define PC_RSA_DIAGONAL_LOW() \
	PC_PUT(0, t[0] + b0 * b0); \
	PC_PUT(1, t[1] + b0 * (d[1] & ~1u) + c); \
	PC_PUT(2, t[2] + b0 * d[2] + b1 * b1 + c); \
	PC_PUT(3, t[3] + b0 * d[3] + b1 * (d[2] & ~1u) + c)
#define PC_RSA_DIAGONAL_HIGH() \
	PC_PUT(4, t[4] + b0 * d[4] + b1 * d[3] + b2 * b2 + c); \
	PC_PUT(5, t[5] + b0 * d[5] + b1 * d[4] + b2 * (d[3] & ~1u) + c); \
	PC_PUT(6, t[6] + b0 * d[6] + b1 * d[5] + b2 * d[4] + b3 * b3 + c); \
	PC_PUT(7, t[7] + b0 * d[7] + b1 * d[6] + b2 * d[5] + b3 * (d[4] & ~1u) + c)

#define PC_RSA_BITS 2048
#define PC_RSA(name) pc_rsa2048_##name
#define PC_RSA_KEY struct pc_rsa2048_key
#define PC_RSA_LIMBS PC_RSA2048_LIMBS
#define PC_RSA_COLS PC_RSA2048_COLS
#include "rsa_size.h"

#define PC_RSA_BITS 3072
#define PC_RSA(name) pc_rsa3072_##name
#define PC_RSA_KEY struct pc_rsa3072_key
#define PC_RSA_LIMBS PC_RSA3072_LIMBS
#define PC_RSA_COLS PC_RSA3072_COLS
#include "rsa_size.h"

#define PC_RSA_BITS 4096
#define PC_RSA(name) pc_rsa4096_##name
#define PC_RSA_KEY struct pc_rsa4096_key
#define PC_RSA_LIMBS PC_RSA4096_LIMBS
#define PC_RSA_COLS PC_RSA4096_COLS
#include "rsa_size.h"

#endif
