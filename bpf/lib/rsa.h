/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * RSASSA-PKCS1-v1_5 verification with SHA-256 and e = 65537 (RFC 8017 section 8.2.2), one instance per modulus size.
 *
 * Numbers are arrays of limbs, least significant first, each a signed digit d of W bits, -2^(W-1) <= d < 2^(W-1), in a
 * u64 in two's complement.  A number of the range that the limbs span has one such form only; 0 is all zeros.
 *
 * Equation.  Let n be the modulus, R = 2^(W * LIMBS), REDC(x) = x / R modulo n.  Sixteen squarings, each with its
 * reduction, give x16 = s^65536 * R^-65535: there is no conversion to or from Montgomery form.  The signature is valid
 * iff s^65537 = EM, where EM is the encoded message (RFC 8017 section 9.2) = EM0 + h: padding and DigestInfo are the
 * constant EM0, h is the digest.  So it is valid iff n divides x16 * s + k1 + h * c1 with c1 = -R^-65535 mod n and
 * k1 = EM0 * c1 mod n.  There is no padding parser that could accept too much.
 *
 * Modulus.  All that is done modulo N = m * n, where 0 < m < 2^W makes N = -1 mod 2^W: a limb of the quotient is then the
 * low limb itself.  A number modulo N is one modulo n; and n divides the sum above iff N divides m times it.  So the agent
 * stores N, m * c1 and m * k1, and s is multiplied by m here.
 *
 * Range.  |q| <= R / 2 * (1 + 2^(1-W)) for a quotient q in signed limbs, and N < R / 2^11, so REDC(x) = (x + q * N) / R
 * with |x| <= 0.51 * N * N is less than 0.51 * N away from 0, and so is REDC of the first square, as s < n.  So no step
 * needs a final subtraction; the last operand is below 0.51 * N * N + 2^257 * N, and its REDC is a multiple of N iff it
 * is 0.
 *
 * Columns.  The sum of a column has at most LIMBS products of two limbs, below 2^(2W-2) each: less than 2^63 in all
 * (asserted in rsa_size.h).  It is computed modulo 2^64, so parts of it may overflow.
 *
 * Products.  Two products of a column are made of one (S. Winograd, "A new algorithm for inner product", 1968):
 *	a[i] * b[j] + a[i+1] * b[j-1] = (a[i] + b[j-1]) * (a[i+1] + b[j]) - a[i] * a[i+1] - b[j-1] * b[j]
 * What is subtracted depends on the rows or on the columns alone; its sums are kept (pc_rsa_prefix) or run along.  BPF has
 * no vectors, and a CPU makes one 64-bit product a cycle but four additions, so this is the faster by a fifth.  A tile is
 * four columns, whose sums stay in registers, times all rows that they have in common; the corners are done singly.
 *
 * All operands are public; time does not depend on the signature except for the early refusal of s >= n.
 */
#ifndef PC_RSA_H
#define PC_RSA_H

#include "slot.h"

/* Sum of products of neighbours: p[j + 2] = v[j] * v[j + 1] + v[j - 2] * v[j - 1] + .., for j < count.  p[0] = p[1] = 0;
 * one more entry of v is read and of p written. */
static __always_inline void pc_rsa_prefix(u64 *p, const u64 *v, u32 count)
{
	u64 even = 0, odd = 0;

	p[0] = p[1] = 0;
#pragma clang loop unroll_count(4)
	for (u32 j = 0; j < count; j += 2) {
		u64 mid = v[j + 1];

		even += v[j] * mid;
		odd += mid * v[j + 2];
		p[j + 2] = even;
		p[j + 3] = odd;
	}
}

#ifndef PC_HOST
#include "rsa_tiles.h"
#endif

#define PC_RSA_BITS 2048
#define PC_RSA(name) pc_rsa2048_##name
#define PC_RSA_KEY struct pc_rsa2048_key
#define PC_RSA_LIMBS PC_RSA2048_LIMBS
#define PC_RSA_LIMB_BITS PC_RSA2048_LIMB_BITS
#define PC_RSA_COLS PC_RSA2048_COLS
#include "rsa_size.h"

#define PC_RSA_BITS 3072
#define PC_RSA(name) pc_rsa3072_##name
#define PC_RSA_KEY struct pc_rsa3072_key
#define PC_RSA_LIMBS PC_RSA3072_LIMBS
#define PC_RSA_LIMB_BITS PC_RSA3072_LIMB_BITS
#define PC_RSA_COLS PC_RSA3072_COLS
#include "rsa_size.h"

#define PC_RSA_BITS 4096
#define PC_RSA(name) pc_rsa4096_##name
#define PC_RSA_KEY struct pc_rsa4096_key
#define PC_RSA_LIMBS PC_RSA4096_LIMBS
#define PC_RSA_LIMB_BITS PC_RSA4096_LIMB_BITS
#define PC_RSA_COLS PC_RSA4096_COLS
#include "rsa_size.h"

#endif
