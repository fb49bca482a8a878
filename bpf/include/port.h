/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The only header that knows whether the code runs in the kernel or natively.
 *
 * The headers in lib/ are written against this: fixed-width types, PC_FN for functions that the verifier checks once,
 * and the maps as named objects.  Natively (PC_HOST) a map is an array or a hash table in ordinary memory,
 * so that the same text is tested and fuzzed without a kernel.
 */
#ifndef PC_PORT_H
#define PC_PORT_H

#ifdef PC_HOST
#include <stddef.h>
#include <stdint.h>
#include <string.h>
typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;
struct bpf_spin_lock {
	u32 val;
};
#undef __always_inline
#define __always_inline inline __attribute__((always_inline))
#else
#include <stddef.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s8 s8;
typedef __s16 s16;
typedef __s32 s32;
typedef __s64 s64;
#endif

/* VERIFIER: a global (non-static) function is verified once with unknown arguments instead of at every call
 * (kernel 5.6, pointer arguments 5.13).  Pointer arguments must be tested against NULL first.
 * Natively the definitions are weak so that several objects may include the same header. */
#ifdef PC_HOST
#define PC_FN __attribute__((noinline, weak))
#else
#define PC_FN __attribute__((noinline))
#endif

/* VERIFIER: keeps clang from merging accesses or comparisons into forms that the verifier cannot follow. */
#define PC_FENCE asm volatile("" ::: "memory")
#define PC_OPAQUE(x) asm volatile("" : "+r"(x))
#define PC_NO_UNROLL _Pragma("clang loop unroll(disable)")
#define PC_UNUSED __attribute__((unused))

#define PC_K(b) (0x0101010101010101ULL * (u64)(b))
#define PC_K80 0x8080808080808080ULL

static __always_inline u64 pc_ld8(const u8 *p)
{
	return *(const u64 *)p;
}

/* Index of the lowest byte whose top bit is set in m; m is a mask of 0x80 flags and not 0.  BPF has no ctz. */
static __always_inline u32 pc_lowbyte(u64 m)
{
	return (((m & -m) >> 7) * 0x0001020304050607ULL) >> 56;
}

/*
 * Maps.  PC_ARRAY and the like define one; pc_map_get returns a pointer to the value or NULL, pc_map_put sets one.
 * The host build keeps the same names, so map images made by the agent load into either.
 */
#ifdef PC_HOST
struct pc_host_map {
	const char *name;
	u32 key_size, value_size, max_entries;
	u32 is_hash;
	u8 *data; /* array: values; hash: max_entries cells of {u8 used[8], key, value} */
	struct pc_host_map *next;
};
void *pc_host_lookup(struct pc_host_map *m, const void *key);
int pc_host_put(struct pc_host_map *m, const void *key, const void *value);
void pc_host_register(struct pc_host_map *m);
#define PC_HOST_MAP(nm, ks, vs, n, hash) \
	static struct pc_host_map nm = { #nm, ks, vs, n, hash, 0, 0 }; \
	__attribute__((constructor)) static void nm##_register(void) \
	{ \
		pc_host_register(&nm); \
	}
#define PC_ARRAY(nm, vtype, n) PC_HOST_MAP(nm, 4, sizeof(vtype), n, 0)
#define PC_ARRAY_MMAP(nm, vtype, n) PC_ARRAY(nm, vtype, n)
#define PC_HASH(nm, ktype, vtype, n) PC_HOST_MAP(nm, sizeof(ktype), sizeof(vtype), n, 1)
#define PC_HASH_ALLOC(nm, ktype, vtype, n) PC_HASH(nm, ktype, vtype, n)
#define PC_LRU_HASH(nm, ktype, vtype, n) PC_HASH(nm, ktype, vtype, n)
#define PC_PERCPU_ARRAY(nm, vtype, n) PC_ARRAY(nm, vtype, n)
#define pc_map_get(m, k) pc_host_lookup(&(m), (k))
#define pc_map_put(m, k, v) pc_host_put(&(m), (k), (v))
#else
#define PC_ARRAY(nm, vtype, n) \
	struct { \
		__uint(type, BPF_MAP_TYPE_ARRAY); \
		__uint(max_entries, n); \
		__type(key, u32); \
		__type(value, vtype); \
	} nm SEC(".maps");
/* An array that the agent maps into its memory, to write big tables without a system call an entry. */
#define PC_ARRAY_MMAP(nm, vtype, n) \
	struct { \
		__uint(type, BPF_MAP_TYPE_ARRAY); \
		__uint(map_flags, BPF_F_MMAPABLE); \
		__uint(max_entries, n); \
		__type(key, u32); \
		__type(value, vtype); \
	} nm SEC(".maps");
#define PC_HASH(nm, ktype, vtype, n) \
	struct { \
		__uint(type, BPF_MAP_TYPE_HASH); \
		__uint(max_entries, n); \
		__type(key, ktype); \
		__type(value, vtype); \
	} nm SEC(".maps");
/* A hash whose elements take memory only while they are there. */
#define PC_HASH_ALLOC(nm, ktype, vtype, n) \
	struct { \
		__uint(type, BPF_MAP_TYPE_HASH); \
		__uint(map_flags, BPF_F_NO_PREALLOC); \
		__uint(max_entries, n); \
		__type(key, ktype); \
		__type(value, vtype); \
	} nm SEC(".maps");
#define PC_LRU_HASH(nm, ktype, vtype, n) \
	struct { \
		__uint(type, BPF_MAP_TYPE_LRU_HASH); \
		__uint(max_entries, n); \
		__type(key, ktype); \
		__type(value, vtype); \
	} nm SEC(".maps");
#define PC_PERCPU_ARRAY(nm, vtype, n) \
	struct { \
		__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); \
		__uint(max_entries, n); \
		__type(key, u32); \
		__type(value, vtype); \
	} nm SEC(".maps");
#define pc_map_get(m, k) bpf_map_lookup_elem(&(m), (k))
#define pc_map_put(m, k, v) bpf_map_update_elem(&(m), (k), (v), BPF_ANY)
#endif

#endif
