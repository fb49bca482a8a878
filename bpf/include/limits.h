/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Every number that bounds the kernel side, once.  `bpf/build.rs` turns each `#define PC_X number` of this
 * file into a Rust constant, so the agent and the tests cannot drift from the programs.
 * Sizes that index memory are powers of two: the verifier accepts `i & (CAP - 1)`.
 */
#ifndef PC_LIMITS_H
#define PC_LIMITS_H

/* Request head, request line included (bytes).  Longer heads are answered 431. */
#define PC_HEAD_MAX 16384
/* Zero bytes kept behind the head so that word-wide scans need no bound test. */
#define PC_HEAD_TAIL 128
/* Trailer section of a chunked body (bytes). */
#define PC_TRAILER_MAX 8192
/* Header lines of one request. */
#define PC_HEAD_LINES_MAX 128
/* Canonical path, query excluded (bytes).  Longer paths are answered 400. */
#define PC_PATH_MAX 2048
/* Host without port (bytes); RFC 1035 section 2.3.4 allows 253. */
#define PC_HOST_MAX 256
/* Requests decided in one socket buffer; what lies beyond is dropped and the connection closed.  Each may need three
 * tail calls, and the kernel allows 33 in a chain. */
#define PC_MSGS_PER_SKB_MAX 10

/* Compact JWS, all three parts and both dots (characters). */
#define PC_TOKEN_MAX 4096
/* Clock leeway of an issuer (seconds); more is cut off.  The agent sees to it. */
#define PC_LEEWAY_MAX_S 300
/* Decoded JOSE header or claims set (bytes). */
#define PC_JSON_MAX 4096
#define PC_JSON_TAIL 64
/* Decoded JOSE header (bytes). */
#define PC_JOSE_MAX 1024
/* Longest key or known value that may contain an escape, raw bytes. */
#define PC_JSON_ESCAPED_MAX 256
/* Nesting of the claims set. */
#define PC_JSON_DEPTH_MAX 16
/* Tokens of the claims set (a string, a number, a bracket, a comma ... is one). */
#define PC_JSON_TOKENS_MAX 1024
/* Strings that known claims may hold together (roles, permissions, groups, audiences ...). */
#define PC_CLAIM_VALUES_MAX 128

/* Longest name that a map key holds: role, permission, group, issuer, audience, kid (bytes). */
#define PC_NAME_MAX 240
/* Distinct roles, permissions and groups that all policies of one generation name together. */
#define PC_PRINCIPALS_MAX 512
#define PC_PRINCIPAL_WORDS 8

/* Configuration is double-buffered: half 0 and half 1, swapped by one 8-byte write. */
#define PC_HALVES 2
#define PC_PORTS_MAX 1024
#define PC_POLICIES_MAX 1024
#define PC_RULES_MAX 16384
#define PC_RULE_SETS_MAX 32768
#define PC_ISSUERS_MAX 64
#define PC_RSA_KEYS_MAX 128
#define PC_NAMES_MAX 8192
/* Cells (state x byte class) of the path and host automata of one half, 8 bytes each. */
#define PC_DFA_CELLS_MAX 1048576

/* Version of the state that outlives programs in pinned maps (connections, slots, configuration).  Raised when its
 * layout or meaning changes: an agent takes over the maps of its own version only. */
#define PC_STATE_VERSION 6

/* Live connections under control, by default; the agent may raise it at load. */
#define PC_CONNS_MAX 65536
/* Connections whose head is split over segments at one time, by default. */
#define PC_PENDING_HEADS_MAX 512
/* Verified tokens kept, by default. */
#define PC_TOKEN_CACHE_MAX 4096
/* Longest token that the cache keeps (characters): every one, so that valid tokens cost a signature check once. */
#define PC_CACHED_TOKEN_MAX 4096
/* Connections whose last request is kept, by default; memory is taken for those that have one. */
#define PC_MEMOS_MAX 16384
/* Longest head that is kept (bytes); its request line is shorter than the second. */
#define PC_MEMO_HEAD_MAX 2944
#define PC_MEMO_LINE_MAX 256
/* Words of eight bytes of its path whose states are kept, so that a path that begins alike is read from there on. */
#define PC_MEMO_WORDS 12
/* Requests kept in vain one after the other, after which a connection's are kept no more. */
#define PC_MEMO_VAIN_MAX 8
/* Connections that switched to websocket with a token, by default; memory is taken for those that there are. */
#define PC_TUNNELS_MAX 16384
/* Tokens with a bad signature remembered, by default. */
#define PC_REFUSED_MAX 16384
/* Revoked users, sessions, tokens and organisations, by default, both halves together. */
#define PC_REVOCATIONS_MAX 65536
/* Sources of tokens with a bad signature counted, by default. */
#define PC_SOURCES_MAX 16384
/* Bad signatures that one source may send at once, and each second from then on. */
#define PC_SOURCE_BURST 200
#define PC_SOURCE_RATE 50
/* Share of a CPU's time that bad signatures may take (percent), and how much of it at once (microseconds). */
#define PC_CPU_PERCENT 25
#define PC_CPU_BURST_US 10000
/* What one bad signature is charged at most (microseconds): whoever took longer was not on the CPU all the time. */
#define PC_CPU_CHARGE_MAX_US 2500
/* What must be left of it to begin a verification (microseconds). */
#define PC_CPU_RESERVE_US 200
/* Scratch slots per CPU, and how many a run tries: a verdict may be interrupted by others on the same CPU. */
#define PC_SLOTS_PER_CPU 8
#define PC_SLOTS_TRIED 16
#define PC_SLOTS_MAX 4096

/* Ring buffers (bytes). */
#define PC_EVENT_RING_BYTES 8388608
#define PC_REPLY_RING_BYTES 262144

/* Text that an event carries, truncated (bytes). */
#define PC_EVENT_PATH_MAX 256
#define PC_EVENT_HOST_MAX 64
#define PC_EVENT_SUB_MAX 64
#define PC_EVENT_EMAIL_MAX 64
#define PC_EVENT_KID_MAX 32
#define PC_EVENT_METHOD_MAX 16

/* Overlap of a retransmission that bpf_skb_adjust_room can trim (bytes, 12 bits). */
#define PC_TRIM_MAX 4095
/* How often it is called for one buffer, of at most 64 KiB. */
#define PC_TRIM_STEPS 17

/* RS256: limbs of a number, a multiple of four; bits of a limb; limbs that the modulus reaches into (see lib/rsa.h). */
#define PC_RSA2048_LIMBS 72
#define PC_RSA2048_LIMB_BITS 29
#define PC_RSA2048_COLS 71
#define PC_RSA3072_LIMBS 108
#define PC_RSA3072_LIMB_BITS 29
#define PC_RSA3072_COLS 106
#define PC_RSA4096_LIMBS 148
#define PC_RSA4096_LIMB_BITS 28
#define PC_RSA4096_COLS 147

/* ES256: bits of a window of the table of the generator, and of the table of a key (see lib/p256.h). */
#define PC_P256_WINDOW_G 13
#define PC_P256_WINDOW_Q 10
/* Windows: 257 bits divided by the window, rounded up. */
#define PC_P256_WINDOWS_G 20
#define PC_P256_WINDOWS_Q 26
/* Points of each table, 64 bytes each: windows times 2^(window - 1). */
#define PC_P256_POINTS_G 81920
#define PC_P256_POINTS_Q 13312
/* Keys of each half; a key's table takes 832 KiB, so the agent may lower this at load. */
#define PC_P256_KEYS_MAX 16

#endif
