/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Lookup of strings of the token in pc_names: the kernel recognises a role, an issuer or a kid by exact bytes.
 */
#ifndef PC_NAMES_H
#define PC_NAMES_H

#include "maps.h"

/* Key of a lookup, on the stack.
 * VERIFIER: up to kernel 6.1 a map key may not stand in memory that is an argument of a global function. */
union pc_name_key {
	struct pc_name name;
	u64 w[sizeof(struct pc_name) / 8];
};

/* Longest name that is copied without looking at the rest (bytes). */
#define PC_NAME_SHORT 48

/* key = (kind, scope, json[off .. off + len)) in the half of the decision; len <= PC_NAME_MAX. */
static __always_inline void pc_name_key(union pc_name_key *key, struct pc_jwt *j, u32 kind, u32 scope,
					u32 off, u32 len)
{
	u8 *s = j->json + (off & (PC_JSON_MAX - 1));

	__builtin_memset(key, 0, sizeof(*key));
	key->w[0] = (j->half & 0xff) | (kind & 0xff) << 8 | len << 16 | (u64)scope << 32;
	/* Branch-free, so that the bytes behind the name are zero and the verifier follows one path; most names are short. */
#pragma clang loop unroll(full)
	for (u32 i = 0; i < PC_NAME_MAX / 8; i++) {
		if (i == PC_NAME_SHORT / 8 && len <= PC_NAME_SHORT)
			break;
		s64 v = (s64)len - 8 * (s64)i;

		/* VERIFIER: else clang computes all masks first and spills them beyond the 512 bytes of stack */
		PC_OPAQUE(v);
		u64 in = ~(u64)((v - 8) >> 63), part = (u64)((v - 8) >> 63) & ~(u64)(v >> 63);

		key->w[i + 1] = pc_ld8(s + 8 * i) & (in | (((1ULL << ((u64)(v << 3) & 63)) - 1) & part));
		PC_FENCE;
	}
}

/*
 * Value of (kind, scope, json[off .. off + len)) in the current half of pc_names, or -1 when it holds no such name.
 * Names longer than PC_NAME_MAX match nothing.
 */
PC_FN int pc_name_get(struct pc_jwt *j, u32 kind, u32 scope, u32 off, u32 len)
{
	if (!j || len > PC_NAME_MAX)
		return -1;
	union pc_name_key key;

	pc_name_key(&key, j, kind, scope, off, len);
	u32 *value = pc_map_get(pc_names, &key);

	return value ? (int)*value : -1;
}

#endif
