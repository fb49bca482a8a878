/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Scratch of one verdict run.  A slot is claimed for the length of one run and found again after a tail call
 * through its connection, which the socket lock serialises; it is never found by CPU, because a run can be
 * interrupted by another one on the same CPU.
 */
#ifndef PC_SLOT_H
#define PC_SLOT_H

#include "../include/abi.h"

/* Result of the head parse; offsets are into pc_slot.head. */
struct pc_head {
	u32 seen;            /* PC_H_* of the fields that occurred */
	u32 hend;            /* length of the head, final CRLFCRLF included */
	u32 minor;           /* HTTP/1.minor */
	u32 method;          /* enum pc_method */
	u32 method_len;
	u32 tgt, tlen;       /* request target: origin-form part */
	u32 host, host_len;  /* value of Host */
	u32 abs_host, abs_host_len;  /* authority of an absolute-form target, 0 = origin-form */
	u32 tok, tok_len;    /* bearer token, 0 = none sent */
	u32 rl_end;          /* first byte after the request line */
	u32 lines;
	u32 pad;
	u64 content_length;
};

/* String value of a known claim: where it stands in pc_jwt.json. */
struct pc_claim_value {
	u16 off, len;
	u32 claim;
};

/* Work of the token stages (lib/jwt.h). */
struct pc_jwt {
	u32 tok, tok_len;            /* in: span in pc_slot.head */
	u32 half;                    /* in: configuration half of this decision */
	u32 now_s_pad;
	u64 now_s;                   /* in: Unix seconds */
	u32 dot1, dot2;              /* offsets of the two dots, relative to tok */
	u32 alg;                     /* enum pc_alg of the key that was selected */
	u32 key;                     /* index in that algorithm's key map */
	u32 reason;                  /* out: enum pc_reason of a failure, 0 while all is well */
	u32 header_alg;              /* algorithm that the JOSE header names */
	/* JSON walk */
	u32 n, pos, depth, state, seen, cur, nvals, mask;
	u32 str_off, str_len, esc, tokens;
	u64 kinds, num;
	u64 exp, nbf, iat, auth_time;
	u32 bools, pad;
	struct pc_claim_value v[PC_CLAIM_VALUES_MAX];
	struct pc_name key_buf;      /* for lookups in pc_names */
	u8 json[PC_JSON_MAX + PC_JSON_TAIL];
	/* SHA-256 */
	u32 sha[8];
	u8 sha_tail[128];
	u8 sig[8 + 520];             /* decoded signature, big endian, from sig + 8 */
};

struct pc_rsa_work {
	u32 s[PC_RSA2048_LIMBS + 4];
	u32 h[12];
	u32 a[PC_RSA2048_LIMBS + 8];
	u32 d[PC_RSA2048_LIMBS + 8];
	u32 t[2 * PC_RSA2048_LIMBS + 8];
};

/* Decision in the making (lib/policy.h). */
enum { PC_NEED_NOTHING = 0, PC_NEED_TOKEN = 1 };
struct pc_decision {
	u64 generation;
	u32 half;
	u32 port;
	u32 policy;          /* index + 1 into pc_policies, 0 = none */
	u32 rule;            /* index + 1 into pc_rules, 0 = none */
	u32 need;            /* PC_NEED_* after pc_policy_match */
	u32 reason;          /* enum pc_reason once decided */
	u32 mode;            /* enum pc_mode that applies to this request */
	u32 mfa_max_age_s;
};

enum { PC_TOKEN_NONE = 0, PC_TOKEN_VALID = 1, PC_TOKEN_INVALID = 2 };

struct pc_slot {
	u32 busy;
	u32 n;               /* bytes in head[] */
	struct pc_head h;
	struct pc_decision d;
	u32 token_state;     /* PC_TOKEN_* */
	u32 token_reason;    /* when PC_TOKEN_INVALID */
	struct pc_identity id;
	u32 path_len;        /* canonical path in path[] */
	u32 host_len;        /* lower-case host without port in host[] */
	u8 path[PC_PATH_MAX + 64];
	u8 host[PC_HOST_MAX + 64];
	struct pc_jwt jwt;
	struct pc_rsa_work rsa;
	u8 head[PC_HEAD_MAX + PC_HEAD_TAIL];
};

#endif
