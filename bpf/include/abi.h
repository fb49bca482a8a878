/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Layouts shared with user space: map keys, map values and ring-buffer records.  Each has its Rust twin in
 * bpf/src/abi.rs; a test compares size and offsets through the native build.  Padding is explicit and zero:
 * hash keys are compared as bytes.
 *
 * Generations.  Everything that a policy or key bundle compiles to lives in one of two halves.  pc_active
 * holds one u64, generation << 1 | half, read once at the start of a decision; the agent fills the idle half,
 * then writes that word.  Indices in values (rules, sets, automaton cells) are absolute within their map.
 */
#ifndef PC_ABI_H
#define PC_ABI_H

#include "limits.h"
#include "port.h"
#include "reason.h"

/* ---- configuration ------------------------------------------------------------------------------------ */

enum pc_mode { PC_MODE_DISABLED = 0, PC_MODE_MONITOR = 1, PC_MODE_ENFORCE = 2 };
enum pc_action { PC_ACTION_DENY = 0, PC_ACTION_ALLOW = 1 };
enum pc_auth { PC_AUTH_NONE = 0, PC_AUTH_OPTIONAL = 1, PC_AUTH_REQUIRED = 2 };

/* Methods that a policy can name; every other upper-case token is PC_M_OTHER, matched by `*` only. */
enum pc_method {
	PC_M_OTHER = 0,
	PC_M_GET,
	PC_M_POST,
	PC_M_PUT,
	PC_M_DELETE,
	PC_M_PATCH,
	PC_M_HEAD,
	PC_M_OPTIONS,
	PC_METHODS
};

/* pc_ports: HASH u32 port (host order) -> pc_port.  Present = the port is protected.
 * Written in place, which takes a lock in the value (BPF_F_LOCK).  Otherwise a change puts a spare element of the CPU in the
 * place of the old one, which is the next spare: the next change would write another port's entry into what a run still
 * reads as its own (alloc_htab_elem, kernel/bpf/hashtab.c). */
enum {
	PC_PORT_ENFORCE = 1, /* some policy or rule of the port enforces, in either half */
	PC_PORT_UPGRADE = 2  /* some rule of the port lets a connection switch to websocket, in either half */
};
struct pc_port {
	u32 flags;
	u32 held; /* handshakes of which the guard dropped data, so many as an attacker likes; wraps */
	u32 host_row[PC_HALVES]; /* start of the reversed-host automaton, 0 = no policy names a host */
	u32 policy[PC_HALVES];   /* policy without host_match, index + 1, 0 = none */
	u32 enforce[PC_HALVES];  /* 1: requests that cannot be read are refused, 0: passed and logged */
	/* Policies that are tried beside the live ones: as host_row and policy, and whether there are any. */
	u32 candidate_host_row[PC_HALVES];
	u32 candidate_policy[PC_HALVES];
	u32 candidate[PC_HALVES];
	u32 upgrade[PC_HALVES]; /* 1: some rule lets a connection switch to websocket */
	struct bpf_spin_lock
		lock; /* the agent's; what a half in force says never changes, so readers need none */
};

/*
 * pc_dfa: ARRAY of cells.  A state stands at its row.  For a byte of class c it leads where the cell at row + 1 + c says,
 * if that cell is the state's own (tag is PC_CELL_OF | row), else to its default.  Row 0 is the dead state of either half.
 */
#define PC_CELL_OF 0x80000000u
struct pc_cell {
	u32 row; /* of the next state; in a state: of the default next one */
	u32 tag; /* PC_CELL_OF | row of the state that it belongs to; in a state: what that accepts, which is a rule set
		  * (paths) or policy index + 1 (hosts), 0 = nothing */
};
/* pc_classes: ARRAY [half] -> byte class of each byte. */
struct pc_classes {
	u8 c[256];
};
/* pc_policies: ARRAY */
struct pc_policy {
	u32 id;            /* index into the agent's table of policy ids of this generation */
	u8 mode;           /* enum pc_mode, never PC_MODE_DISABLED */
	u8 default_action; /* enum pc_action */
	u8 pad[2];
	u32 path_row; /* start of the path automaton */
	u32 pad2;
};
/* pc_sets: ARRAY, index = accept value of a path state.  First matching rule per method: index + 1 into
 * pc_rules, or 0 when only the default action applies. */
struct pc_set {
	u32 rule[PC_METHODS];
};
/* Bits of pc_principals words: one bit per distinct (kind, name) that the generation's policies mention. */
struct pc_bits {
	u64 w[PC_PRINCIPAL_WORDS];
};
enum {
	PC_RULE_MFA = 1,
	PC_RULE_ANY_ROLE = 2,
	PC_RULE_ANY_PERMISSION = 4,
	PC_RULE_ANY_GROUP = 8,
	PC_RULE_ALL_OF = 16,
	PC_RULE_NONE_OF = 32,
	PC_RULE_ORG = 64,
	PC_RULE_UPGRADE = 128
};
/* pc_rules: ARRAY */
struct pc_rule {
	u32 id; /* index into the agent's table of rule ids of this generation */
	u32 flags;
	u8 auth; /* enum pc_auth */
	u8 mode; /* effective: the weaker of the policy's and the rule's */
	u8 pad[2];
	u32 mfa_max_age_s; /* 0 = any age */
	u32 org;           /* bit index of the organisation in pc_bits (kind PC_N_ORG), when PC_RULE_ORG */
	u32 pad2;
	struct pc_bits any_roles, any_permissions, any_groups, all_of, none_of;
};

/* pc_names: HASH pc_name -> u32.  All strings that the kernel must recognise. */
enum pc_name_kind {
	PC_N_ROLE = 1,       /* -> bit of pc_bits */
	PC_N_PERMISSION = 2, /* -> bit */
	PC_N_GROUP = 3,      /* -> bit */
	PC_N_ORG = 4,        /* -> bit */
	PC_N_ISSUER = 5,     /* -> index into pc_issuers */
	PC_N_AUDIENCE = 6,   /* scope = issuer index; -> 1 */
	PC_N_KID = 7 /* scope = issuer index; -> algorithm << 16 | index into the algorithm's key map */
};
struct pc_name {
	u8 half;
	u8 kind;
	u16 len;
	u32 scope;
	u8 s[PC_NAME_MAX]; /* zero-padded */
};
enum pc_alg {
	PC_ALG_NONE = 0,
	PC_ALG_RS256_2048 = 1,
	PC_ALG_RS256_3072 = 2,
	PC_ALG_RS256_4096 = 3,
	PC_ALG_ES256 = 4
};

/* pc_issuers: ARRAY */
struct pc_issuer {
	u32 id;
	u32 leeway_s;
};
/* pc_rsa2048, pc_rsa3072, pc_rsa4096: ARRAY.  Signed limbs, least significant first; lib/rsa.h has the meaning. */
struct pc_rsa2048_key {
	s32 n[PC_RSA2048_LIMBS]; /* N, the modulus times m */
	s32 c1[PC_RSA2048_LIMBS];
	s32 k1[PC_RSA2048_LIMBS];
	u32 m;
	u32 pad;
};
struct pc_rsa3072_key {
	s32 n[PC_RSA3072_LIMBS]; /* N, the modulus times m */
	s32 c1[PC_RSA3072_LIMBS];
	s32 k1[PC_RSA3072_LIMBS];
	u32 m;
	u32 pad;
};
struct pc_rsa4096_key {
	s32 n[PC_RSA4096_LIMBS]; /* N, the modulus times m */
	s32 c1[PC_RSA4096_LIMBS];
	s32 k1[PC_RSA4096_LIMBS];
	u32 m;
	u32 pad;
};
/*
 * pc_p256_g: ARRAY, the table of the generator.  pc_p256_q: ARRAY, one table after the other for the keys.
 * In a table with windows of w bits, the point at (i << (w - 1)) + m - 1 is m * 2^(w * i) times the table's point, for
 * 1 <= m <= 2^(w - 1): affine, x then y, each times 2^261 mod p, as four words, least significant first.
 */
struct pc_p256_point {
	u64 x[4], y[4];
};
/*
 * pc_revoked: HASH pc_name -> pc_revocation, with a claim's value as the name and the issuer's index as the scope; like
 * all names it belongs to a half.  Refused are tokens whose iat is earlier than not_before, and tokens without iat.
 * An entry takes effect on tokens that are verified from then on: for those in the cache, the agent counts the
 * generation up afterwards.
 */
enum pc_revoked_kind {
	PC_N_REVOKED_SUB = 16,
	PC_N_REVOKED_SID = 17,
	PC_N_REVOKED_JTI = 18,
	PC_N_REVOKED_ORG = 19
};
struct pc_revocation {
	u64 not_before; /* Unix seconds; ~0 refuses every token with the claim */
};
/* pc_secret: ARRAY[1], random from the agent; zero = none, and then bad tokens are not remembered. */
struct pc_secret {
	u64 key[2];
};
/* pc_clock: ARRAY[1].  Unix time in ns = bpf_ktime_get_boot_ns() + offset. */
struct pc_clock {
	s64 boot_to_unix_ns;
};

/* ---- identity ----------------------------------------------------------------------------------------- */

enum { PC_ID_MFA = 1, PC_ID_NBF = 2, PC_ID_IAT = 4, PC_ID_AUTH_TIME = 8 };
struct pc_text64 {
	u8 len; /* full length, capped at 255; the text holds the first 63 bytes at most */
	u8 s[63];
};
/* What a verified token says.  Times are Unix seconds. */
struct pc_identity {
	u64 exp, nbf, iat, auth_time;
	u32 flags;  /* PC_ID_* */
	u32 issuer; /* index into pc_issuers */
	struct pc_bits bits;
	struct pc_text64 sub, email;
	u8 kid_len;
	u8 kid[31]; /* first 31 bytes */
};

/* ---- connections ---------------------------------------------------------------------------------------- */

/* Where the connection stands in its stream of requests. */
enum pc_state {
	PC_ST_HEAD = 0,   /* a request head is next */
	PC_ST_BODY,       /* conn.remain bytes of body */
	PC_ST_CHUNK_SIZE, /* chunked body, RFC 9112 section 7.1 */
	PC_ST_CHUNK_EXT,
	PC_ST_CHUNK_LF,
	PC_ST_CHUNK_DATA,
	PC_ST_CHUNK_DATA_CR,
	PC_ST_CHUNK_DATA_LF,
	PC_ST_TRAILER,
	PC_ST_TRAILER_LF,
	PC_ST_UPGRADE, /* a request to switch to websocket was passed and is not answered yet */
	PC_ST_OPAQUE, /* not to be followed any more (monitor mode), or switched to websocket: passed as it is */
	PC_ST_POISON, /* enforce mode: nothing passes any more */
	PC_ST_SEEKING /* adopted in the middle of its stream: passes unread until a buffer begins with a whole head */
};

enum {
	PC_CONN_CONTROLLED = 1, /* its socket is in pc_socks: every byte meets the verdict program */
	PC_CONN_SWITCHED =
		2, /* PC_ST_OPAQUE because it speaks websocket by a rule, not because it was lost */
	PC_CONN_OUTGOING = 4, /* opened by a process of this host, from a protected port: left alone */
	PC_CONN_ADOPTED =
		8 /* older than the monitoring of its port: observed, and ended when the port enforces */
};

/* Responses that the application owes.  How many of several it has written cannot be told, so from the first request on
 * that did not wait for the response before it, a denied one has no place that is certain. */
enum {
	PC_OWED = 1,     /* a request was passed */
	PC_OWED_MORE = 2 /* one was passed while the response to another was owed */
};

/* In pc_conn.pending: the last of the replies on their way must close the connection. */
#define PC_PENDING_CLOSE 0x80000000u

/*
 * Some servers take the end of the stream for the end of a request's head, and act on what they have of it.  So an
 * application whose reads block gets no part of a head (progs/withhold.h); any other gets it, but must not see the
 * client's end (FIN) while it holds a part, nor while that is not known.
 */
enum {
	PC_TORN_HELD = 1,   /* it holds a part of a head, which was not allowed */
	PC_TORN_JUDGED = 2, /* a buffer is being judged */
};

/* pc_conns: HASH u64 socket cookie -> pc_conn.  User space reads it, and writes only the entries of its self-test and new
 * ones of adopted connections. */
struct pc_conn {
	u64 remain; /* bytes of body or chunk left */
	u64 until; /* Unix seconds from which on a connection that switched to websocket passes nothing; 0 = no bound */
	u32 state; /* enum pc_state */
	u32 flags;
	u32 denied;  /* the request in hand was denied: its body is dropped */
	u32 exp_seq; /* TCP sequence number that comes next */
	u32 skbs;    /* buffers seen */
	u32 slot;    /* scratch slot + 1 while a run is under way */
	u32 requests;
	u32 owed; /* PC_OWED*; pass_wseq holds the write_seq of the moment at which a request was last passed */
	u32 pass_wseq;
	u32 deny_wseq;    /* write_seq at the first denial that is not answered yet */
	u32 pending;      /* replies asked of the agent, not yet injected, and PC_PENDING_CLOSE */
	u32 injected;     /* bytes injected since deny_wseq */
	u32 asked;        /* a reply was ever asked of the agent */
	u32 head_n;       /* bytes of a split head kept in pc_heads */
	u32 chunk_digits; /* digits of the chunk size, length of the extension, or place in the trailer line */
	u32 trailer;      /* bytes of the trailer section */
	u32 memo;         /* the last request was kept (lib/memo.h) */
	u32 memo_vain;    /* requests kept since one was recognised */
	u32 torn;         /* PC_TORN_*: the client's end must not reach the application */
	u32 withheld;     /* 1: the application has not got the bytes in pc_heads */
	/* 1: the client's end came before what stands in front of it was judged, and was dropped; it comes behind end_seq.  The
	 * guard's: runs only read them. */
	u32 ended;
	u32 end_seq;
};

/*
 * pc_tunnels: HASH u64 socket cookie -> pc_tunnel.  By which token a connection switched, or asked to switch, to websocket.
 * No program looks at it again: the agent ends the connection when the token is not good any more.
 */
struct pc_tunnel {
	u64 until; /* as in pc_conn */
	u8 saddr[16], daddr[16];
	u16 sport, dport; /* peer and local, host order */
	u8 ipv6;
	u8 pad[3];
	u32 len;
	u32 device; /* that the socket is bound to, 0 = none: it is part of its name */
	u8 token[PC_TOKEN_MAX];
};

/* ---- records ------------------------------------------------------------------------------------------ */

enum {
	PC_EV_CACHE_HIT = 1,
	PC_EV_TOKEN_VERIFIED = 2,
	PC_EV_WOULD_DENY = 4,
	PC_EV_IPV6 = 8,
	PC_EV_TOKEN_SENT = 16,
	PC_EV_MFA = 32
};
/* pc_events: one per decision. */
struct pc_event {
	u64 boot_ns;  /* when the decision was made, CLOCK_BOOTTIME */
	u64 decision; /* decision id: random, also in the response body */
	u64 generation;
	u64 cookie;       /* socket */
	u32 kernel_ns;    /* from entry of the verdict program to the decision */
	u32 verify_ns;    /* of which token verification; 0 when cached or not needed */
	u32 policy, rule; /* ids (index + 1) of the agent's tables for this generation; 0 = none */
	/* what the candidate policies say of the same request; candidate_reason 0: there is none for the port */
	u32 candidate_policy, candidate_rule;
	u16 candidate_reason;
	u16 pad[3];
	u16 reason;
	u16 status; /* HTTP status; 0 = allowed */
	u16 flags;  /* PC_EV_* */
	u8 mode;
	u8 method;
	u16 dport, sport;       /* host order */
	u8 saddr[16];           /* IPv4 in the first four bytes unless PC_EV_IPV6 */
	u16 path_len, host_len; /* full lengths */
	struct pc_bits bits;
	struct pc_text64 sub, email;
	u8 kid_len;
	u8 kid[31];
	u8 method_text[PC_EVENT_METHOD_MAX];
	u8 host[PC_EVENT_HOST_MAX];
	u8 path[PC_EVENT_PATH_MAX]; /* canonical when it could be canonicalised */
};
/* pc_replies: asks the agent to answer a denied request, or to destroy a connection. */
enum { PC_REPLY_SEND = 1, PC_REPLY_DESTROY = 2 };
struct pc_reply {
	u64 cookie;
	u64 decision;
	u64 boot_ns;
	u16 kind;
	u16 status;
	u16 reason;
	u8 close;        /* 1: `Connection: close` */
	u8 head_request; /* 1: HEAD, send no body */
	u8 saddr[16], daddr[16];
	u16 sport, dport; /* peer and local, host order */
	u8 ipv6;
	u8 pad[3];
	u32 mfa_max_age_s;
	u32 device; /* as in pc_tunnel */
};
/* What pc_inject made of a reply: it did not run; nobody waits for one; it went to the client; it would have to close the
 * connection and does not, so another one is due. */
enum { PC_INJECTED_UNSEEN = 0, PC_INJECTED_NOT = 1, PC_INJECTED = 2, PC_INJECTED_MUST_CLOSE = 3 };
/* pc_target: ARRAY[1], the connection that the agent's next injected reply goes to. */
struct pc_target {
	u64 cookie;   /* 0 = priming of the sink */
	u32 last;     /* 1: the reply closes the connection */
	u32 injected; /* PC_INJECTED*, written by pc_inject */
};
/* pc_stats: PERCPU_ARRAY[1]; every way out of the programs is counted. */
struct pc_stats {
	u64 conns, conn_refused, verdicts, requests, allowed, denied, would_deny, passed_bytes, dropped_bytes;
	u64 replies_agent, replies_kernel, no_reply, inject_refused, poisoned, stream_gap, trimmed;
	u64 guard_dropped, no_slot, no_conn, events_lost, tail_call_failed, cache_hit, cache_miss, verify_ok,
		verify_bad, memo_hit, tunnel_refused;
};

_Static_assert(sizeof(struct pc_cell) == 8, "pc_cell");
_Static_assert(sizeof(struct pc_name) == 248, "pc_name");
_Static_assert(sizeof(struct pc_identity) % 8 == 0, "pc_identity");
_Static_assert(sizeof(struct pc_event) % 8 == 0, "pc_event");
_Static_assert(sizeof(struct pc_reply) % 8 == 0, "pc_reply");

#endif
