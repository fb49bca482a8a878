/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Policy meaning in the kernel: docs/SEMANTICS.md is the specification, core/policy the reference.
 *
 * pc_policy_match finds the policy of (port, host) and the rule of (method, path) with two automata that the agent
 * compiled, so its cost does not grow with the number of rules; it says whether the token must be verified.
 * pc_policy_decide then decides from the rule and the token's state.
 */
#ifndef PC_POLICY_H
#define PC_POLICY_H

#include "maps.h"

/* Row of the state that the one at row leads to for a byte of a class; the dead one leads to itself. */
static __always_inline u32 pc_dfa_next(u32 row, u32 class)
{
	u32 k = row + 1 + class;
	struct pc_cell *state = pc_map_get(pc_dfa, &row), *cell = pc_map_get(pc_dfa, &k);

	if (!state || !cell)
		return 0;
	/* VERIFIER: a branch for the choice would be the fourth of each turn of a long loop, and no more than 8192 may wait
	 * to be followed.  All ones when the cell is the state's own: */
	u64 own = ((u64)(cell->tag ^ (PC_CELL_OF | row)) - 1) >> 32;

	PC_OPAQUE(own);
	return state->row ^ ((state->row ^ cell->row) & (u32)own);
}

/* What the state at row accepts, 0 = nothing. */
static __always_inline u32 pc_dfa_accepts(u32 row)
{
	struct pc_cell *state = pc_map_get(pc_dfa, &row);

	return row && state ? state->tag : 0;
}

/* Row after the word at `from` of s->path, from row, as far as the path goes. */
PC_FN u32 pc_dfa_path_word(struct pc_slot *s, struct pc_classes *c, u32 row, u32 from)
{
	if (!s || !c)
		return 0;
	u32 n = s->path_len - from;

	from &= PC_PATH_MAX - 1;
	PC_NO_UNROLL
	for (u32 i = 0; i < 8; i++) {
		if (i >= n)
			break;
		row = pc_dfa_next(row, c->c[s->path[from + i]]);
	}
	return row;
}

/* How many words of s->path begin it as they begin the known one, when that was of the same policy. */
PC_FN u32 pc_dfa_known(struct pc_slot *s)
{
	if (!s || s->d.candidate || s->known.policy != s->d.policy)
		return 0;
	u32 most = s->path_len / 8, n = s->known.n < most ? s->known.n : most;

	PC_NO_UNROLL
	for (u32 i = 0; i < PC_MEMO_WORDS; i++) {
		if (i >= n || *(u64 *)(s->path + 8 * i) != s->known.word[i])
			return i;
	}
	return PC_MEMO_WORDS;
}

/* Keeps the row behind word i. */
static __always_inline void pc_dfa_keep(struct pc_slot *s, u32 i, u32 row)
{
	if (i >= PC_MEMO_WORDS || 8 * i + 8 > s->path_len || s->d.candidate)
		return;
	s->trail.row[i] = row;
	s->trail.word[i] = *(u64 *)(s->path + 8 * i);
	s->trail.n = i + 1;
}

/* Accept value after the bytes of s->path, from row; 0 = no rule. */
PC_FN int pc_dfa_path(struct pc_slot *s, struct pc_classes *c, u32 row)
{
	if (!s || !c)
		return 0;
	u32 n = s->path_len, known = pc_dfa_known(s);

	if (known && known <= PC_MEMO_WORDS)
		row = s->known.row[known - 1];
	else
		known = 0;
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_PATH_MAX / 8; i++) {
		if (8 * (known + i) >= n)
			break;
		row = pc_dfa_path_word(s, c, row, 8 * (known + i));
		if (!known)
			pc_dfa_keep(s, i, row);
	}
	return pc_dfa_accepts(row);
}

/* Bytes that the automaton of hosts reads a call: as one loop, the verifier would follow each turn. */
#define PC_DFA_STRIDE 64

/* Row after the bytes of s->host before `to` and not further back than PC_DFA_STRIDE, from last to first. */
PC_FN u32 pc_dfa_host_stride(struct pc_slot *s, struct pc_classes *c, u32 row, u32 to)
{
	if (!s || !c)
		return 0;
	PC_NO_UNROLL
	for (u32 i = 0; i < PC_DFA_STRIDE; i++) {
		if (i >= to)
			break;
		row = pc_dfa_next(row, c->c[s->host[(to - 1 - i) & (PC_HOST_MAX - 1)]]);
	}
	return row;
}

/* Accept value after the bytes of s->host from last to first: suffixes become prefixes. */
PC_FN int pc_dfa_host(struct pc_slot *s, struct pc_classes *c, u32 row)
{
	if (!s || !c)
		return 0;
	u32 n = s->host_len;

	PC_NO_UNROLL
	for (u32 i = 0; i < PC_HOST_MAX; i += PC_DFA_STRIDE) {
		if (i >= n)
			break;
		row = pc_dfa_host_stride(s, c, row, n - i);
	}
	return pc_dfa_accepts(row);
}

static __always_inline int pc_decided(struct pc_slot *s, u32 reason)
{
	s->d.reason = reason;
	s->d.need = PC_NEED_NOTHING;
	return 0;
}

static __always_inline int pc_policy_internal(struct pc_slot *s)
{
	s->d.mode = PC_MODE_ENFORCE;
	return pc_decided(s, PC_R_INTERNAL);
}

/* Policy of (port, host): index + 1, or 0. */
static __always_inline u32 pc_policy_select(struct pc_slot *s, struct pc_port *port, struct pc_classes *c)
{
	u32 half = s->d.half & 1;
	u32 row = s->d.candidate ? port->candidate_host_row[half] : port->host_row[half], p = 0;

	if (row && s->host_len)
		p = pc_dfa_host(s, c, row);
	if (p)
		return p;
	return s->d.candidate ? port->candidate_policy[half] : port->policy[half];
}

/*
 * In: s->d.{half,port}, s->host, s->path, s->h.method.  Out: s->d.{policy,rule,mode,need}, and s->d.reason when
 * the decision does not depend on a token; s->c.candidate, whether there is a candidate; s->trail.
 */
PC_FN int pc_policy_match(struct pc_slot *s)
{
	if (!s)
		return 0;
	/* VERIFIER: a variable whose address was taken is re-read from the stack without its bounds, so the index
	 * into the port's arrays is another one than the map key. */
	u32 half = s->d.half & 1, half_key = half, key = s->d.port;
	struct pc_port *port = pc_map_get(pc_ports, &key);
	struct pc_classes *c = pc_map_get(pc_classes, &half_key);

	s->d.policy = s->d.rule = s->d.token = s->d.upgrade = 0;
	if (!s->d.candidate) {
		s->trail.n = 0;
		s->c.candidate = port && port->candidate[half];
		s->c.need = PC_NEED_NOTHING;
	}
	s->d.reason = PC_R_NONE;
	s->d.mfa_max_age_s = 0;
	if (!port || !c)
		return pc_policy_internal(s);
	u32 p = pc_policy_select(s, port, c);

	if (!p) {
		s->d.mode = port->enforce[half] ? PC_MODE_ENFORCE : PC_MODE_MONITOR;
		return pc_decided(s, PC_R_HOST_NOT_COVERED);
	}
	s->d.policy = p--;
	s->trail.policy = s->d.candidate ? s->trail.policy : s->d.policy;
	struct pc_policy *policy = pc_map_get(pc_policies, &p);

	if (!policy)
		return pc_policy_internal(s);
	s->d.mode = policy->mode;
	u32 set = pc_dfa_path(s, c, policy->path_row);
	u32 rule = 0;

	if (set) {
		struct pc_set *rules = pc_map_get(pc_sets, &set);

		if (!rules)
			return pc_policy_internal(s);
		rule = rules->rule[s->h.method & (PC_METHODS - 1)];
	}
	if (!rule) {
		if (policy->default_action == PC_ACTION_ALLOW)
			return pc_decided(s, PC_R_DEFAULT_ALLOW);
		s->d.need = PC_NEED_TOKEN;
		s->d.token = 1;
		return 0;
	}
	s->d.rule = rule--;
	struct pc_rule *r = pc_map_get(pc_rules, &rule);

	if (!r)
		return pc_policy_internal(s);
	s->d.mode = r->mode;
	s->d.mfa_max_age_s = r->mfa_max_age_s;
	s->d.upgrade = (r->flags & PC_RULE_UPGRADE) != 0;
	if (r->auth == PC_AUTH_NONE)
		return pc_decided(s, PC_R_PUBLIC);
	s->d.need = PC_NEED_TOKEN;
	s->d.token = 1;
	return 0;
}

PC_FN int pc_bits_any(struct pc_bits *a, struct pc_bits *b)
{
	u64 m = 0;

	if (!a || !b)
		return 0;
	for (u32 i = 0; i < PC_PRINCIPAL_WORDS; i++)
		m |= a->w[i] & b->w[i];
	return m != 0;
}

/* Every bit of a is in b. */
PC_FN int pc_bits_within(struct pc_bits *a, struct pc_bits *b)
{
	u64 m = 0;

	if (!a || !b)
		return 0;
	for (u32 i = 0; i < PC_PRINCIPAL_WORDS; i++)
		m |= a->w[i] & ~b->w[i];
	return m == 0;
}

/* Whether a verified identity satisfies the rule. */
PC_FN int pc_rule_check(struct pc_slot *s, struct pc_rule *r)
{
	if (!s || !r)
		return PC_R_INTERNAL;
	struct pc_bits *who = &s->id.bits;
	u32 f = r->flags;

	if ((f & PC_RULE_ORG) && !(who->w[(r->org >> 6) & (PC_PRINCIPAL_WORDS - 1)] >> (r->org & 63) & 1))
		return PC_R_ORG_MISMATCH;
	if ((f & PC_RULE_ANY_ROLE) && !pc_bits_any(&r->any_roles, who))
		return PC_R_ROLE_MISSING;
	if ((f & PC_RULE_ANY_PERMISSION) && !pc_bits_any(&r->any_permissions, who))
		return PC_R_PERMISSION_MISSING;
	if ((f & PC_RULE_ANY_GROUP) && !pc_bits_any(&r->any_groups, who))
		return PC_R_GROUP_MISSING;
	if ((f & PC_RULE_ALL_OF) && !pc_bits_within(&r->all_of, who))
		return PC_R_ALL_OF_MISSING;
	if ((f & PC_RULE_NONE_OF) && pc_bits_any(&r->none_of, who))
		return PC_R_NONE_OF_PRESENT;
	if (f & PC_RULE_MFA) {
		if (!(s->id.flags & PC_ID_MFA))
			return PC_R_MFA_REQUIRED;
		if (r->mfa_max_age_s) {
			if (!(s->id.flags & PC_ID_AUTH_TIME))
				return PC_R_MFA_STALE;
			/* an auth_time in the future is young, not old */
			if (s->jwt.now_s > s->id.auth_time &&
			    s->jwt.now_s - s->id.auth_time > r->mfa_max_age_s)
				return PC_R_MFA_STALE;
		}
	}
	return PC_R_RULE_ALLOW;
}

/* After pc_policy_match said PC_NEED_TOKEN: s->d.reason from s->token_state, s->token_reason and s->id. */
PC_FN int pc_policy_decide(struct pc_slot *s)
{
	if (!s)
		return 0;
	if (s->d.need != PC_NEED_TOKEN)
		return 0;
	if (s->token_state == PC_TOKEN_INVALID)
		return pc_decided(s, s->token_reason ? s->token_reason : PC_R_INTERNAL);
	if (!s->d.rule)
		return pc_decided(s, s->token_state == PC_TOKEN_VALID ? PC_R_DEFAULT_DENY
								      : PC_R_DEFAULT_DENY_ANONYMOUS);
	u32 i = s->d.rule - 1;
	struct pc_rule *r = pc_map_get(pc_rules, &i);

	if (!r)
		return pc_policy_internal(s);
	if (s->token_state == PC_TOKEN_NONE)
		return pc_decided(s,
				  r->auth == PC_AUTH_OPTIONAL ? PC_R_OPTIONAL_ANONYMOUS : PC_R_TOKEN_MISSING);
	return pc_decided(s, pc_rule_check(s, r));
}

/*
 * The candidate: policies that decide beside the live ones and change nothing.  Both verdicts are of one generation,
 * one request and one look at the token.
 */

/* As pc_policy_match, which goes before, for the candidate of the port: s->c.  s->c.candidate is 0 when there is none. */
PC_FN int pc_candidate_match(struct pc_slot *s)
{
	if (!s || !s->c.candidate)
		return 0;
	s->live = s->d;
	s->d.candidate = 1;
	pc_policy_match(s);
	s->c = s->d;
	s->d = s->live;
	return 0;
}

/* As pc_policy_decide, for s->c. */
PC_FN int pc_candidate_decide(struct pc_slot *s)
{
	if (!s || !s->c.candidate)
		return 0;
	s->live = s->d;
	s->d = s->c;
	pc_policy_decide(s);
	s->c = s->d;
	s->d = s->live;
	return 0;
}

/* Allow reasons are below the first denial. */
static __always_inline int pc_allowed(u32 reason)
{
	return reason > PC_R_NONE && reason <= PC_R_DEFAULT_ALLOW;
}

/* HTTP status of a reason, 0 for an allow.  One row of reason.h each. */
static __always_inline u32 pc_status(u32 reason)
{
	switch (reason) {
#define PC_REASON_STATUS(code, name, slug, status, error, text) \
	case code: \
		return status;
		PC_REASONS(PC_REASON_STATUS)
#undef PC_REASON_STATUS
	}
	return 503;
}

#endif
