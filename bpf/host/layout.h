/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Sizes and offsets of abi.h as C sees them; bpf/tests/layout.rs compares them with src/abi.rs. */

struct pc_layout_row {
	const char *type, *field;
	size_t offset, size;
};

#define F(t, f) { #t, #f, offsetof(struct t, f), sizeof(((struct t *)0)->f) }
#define SIZE(t) { #t, "", 0, sizeof(struct t) }

static const struct pc_layout_row pc_layout_rows[] = {
	SIZE(pc_port), F(pc_port, flags), F(pc_port, held), F(pc_port, host_row), F(pc_port, policy), F(pc_port, enforce),
	F(pc_port, candidate_host_row), F(pc_port, candidate_policy), F(pc_port, candidate), F(pc_port, upgrade), F(pc_port, lock),
	SIZE(pc_cell), F(pc_cell, row), F(pc_cell, tag),
	SIZE(pc_classes), F(pc_classes, c),
	SIZE(pc_policy), F(pc_policy, id), F(pc_policy, mode), F(pc_policy, default_action), F(pc_policy, pad),
	F(pc_policy, path_row), F(pc_policy, pad2),
	SIZE(pc_set), F(pc_set, rule),
	SIZE(pc_bits), F(pc_bits, w),
	SIZE(pc_rule), F(pc_rule, id), F(pc_rule, flags), F(pc_rule, auth), F(pc_rule, mode), F(pc_rule, pad),
	F(pc_rule, mfa_max_age_s), F(pc_rule, org), F(pc_rule, pad2), F(pc_rule, any_roles), F(pc_rule, any_permissions),
	F(pc_rule, any_groups), F(pc_rule, all_of), F(pc_rule, none_of),
	SIZE(pc_name), F(pc_name, half), F(pc_name, kind), F(pc_name, len), F(pc_name, scope), F(pc_name, s),
	SIZE(pc_issuer), F(pc_issuer, id), F(pc_issuer, leeway_s),
	SIZE(pc_rsa2048_key), F(pc_rsa2048_key, n), F(pc_rsa2048_key, c1), F(pc_rsa2048_key, k1), F(pc_rsa2048_key, m),
	F(pc_rsa2048_key, pad),
	SIZE(pc_rsa3072_key), F(pc_rsa3072_key, n), F(pc_rsa3072_key, c1), F(pc_rsa3072_key, k1), F(pc_rsa3072_key, m),
	F(pc_rsa3072_key, pad),
	SIZE(pc_rsa4096_key), F(pc_rsa4096_key, n), F(pc_rsa4096_key, c1), F(pc_rsa4096_key, k1), F(pc_rsa4096_key, m),
	F(pc_rsa4096_key, pad),
	SIZE(pc_p256_point), F(pc_p256_point, x), F(pc_p256_point, y),
	SIZE(pc_revocation), F(pc_revocation, not_before), SIZE(pc_secret), F(pc_secret, key),
	SIZE(pc_clock), F(pc_clock, boot_to_unix_ns),
	SIZE(pc_text64), F(pc_text64, len), F(pc_text64, s),
	SIZE(pc_identity), F(pc_identity, exp), F(pc_identity, nbf), F(pc_identity, iat), F(pc_identity, auth_time),
	F(pc_identity, flags), F(pc_identity, issuer), F(pc_identity, bits), F(pc_identity, sub), F(pc_identity, email),
	F(pc_identity, kid_len), F(pc_identity, kid),
	SIZE(pc_conn), F(pc_conn, remain), F(pc_conn, until), F(pc_conn, state), F(pc_conn, flags), F(pc_conn, denied),
	F(pc_conn, exp_seq), F(pc_conn, skbs), F(pc_conn, slot), F(pc_conn, requests), F(pc_conn, owed),
	F(pc_conn, pass_wseq), F(pc_conn, deny_wseq), F(pc_conn, pending), F(pc_conn, injected), F(pc_conn, asked),
	F(pc_conn, head_n), F(pc_conn, chunk_digits), F(pc_conn, trailer),
	F(pc_conn, memo), F(pc_conn, memo_vain), F(pc_conn, torn), F(pc_conn, withheld), F(pc_conn, ended), F(pc_conn, end_seq),
	SIZE(pc_tunnel), F(pc_tunnel, until), F(pc_tunnel, saddr), F(pc_tunnel, daddr), F(pc_tunnel, sport),
	F(pc_tunnel, dport), F(pc_tunnel, ipv6), F(pc_tunnel, pad), F(pc_tunnel, len), F(pc_tunnel, device),
	F(pc_tunnel, token),
	SIZE(pc_event), F(pc_event, boot_ns), F(pc_event, decision), F(pc_event, generation), F(pc_event, cookie),
	F(pc_event, kernel_ns), F(pc_event, verify_ns), F(pc_event, policy), F(pc_event, rule), F(pc_event, candidate_policy), F(pc_event, candidate_rule), F(pc_event, candidate_reason), F(pc_event, pad), F(pc_event, reason),
	F(pc_event, status), F(pc_event, flags), F(pc_event, mode), F(pc_event, method), F(pc_event, dport),
	F(pc_event, sport), F(pc_event, saddr), F(pc_event, path_len), F(pc_event, host_len), F(pc_event, bits),
	F(pc_event, sub), F(pc_event, email), F(pc_event, kid_len), F(pc_event, kid), F(pc_event, method_text),
	F(pc_event, host), F(pc_event, path),
	SIZE(pc_reply), F(pc_reply, cookie), F(pc_reply, decision), F(pc_reply, boot_ns), F(pc_reply, kind),
	F(pc_reply, status), F(pc_reply, reason), F(pc_reply, close), F(pc_reply, head_request), F(pc_reply, saddr),
	F(pc_reply, daddr), F(pc_reply, sport), F(pc_reply, dport), F(pc_reply, ipv6), F(pc_reply, pad),
	F(pc_reply, mfa_max_age_s), F(pc_reply, device),
	SIZE(pc_target), F(pc_target, cookie), F(pc_target, last), F(pc_target, injected),
	SIZE(pc_stats),
};
#undef F
#undef SIZE

size_t pc_host_layout(const struct pc_layout_row **rows)
{
	*rows = pc_layout_rows;
	return sizeof(pc_layout_rows) / sizeof(pc_layout_rows[0]);
}

/* Fields of the slot that Rust tests set and read. */
size_t pc_host_slot_size(void)
{
	return sizeof(struct pc_slot);
}

#define O(f) { #f, offsetof(struct pc_slot, f) }
static const struct {
	const char *name;
	size_t offset;
} pc_slot_fields[] = {
	O(n), O(h), O(h.method), O(h.tgt), O(h.tlen), O(h.seen), O(h.minor), O(h.tok), O(h.tok_len), O(h.content_length),
	O(d.half), O(d.port), O(d.policy), O(d.rule), O(d.need), O(d.reason), O(d.mode), O(d.mfa_max_age_s), O(d.token), O(c.candidate), O(c.need), O(c.policy), O(c.rule), O(c.reason), O(token_state), O(token_reason),
	O(id), O(path_len), O(host_len), O(path), O(host), O(head), O(jwt), O(jwt.tok), O(jwt.tok_len), O(jwt.half),
	O(jwt.now_s), O(jwt.reason), O(jwt.alg), O(jwt.key), O(jwt.issuer), O(jwt.end), O(jwt.mask), O(jwt.seen),
	O(jwt.nvals), O(jwt.mfa), O(jwt.exp), O(jwt.nbf), O(jwt.iat), O(jwt.auth_time), O(jwt.v), O(jwt.json), O(jwt.sha),
	O(d.generation), O(run.entry_ns), O(run.verify_start_ns), O(cached.id), O(fingerprint), O(rsa), O(p256),
};
#undef O

size_t pc_host_slot_offset(const char *name)
{
	for (size_t i = 0; i < sizeof(pc_slot_fields) / sizeof(pc_slot_fields[0]); i++)
		if (!strcmp(pc_slot_fields[i].name, name))
			return pc_slot_fields[i].offset;
	return (size_t)-1;
}
