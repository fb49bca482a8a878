/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * SHA-256 (FIPS 180-4 section 6.2) of a span of pc_slot.head.
 *
 * In the kernel one block is 3,773 straight-line instructions of BPF assembly without a branch: the message
 * schedule and the two chains live in fixed stack slots, everything else in registers.  BPF has no rotate;
 * v = x | x << 32 makes rotr(x, r) the low half of v >> r.  The rounds are rows of sha256_rounds.h, which
 * fix the registers and slots of every round.  Natively it is plain C over the same constants.
 */
#ifndef PC_SHA256_H
#define PC_SHA256_H

#include "slot.h"
#include "sha256_rounds.h"

#ifdef PC_HOST

static __always_inline u32 pc_rotr(u32 x, u32 n)
{
	return x >> n | x << (32 - n);
}

/* st = compression of st with the block d. */
PC_FN int pc_sha256_block(struct pc_sha256 *st, struct pc_block64 *d)
{
#define PC_SHA_K_SCHED(A, B, X, E, F, G, T, Y, as, es, w, w1, w9, w14, k) (u32)(k),
#define PC_SHA_K_LAST(A, B, X, E, F, G, T, Y, as, es, w, k) (u32)(k),
	static const u32 round_key[64] = { PC_SHA256_ROUNDS(PC_SHA_K_SCHED, PC_SHA_K_LAST) };
	u32 w[64], v[8];

	if (!st || !d)
		return 0;
	for (u32 i = 0; i < 16; i++)
		w[i] = (u32)d->b[4 * i] << 24 | (u32)d->b[4 * i + 1] << 16 | (u32)d->b[4 * i + 2] << 8 | d->b[4 * i + 3];
	for (u32 i = 16; i < 64; i++) {
		u32 a = w[i - 15], b = w[i - 2];

		w[i] = w[i - 16] + w[i - 7] + (pc_rotr(a, 7) ^ pc_rotr(a, 18) ^ a >> 3) +
		       (pc_rotr(b, 17) ^ pc_rotr(b, 19) ^ b >> 10);
	}
	memcpy(v, st->h, sizeof(v));
	for (u32 i = 0; i < 64; i++) {
		u32 s1 = pc_rotr(v[4], 6) ^ pc_rotr(v[4], 11) ^ pc_rotr(v[4], 25);
		u32 s0 = pc_rotr(v[0], 2) ^ pc_rotr(v[0], 13) ^ pc_rotr(v[0], 22);
		u32 t1 = v[7] + s1 + ((v[4] & v[5]) ^ (~v[4] & v[6])) + round_key[i] + w[i];
		u32 t2 = s0 + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));

		memmove(v + 1, v, 7 * sizeof(u32));
		v[4] += t1;
		v[0] = t1 + t2;
	}
	for (u32 i = 0; i < 8; i++)
		st->h[i] += v[i];
	return 0;
}

#else

/* Registers are given by number.  r7 and r8 are scratch; Y becomes a ^ b, which is the next round's X (b ^ c). */
#define PC_SHA_DUP(d, s) "r" #d " = r" #s "\nr" #d " <<= 32\nr" #d " |= r" #s "\n"
/* T = h + K + W[t]; r7 = W[t] */
#define PC_SHA_HEAD(T, es, w, k) \
	"r" #T " = *(u32 *)(r10 - " #es ")\n" \
	"r7 = *(u32 *)(r10 - " #w ")\n" \
	"r" #T " += " #k "\nr" #T " += r7\n"
/* r7 += sigma(W at src) */
#define PC_SHA_SIGMA(Y, src, r1, r21, sh) \
	"r8 = *(u32 *)(r10 - " #src ")\n" PC_SHA_DUP(Y, 8) \
	"r8 >>= " #sh "\nr" #Y " >>= " #r1 "\nr8 ^= r" #Y "\nr" #Y " >>= " #r21 "\nr8 ^= r" #Y "\nr7 += r8\n"
/* Ch and Sigma1 into T; the new e into G and its slot; Sigma0 and Maj into T, the new a, and its slot.
 * Sums of several 32-bit values keep garbage above bit 31 until the w-form addition clears it. */
#define PC_SHA_TAIL(A, B, X, E, F, G, T, Y, as, es) \
	"r7 = r" #F "\nr7 ^= r" #G "\nr7 &= r" #E "\nr7 ^= r" #G "\nr" #T " += r7\n" \
	PC_SHA_DUP(7, E) \
	"r8 = r7\nr8 >>= 6\nr" #G " = r7\nr" #G " >>= 11\nr8 ^= r" #G "\nr7 >>= 25\nr8 ^= r7\nr" #T " += r8\n" \
	"r" #G " = *(u32 *)(r10 - " #as ")\nw" #G " += w" #T "\n*(u32 *)(r10 - " #es ") = r" #G "\n" \
	PC_SHA_DUP(7, A) \
	"r8 = r7\nr8 >>= 2\nr" #Y " = r7\nr" #Y " >>= 13\nr8 ^= r" #Y "\nr7 >>= 22\nr8 ^= r7\nr" #T " += r8\n" \
	"r" #Y " = r" #A "\nr" #Y " ^= r" #B "\nr" #X " &= r" #Y "\nr" #X " ^= r" #B "\n" \
	"w" #T " += w" #X "\n*(u32 *)(r10 - " #as ") = r" #T "\n"
#define PC_SHA_SCHED(A, B, X, E, F, G, T, Y, as, es, w, w1, w9, w14, k) \
	PC_SHA_HEAD(T, es, w, k) \
	"r8 = *(u32 *)(r10 - " #w9 ")\nr7 += r8\n" \
	PC_SHA_SIGMA(Y, w1, 7, 11, 3) PC_SHA_SIGMA(Y, w14, 17, 2, 10) \
	"*(u32 *)(r10 - " #w ") = r7\n" \
	PC_SHA_TAIL(A, B, X, E, F, G, T, Y, as, es)
#define PC_SHA_LAST(A, B, X, E, F, G, T, Y, as, es, w, k) \
	PC_SHA_HEAD(T, es, w, k) \
	PC_SHA_TAIL(A, B, X, E, F, G, T, Y, as, es)
/* Four words of the block at src, to the schedule at slot w. */
#define PC_SHA_IN(src, w) \
	PC_SHA_IN1(3, src, 0, w, 0) PC_SHA_IN1(4, src, 4, w, 4) PC_SHA_IN1(5, src, 8, w, 8) PC_SHA_IN1(6, src, 12, w, 12)
#define PC_SHA_IN1(r, src, i, w, j) \
	"r" #r " = *(u32 *)(r2 + " #src " + " #i ")\nr" #r " = be32 r" #r "\n" \
	"*(u32 *)(r10 - " #w " + " #j ") = r" #r "\n"
/* Word i of the state to or from its slot. */
#define PC_SHA_STATE_IN(i, slot) "r0 = *(u32 *)(r1 + " #i ")\n*(u32 *)(r10 - " #slot ") = r0\n"
#define PC_SHA_STATE_OUT(i, slot) \
	"r2 = *(u32 *)(r10 - " #slot ")\nr3 = *(u32 *)(r1 + " #i ")\nw3 += w2\n*(u32 *)(r1 + " #i ") = r3\n"
#define PC_SHA_STATE(M) \
	M(12, 40) M(28, 24) M(8, 36) M(24, 20) M(4, 32) M(20, 16) M(0, 28) M(16, 12)

/*
 * st = compression of st with the block d.
 * VERIFIER: a plain function around the assembly, not a naked one: clang drops the argument names of naked
 * functions from BTF, the kernel then refuses the BTF, and global functions become static ones that are
 * verified at every call.  The wrapper has no locals, so that the whole stack frame belongs to the assembly.
 */
PC_FN int pc_sha256_block(struct pc_sha256 *st, struct pc_block64 *d)
{
	if (!st || !d)
		return 0;
	register struct pc_sha256 *a asm("r1") = st;
	register struct pc_block64 *b asm("r2") = d;

	asm volatile("*(u64 *)(r10 - 8) = r1\n"
		     PC_SHA_IN(0, 104) PC_SHA_IN(16, 88) PC_SHA_IN(32, 72) PC_SHA_IN(48, 56)
		     PC_SHA_STATE(PC_SHA_STATE_IN)
		     "r0 = *(u32 *)(r10 - 28)\n"
		     "r1 = *(u32 *)(r10 - 32)\n"
		     "r2 = *(u32 *)(r10 - 36)\n"
		     "r2 ^= r1\n"
		     "r3 = *(u32 *)(r10 - 12)\n"
		     "r4 = *(u32 *)(r10 - 16)\n"
		     "r5 = *(u32 *)(r10 - 20)\n"
		     PC_SHA256_ROUNDS(PC_SHA_SCHED, PC_SHA_LAST)
		     "r1 = *(u64 *)(r10 - 8)\n"
		     PC_SHA_STATE(PC_SHA_STATE_OUT)
		     : "+r"(a), "+r"(b)
		     :
		     : "r0", "r3", "r4", "r5", "r6", "r7", "r8", "r9", "memory");
	return 0;
}

#endif

/*
 * The last one or two blocks of the message head[off .. off + len) into jwt.block: its bytes from rest_off on, the
 * 1 bit, zeros, and the length in bits.  Branch-free per word; v is how many message bytes remain at the word.
 */
PC_FN int pc_sha256_pad(struct pc_slot *s, u32 off, u32 len)
{
	if (!s)
		return 0;
	u32 base = (off + (len & ~63u)) & (PC_HEAD_MAX - 1);
	s64 rest = len & 63;

	PC_NO_UNROLL for (u32 i = 0; i < 16; i++)
	{
		u64 x = pc_ld8(s->head + base + 8 * i);
		s64 v = rest - 8 * (s64)i;
		u64 one = 1ULL << ((u64)(v << 3) & 63);
		u64 in = ~(u64)((v - 8) >> 63), part = (u64)((v - 8) >> 63) & ~(u64)(v >> 63);

		s->jwt.block[i] = (x & in) | (((x & (one - 1)) | (one << 7)) & part);
		PC_FENCE;
	}
	s->jwt.block[rest >= 56 ? 15 : 7] = __builtin_bswap64((u64)len * 8);
	return 0;
}

/* jwt.sha = SHA-256 of head[off .. off + len), len <= PC_TOKEN_MAX. */
PC_FN int pc_sha256(struct pc_slot *s, u32 off, u32 len)
{
	if (!s || len > PC_TOKEN_MAX)
		return -1;
	static const u32 init[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
				     0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };
	u32 full = len / 64;

	for (u32 i = 0; i < 8; i++)
		s->jwt.sha.h[i] = init[i];
	PC_NO_UNROLL for (u32 i = 0; i < PC_TOKEN_MAX / 64; i++)
	{
		if (i >= full)
			break;
		pc_sha256_block(&s->jwt.sha, (struct pc_block64 *)(s->head + ((off + 64 * i) & (PC_HEAD_MAX - 1))));
	}
	pc_sha256_pad(s, off, len);
	pc_sha256_block(&s->jwt.sha, (struct pc_block64 *)s->jwt.block);
	if ((len & 63) >= 56)
		pc_sha256_block(&s->jwt.sha, (struct pc_block64 *)(s->jwt.block + 8));
	return 0;
}

#endif
