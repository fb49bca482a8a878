/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The token steps as tc programs; part of test.bpf.c.  Input and output stand in slot 0. */
#include "token_steps.h"

#define PC_STEP_PROGRAM(name) \
	SEC("classifier") int t_##name(struct __sk_buff *skb PC_UNUSED) \
	{ \
		struct pc_slot *s = slot0(); \
\
		return s ? pc_step_##name(s) : -1; \
	}
PC_TOKEN_STEPS(PC_STEP_PROGRAM)
