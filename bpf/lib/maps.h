/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Configuration maps, written by the agent and read by lib/.  Arrays of halves: see abi.h, Generations. */
#ifndef PC_MAPS_H
#define PC_MAPS_H

#include "slot.h"

PC_ARRAY(pc_active, u64, 1)
PC_ARRAY(pc_clock, struct pc_clock, 1)
PC_ARRAY(pc_classes, struct pc_classes, PC_HALVES)
PC_ARRAY(pc_dfa, struct pc_cell, PC_HALVES *PC_DFA_CELLS_MAX)
PC_ARRAY(pc_policies, struct pc_policy, PC_HALVES *PC_POLICIES_MAX)
PC_ARRAY(pc_sets, struct pc_set, PC_HALVES *PC_RULE_SETS_MAX)
PC_ARRAY(pc_rules, struct pc_rule, PC_HALVES *PC_RULES_MAX)
PC_ARRAY(pc_issuers, struct pc_issuer, PC_HALVES *PC_ISSUERS_MAX)
PC_ARRAY(pc_rsa2048, struct pc_rsa2048_key, PC_HALVES *PC_RSA_KEYS_MAX)
PC_ARRAY(pc_rsa3072, struct pc_rsa3072_key, PC_HALVES *PC_RSA_KEYS_MAX)
PC_ARRAY(pc_rsa4096, struct pc_rsa4096_key, PC_HALVES *PC_RSA_KEYS_MAX)
PC_ARRAY_MMAP(pc_p256_g, struct pc_p256_point, PC_P256_POINTS_G)
PC_ARRAY_MMAP(pc_p256_q, struct pc_p256_point, PC_HALVES *PC_P256_KEYS_MAX *PC_P256_POINTS_Q)
PC_HASH(pc_revoked, struct pc_name, struct pc_revocation, PC_REVOCATIONS_MAX)
PC_ARRAY(pc_secret, struct pc_secret, 1)
PC_HASH(pc_names, struct pc_name, u32, PC_HALVES *PC_NAMES_MAX)
PC_HASH(pc_ports, u32, struct pc_port, PC_PORTS_MAX)
/* Scratch; the agent raises max_entries to PC_SLOTS_PER_CPU per possible CPU. */
PC_ARRAY(pc_slots, struct pc_slot, PC_SLOTS_PER_CPU)

#endif
