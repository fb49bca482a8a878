/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Chunked bodies, RFC 9112 section 7.1: strict, one byte of framing a step, data skipped as a whole.
 * Refused: bare CR or LF, an empty or over-long size, control bytes in extensions and trailers, obs-fold.
 */
#ifndef PC_CHUNK_H
#define PC_CHUNK_H

#include "../lib/http1.h"
#include "../lib/path.h"

/* Body bytes are read to s->head behind the method of the request, which a record still has to show. */
#define PC_CHUNK_AT PC_EVENT_METHOD_MAX
/* Hexadecimal digits of a chunk size, bytes of one extension or trailer line. */
#define PC_CHUNK_DIGITS 12
#define PC_CHUNK_LINE 4096

static __always_inline int pc_chunk_text(u8 c)
{
	return c == '\t' || (c >= 0x20 && c != 0x7f);
}

/* The size line ended. */
static __always_inline void pc_chunk_begin(struct pc_conn *conn)
{
	conn->state = conn->remain ? PC_ST_CHUNK_DATA : PC_ST_TRAILER;
	conn->chunk_digits = conn->trailer = 0;
}

static __always_inline int pc_chunk_size(struct pc_conn *conn, u8 c)
{
	int h = pc_hex(c);

	if (h >= 0) {
		conn->remain = conn->remain << 4 | h;
		return ++conn->chunk_digits <= PC_CHUNK_DIGITS;
	}
	if (!conn->chunk_digits)
		return 0;
	conn->chunk_digits = 0;
	conn->state = c == '\r' ? PC_ST_CHUNK_LF : PC_ST_CHUNK_EXT;
	return c == '\r' || c == ';';
}

/* Where a trailer line stands, in conn->chunk_digits. */
enum { PC_TRAILER_START = 0, PC_TRAILER_NAME = 1, PC_TRAILER_VALUE = 2 };

/* One byte of a trailer section, which is made of field lines (RFC 9112 section 7.1.2); 0 = malformed. */
static __always_inline int pc_chunk_trailer(struct pc_conn *conn, u8 c)
{
	if (++conn->trailer > PC_TRAILER_MAX)
		return 0;
	u32 at = conn->chunk_digits;

	if (c == '\r') {
		conn->state = PC_ST_TRAILER_LF;
		return at == PC_TRAILER_START || at == PC_TRAILER_VALUE;
	}
	if (at == PC_TRAILER_VALUE)
		return pc_chunk_text(c);
	if (c == ':' && at == PC_TRAILER_NAME) {
		conn->chunk_digits = PC_TRAILER_VALUE;
		return 1;
	}
	conn->chunk_digits = PC_TRAILER_NAME;
	return pc_http_tchar(c);
}

/* One byte of framing; 1 = fine, 0 = malformed.  The body is over when the state is PC_ST_HEAD. */
static __always_inline int pc_chunk_byte(struct pc_conn *conn, u8 c)
{
	switch (conn->state) {
	case PC_ST_CHUNK_SIZE:
		return pc_chunk_size(conn, c);
	case PC_ST_CHUNK_EXT:
		if (c == '\r')
			conn->state = PC_ST_CHUNK_LF;
		else if (!pc_chunk_text(c) || ++conn->chunk_digits > PC_CHUNK_LINE)
			return 0;
		return 1;
	case PC_ST_CHUNK_LF:
		if (c != '\n')
			return 0;
		pc_chunk_begin(conn);
		return 1;
	case PC_ST_CHUNK_DATA_CR:
		conn->state = PC_ST_CHUNK_DATA_LF;
		return c == '\r';
	case PC_ST_CHUNK_DATA_LF:
		conn->state = PC_ST_CHUNK_SIZE;
		conn->remain = conn->chunk_digits = 0;
		return c == '\n';
	case PC_ST_TRAILER:
		return pc_chunk_trailer(conn, c);
	case PC_ST_TRAILER_LF:
		if (c != '\n')
			return 0;
		conn->state = conn->chunk_digits ? PC_ST_TRAILER : PC_ST_HEAD;
		conn->chunk_digits = 0;
		return 1;
	}
	return 0;
}

struct pc_chunk_ctx {
	struct pc_conn *conn;
	struct pc_slot *s;
};

/* bpf_loop callback: s->head[PC_CHUNK_AT ..) holds s->n body bytes, s->h.hend counts those consumed, s->h.lines is set on a
 * malformed byte.  State stands in map memory: constants on the stack would make the verifier follow every count. */
static long pc_chunk_step(u32 i PC_UNUSED, struct pc_chunk_ctx *x)
{
	struct pc_conn *conn = x->conn;
	struct pc_slot *s = x->s;
	u32 pos = s->h.hend;

	if (pos >= s->n || conn->state == PC_ST_HEAD)
		return 1;
	if (conn->state == PC_ST_CHUNK_DATA) {
		u64 k = s->n - pos;

		if (k > conn->remain)
			k = conn->remain;
		s->h.hend = pos + k;
		conn->remain -= k;
		if (!conn->remain)
			conn->state = PC_ST_CHUNK_DATA_CR;
		return 0;
	}
	if (!pc_chunk_byte(conn, s->head[PC_CHUNK_AT + (pos & PC_HM)])) {
		s->h.lines = 1;
		return 1;
	}
	s->h.hend = pos + 1;
	return 0;
}

#ifndef PC_HOST
/* Consumes chunked body at off of the buffer: bytes taken, or negative when malformed. */
PC_FN int pc_chunked(struct __sk_buff *skb, struct pc_conn *conn, struct pc_slot *s, u32 off, u32 avail)
{
	if (!conn || !s)
		return -PC_R_INTERNAL;
	if (conn->state == PC_ST_CHUNK_DATA && conn->remain > avail) {
		conn->remain -= avail;
		return avail;
	}
	u32 n = avail > PC_HEAD_MAX ? PC_HEAD_MAX : avail;

	/* VERIFIER: old kernels do not learn n > 0 from n != 0; see docs/VERIFIER.md, "length minus one". */
	n = (n - 1) & PC_HM;
	PC_OPAQUE(n);
	n++;
	if (bpf_skb_load_bytes(skb, off, s->head + PC_CHUNK_AT, n))
		return -PC_R_INTERNAL;
	s->n = n;
	s->h.hend = 0;
	s->h.lines = 0;
	struct pc_chunk_ctx x = { conn, s };

	bpf_loop(PC_HEAD_MAX, pc_chunk_step, &x, 0);
	return s->h.lines ? -PC_R_BAD_CHUNK : (int)s->h.hend;
}
#endif

#endif
