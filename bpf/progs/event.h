/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Decision records and replies asked of the agent. */
#ifndef PC_EVENT_H
#define PC_EVENT_H

#include "maps.h"
#include "../lib/policy.h"

/* Peer and local address of the connection; IPv4 in the first four bytes. */
static __always_inline int pc_addresses(struct __sk_buff *skb, u8 *saddr, u8 *daddr)
{
	if (skb->family == 10 /* AF_INET6 */) {
		u32 *s = (u32 *)saddr;

		s[0] = skb->remote_ip6[0];
		s[1] = skb->remote_ip6[1];
		s[2] = skb->remote_ip6[2];
		s[3] = skb->remote_ip6[3];
		if (daddr) {
			u32 *d = (u32 *)daddr;

			d[0] = skb->local_ip6[0];
			d[1] = skb->local_ip6[1];
			d[2] = skb->local_ip6[2];
			d[3] = skb->local_ip6[3];
		}
		return 1;
	}
	*(u32 *)saddr = skb->remote_ip4;
	if (daddr)
		*(u32 *)daddr = skb->local_ip4;
	return 0;
}

/* Device that the socket is bound to: by a listener (SO_BINDTODEVICE, a VRF), or by a link-local address. */
static __always_inline u32 pc_device(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	return sk ? sk->bound_dev_if : 0;
}

static __always_inline u16 pc_remote_port(struct __sk_buff *skb)
{
	/* network order in the upper half, include/uapi/linux/bpf.h */
	u32 p = skb->remote_port;

	return __builtin_bswap32(p);
}

/* Text of the event; separate to keep the number of live values down. */
PC_FN int pc_event_text(struct pc_slot *s, struct pc_event *e)
{
	if (!s || !e)
		return 0;
	u32 n = s->path_len;

	e->path_len = n;
	e->host_len = s->host_len;
	/* bytes behind the lengths are an earlier request's: the agent cuts at the length, and so it must */
	__builtin_memcpy(e->host, s->host, PC_EVENT_HOST_MAX);
	__builtin_memcpy(e->method_text, s->head, PC_EVENT_METHOD_MAX);
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_EVENT_PATH_MAX; i += 16) {
		if (i >= n)
			break;
		*(u64 *)(e->path + i) = *(u64 *)(s->path + i);
		*(u64 *)(e->path + i + 8) = *(u64 *)(s->path + i + 8);
	}
	u32 tried = s->c.candidate;

	e->candidate_policy = tried ? s->c.policy : 0;
	e->candidate_rule = tried ? s->c.rule : 0;
	e->candidate_reason = tried ? s->c.reason : 0;
	/* A rule that asks for no token gives no identity, even when the candidate has looked at one. */
	if (s->token_state == PC_TOKEN_VALID && s->d.token) {
		e->bits = s->id.bits;
		e->sub = s->id.sub;
		e->email = s->id.email;
		e->kid_len = s->id.kid_len;
		__builtin_memcpy(e->kid, s->id.kid, sizeof(e->kid));
		if (s->id.flags & PC_ID_MFA)
			e->flags |= PC_EV_MFA;
		e->flags |= PC_EV_TOKEN_VERIFIED;
		if (s->run.cache_hit)
			e->flags |= PC_EV_CACHE_HIT;
		return 0;
	}
	__builtin_memset(&e->bits, 0,
			 offsetof(struct pc_event, method_text) - offsetof(struct pc_event, bits));
	return 0;
}

/* Reports the decision in hand, once.  A full ring loses the record and counts the loss; it never changes the
 * verdict.  No wake-up: the reader comes by timer (a wake-up costs more than the whole decision). */
PC_FN int pc_event_flush(struct __sk_buff *skb, struct pc_slot *s, struct pc_conn *conn)
{
	if (!s || !conn)
		return 0;
	if (!s->run.event)
		return 0;
	s->run.event = 0;
	struct pc_event *e = bpf_ringbuf_reserve(&pc_events, sizeof(*e), 0);

	if (!e) {
		PC_COUNT(events_lost);
		return 0;
	}
	/* every field is set here or in pc_event_text: to clear it all first would cost as much */
	u64 now = bpf_ktime_get_boot_ns();
	u32 denied = !pc_allowed(s->d.reason);

	e->boot_ns = now;
	e->decision = s->run.decision;
	e->generation = s->d.generation;
	e->cookie = bpf_get_socket_cookie(skb);
	e->kernel_ns = now - s->run.entry_ns;
	e->verify_ns = s->run.verify_ns;
	e->policy = s->d.policy;
	e->rule = s->d.rule;
	e->reason = s->d.reason;
	e->status = denied ? pc_status(s->d.reason) : 0;
	e->flags = 0;
	e->pad[0] = e->pad[1] = e->pad[2] = 0;
	e->mode = s->d.mode;
	e->method = s->h.method;
	if (denied && s->d.mode != PC_MODE_ENFORCE)
		e->flags |= PC_EV_WOULD_DENY;
	if (s->h.tok)
		e->flags |= PC_EV_TOKEN_SENT;
	e->dport = skb->local_port;
	e->sport = pc_remote_port(skb);
	u32 *saddr = (u32 *)e->saddr;

	saddr[0] = saddr[1] = saddr[2] = saddr[3] = 0;
	if (pc_addresses(skb, e->saddr, 0))
		e->flags |= PC_EV_IPV6;
	pc_event_text(s, e);
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
	return 0;
}

/* Asks the agent for a reply or for the end of the connection.  Wakes it. */
static __always_inline void pc_reply_fill(struct __sk_buff *skb, struct pc_slot *s, struct pc_reply *r,
					  u32 kind, u32 close)
{
	__builtin_memset(r, 0, sizeof(*r));
	r->cookie = bpf_get_socket_cookie(skb);
	r->boot_ns = bpf_ktime_get_boot_ns();
	r->kind = kind;
	r->close = close;
	r->sport = pc_remote_port(skb);
	r->dport = skb->local_port;
	r->ipv6 = pc_addresses(skb, r->saddr, r->daddr);
	r->device = pc_device(skb);
	if (!s)
		return;
	r->decision = s->run.decision;
	r->reason = s->d.reason;
	r->status = pc_status(s->d.reason);
	r->head_request = s->h.method == PC_M_HEAD;
	r->mfa_max_age_s = s->d.mfa_max_age_s;
}

/* The connection cannot go on: the agent destroys its socket.  Without the agent it hangs, and nothing passes. */
PC_FN int pc_ask_destroy(struct __sk_buff *skb, struct pc_slot *s)
{
	struct pc_reply *r = bpf_ringbuf_reserve(&pc_replies, sizeof(*r), 0);

	if (!r)
		return 0;
	pc_reply_fill(skb, s, r, PC_REPLY_DESTROY, 1);
	bpf_ringbuf_submit(r, 0);
	return 0;
}

#endif
