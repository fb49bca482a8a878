/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Lexical layer of a strict JSON reader (RFC 8259): white space, strings, numbers, over pc_jwt.json.
 *
 * The text is followed by PC_JSON_TAIL zero bytes.  NUL is legal nowhere in JSON, so it stops every scan and no
 * scan tests a bound; positions are masked all the same, because the verifier cannot know that.
 * Refused besides bad syntax: bytes that are not well-formed UTF-8 (RFC 8259 section 8.1, Unicode table 3-7) and
 * \u escapes that do not form a Unicode scalar value (section 8.2: their reading is unpredictable).
 */
#ifndef PC_JSON_H
#define PC_JSON_H

#include "slot.h"

#define PC_JM (PC_JSON_MAX - 1)

/* 0x80 flag in every byte of x that is not zero; exact for every byte. */
static __always_inline u64 pc_json_nonzero(u64 x)
{
	return (((x & PC_K(0x7f)) + PC_K(0x7f)) | x) & PC_K80;
}

/* First position at or after p whose byte is not white space (RFC 8259 section 2). */
PC_FN int pc_json_space(struct pc_jwt *j, u32 p)
{
	if (!j)
		return 0;
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_JSON_MAX / 8 + 1; i++) {
		p &= PC_JM;
		u64 x = pc_ld8(j->json + p);
		u64 m = pc_json_nonzero(x ^ PC_K(' ')) & pc_json_nonzero(x ^ PC_K('\n')) &
			pc_json_nonzero(x ^ PC_K('\t')) & pc_json_nonzero(x ^ PC_K('\r'));

		if (m)
			return p + pc_lowbyte(m);
		p += 8;
	}
	return PC_JM;
}

/* First position at or after p whose byte is '"', '\', a control character or not ASCII. */
PC_FN int pc_json_plain_end(struct pc_jwt *j, u32 p)
{
	if (!j)
		return 0;
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_JSON_MAX / 8 + 1; i++) {
		p &= PC_JM;
		u64 x = pc_ld8(j->json + p), a = x ^ PC_K('"'), b = x ^ PC_K('\\');
		/* the subtractions borrow only out of bytes that are flagged themselves, and flag others only when
		 * x has its top bit set: the lowest flag is exact */
		u64 m = ((x - PC_K(0x20)) | (a - PC_K(1)) | (b - PC_K(1)) | x) & PC_K80;

		if (m)
			return p + pc_lowbyte(m);
		p += 8;
	}
	return PC_JM;
}

/* First position at or after p whose byte is not a digit. */
PC_FN int pc_json_digits_end(struct pc_jwt *j, u32 p)
{
	if (!j)
		return 0;
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_JSON_MAX / 8 + 1; i++) {
		p &= PC_JM;
		u64 x = pc_ld8(j->json + p), z = x & PC_K(0x7f);
		u64 digit = (z + PC_K(0x80 - '0')) & ~(z + PC_K(0x7f - '9')) & ~x;
		u64 m = ~digit & PC_K80;

		if (m)
			return p + pc_lowbyte(m);
		p += 8;
	}
	return PC_JM;
}

static __always_inline s32 pc_json_hex(u8 c)
{
	u8 l = c | 0x20;

	if (c >= '0' && c <= '9')
		return c - '0';
	if (l >= 'a' && l <= 'f')
		return l - 'a' + 10;
	return -1;
}

/* The four hexadecimal digits at p, or negative. */
PC_FN int pc_json_hex4(struct pc_jwt *j, u32 p)
{
	if (!j)
		return -1;
	s32 v = 0, bad = 0;

	p &= PC_JM;
	PC_NO_UNROLL
	for (u32 i = 0; i < 4; i++) {
		s32 d = pc_json_hex(j->json[p + i]);

		bad |= d;
		v = v << 4 | (d & 15);
	}
	return bad < 0 ? -1 : v;
}

/* Position behind the escape whose backslash stands at p, or -1. */
PC_FN int pc_json_escape(struct pc_jwt *j, u32 p)
{
	if (!j)
		return -1;
	p &= PC_JM;
	u8 c = j->json[p + 1];

	if (c == '"' || c == '\\' || c == '/' || c == 'b' || c == 'f' || c == 'n' || c == 'r' || c == 't')
		return p + 2;
	if (c != 'u')
		return -1;
	int v = pc_json_hex4(j, p + 2);

	if (v < 0)
		return -1;
	if (v < 0xd800 || v > 0xdfff)
		return p + 6;
	if (v >= 0xdc00 || j->json[p + 6] != '\\' || j->json[p + 7] != 'u')
		return -1;
	v = pc_json_hex4(j, p + 8);
	return v >= 0xdc00 && v <= 0xdfff ? (int)p + 12 : -1;
}

/* Position behind the multi-byte UTF-8 character at p, or -1. */
PC_FN int pc_json_utf8(struct pc_jwt *j, u32 p)
{
	if (!j)
		return -1;
	p &= PC_JM;
	u8 c = j->json[p], d = j->json[p + 1], e = j->json[p + 2], f = j->json[p + 3];

	if (c < 0xc2 || c > 0xf4 || (d & 0xc0) != 0x80)
		return -1;
	if (c < 0xe0)
		return p + 2;
	if ((e & 0xc0) != 0x80)
		return -1;
	if (c < 0xf0)
		return (c == 0xe0 && d < 0xa0) || (c == 0xed && d >= 0xa0) ? -1 : (int)p + 3;
	if ((f & 0xc0) != 0x80 || (c == 0xf0 && d < 0x90) || (c == 0xf4 && d >= 0x90))
		return -1;
	return p + 4;
}

/* Position behind the escape or multi-byte character at p, or -1. */
PC_FN int pc_json_special(struct pc_jwt *j, u32 p)
{
	if (!j)
		return -1;
	u8 c = j->json[p & PC_JM];

	if (c != '\\')
		return pc_json_utf8(j, p);
	j->escaped = 1;
	return pc_json_escape(j, p);
}

/* The string whose first character stands at p: position behind its closing quote, or -1.
 * Out: str_off, str_len (raw) and escaped. */
PC_FN int pc_json_string(struct pc_jwt *j, u32 p)
{
	if (!j)
		return -1;
	int q = p & PC_JM;

	j->str_off = q;
	j->escaped = 0;
	/* every turn but the last consumes two bytes or more */
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_JSON_MAX / 2; i++) {
		q = pc_json_plain_end(j, q) & PC_JM;
		if (j->json[q] == '"') {
			j->str_len = q - j->str_off;
			return q + 1;
		}
		q = pc_json_special(j, q);
		if (q < 0)
			return -1;
	}
	return -1;
}

/* The number at p: position behind it, or -1.  Out: str_off, str_len, and integer when it is a digit string only. */
PC_FN int pc_json_number(struct pc_jwt *j, u32 p)
{
	if (!j)
		return -1;
	u32 q = p & PC_JM, e;

	j->str_off = q;
	j->integer = 1;
	if (j->json[q] == '-') {
		j->integer = 0;
		q++;
	}
	/* RFC 8259 section 6: no leading zeros */
	e = j->json[q & PC_JM] == '0' ? (q & PC_JM) + 1 : (u32)pc_json_digits_end(j, q);
	if (e == q)
		return -1;
	q = e & PC_JM;
	j->str_len = q - j->str_off;
	if (j->json[q] == '.') {
		j->integer = 0;
		e = pc_json_digits_end(j, ++q);
		if (e == q)
			return -1;
		q = e & PC_JM;
	}
	if ((j->json[q] | 0x20) == 'e') {
		j->integer = 0;
		q++;
		u8 sign = j->json[q & PC_JM];

		if (sign == '+' || sign == '-')
			q++;
		e = pc_json_digits_end(j, q);
		if (e == q)
			return -1;
		q = e & PC_JM;
	}
	return q;
}

/* Value of the integer that pc_json_number read, into num; -1 when it has more than 15 digits. */
PC_FN int pc_json_integer(struct pc_jwt *j)
{
	if (!j)
		return -1;
	u32 p = j->str_off & PC_JM, n = j->str_len;
	u64 v = 0;

	if (!j->integer || n > 15)
		return -1;
	PC_NO_UNROLL
	for (u32 i = 0; i < 15; i++) {
		if (i >= n)
			break;
		v = v * 10 + (j->json[p + i] - '0');
	}
	j->num = v;
	return 0;
}

static __always_inline void pc_json_put(struct pc_jwt *j, u32 c)
{
	j->json[j->unescape_to & PC_JM] = c;
	j->unescape_to++;
}

/* One scalar value as UTF-8. */
PC_FN int pc_json_put_scalar(struct pc_jwt *j, u32 v)
{
	if (!j)
		return -1;
	if (v < 0x80) {
		pc_json_put(j, v);
		return 0;
	}
	if (v < 0x800) {
		pc_json_put(j, 0xc0 | v >> 6);
	} else {
		if (v < 0x10000) {
			pc_json_put(j, 0xe0 | v >> 12);
		} else {
			pc_json_put(j, 0xf0 | v >> 18);
			pc_json_put(j, 0x80 | (v >> 12 & 0x3f));
		}
		pc_json_put(j, 0x80 | (v >> 6 & 0x3f));
	}
	pc_json_put(j, 0x80 | (v & 0x3f));
	return 0;
}

/* Decodes one byte or one escape at unescape_from; the string was checked before. */
PC_FN int pc_json_unescape_step(struct pc_jwt *j)
{
	if (!j)
		return -1;
	u32 p = j->unescape_from & PC_JM;
	u8 c = j->json[p];

	if (c != '\\') {
		pc_json_put(j, c);
		j->unescape_from = p + 1;
		return 0;
	}
	c = j->json[p + 1];
	j->unescape_from = p + 2;
	if (c != 'u') {
		pc_json_put(j, c == 'b'   ? '\b'
			       : c == 'f' ? '\f'
			       : c == 'n' ? '\n'
			       : c == 'r' ? '\r'
			       : c == 't' ? '\t'
					  : c);
		return 0;
	}
	int v = pc_json_hex4(j, p + 2);

	j->unescape_from = p + 6;
	if (v >= 0xd800 && v <= 0xdbff) {
		v = 0x10000 + ((v & 0x3ff) << 10 | (pc_json_hex4(j, p + 8) & 0x3ff));
		j->unescape_from = p + 12;
	}
	if (v == 0)
		j->nul = 1;
	return pc_json_put_scalar(j, v);
}

/*
 * Decodes the escapes of the string that pc_json_string read, in place: no escape is shorter than what it stands
 * for.  str_len becomes the decoded length; nul tells whether U+0000 occurs.  -1 when the raw string is too long.
 * VERIFIER: a loop that carries two positions, each path its own, exceeds a million states; they stay in memory
 * and one step is a function of its own.
 */
PC_FN int pc_json_unescape(struct pc_jwt *j)
{
	if (!j)
		return -1;
	u32 n = j->str_len;

	j->nul = 0;
	if (!j->escaped)
		return 0;
	if (n > PC_JSON_ESCAPED_MAX)
		return -1;
	u32 end = j->str_off + n;

	j->unescape_from = j->unescape_to = j->str_off;
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_JSON_ESCAPED_MAX; i++) {
		if (j->unescape_from >= end)
			break;
		pc_json_unescape_step(j);
	}
	j->str_len = j->unescape_to - j->str_off;
	return 0;
}

#endif
