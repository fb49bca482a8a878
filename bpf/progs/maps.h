/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* State of the datapath: connections, sockets, rings. */
#ifndef PC_PROGS_MAPS_H
#define PC_PROGS_MAPS_H

#include "../lib/maps.h"

struct pc_pending_head {
	u8 b[PC_HEAD_MAX];
};

PC_HASH(pc_conns, u64, struct pc_conn, PC_CONNS_MAX)
PC_HASH(pc_heads, u64, struct pc_pending_head, PC_PENDING_HEADS_MAX)
PC_HASH_ALLOC(pc_tunnels, u64, struct pc_tunnel, PC_TUNNELS_MAX)
PC_ARRAY(pc_target, struct pc_target, 1)
/* CLOCK_BOOTTIME, ns, until which the agent answers denials; it goes on writing this while it is well.  Later than
 * that, and always when 0, the kernel answers by itself. */
PC_ARRAY(pc_beat, u64, 1)

struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, PC_CONNS_MAX);
	__type(key, u64);
	__type(value, u64);
} pc_socks SEC(".maps");

/* Key 0: a UNIX stream socket of the agent whose pipe is broken.  A redirect to it fails after the bytes are
 * consumed, so the reader is not woken (docs/ARCHITECTURE.md, Denials). */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 4);
	__type(key, u64);
	__type(value, u64);
} pc_sinks SEC(".maps");

/* Key 0: a TCP socket of the agent; what it sends is redirected to a client. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 4);
	__type(key, u64);
	__type(value, u64);
} pc_injectors SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, PC_EVENT_RING_BYTES);
} pc_events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, PC_REPLY_RING_BYTES);
} pc_replies SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct pc_stats);
} pc_stats SEC(".maps");

/* The program of an algorithm stands at PC_PROG_TOKEN + enum pc_alg. */
enum { PC_PROG_HTTP = 0, PC_PROG_TOKEN = 1, PC_PROGS = 8 };
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, PC_PROGS);
	__type(key, u32);
	__type(value, u32);
} pc_progs SEC(".maps");

#define PC_COUNT_N(field, n) \
	do { \
		u32 zero_ = 0; \
		struct pc_stats *stats_ = bpf_map_lookup_elem(&pc_stats, &zero_); \
		if (stats_) \
			stats_->field += (n); \
	} while (0)
#define PC_COUNT(field) PC_COUNT_N(field, 1)

/* The few kernel fields that no helper gives; relocated at load (CO-RE). */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct sk_buff_head {
	u32 qlen;
};
struct inode {
	u16 i_mode;
};
struct file {
	struct inode *f_inode;
	u32 f_flags;
};
struct sock;
struct socket {
	struct file *file;
	struct sock *sk;
};
typedef struct {
	int owned;
} socket_lock_t;
struct sock {
	struct sk_buff_head sk_receive_queue;
	socket_lock_t sk_lock;
	u16 sk_protocol;
	struct socket *sk_socket;
};
struct pt_regs {
	unsigned long orig_ax;
};
struct inet_sock {
	struct sock sk;
};
struct inet_connection_sock {
	struct inet_sock icsk_inet;
};
struct tcp_sock {
	struct inet_connection_sock inet_conn;
	u32 copied_seq;
	u32 snd_una;
	u32 write_seq;
	_Bool is_mptcp;
};
#pragma clang attribute pop

/* Whether the running kernel has the field: BPF_FIELD_EXISTS of enum bpf_field_info_kind (CO-RE). */
#define PC_HAS_FIELD(field) __builtin_preserve_field_info(field, 2)

#endif
