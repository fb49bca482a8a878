// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
#include "../lib/maps.h"
char LICENSE[] SEC("license") = "Dual BSD/GPL";
SEC("sockops") int pc_sockops(struct bpf_sock_ops *ops PC_UNUSED) { return 1; }
