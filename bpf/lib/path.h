/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Canonical path and host of a request.
 *
 * A path that two readers may take for two different resources is refused, not repaired (docs/SEMANTICS.md,
 * Paths).  Clean paths, by far the most, are recognised and copied eight bytes a step; the others go through a
 * state machine, one character or %XX a step.
 */
#ifndef PC_PATH_H
#define PC_PATH_H

#include "http1.h"

#define PC_PM (PC_PATH_MAX - 1)
/* 0x80 flag in every byte equal to c, where all bytes are below 0x80. */
#define PC_EQ7(x, c) (~(((x) ^ PC_K(c)) + PC_K(0x7f)))

/*
 * Copies the target up to '?' or its end into s->path.  1: done, the path is canonical.  0: it holds a character
 * or sequence that the slow reader must judge.  Negative: refused.
 * No mask for the last word: behind the target stands " HTTP/1.x", which holds none of the characters.
 */
PC_FN int pc_path_fast(struct pc_slot *s)
{
	if (!s)
		return -PC_R_INTERNAL;
	u32 t = s->h.tgt, n = s->h.tlen;

	PC_NO_UNROLL for (u32 i = 0; i < PC_PATH_MAX / 8 + 1; i++)
	{
		u32 o = i * 8;

		if (o >= n) {
			if (n > PC_PATH_MAX)
				return -PC_R_PATH_TOO_LONG;
			s->path_len = n;
			return 1;
		}
		const u8 *p = s->head + ((t + o) & PC_HM);
		u64 x = pc_ld8(p), y = pc_ld8(p + 1) & PC_K(0x7f);
		u64 q = PC_EQ7(x, '?') & PC_K80;
		u64 bad = (PC_EQ7(x, '%') | PC_EQ7(x, '\\') | PC_EQ7(x, ';') | PC_EQ7(x, '#') |
			   (PC_EQ7(x, '/') & (PC_EQ7(y, '/') | PC_EQ7(y, '.')))) & PC_K80;

		*(u64 *)(s->path + o) = x;
		if (q | bad) {
			if (!q || (bad & ((q & -q) - 1)))
				return 0;
			u32 len = o + pc_lowbyte(q);

			if (len > PC_PATH_MAX)
				return -PC_R_PATH_TOO_LONG;
			s->path_len = len;
			return 1;
		}
	}
	return -PC_R_PATH_TOO_LONG;
}

static __always_inline int pc_hex(u8 c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* RFC 3986 section 2.3. */
static __always_inline int pc_unreserved(u8 c)
{
	u8 l = c | 0x20;

	return (l >= 'a' && l <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' || c == '~';
}

/* State of the slow reader: packed into one word so that the verifier sees one scalar between calls. */
struct pc_path_state {
	u32 in, out;         /* characters read and written */
	u32 seg, dots;       /* length of the segment so far; leading dots while it is all dots */
	u32 utf_left;        /* continuation bytes still owed */
	u32 utf_lo, utf_hi;  /* range of the next continuation byte (RFC 3629 section 4) */
	u32 done;
};

/* Segment ends: refuses an empty one that is not the last, "." and "..". */
static __always_inline int pc_path_segment(struct pc_path_state *w, int last)
{
	if (w->seg == 0 && !last)
		return 0;
	if (w->seg && w->seg == w->dots && w->seg <= 2)
		return 0;
	w->seg = w->dots = 0;
	return 1;
}

/* A percent-encoded byte >= 0x80: must continue well-formed UTF-8.  1 = fine. */
static __always_inline int pc_path_utf8(struct pc_path_state *w, u8 b)
{
	if (w->utf_left) {
		if (b < w->utf_lo || b > w->utf_hi)
			return 0;
		w->utf_left--;
		w->utf_lo = 0x80;
		w->utf_hi = 0xbf;
		return 1;
	}
	w->utf_lo = b == 0xe0 ? 0xa0 : b == 0xf0 ? 0x90 : 0x80;
	w->utf_hi = b == 0xed ? 0x9f : b == 0xf4 ? 0x8f : 0xbf;
	if (b >= 0xc2 && b <= 0xdf)
		w->utf_left = 1;
	else if (b >= 0xe0 && b <= 0xef)
		w->utf_left = 2;
	else if (b >= 0xf0 && b <= 0xf4)
		w->utf_left = 3;
	else
		return 0;
	return 1;
}

static __always_inline u8 pc_upper_hex(u8 c)
{
	return c >= 'a' ? c - 0x20 : c;
}

static __always_inline void pc_path_put(struct pc_slot *s, struct pc_path_state *w, u8 c)
{
	s->path[w->out & PC_PM] = c;
	w->out++;
}

/* "%XX" at input position i. */
PC_FN int pc_path_percent(struct pc_slot *s, struct pc_path_state *w)
{
	if (!s || !w)
		return 0;
	u32 t = s->h.tgt + w->in;
	u8 a = s->head[(t + 1) & PC_HM], c = s->head[(t + 2) & PC_HM];
	int h = pc_hex(a), l = pc_hex(c);

	if (w->in + 3 > s->h.tlen || h < 0 || l < 0)
		return 0;
	u8 b = h << 4 | l;

	w->in += 3;
	if (b < 0x80 && w->utf_left)
		return 0;
	if (b < 0x20 || b == 0x7f || b == '/' || b == '\\')
		return 0;
	if (b == '%' && pc_hex(s->head[(t + 3) & PC_HM]) >= 0 && pc_hex(s->head[(t + 4) & PC_HM]) >= 0)
		return 0;
	if (b >= 0x80 && !pc_path_utf8(w, b))
		return 0;
	if (pc_unreserved(b)) {
		w->dots += b == '.' && w->dots == w->seg;
		w->seg++;
		pc_path_put(s, w, b);
		return 1;
	}
	w->seg += 3;
	pc_path_put(s, w, '%');
	pc_path_put(s, w, pc_upper_hex(a));
	pc_path_put(s, w, pc_upper_hex(c));
	return 1;
}

/* One character.  1 = go on or done, 0 = refused. */
PC_FN int pc_path_step(struct pc_slot *s, struct pc_path_state *w)
{
	if (!s || !w)
		return 0;
	u8 c = w->in < s->h.tlen ? s->head[(s->h.tgt + w->in) & PC_HM] : '?';

	if (c == '%')
		return pc_path_percent(s, w);
	if (w->utf_left)
		return 0;
	if (c == '?') {
		w->done = 1;
		return pc_path_segment(w, 1);
	}
	if (c == '\\' || c == ';' || c == '#')
		return 0;
	if (c == '/') {
		if (w->in && !pc_path_segment(w, 0))
			return 0;
	} else {
		w->dots += c == '.' && w->dots == w->seg;
		w->seg++;
	}
	w->in++;
	pc_path_put(s, w, c);
	return 1;
}

PC_FN int pc_path_slow(struct pc_slot *s)
{
	if (!s)
		return -PC_R_INTERNAL;
	struct pc_path_state w = {};

	PC_NO_UNROLL for (u32 i = 0; i < PC_PATH_MAX + 1; i++)
	{
		if (w.out > PC_PATH_MAX - 3)
			return -PC_R_PATH_TOO_LONG;
		if (!pc_path_step(s, &w))
			return -PC_R_PATH_AMBIGUOUS;
		if (w.done) {
			s->path_len = w.out;
			return 1;
		}
	}
	return -PC_R_PATH_TOO_LONG;
}

/* s->path and s->path_len from the target; 0, or the negative reason of a refusal. */
PC_FN int pc_path(struct pc_slot *s)
{
	if (!s)
		return -PC_R_INTERNAL;
	int r = pc_path_fast(s);

	if (r == 0)
		r = pc_path_slow(s);
	return r < 0 ? r : 0;
}

/* One character of a host; returns what is stored, 0 = refused. */
static __always_inline u8 pc_host_char(u8 c)
{
	if (c >= 'A' && c <= 'Z')
		return c | 0x20;
	if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' || c == '[' || c == ']' || c == ':')
		return c;
	return 0;
}

/*
 * Host head[off .. off+len), without port and trailing dot, lower case, to s->host (which = 0) or s->path
 * (which = 1, as scratch).  Length, or negative.  A colon ends the host unless it stands inside [ ].
 */
PC_FN int pc_host_normalise(struct pc_slot *s, u32 off, u32 len, u32 which)
{
	if (!s)
		return -PC_R_INTERNAL;
	u32 n = 0, bracket = 0, port = 0;

	if (len == 0 || len > PC_HOST_MAX - 1)
		return -PC_R_BAD_HOST;
	PC_NO_UNROLL for (u32 i = 0; i < PC_HOST_MAX; i++)
	{
		if (i >= len)
			break;
		u8 c = pc_host_char(s->head[(off + i) & PC_HM]);

		if (!c)
			return -PC_R_BAD_HOST;
		if (port) {
			if (c < '0' || c > '9')
				return -PC_R_BAD_HOST;
			continue;
		}
		if ((c == '[') != (i == 0 && c == '['))
			return -PC_R_BAD_HOST;
		if (c == '[')
			bracket = 1;
		if (c == ':' && bracket != 1) {
			port = 1;
			continue;
		}
		if (bracket == 2)
			return -PC_R_BAD_HOST;
		if (c == ']') {
			if (bracket != 1)
				return -PC_R_BAD_HOST;
			bracket = 2;
		}
		if (which)
			s->path[i & PC_PM] = c;
		else
			s->host[i & (PC_HOST_MAX - 1)] = c;
		n = i + 1;
	}
	if (bracket == 1 || n == 0)
		return -PC_R_BAD_HOST;
	n &= PC_HOST_MAX - 1;
	u8 last = which ? s->path[(n - 1) & PC_PM] : s->host[(n - 1) & (PC_HOST_MAX - 1)];

	if (last == '.')
		n--;
	return n ? (int)n : -PC_R_BAD_HOST;
}

/* s->host and s->host_len; an absolute-form target must name the same host (THREATS T11).  Uses s->path. */
PC_FN int pc_host(struct pc_slot *s)
{
	if (!s)
		return -PC_R_INTERNAL;
	s->host_len = 0;
	if (!(s->h.seen & PC_H_HOST))
		return s->h.abs_host_len ? -PC_R_BAD_HOST : 0;
	int n = pc_host_normalise(s, s->h.host, s->h.host_len, 0);

	if (n < 0)
		return n;
	s->host_len = n;
	if (!s->h.abs_host_len)
		return 0;
	int m = pc_host_normalise(s, s->h.abs_host, s->h.abs_host_len, 1);

	if (m != n)
		return -PC_R_BAD_HOST;
	PC_NO_UNROLL for (u32 i = 0; i < PC_HOST_MAX; i++)
	{
		if (i >= (u32)n)
			break;
		if (s->host[i] != s->path[i])
			return -PC_R_BAD_HOST;
	}
	return 0;
}

#endif
