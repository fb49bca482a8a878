/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Strict HTTP/1.x request-head parser (RFC 9112 sections 2 to 6), sixteen bytes a step.
 *
 * Input: s->head[0 .. s->n), then PC_HEAD_TAIL zero bytes: NUL stops every scan, so no scan tests a bound.
 * Output: s->h.  Result: the length of the head, PC_HTTP_MORE while it is incomplete, or the negative reason of
 * a refusal.  What two parsers might read differently is refused, not repaired (RFC 9112 section 2.2, 5.1, 6.3).
 */
#ifndef PC_HTTP1_H
#define PC_HTTP1_H

#include "slot.h"

#define PC_HTTP_MORE (-1000)
#define PC_HM (PC_HEAD_MAX - 1)
/* Mask of a position in head[]: the one behind a full head is a position too, where the zero tail stands. */
#define PC_HP (2 * PC_HEAD_MAX - 1)

/* Fields that occurred, pc_head.seen. */
enum {
	PC_H_HOST = 1,
	PC_H_AUTH = 2,
	PC_H_LENGTH = 4,
	PC_H_CODING = 8,
	PC_H_CONNECTION = 16,
	PC_H_UPGRADE = 32,
	PC_H_EXPECT = 64,
	PC_H_CLOSE = 256,     /* Connection: close */
	PC_H_KEEP = 512,      /* Connection: keep-alive */
	PC_H_BEARER = 1024,   /* Authorization uses the Bearer scheme */
	PC_H_WEBSOCKET = 2048 /* Upgrade: websocket */
};

#define PC_L4(a, b, c, d) ((u32)(a) | (u32)(b) << 8 | (u32)(c) << 16 | (u32)(d) << 24)
#define PC_L8(a, b, c, d, e, f, g, h) ((u64)PC_L4(a, b, c, d) | (u64)PC_L4(e, f, g, h) << 32)

/* 0x80 flag in every byte outside [lo, 0x7e].  The lowest flag is exact: x - lo borrows only from a byte below lo,
 * which is flagged itself, and x + 1 carries only out of 0xff, which x - lo flags. */
#define PC_STOPS(x, lo) ((((x) - PC_K(lo)) | ((x) + PC_K(1))) & PC_K80)

/* First position at or after pos whose byte is outside [0x20, 0x7e]. */
PC_FN int pc_http_value_end(struct pc_slot *s, u32 pos)
{
	if (!s)
		return 0;
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_HEAD_MAX / 16 + 1; i++) {
		u32 p = pos & PC_HP;
		u64 a = PC_STOPS(pc_ld8(s->head + p), 0x20);
		u64 b = PC_STOPS(pc_ld8(s->head + p + 8), 0x20);

		if (a | b)
			return a ? p + pc_lowbyte(a) : p + 8 + pc_lowbyte(b);
		pos = p + 16;
	}
	return PC_HEAD_MAX;
}

/* Scans of the head go in strides of this many bytes, each a call: as one loop a scan would be verified turn by turn
 * over the whole head. */
#define PC_STRIDE 512

/* First position in the stride at pos whose byte is neither HTAB, nor in [0x20, 0x7e], nor obs-text (0x80 to 0xff);
 * pos + PC_STRIDE when there is none. */
PC_FN int pc_http_value_stride(struct pc_slot *s, u32 pos)
{
	if (!s)
		return 0;
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_STRIDE / 8; i++) {
		u32 p = pos & PC_HP;
		u64 x = pc_ld8(s->head + p), z = x & PC_K(0x7f);
		/* sums of 7-bit bytes: exact for every byte */
		u64 m = (~(z + PC_K(0x60)) | (z + PC_K(1))) & ((z ^ PC_K(9)) + PC_K(0x7f)) & ~x & PC_K80;

		if (m)
			return p + pc_lowbyte(m);
		pos = p + 8;
	}
	return pos;
}

/* As pc_http_value_end where HTAB and obs-text are legal too (RFC 9110 section 5.5): seldom needed. */
PC_FN int pc_http_value_end_slow(struct pc_slot *s, u32 pos)
{
	if (!s)
		return 0;
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_HEAD_MAX / PC_STRIDE + 1; i++) {
		u32 e = pc_http_value_stride(s, pos);

		if (e != (pos & PC_HP) + PC_STRIDE)
			return e;
		pos = e;
	}
	return PC_HEAD_MAX;
}

/* First position in the stride at pos whose byte is a space, a comma or outside [0x21, 0x7e]; pos + PC_STRIDE when
 * there is none. */
PC_FN int pc_http_token_stride(struct pc_slot *s, u32 pos)
{
	if (!s)
		return 0;
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_STRIDE / 8; i++) {
		u32 p = pos & PC_HP;
		u64 x = pc_ld8(s->head + p), c = x ^ PC_K(',');
		/* c - 1 borrows only below a zero byte of c, that is a comma, which is flagged itself */
		u64 m = PC_STOPS(x, 0x21) | ((c - PC_K(1)) & ~c & PC_K80);

		if (m)
			return p + pc_lowbyte(m);
		pos = p + 8;
	}
	return pos;
}

/* First position at or after pos whose byte is a space, a comma or outside [0x21, 0x7e]. */
PC_FN int pc_http_token_end(struct pc_slot *s, u32 pos)
{
	if (!s)
		return 0;
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_HEAD_MAX / PC_STRIDE + 1; i++) {
		u32 e = pc_http_token_stride(s, pos);

		if (e != (pos & PC_HP) + PC_STRIDE)
			return e;
		pos = e;
	}
	return PC_HEAD_MAX;
}

/* 0x80 flag in every byte that is not ALPHA, DIGIT or '-'; exact for every byte. */
static __always_inline u64 pc_http_notname(u64 x)
{
	u64 z = x & PC_K(0x7f), y = z | PC_K(0x20);
	u64 ok = (y + PC_K(0x80 - 'a')) & ~(y + PC_K(0x7f - 'z'));

	ok |= (z + PC_K(0x80 - '0')) & ~(z + PC_K(0x7f - '9'));
	ok |= ~((z ^ PC_K('-')) + PC_K(0x7f));
	return (~ok | x) & PC_K80;
}

/* tchar of RFC 9110 section 5.6.2. */
static __always_inline int pc_http_tchar(u8 c)
{
	u8 l = c | 0x20;

	if (l >= 'a' && l <= 'z')
		return 1;
	if (c >= '0' && c <= '9')
		return 1;
	return c == '!' || c == '#' || c == '$' || c == '%' || c == '&' || c == '\'' || c == '*' ||
	       c == '+' || c == '-' || c == '.' || c == '^' || c == '_' || c == '`' || c == '|' || c == '~';
}

/* Position of the ':' behind a name of any token characters; PC_HTTP_MORE, or 0 when it is not a name.
 * The fast steps cover names of 128 letters; 64 more characters of any kind may follow. */
PC_FN int pc_http_name_end(struct pc_slot *s, u32 pos)
{
	if (!s)
		return 0;
	PC_NO_UNROLL
	for (u32 i = 0; i < 16; i++) {
		u64 m = pc_http_notname(pc_ld8(s->head + (pos & PC_HP)));

		pos &= PC_HP;
		if (m) {
			pos += pc_lowbyte(m);
			break;
		}
		pos += 8;
	}
	PC_NO_UNROLL
	for (u32 i = 0; i < 64; i++) {
		u8 c = s->head[pos & PC_HP];

		pos &= PC_HP;
		if (c == ':')
			return pos;
		if (!pc_http_tchar(c))
			return pos >= s->n ? PC_HTTP_MORE : 0;
		pos++;
	}
	return 0;
}

/* Authorization (RFC 9110 section 11.6.2): the token of the Bearer scheme, RFC 6750 section 2.1. */
PC_FN int pc_http_auth(struct pc_slot *s, u32 p)
{
	if (!s)
		return 0;
	u32 q = p & PC_HP;
	u64 x = (pc_ld8(s->head + q) | PC_K(0x20)) & 0x00ffffffffffffffULL;
	u64 scheme = PC_L8('b', 'e', 'a', 'r', 'e', 'r', 0, 0);

	if ((x & 0x0000ffffffffffffULL) != scheme)
		return pc_http_value_end(s, p);
	u8 after = s->head[(q + 6) & PC_HP];

	if (after != ' ' && after != '\r')
		return pc_http_value_end(s, p); /* another scheme that begins with "bearer" */
	s->h.seen |= PC_H_BEARER;
	if (after == '\r') {
		s->h.tok = q + 6;
		s->h.tok_len = 0;
		return q + 6;
	}
	u32 t = q + 7, e = pc_http_token_end(s, t);

	s->h.tok = t;
	s->h.tok_len = e - t;
	return e;
}

/* Content-Length: 1*DIGIT, at most 15 of them; lists and signs are refused. */
PC_FN int pc_http_length(struct pc_slot *s, u32 p, u32 e)
{
	if (!s)
		return -PC_R_BAD_FRAMING;
	u64 v = 0;
	u32 n = e - p;

	if (n == 0 || n > 15)
		return -PC_R_BAD_FRAMING;
	PC_NO_UNROLL
	for (u32 i = 0; i < 15; i++) {
		if (i >= n)
			break;
		u8 c = s->head[(p + i) & PC_HP] - '0';

		if (c > 9)
			return -PC_R_BAD_FRAMING;
		v = v * 10 + c;
	}
	s->h.content_length = v;
	return 0;
}

/* Transfer-Encoding: exactly "chunked". */
PC_FN int pc_http_coding(struct pc_slot *s, u32 p, u32 e)
{
	if (!s)
		return -PC_R_BAD_FRAMING;
	if (e - p != 7)
		return -PC_R_BAD_FRAMING;
	u64 x = pc_ld8(s->head + (p & PC_HP)) | PC_K(0x20);

	return (x << 8) == (PC_L8('c', 'h', 'u', 'n', 'k', 'e', 'd', 0) << 8) ? 0 : -PC_R_BAD_FRAMING;
}

/* Connection: only "close" and "keep-alive" alone matter; other options do not change the framing. */
PC_FN int pc_http_connection(struct pc_slot *s, u32 p, u32 e)
{
	if (!s)
		return 0;
	u64 x = pc_ld8(s->head + (p & PC_HP)) | PC_K(0x20);

	if (e - p == 5 && (x << 24) == (PC_L8('c', 'l', 'o', 's', 'e', 0, 0, 0) << 24))
		return PC_H_CLOSE;
	u64 rest = pc_ld8(s->head + ((p + 2) & PC_HP)) | PC_K(0x20);

	if (e - p == 10 && x == PC_L8('k', 'e', 'e', 'p', '-', 'a', 'l', 'i') &&
	    rest == PC_L8('e', 'p', '-', 'a', 'l', 'i', 'v', 'e'))
		return PC_H_KEEP;
	return 0;
}

/* Upgrade: only "websocket" alone means something (RFC 6455 section 4.1). */
PC_FN int pc_http_upgrade(struct pc_slot *s, u32 p, u32 e)
{
	if (!s)
		return 0;
	const u8 *q = s->head + (p & PC_HP);
	u64 x = pc_ld8(q) | PC_K(0x20);

	if (e - p == 9 && x == PC_L8('w', 'e', 'b', 's', 'o', 'c', 'k', 'e') && (q[8] | 0x20) == 't')
		return PC_H_WEBSOCKET;
	return 0;
}

/* PC_H_* of the field name head[pos .. pos+len), or 0. */
PC_FN int pc_http_field(struct pc_slot *s, u32 pos, u32 len)
{
	if (!s)
		return 0;
	pos &= PC_HP;
	const u8 *q = s->head + pos;
	u64 x = pc_ld8(q) | PC_K(0x20);

	switch (len) {
	case 4:
		return (u32)x == PC_L4('h', 'o', 's', 't') ? PC_H_HOST : 0;
	case 6:
		return (x << 16) == (PC_L8('e', 'x', 'p', 'e', 'c', 't', 0, 0) << 16) ? PC_H_EXPECT : 0;
	case 7:
		return (x << 8) == (PC_L8('u', 'p', 'g', 'r', 'a', 'd', 'e', 0) << 8) ? PC_H_UPGRADE : 0;
	case 10:
		if (x == PC_L8('c', 'o', 'n', 'n', 'e', 'c', 't', 'i') && (q[8] | 0x20) == 'o' &&
		    (q[9] | 0x20) == 'n')
			return PC_H_CONNECTION;
		return 0;
	case 13:
		if (x == PC_L8('a', 'u', 't', 'h', 'o', 'r', 'i', 'z') &&
		    (pc_ld8(q + 5) | PC_K(0x20)) == PC_L8('r', 'i', 'z', 'a', 't', 'i', 'o', 'n'))
			return PC_H_AUTH;
		return 0;
	case 14:
		if (x == PC_L8('c', 'o', 'n', 't', 'e', 'n', 't', '-') &&
		    (pc_ld8(q + 6) | PC_K(0x20)) == PC_L8('t', '-', 'l', 'e', 'n', 'g', 't', 'h'))
			return PC_H_LENGTH;
		return 0;
	case 17:
		if (x == PC_L8('t', 'r', 'a', 'n', 's', 'f', 'e', 'r') &&
		    (pc_ld8(q + 8) | PC_K(0x20)) == PC_L8('-', 'e', 'n', 'c', 'o', 'd', 'i', 'n') &&
		    (q[16] | 0x20) == 'g')
			return PC_H_CODING;
		return 0;
	}
	return 0;
}

/* Interprets a known field whose value is head[p .. e) without surrounding white space. */
PC_FN int pc_http_known(struct pc_slot *s, u32 id, u32 p, u32 e)
{
	if (!s)
		return -PC_R_BAD_HEADER;
	switch (id) {
	case PC_H_HOST:
		s->h.host = p;
		s->h.host_len = e - p;
		return e == p ? -PC_R_BAD_HOST : 0;
	case PC_H_LENGTH:
		return pc_http_length(s, p, e);
	case PC_H_CODING:
		return pc_http_coding(s, p, e);
	case PC_H_CONNECTION:
		s->h.seen |= pc_http_connection(s, p, e);
		return 0;
	case PC_H_UPGRADE:
		s->h.seen |= pc_http_upgrade(s, p, e);
		return 0;
	}
	return 0;
}

/* Reason of a second occurrence: which of two equal fields a server takes is its own affair. */
static __always_inline int pc_http_duplicate(u32 id)
{
	if (id == PC_H_HOST)
		return -PC_R_BAD_HOST;
	if (id == PC_H_AUTH)
		return -PC_R_BAD_AUTHORIZATION;
	if (id & (PC_H_LENGTH | PC_H_CODING))
		return -PC_R_BAD_FRAMING;
	return -PC_R_BAD_HEADER;
}

/* Position of the ':' of the field line at pos; at most 0: an error or PC_HTTP_MORE. */
static __always_inline int pc_http_colon(struct pc_slot *s, u32 pos, u64 x)
{
	u64 m = pc_http_notname(x);
	u32 c;
	int r;

	if (m) {
		c = pos + pc_lowbyte(m);
	} else {
		m = pc_http_notname(pc_ld8(s->head + pos + 8));
		c = m ? pos + 8 + pc_lowbyte(m) : 0;
	}
	if (m && s->head[c & PC_HP] == ':')
		return c == pos ? -PC_R_BAD_HEADER : (int)c;
	r = pc_http_name_end(s, pos);
	if (r > 0)
		return r;
	if (r == PC_HTTP_MORE || pos >= s->n || (s->head[pos] == '\r' && pos + 1 >= s->n))
		return PC_HTTP_MORE;
	return -PC_R_BAD_HEADER;
}

/* End of the value that starts at p: position of its CR, or an error. */
PC_FN int pc_http_value(struct pc_slot *s, u32 id, u32 p)
{
	if (!s)
		return -PC_R_BAD_HEADER;
	u32 e = id == PC_H_AUTH ? pc_http_auth(s, p) : pc_http_value_end(s, p);
	u8 w = s->head[e & PC_HP];

	if (w != '\r' && (w == '\t' || w >= 0x80) &&
	    !(id & (PC_H_HOST | PC_H_AUTH | PC_H_LENGTH | PC_H_CODING))) {
		e = pc_http_value_end_slow(s, e);
		w = s->head[e & PC_HP];
	}
	if (w == '\r')
		return e & PC_HP;
	if (e >= s->n)
		return PC_HTTP_MORE;
	return id == PC_H_AUTH && (w == ' ' || w == ',') ? -PC_R_BAD_AUTHORIZATION : -PC_R_BAD_HEADER;
}

/* One field line at pos: position behind it, 0 at the end of the head, or an error. */
PC_FN int pc_http_line(struct pc_slot *s, u32 pos)
{
	if (!s)
		return -PC_R_BAD_HEADER;
	pos &= PC_HP;
	u64 x = pc_ld8(s->head + pos);

	if ((x & 0xffff) == 0x0a0d) {
		s->h.hend = pos + 2;
		return 0;
	}
	int c = pc_http_colon(s, pos, x);

	if (c <= 0)
		return c ? c : -PC_R_BAD_HEADER;
	u32 p = c + 1;

	PC_NO_UNROLL
	for (u32 i = 0; i < 64; i++) {
		u8 w = s->head[p & PC_HP];

		if (w != ' ' && w != '\t')
			break;
		p++;
		if (i == 63)
			return -PC_R_BAD_HEADER;
	}
	u32 id = pc_http_field(s, pos, c - pos);

	if (id & s->h.seen & ~PC_H_CONNECTION)
		return pc_http_duplicate(id);
	s->h.seen |= id;
	int e = pc_http_value(s, id, p);

	if (e < 0)
		return e;
	e &= PC_HP;
	if (s->head[e + 1] != '\n')
		return (u32)e + 1 >= s->n ? PC_HTTP_MORE : -PC_R_BAD_HEADER;
	if (id) {
		u32 t = e;

		PC_NO_UNROLL
		for (u32 i = 0; i < 16; i++) {
			if (t <= p || s->head[(t - 1) & PC_HP] != ' ')
				break;
			t--;
			if (i == 15)
				return -PC_R_BAD_HEADER;
		}
		int r = pc_http_known(s, id, p, t);

		if (r)
			return r;
	}
	return e + 2;
}

/* First byte in the stride at p that is not a visible ASCII character; p + PC_STRIDE when there is none. */
PC_FN int pc_http_target_stride(struct pc_slot *s, u32 p)
{
	if (!s)
		return 0;
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_STRIDE / 8; i++) {
		u64 m = PC_STOPS(pc_ld8(s->head + (p & PC_HP)), 0x21);

		p &= PC_HP;
		if (m)
			return p + pc_lowbyte(m);
		p += 8;
	}
	return p;
}

/* First byte of the target that is not a visible ASCII character.  Its own function: inlined behind the method
 * switch it would be verified once per method. */
PC_FN int pc_http_target_end(struct pc_slot *s, u32 p)
{
	if (!s)
		return 0;
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_HEAD_MAX / PC_STRIDE + 1; i++) {
		u32 e = pc_http_target_stride(s, p);

		if (e != (p & PC_HP) + PC_STRIDE)
			return e;
		p = e;
	}
	return PC_HEAD_MAX;
}

/* Length of the method at 0 and s->h.method; methods are case-sensitive (RFC 9110 section 9.1).  Tokens with
 * lower-case letters are refused: a server that folds case would run them as another method. */
PC_FN int pc_http_method(struct pc_slot *s)
{
	if (!s)
		return 0;
	u64 x = pc_ld8(s->head);

	s->h.method = PC_M_OTHER;
	if ((u32)x == PC_L4('G', 'E', 'T', ' '))
		return s->h.method = PC_M_GET, 3;
	if ((x << 24) == (PC_L8('P', 'O', 'S', 'T', ' ', 0, 0, 0) << 24))
		return s->h.method = PC_M_POST, 4;
	if ((u32)x == PC_L4('P', 'U', 'T', ' '))
		return s->h.method = PC_M_PUT, 3;
	if ((x << 8) == (PC_L8('D', 'E', 'L', 'E', 'T', 'E', ' ', 0) << 8))
		return s->h.method = PC_M_DELETE, 6;
	if ((x << 16) == (PC_L8('P', 'A', 'T', 'C', 'H', ' ', 0, 0) << 16))
		return s->h.method = PC_M_PATCH, 5;
	if ((x << 24) == (PC_L8('H', 'E', 'A', 'D', ' ', 0, 0, 0) << 24))
		return s->h.method = PC_M_HEAD, 4;
	if (x == PC_L8('O', 'P', 'T', 'I', 'O', 'N', 'S', ' '))
		return s->h.method = PC_M_OPTIONS, 7;
	if (x == PC_L8('C', 'O', 'N', 'N', 'E', 'C', 'T', ' '))
		return -PC_R_METHOD_REFUSED;
	PC_NO_UNROLL
	for (u32 i = 0; i < 24; i++) {
		u8 c = s->head[i];

		if (c == ' ')
			return i ? (int)i : -PC_R_BAD_REQUEST_LINE;
		if ((c >= 'A' && c <= 'Z') || c == '-' || c == '_')
			continue;
		if (i >= s->n)
			return PC_HTTP_MORE;
		return c >= 'a' && c <= 'z' ? -PC_R_METHOD_REFUSED : -PC_R_NOT_HTTP1;
	}
	return -PC_R_BAD_REQUEST_LINE;
}

/* The first n bytes of a word, n at most 8. */
static __always_inline u64 pc_http_first(u32 n)
{
	return n < 8 ? (1ULL << (8 * (n & 7))) - 1 : ~0ULL;
}

/* absolute-form (RFC 9112 section 3.2.2): the authority of http://authority/path; target becomes the path. */
PC_FN int pc_http_absolute(struct pc_slot *s, u32 p)
{
	if (!s)
		return -PC_R_BAD_REQUEST_LINE;
	/* only letters have a case: a control byte is no slash */
	u64 x = pc_ld8(s->head + (p & PC_HP)) | 0x20202020ULL;
	u32 there = s->n - p;

	if ((x ^ PC_L8('h', 't', 't', 'p', ':', '/', '/', 0)) & pc_http_first(there < 7 ? there : 7))
		return -PC_R_BAD_REQUEST_LINE;
	if (there < 7)
		return PC_HTTP_MORE;
	p += 7;
	s->h.abs_host = p;
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_HOST_MAX; i++) {
		u8 c = s->head[(p + i) & PC_HP];

		if (c == '/') {
			s->h.abs_host_len = i;
			return i ? (int)(p + i) : -PC_R_BAD_REQUEST_LINE;
		}
		if (c <= ' ' || c > 0x7e)
			return p + i >= s->n ? PC_HTTP_MORE : -PC_R_BAD_REQUEST_LINE;
	}
	return -PC_R_BAD_REQUEST_LINE;
}

/*
 * What is there at p, of which v is the first word, of a version and its end of line, when that is not all.  A server that
 * speaks HTTP/0.9 takes any other end of line for the end of the request, and does not wait for more.
 */
PC_FN int pc_http_version_part(struct pc_slot *s, u32 p, u64 v)
{
	if (!s)
		return -PC_R_BAD_REQUEST_LINE;
	u32 there = s->n - p;

	if ((v ^ PC_L8('H', 'T', 'T', 'P', '/', '1', '.', 0)) & pc_http_first(there < 7 ? there : 7))
		return -PC_R_BAD_REQUEST_LINE;
	if (there >= 8 && (u32)(v >> 56) - '0' > 1)
		return -PC_R_BAD_REQUEST_LINE;
	if (there >= 9 && s->head[(p + 8) & PC_HP] != '\r')
		return -PC_R_BAD_REQUEST_LINE;
	return PC_HTTP_MORE;
}

/* Request line at 0: position behind its CRLF, or an error. */
PC_FN int pc_http_request_line(struct pc_slot *s)
{
	if (!s)
		return -PC_R_BAD_REQUEST_LINE;
	int m = pc_http_method(s);

	if (m <= 0)
		return m ? m : -PC_R_BAD_REQUEST_LINE;
	s->h.method_len = m;
	u32 p = m + 1;

	if (s->head[p & PC_HP] != '/') {
		if (p >= s->n)
			return PC_HTTP_MORE;
		/* "PRI * HTTP/2.0", RFC 9113 section 3.4 */
		if ((u32)pc_ld8(s->head) == PC_L4('P', 'R', 'I', ' '))
			return -PC_R_NOT_HTTP1;
		int a = pc_http_absolute(s, p);

		if (a <= 0)
			return a ? a : -PC_R_BAD_REQUEST_LINE;
		p = a;
	}
	s->h.tgt = p;
	p = pc_http_target_end(s, p);
	p &= PC_HP;
	s->h.tlen = p - s->h.tgt;
	if (s->head[p] != ' ')
		return p >= s->n ? PC_HTTP_MORE : -PC_R_BAD_REQUEST_LINE;
	u64 v = pc_ld8(s->head + p + 1);

	if (p + 11 > s->n)
		return pc_http_version_part(s, p + 1, v);
	if ((v & 0x00ffffffffffffffULL) != PC_L8('H', 'T', 'T', 'P', '/', '1', '.', 0))
		return -PC_R_BAD_REQUEST_LINE;
	s->h.minor = (u32)(v >> 56) - '0';
	if (s->h.minor > 1)
		return -PC_R_BAD_REQUEST_LINE;
	if (s->head[p + 9] != '\r' || s->head[p + 10] != '\n')
		return -PC_R_BAD_REQUEST_LINE;
	s->h.rl_end = p + 11;
	return p + 11;
}

/* Rules over the whole head: RFC 9112 sections 3.2 and 6.1. */
static __always_inline int pc_http_rules(struct pc_slot *s)
{
	u32 f = s->h.seen;

	if ((f & (PC_H_LENGTH | PC_H_CODING)) == (PC_H_LENGTH | PC_H_CODING))
		return -PC_R_BAD_FRAMING;
	if (s->h.minor == 0 && (f & PC_H_CODING))
		return -PC_R_BAD_FRAMING;
	if (s->h.minor == 1 && !(f & PC_H_HOST))
		return -PC_R_BAD_HOST;
	return s->h.hend;
}

/* The head at s->head: its length, PC_HTTP_MORE, or the negative reason of a refusal. */
PC_FN int pc_http_head(struct pc_slot *s)
{
	if (!s)
		return -PC_R_INTERNAL;
	__builtin_memset(&s->h, 0, sizeof(s->h));
	int p = pc_http_request_line(s);

	if (p < 0)
		return p;
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_HEAD_LINES_MAX + 1; i++) {
		p = pc_http_line(s, p);
		if (p <= 0)
			break;
		s->h.lines++;
	}
	if (p > 0)
		return -PC_R_HEAD_TOO_LARGE;
	if (p < 0)
		return p;
	if (s->h.hend > s->n)
		return PC_HTTP_MORE;
	return pc_http_rules(s);
}

#endif
