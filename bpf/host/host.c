/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The library, natively, in one translation unit: maps in ordinary memory, entry points for Rust (src/host.rs). */
#include <stdlib.h>

#include "../lib/maps.h"
#include "../lib/http1.h"
#include "../lib/path.h"
#include "../lib/policy.h"
#include "../progs/chunk.h"
#include "../tests/token_steps.h"

static struct pc_host_map *pc_host_maps;

void pc_host_register(struct pc_host_map *m)
{
	m->next = pc_host_maps;
	pc_host_maps = m;
}

/* Hash cells: 8 bytes of state (0 free, 1 used, 2 deleted), key, value; open addressing, linear probing. */
static size_t pc_host_cell(const struct pc_host_map *m)
{
	return 8 + ((m->key_size + 7) & ~7u) + ((m->value_size + 7) & ~7u);
}

static u32 pc_host_cells(const struct pc_host_map *m)
{
	return m->is_hash ? 2 * m->max_entries : m->max_entries;
}

static int pc_host_ready(struct pc_host_map *m)
{
	if (!m->data)
		m->data = calloc(pc_host_cells(m), m->is_hash ? pc_host_cell(m) : m->value_size);
	return m->data != NULL;
}

/* Cell of the key, or where it would go; NULL when full. */
static u8 *pc_host_find(struct pc_host_map *m, const void *key, int insert)
{
	u64 h = 0xcbf29ce484222325ULL;
	u8 *spare = NULL;

	for (u32 i = 0; i < m->key_size; i++)
		h = (h ^ ((const u8 *)key)[i]) * 0x100000001b3ULL;
	for (u32 i = 0; i < pc_host_cells(m); i++) {
		u8 *c = m->data + pc_host_cell(m) * ((h + i) % pc_host_cells(m));

		if (c[0] == 1 && !memcmp(c + 8, key, m->key_size))
			return c;
		if (c[0] == 2 && !spare)
			spare = c;
		if (c[0] == 0)
			return insert ? (spare ? spare : c) : NULL;
	}
	return insert ? spare : NULL;
}

void *pc_host_lookup(struct pc_host_map *m, const void *key)
{
	if (!pc_host_ready(m))
		return NULL;
	if (!m->is_hash) {
		u32 i = *(const u32 *)key;

		return i < m->max_entries ? m->data + (size_t)i * m->value_size : NULL;
	}
	u8 *c = pc_host_find(m, key, 0);

	return c ? c + 8 + ((m->key_size + 7) & ~7u) : NULL;
}

int pc_host_put(struct pc_host_map *m, const void *key, const void *value)
{
	if (!pc_host_ready(m))
		return -1;
	if (!m->is_hash) {
		void *v = pc_host_lookup(m, key);

		if (!v)
			return -1;
		memcpy(v, value, m->value_size);
		return 0;
	}
	u8 *c = pc_host_find(m, key, 1);

	if (!c)
		return -1;
	c[0] = 1;
	memcpy(c + 8, key, m->key_size);
	memcpy(c + 8 + ((m->key_size + 7) & ~7u), value, m->value_size);
	return 0;
}

static struct pc_host_map *pc_host_by_name(const char *name)
{
	for (struct pc_host_map *m = pc_host_maps; m; m = m->next)
		if (!strcmp(m->name, name))
			return m;
	return NULL;
}

/* 0, -1 unknown map, -2 wrong sizes, -3 full or out of range. */
int pc_host_update(const char *name, const void *key, size_t key_size, const void *value, size_t value_size)
{
	struct pc_host_map *m = pc_host_by_name(name);

	if (!m || !pc_host_ready(m))
		return -1;
	if (key_size != m->key_size || value_size != m->value_size)
		return -2;
	return pc_host_put(m, key, value) ? -3 : 0;
}

int pc_host_delete(const char *name, const void *key, size_t key_size)
{
	struct pc_host_map *m = pc_host_by_name(name);

	if (!m || !pc_host_ready(m) || !m->is_hash)
		return -1;
	if (key_size != m->key_size)
		return -2;
	u8 *c = pc_host_find(m, key, 0);

	if (c)
		c[0] = 2;
	return c ? 0 : -3;
}

/* Frees every map: the next use starts from zero. */
void pc_host_reset(void)
{
	for (struct pc_host_map *m = pc_host_maps; m; m = m->next) {
		free(m->data);
		m->data = NULL;
	}
}

struct pc_slot *pc_host_slot(void)
{
	u32 zero = 0;

	return pc_map_get(pc_slots, &zero);
}

/* Loads a head into the slot, zero tail included; the length that fits. */
u32 pc_host_load_head(const u8 *bytes, u32 len)
{
	struct pc_slot *s = pc_host_slot();

	if (len > PC_HEAD_MAX)
		len = PC_HEAD_MAX;
	memcpy(s->head, bytes, len);
	memset(s->head + len, 0, PC_HEAD_TAIL);
	s->n = len;
	return len;
}

/*
 * A chunked body that arrives in pieces of at most `piece` bytes, as pc_step_body and pc_chunked take it: the length up
 * to its end, 0 when that is missing, or a negative reason.
 */
s64 pc_host_chunked(const u8 *body, u64 len, u64 piece)
{
	struct pc_slot *s = pc_host_slot();
	struct pc_conn conn = { .state = PC_ST_CHUNK_SIZE };
	struct pc_chunk_ctx x = { &conn, s };

	for (u64 off = 0; off < len; off += s->h.hend) {
		u64 left = piece - off % piece, n = len - off < left ? len - off : left;

		s->h.hend = n;
		if (conn.state == PC_ST_CHUNK_DATA && conn.remain > n) {
			conn.remain -= n;
			continue;
		}
		s->n = n > PC_HEAD_MAX ? PC_HEAD_MAX : n;
		memcpy(s->head + PC_CHUNK_AT, body + off, s->n);
		s->h.hend = s->h.lines = 0;
		for (u32 i = 0; i < PC_HEAD_MAX && !pc_chunk_step(i, &x); i++)
			;
		if (s->h.lines)
			return -PC_R_BAD_CHUNK;
		if (conn.state == PC_ST_HEAD)
			return off + s->h.hend;
	}
	return 0;
}

#define PC_STEP_NATIVE(name) \
	int pc_host_step_##name(struct pc_slot *s) \
	{ \
		return pc_step_##name(s); \
	}
PC_TOKEN_STEPS(PC_STEP_NATIVE)

#include "layout.h"
