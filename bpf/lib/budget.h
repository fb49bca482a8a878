/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Bounds of the time that signatures take.  Over a bound the token is not verified and the answer is 503: a flood
 * costs service, never a wrong allow.
 *
 *   pc_budget_open(source, now)                   before the signature; 0: answer PC_R_NO_CAPACITY
 *   pc_budget_close(source, start, now, valid)    after it
 *
 * Each CPU spends at most PC_CPU_PERCENT of its time on bad signatures, PC_CPU_BURST_US of it at once, if none takes longer
 * than PC_CPU_CHARGE_MAX_US.  Each source may send PC_SOURCE_BURST of them at once and PC_SOURCE_RATE a second.  Valid
 * tokens cost neither anything: a gateway with many users behind it is not bounded by their number, nor are all users when
 * new keys or policies have emptied the cache.  The cache keeps every valid token, so each costs once a generation.
 * Both are token buckets: credit grows with time up to the burst.  Runs on several CPUs, or nested ones, may lose each
 * other's charges: the bound is a bound of the average.
 */
#ifndef PC_BUDGET_H
#define PC_BUDGET_H

#include "slot.h"

/* Where a connection comes from; see pc_source_of. */
struct pc_source {
	u64 w[2];
};
struct pc_bucket {
	u64 at_ns; /* when credit_ns was true */
	u64 credit_ns;
};
PC_LRU_HASH(pc_sources, struct pc_source, struct pc_bucket, PC_SOURCES_MAX)
PC_PERCPU_ARRAY(pc_cpu_budget, struct pc_bucket, 1)

#define PC_CPU_BURST_NS (PC_CPU_BURST_US * 1000ULL)
#define PC_SOURCE_COST_NS (1000000000ULL / PC_SOURCE_RATE)
#define PC_SOURCE_BURST_NS (PC_SOURCE_COST_NS * PC_SOURCE_BURST)

/* Source of an address: all of IPv4, the network of IPv6 (first 64 bits), because whoever has one address of such a
 * network has them all.  An IPv4 address in IPv6 form (RFC 4291 section 2.5.5) counts whole. */
static __always_inline struct pc_source pc_source_of(const u64 *addr, u32 ipv6)
{
	struct pc_source source = { { addr[0], ipv6 && addr[0] ? 0 : addr[1] } };

	return source;
}

/* Credit at `now`, which grows by percent/100 ns each ns. */
static __always_inline u64 pc_bucket_at(const struct pc_bucket *b, u64 now, u64 percent, u64 burst)
{
	u64 elapsed = now > b->at_ns ? now - b->at_ns : 0;

	/* before the product can overflow */
	if (elapsed > burst * 100)
		return burst;
	u64 credit = b->credit_ns + elapsed * percent / 100;

	return credit < burst ? credit : burst;
}

/* CLOCK_MONOTONIC in ns.  1: the signature may be checked.  0: over a bound. */
static __always_inline int pc_budget_open(struct pc_source source, u64 now)
{
	u32 zero = 0;
	struct pc_bucket *cpu = pc_map_get(pc_cpu_budget, &zero);
	struct pc_bucket *of = pc_map_get(pc_sources, &source);

	if (!cpu || pc_bucket_at(cpu, now, PC_CPU_PERCENT, PC_CPU_BURST_NS) < PC_CPU_RESERVE_US * 1000ULL)
		return 0;
	return !of || pc_bucket_at(of, now, 100, PC_SOURCE_BURST_NS) >= PC_SOURCE_COST_NS;
}

/* Charges what the signature check from start to now has cost, if it was for nothing. */
static __always_inline void pc_budget_close(struct pc_source source, u64 start, u64 now, int valid)
{
	if (valid)
		return;
	u32 zero = 0;
	struct pc_bucket *cpu = pc_map_get(pc_cpu_budget, &zero);
	u64 cost = now > start ? now - start : 0;

	/* Where the kernel preempts, another thread may have run meanwhile.  A time slice is as long as the burst: it must not
	 * cost everybody else on this CPU their verification. */
	if (cost > PC_CPU_CHARGE_MAX_US * 1000ULL)
		cost = PC_CPU_CHARGE_MAX_US * 1000ULL;
	if (cpu) {
		u64 credit = pc_bucket_at(cpu, now, PC_CPU_PERCENT, PC_CPU_BURST_NS);

		cpu->credit_ns = credit > cost ? credit - cost : 0;
		cpu->at_ns = now;
	}
	struct pc_bucket *of = pc_map_get(pc_sources, &source);

	if (of) {
		u64 credit = pc_bucket_at(of, now, 100, PC_SOURCE_BURST_NS);

		of->credit_ns = credit > PC_SOURCE_COST_NS ? credit - PC_SOURCE_COST_NS : 0;
		of->at_ns = now;
	} else {
		struct pc_bucket first = { now, PC_SOURCE_BURST_NS - PC_SOURCE_COST_NS };

		pc_map_put(pc_sources, &source, &first);
	}
}

#endif
