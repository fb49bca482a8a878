/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Strict base64url (RFC 4648 section 5): no padding, no foreign characters, spare bits zero, so that every octet
 * string has exactly one spelling.
 *
 * One call decodes 64 characters without a branch; the rest of a text is padded with 'A' (zero bits) to the same
 * shape.  Source: a span of pc_slot.head.  Destination: pc_jwt.json, followed by PC_JSON_TAIL zero bytes.
 */
#ifndef PC_B64URL_H
#define PC_B64URL_H

#include "slot.h"

#define PC_B64_BAD 0x80
#define B PC_B64_BAD
/* Value of each character, PC_B64_BAD for those outside the alphabet. */
static const u8 pc_b64_value[256] = {
	B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,
	B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  62, B,  B,
	52, 53, 54, 55, 56, 57, 58, 59, 60, 61, B,  B,  B,  B,  B,  B,  B,  0,  1,  2,  3,  4,  5,  6,
	7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, B,  B,  B,  B,  63,
	B,  26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48,
	49, 50, 51, B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,
	B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,
	B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,
	B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,
	B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,
	B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,  B,
};
#undef B

/* 64 characters -> 48 bytes at json[dst]; up to 2 bytes behind them are zeroed.  Nonzero: a foreign character. */
PC_FN int pc_b64_block(struct pc_jwt *j, struct pc_block64 *src, u32 dst)
{
	if (!j || !src)
		return PC_B64_BAD;
	u32 bad = 0;

	dst &= PC_JSON_MAX - 1;
	PC_NO_UNROLL
	for (u32 i = 0; i < 8; i++) {
		const u8 *c = src->b + 8 * i;
		u64 x = 0;

#pragma clang loop unroll(full)
		for (u32 k = 0; k < 8; k++) {
			u64 v = pc_b64_value[c[k]];

			bad |= v;
			x = x << 6 | v;
		}
		/* 48 bits, first byte highest; bad values spill into neighbours, but then the result is refused */
		*(u64 *)(j->json + dst + 6 * i) = __builtin_bswap64(x << 16);
		PC_FENCE;
	}
	return bad & PC_B64_BAD;
}

/* The last len & 63 characters of a text, then 'A's, into jwt.block.  Branch-free; v = characters left at the word. */
PC_FN int pc_b64_pad(struct pc_slot *s, u32 off, u32 rest)
{
	if (!s)
		return 0;
	off &= PC_HEAD_MAX - 1;
	PC_NO_UNROLL
	for (u32 i = 0; i < 8; i++) {
		s64 v = (s64)(rest & 63) - 8 * (s64)i;
		u64 in = ~(u64)((v - 8) >> 63), part = (u64)((v - 8) >> 63) & ~(u64)(v >> 63);
		u64 keep = in | (((1ULL << ((u64)(v << 3) & 63)) - 1) & part);

		s->jwt.block[i] = (pc_ld8(s->head + off + 8 * i) & keep) | (PC_K('A') & ~keep);
		PC_FENCE;
	}
	return 0;
}

/*
 * head[off .. off + len) -> json[dst ..); len <= PC_TOKEN_MAX, and the decoded length must fit behind dst.
 * Result: the decoded length, or -1.
 */
PC_FN int pc_b64_decode(struct pc_slot *s, u32 off, u32 len, u32 dst)
{
	if (!s || len > PC_TOKEN_MAX || (len & 3) == 1)
		return -1;
	u32 full = len / 64, out = len / 4 * 3 + ((len & 3) ? (len & 3) - 1 : 0), bad = 0;

	if (dst > PC_JSON_MAX || out + dst > PC_JSON_MAX - 64)
		return -1;
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_TOKEN_MAX / 64; i++) {
		if (i >= full)
			break;
		bad |= pc_b64_block(&s->jwt,
				    (struct pc_block64 *)(s->head + ((off + 64 * i) & (PC_HEAD_MAX - 1))),
				    dst + 48 * i);
	}
	pc_b64_pad(s, off + 64 * full, len);
	bad |= pc_b64_block(&s->jwt, (struct pc_block64 *)s->jwt.block, dst + 48 * full);
	u32 end = (dst + out) & (PC_JSON_MAX - 1);

	/* The bits behind the last octet are those of the last character that encode nothing. */
	if (bad || s->jwt.json[end])
		return -1;
	for (u32 i = 0; i < PC_JSON_TAIL; i += 8) {
		*(u64 *)(s->jwt.json + end + i) = 0;
		PC_FENCE;
	}
	return out;
}

#endif
