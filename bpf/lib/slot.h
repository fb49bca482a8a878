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
	u32 seen;   /* PC_H_* of the fields that occurred */
	u32 hend;   /* length of the head, final CRLFCRLF included */
	u32 minor;  /* HTTP/1.minor */
	u32 method; /* enum pc_method */
	u32 method_len;
	u32 tgt, tlen;              /* request target: origin-form part */
	u32 host, host_len;         /* value of Host */
	u32 abs_host, abs_host_len; /* authority of an absolute-form target, 0 = origin-form */
	u32 tok, tok_len;           /* bearer token, 0 = none sent */
	u32 rl_end;                 /* first byte after the request line */
	u32 lines;
	u32 pad;
	u64 content_length;
};

/* A block of SHA-256 input or of base64url text. */
struct pc_block64 {
	u8 b[64];
};
/* Chaining value of SHA-256. */
struct pc_sha256 {
	u32 h[8];
};

/* String value of a known member: where it stands in pc_jwt.json. */
struct pc_claim_value {
	u16 off, len;
	u32 claim; /* enum pc_claim */
};

/* Work of the token stages (lib/jwt.h). */
struct pc_jwt {
	u32 tok, tok_len;         /* in: span in pc_slot.head */
	u32 half;                 /* in: configuration half of this decision */
	u32 reason;               /* out: enum pc_reason of a failure, 0 while all is well */
	u64 now_s;                /* in: Unix seconds */
	u32 dot1, dot2;           /* offsets of the two dots, relative to tok */
	u32 header_len;           /* decoded header, json[0 .. header_len) */
	u32 payload, payload_len; /* decoded payload, a span of json */
	u32 header_alg;           /* algorithm that the JOSE header names */
	u32 has_kid;
	u32 issuer;  /* index into pc_issuers */
	u32 alg;     /* enum pc_alg of the key that was selected */
	u32 key;     /* index in that algorithm's key map */
	u32 revoked; /* decided at the parse, told after the signature */
	u32 pad2;
	/* JSON walk (lib/claims.h) */
	u32 pos, end, depth, state; /* state: PC_J_* */
	u32 mask, seen, cur;        /* known members, those that occurred, the one whose value is read */
	u32 nvals, mfa;
	u32 str_off, str_len, escaped, integer;
	u32 nul, unescape_from, unescape_to, pad;
	u64 kinds; /* bit d: the container at depth d is an object */
	u64 num;
	u64 exp, nbf, iat, auth_time;
	struct pc_claim_value v[PC_CLAIM_VALUES_MAX]; /* in order of occurrence */
	struct pc_claim_value last[32];               /* the last one of each member; stale unless seen */
	u8 json[PC_JSON_MAX + PC_JSON_TAIL + 256];    /* decoded parts; a masked position may read this far */
	u64 block[16];                                /* padded end of a message */
	struct pc_sha256 sha;
};

/* Numbers of an RSA verification (lib/rsa.h), in signed limbs, for the largest modulus and with zeros behind. */
#define PC_RSA_WORK_LIMBS (PC_RSA4096_LIMBS + 8)
struct pc_rsa_work {
	u64 s[PC_RSA_WORK_LIMBS];      /* signature times m */
	u64 a[PC_RSA_WORK_LIMBS];      /* running value */
	u64 n[PC_RSA_WORK_LIMBS];      /* modulus times m */
	u64 q[PC_RSA_WORK_LIMBS + 24]; /* quotient */
	u64 p[PC_RSA_WORK_LIMBS];      /* sums of products of neighbours */
	u64 f[2 * PC_RSA_WORK_LIMBS];  /* the modulus's part of them, by column */
	u64 t[2 * PC_RSA_WORK_LIMBS];  /* product */
	u64 h[12];                     /* digest */
};

/* Field element and affine point of P-256 (lib/p256_field.h). */
struct pc_fe {
	s64 v[9];
};
struct pc_p256_affine {
	struct pc_fe x, y;
};
/* A matrix of 30 divsteps: (f, g) becomes (u * f + v * g, q * f + r * g) / 2^30 (lib/p256_scalar.h). */
struct pc_divsteps {
	s64 zeta; /* -(delta + 1/2) */
	s64 u, v, q, r;
};
#define PC_P256_WINDOWS (PC_P256_WINDOWS_G + PC_P256_WINDOWS_Q)
/* Numbers of an ECDSA verification (lib/p256.h, lib/p256_scalar.h). */
struct pc_p256_work {
	u64 r[4], s[4], h[4];       /* signature and digest, least significant word first */
	s64 f[9], g[9], d[9], e[9]; /* inversion, in 30-bit limbs */
	struct pc_divsteps m;
	s64 t[9], u[9], q[9];                  /* product of scalars */
	u64 k[6];                              /* scalar in the making into digits */
	s64 digit[PC_P256_WINDOWS];            /* of h / s, then of r / s */
	struct pc_fe x, y, z, zz;              /* running sum, Jacobian, and z^2 */
	struct pc_fe a, b, hh, hhh, v, rd, rr; /* of the addition formula */
	u32 have, bad;                         /* the sum is not empty; a point is missing */
	struct pc_p256_affine point[PC_P256_WINDOWS];
};

/* A verified token and what it says (lib/cache.h). */
struct pc_cached_token {
	u64 generation;
	u64 seal; /* binds the rest to the token's last characters */
	u32 len;
	u32 pad;
	struct pc_identity id;
	u8 token[PC_CACHED_TOKEN_MAX];
};

/* Decision in the making (lib/policy.h). */
enum { PC_NEED_NOTHING = 0, PC_NEED_TOKEN = 1 };
struct pc_decision {
	u64 generation;
	u32 half;
	u32 port;
	u32 policy; /* index + 1 into pc_policies, 0 = none */
	u32 rule;   /* index + 1 into pc_rules, 0 = none */
	u32 need;   /* PC_NEED_* after pc_policy_match */
	u32 reason; /* enum pc_reason once decided */
	u32 mode;   /* enum pc_mode that applies to this request */
	u32 mfa_max_age_s;
	u32 token;   /* 1: it depends on the token */
	u32 upgrade; /* 1: the rule lets it switch to websocket */
	u32 pad;
	u32 candidate; /* 1: by the candidate policies of the port */
};

/* The way through the path automaton of a policy: its row behind each of the first n words of a path. */
struct pc_trail {
	u32 policy; /* as in pc_decision */
	u32 n;
	u32 row[PC_MEMO_WORDS];
	u64 word[PC_MEMO_WORDS];
};

enum { PC_TOKEN_NONE = 0, PC_TOKEN_VALID = 1, PC_TOKEN_INVALID = 2 };

/* What becomes of the socket buffer, worst so far. */
enum pc_outcome {
	PC_OUT_PASS = 0,  /* to the application */
	PC_OUT_BODY = 1,  /* rest of a denied request: dropped, nothing to say */
	PC_OUT_REPLY = 2, /* dropped, the client is answered */
	PC_OUT_KILL = 3   /* dropped, the connection is destroyed */
};
enum { PC_PHASE_NEXT = 0, PC_PHASE_TOKEN = 1 };

/* One run of the verdict chain over one socket buffer; survives its tail calls. */
struct pc_run {
	u64 entry_ns; /* CLOCK_BOOTTIME at entry */
	u64 verify_start_ns;
	u64 crypto_start_ns;
	u64 decision; /* id of the decision in hand */
	u32 verify_ns;
	u32 len, off; /* of the buffer; bytes consumed */
	u32 phase;
	u32 outcome;
	u32 messages;    /* request heads completed or refused in this buffer */
	u32 had;         /* bytes of the head in hand that earlier buffers brought */
	u32 head_off;    /* where the head in hand starts in this buffer */
	u32 reply_due;   /* a reply was due when the buffer arrived */
	u32 event;       /* 1: the decision in hand is not reported yet */
	u32 passed_head; /* a complete head of this buffer is to be passed */
	u32 passed_body; /* body of an allowed request is in this buffer */
	u32 close;       /* the reply must close the connection */
	u32 cache_hit;   /* the token in hand was known */
	u32 memo;        /* PC_MEMO_*: the head in hand was recognised */
	u32 learn;       /* the request in hand was allowed and read in full: keep it */
	u32 back;        /* bytes of a head that were withheld and stand at the front of this buffer again */
	u32 withhold;    /* 1: the application must not get the buffer's bytes from withhold_at on */
	u32 withhold_at;
	u32 tunnel; /* pc_slot.tunnel is that of a request in this buffer: keep it */
};

struct pc_slot {
	u32 busy;
	u32 n; /* bytes in head[] */
	struct pc_run run;
	struct pc_head h;
	struct pc_decision d;
	struct pc_decision c;    /* by the candidate policies, when c.candidate is set */
	struct pc_decision live; /* d, while c is in the making */
	u32 token_state;         /* PC_TOKEN_* */
	u32 token_reason;        /* when PC_TOKEN_INVALID */
	struct pc_identity id;
	u32 path_len; /* canonical path in path[] */
	u32 host_len; /* lower-case host without port in host[] */
	u8 path[PC_PATH_MAX + 64];
	u8 host[PC_HOST_MAX + 64];
	struct pc_trail trail; /* of this request, when it was walked in full */
	struct pc_trail known; /* of an earlier one of this run's generation */
	struct pc_jwt jwt;
	struct pc_rsa_work rsa;
	struct pc_p256_work p256;
	struct pc_cached_token cached;
	struct pc_tunnel tunnel;
	u64 fingerprint; /* of the token, for pc_refused; 0 = none */
	/* VERIFIER: twice the size, because a copy to a variable start of a variable length is judged by the sum of both
	 * maxima; only the first PC_HEAD_MAX bytes are used. */
	u8 head[2 * PC_HEAD_MAX + PC_HEAD_TAIL];
};

#endif
