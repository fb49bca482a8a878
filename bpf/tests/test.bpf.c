// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The library as tc programs: sk_skb has no BPF_PROG_TEST_RUN, tc has.  Input and output stand in slot 0 of
 * pc_slots; packet data is only used where a program says so.
 */
#include "../lib/maps.h"
#include "../lib/http1.h"
#include "../lib/path.h"
#include "../lib/policy.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

static __always_inline struct pc_slot *slot0(void)
{
	u32 zero = 0;

	return bpf_map_lookup_elem(&pc_slots, &zero);
}

SEC("classifier")
int t_head(struct __sk_buff *skb PC_UNUSED)
{
	struct pc_slot *s = slot0();

	return s ? pc_http_head(s) : -PC_R_INTERNAL;
}

/* Path and host of a parsed head. */
SEC("classifier")
int t_path(struct __sk_buff *skb PC_UNUSED)
{
	struct pc_slot *s = slot0();

	return s ? pc_path(s) : -PC_R_INTERNAL;
}

SEC("classifier")
int t_host(struct __sk_buff *skb PC_UNUSED)
{
	struct pc_slot *s = slot0();

	return s ? pc_host(s) : -PC_R_INTERNAL;
}

/* In: s->d.{half,port}, host, path, method, token_state, token_reason, id, jwt.now_s.  Result: the reason.  s->c holds
 * what the candidate says. */
SEC("classifier")
int t_policy(struct __sk_buff *skb PC_UNUSED)
{
	struct pc_slot *s = slot0();

	if (!s)
		return -PC_R_INTERNAL;
	pc_policy_match(s);
	pc_candidate_match(s);
	pc_candidate_decide(s);
	pc_policy_decide(s);
	return s->d.reason;
}

/* The same in two parts, between which a token is verified.  Result: whether one must be. */
SEC("classifier")
int t_match(struct __sk_buff *skb PC_UNUSED)
{
	struct pc_slot *s = slot0();

	if (!s)
		return -PC_R_INTERNAL;
	pc_policy_match(s);
	pc_candidate_match(s);
	return s->d.need == PC_NEED_TOKEN || s->c.need == PC_NEED_TOKEN;
}

SEC("classifier")
int t_decide(struct __sk_buff *skb PC_UNUSED)
{
	struct pc_slot *s = slot0();

	if (!s)
		return -PC_R_INTERNAL;
	pc_candidate_decide(s);
	pc_policy_decide(s);
	return s->d.reason;
}

#include "token_test.bpf.c"
