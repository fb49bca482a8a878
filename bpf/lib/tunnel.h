/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Connections that switch to websocket by a rule live as long as the token that allowed it, not longer.
 *
 *   pc_tunnel_fill(s)   s->tunnel = the valid token of the request in hand, and until when it is good
 */
#ifndef PC_TUNNEL_H
#define PC_TUNNEL_H

#include "maps.h"

/* In: s->jwt.{tok,tok_len}, s->id.  1 = done, 0 = the issuer is missing. */
PC_FN int pc_tunnel_fill(struct pc_slot *s)
{
	if (!s)
		return 0;
	u32 index = s->id.issuer, off = s->jwt.tok & (PC_HEAD_MAX - 1), words = (s->jwt.tok_len + 7) / 8;
	struct pc_issuer *issuer = pc_map_get(pc_issuers, &index);
	struct pc_tunnel *t = &s->tunnel;

	if (!issuer || s->jwt.tok_len > PC_TOKEN_MAX)
		return 0;
	/* as in pc_times: the first second at which the token has expired */
	t->until = s->id.exp + issuer->leeway_s;
	t->len = s->jwt.tok_len;
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_TOKEN_MAX / 8; i++) {
		if (i >= words)
			break;
		*(u64 *)(t->token + 8 * i) = pc_ld8(s->head + off + 8 * i);
		PC_FENCE;
	}
	return 1;
}

#endif
