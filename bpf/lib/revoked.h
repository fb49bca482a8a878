/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Revoked users, sessions, tokens and organisations: abi.h, pc_revoked. */
#ifndef PC_REVOKED_H
#define PC_REVOKED_H

#include "claims.h"
#include "names.h"

/* Whether the value of a claim of the parsed token is revoked. */
PC_FN int pc_revoked_claim(struct pc_jwt *j, u32 claim, u32 kind)
{
	if (!j)
		return 1;
	claim &= 31;
	u32 off = j->last[claim].off, len = j->last[claim].len;

	if (!(j->seen >> claim & 1))
		return 0;
	/* too long for a name: cannot be looked up, so it cannot be known to be good */
	if (len > PC_NAME_MAX)
		return 1;
	union pc_name_key key;

	pc_name_key(&key, j, kind, j->issuer, off, len);
	struct pc_revocation *r = pc_map_get(pc_revoked, &key);

	return r && (!(j->seen & PC_CB(IAT)) || j->iat < r->not_before);
}

/* After pc_jwt_parse and the signature.  1: the token is revoked. */
PC_FN int pc_revoked_token(struct pc_jwt *j)
{
	if (!j)
		return 1;
	return pc_revoked_claim(j, PC_C_SUB, PC_N_REVOKED_SUB) ||
	       pc_revoked_claim(j, PC_C_SID, PC_N_REVOKED_SID) ||
	       pc_revoked_claim(j, PC_C_JTI, PC_N_REVOKED_JTI) ||
	       pc_revoked_claim(j, PC_C_ORG_ID, PC_N_REVOKED_ORG);
}

#endif
