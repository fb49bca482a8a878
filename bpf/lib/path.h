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
/* 0x80 flag in every byte equal to c, or in [lo, hi], where all bytes are below 0x7f. */
#define PC_EQ7(x, c) (~(((x) ^ PC_K(c)) + PC_K(0x7f)))
#define PC_IN7(x, lo, hi) (((x) + PC_K(0x80 - (lo))) & ~((x) + PC_K(0x7f - (hi))))

/*
 * 0x80 flag in every byte that does not stand for itself in a canonical path, '/' apart: % ; # \ " * < > [ ] ^ ` { | }.
 * '?', '!' and '\'' are flagged too, because pairs that differ in one bit are found together; no harm is done.
 */
static __always_inline u64 pc_path_special(u64 x)
{
	return PC_EQ7(x | PC_K(4), '?') | PC_EQ7(x | PC_K(6), '\'') | PC_EQ7(x | PC_K(8), '*') |
	       PC_EQ7(x | PC_K(2), '>') | PC_EQ7(x, '`') | PC_IN7(x, '[', '^') | PC_IN7(x, '{', '}');
}

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

	PC_NO_UNROLL
	for (u32 i = 0; i < PC_PATH_MAX / 8 + 1; i++) {
		u32 o = i * 8;

		if (o >= n) {
			if (n > PC_PATH_MAX)
				return -PC_R_PATH_TOO_LONG;
			s->path_len = n;
			return 1;
		}
		const u8 *p = s->head + ((t + o) & PC_HP);
		u64 x = pc_ld8(p), y = pc_ld8(p + 1) & PC_K(0x7f);
		/* '/' before '/' or '.', which differ in one bit */
		u64 m = (pc_path_special(x) | (PC_EQ7(x, '/') & PC_EQ7(y | PC_K(1), '/'))) & PC_K80;

		*(u64 *)(s->path + o) = x;
		if (m) {
			u64 q = PC_EQ7(x, '?') & PC_K80;

			/* what stands behind the first '?' does not matter */
			if (!q || (m & ((q & -q) - 1)))
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

/* pchar of RFC 3986 section 3.3 without ';' (parameters) and '*' (a wildcard of rules): stands for itself. */
static __always_inline int pc_path_plain(u8 c)
{
	/* bit c: ! $ & ' ( ) + , - . 0 to 9 : =, then @ A to Z _ a to z ~ */
	if (c < 64)
		return 0x27ff7bd200000000ULL >> c & 1;
	return c < 128 && 0x47fffffe87ffffffULL >> (c - 64) & 1;
}

/* State of the slow reader. */
struct pc_path_state {
	u32 in, out;        /* characters read and written */
	u32 seg, dots;      /* length of the segment so far; leading dots while it is all dots */
	u32 utf_left;       /* continuation bytes still owed */
	u32 utf_lo, utf_hi; /* range of the next continuation byte (RFC 3629 section 4) */
	u32 done;
	u32 twice; /* 1 behind "%25", 2 behind "%25" and a hexadecimal digit */
	u32 pad;
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

static __always_inline u8 pc_hex_digit(u8 d)
{
	return d < 10 ? '0' + d : 'A' - 10 + d;
}

static __always_inline void pc_path_put(struct pc_slot *s, struct pc_path_state *w, u8 c)
{
	s->path[w->out & PC_PM] = c;
	w->out++;
}

static __always_inline void pc_path_put_encoded(struct pc_slot *s, struct pc_path_state *w, u8 c)
{
	pc_path_put(s, w, '%');
	pc_path_put(s, w, pc_hex_digit(c >> 4));
	pc_path_put(s, w, pc_hex_digit(c & 15));
	w->seg += 3;
	w->twice = c == '%';
}

/* A visible character or an encoded space, however it was written.  0 = encoded twice: "%2541", and "%25%34%31" no
 * less, is something else to a server that decodes twice. */
PC_FN int pc_path_char(struct pc_slot *s, struct pc_path_state *w, u32 c)
{
	if (!s || !w)
		return 0;
	if (!pc_path_plain(c)) {
		pc_path_put_encoded(s, w, c);
		return 1;
	}
	u32 hex = pc_hex(c) >= 0;

	if (w->twice == 2 && hex)
		return 0;
	w->twice = w->twice == 1 && hex ? 2 : 0;
	w->dots += c == '.' && w->dots == w->seg;
	w->seg++;
	pc_path_put(s, w, c);
	return 1;
}

/* "%XX" at input position i. */
PC_FN int pc_path_percent(struct pc_slot *s, struct pc_path_state *w)
{
	if (!s || !w)
		return 0;
	u32 t = s->h.tgt + w->in;
	int h = pc_hex(s->head[(t + 1) & PC_HP]), l = pc_hex(s->head[(t + 2) & PC_HP]);

	if (w->in + 3 > s->h.tlen || h < 0 || l < 0)
		return 0;
	u8 b = h << 4 | l;

	w->in += 3;
	if (b >= 0x80) {
		if (!pc_path_utf8(w, b))
			return 0;
		pc_path_put_encoded(s, w, b);
		return 1;
	}
	if (w->utf_left || b < 0x20 || b == 0x7f || b == '/' || b == '\\')
		return 0;
	return pc_path_char(s, w, b);
}

/* One character.  1 = go on or done, 0 = refused. */
PC_FN int pc_path_step(struct pc_slot *s, struct pc_path_state *w)
{
	if (!s || !w)
		return 0;
	u8 c = w->in < s->h.tlen ? s->head[(s->h.tgt + w->in) & PC_HP] : '?';

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
	if (c != '/') {
		w->in++;
		return pc_path_char(s, w, c);
	}
	if (w->in && !pc_path_segment(w, 0))
		return 0;
	w->in++;
	w->twice = 0;
	pc_path_put(s, w, c);
	return 1;
}

PC_FN int pc_path_slow(struct pc_slot *s)
{
	if (!s)
		return -PC_R_INTERNAL;
	struct pc_path_state w = {};

	PC_NO_UNROLL
	for (u32 i = 0; i < PC_PATH_MAX + 1; i++) {
		if (!pc_path_step(s, &w))
			return -PC_R_PATH_AMBIGUOUS;
		if (w.out > PC_PATH_MAX)
			return -PC_R_PATH_TOO_LONG;
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
	if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' ||
	    c == '[' || c == ']' || c == ':')
		return c;
	return 0;
}

/* State of the host reader. */
struct pc_host_state {
	u32 off, i;  /* start in head[], next character */
	u32 n;       /* characters stored */
	u32 bracket; /* 0 none, 1 inside [ ], 2 behind it */
	u32 port;    /* 1: behind the colon */
	u32 which;   /* 0: to s->host, 1: to s->path, as scratch */
	u32 last;    /* character stored last */
	u32 pad;
};

/* One character; 1 = fine, 0 = refused.
 * VERIFIER: a function of its own, because bracket and port differ per path through the loop and every combination
 * would be followed (1,000,001 insns inlined). */
PC_FN int pc_host_step(struct pc_slot *s, struct pc_host_state *w)
{
	if (!s || !w)
		return 0;
	u32 i = w->i++;
	u8 c = pc_host_char(s->head[(w->off + i) & PC_HP]);

	if (!c)
		return 0;
	if (w->port)
		return c >= '0' && c <= '9';
	if (c == ':' && w->bracket != 1) {
		w->port = 1;
		return 1;
	}
	if (w->bracket == 2 || (c == '[' && i) || (c == ']' && w->bracket != 1))
		return 0;
	/* an empty label, which some readers drop */
	if (c == '.' && (!i || w->last == '.'))
		return 0;
	if (c == '[')
		w->bracket = 1;
	if (c == ']')
		w->bracket = 2;
	if (w->which)
		s->path[i & PC_PM] = c;
	else
		s->host[i & (PC_HOST_MAX - 1)] = c;
	w->last = c;
	w->n = i + 1;
	return 1;
}

/*
 * Host head[off .. off+len), without port and trailing dot, lower case, to s->host (which = 0) or s->path
 * (which = 1, as scratch).  Length, or negative.  A colon ends the host unless it stands inside [ ].
 */
PC_FN int pc_host_normalise(struct pc_slot *s, u32 off, u32 len, u32 which)
{
	if (!s)
		return -PC_R_INTERNAL;
	struct pc_host_state w = { .off = off, .which = which };

	if (len == 0 || len > PC_HOST_MAX - 1)
		return -PC_R_BAD_HOST;
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_HOST_MAX; i++) {
		if (i >= len)
			break;
		if (!pc_host_step(s, &w))
			return -PC_R_BAD_HOST;
	}
	if (w.bracket == 1)
		return -PC_R_BAD_HOST;
	if (w.last == '.')
		w.n--;
	return w.n && w.n < PC_HOST_MAX ? (int)w.n : -PC_R_BAD_HOST;
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
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_HOST_MAX; i++) {
		if (i >= (u32)n)
			break;
		if (s->host[i] != s->path[i])
			return -PC_R_BAD_HOST;
	}
	return 0;
}

#endif
