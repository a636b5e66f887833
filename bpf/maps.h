/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The maps that more than one entity needs. A journal's own tables stand in its entity's file.
 * All are weak, so that each object may include this header and the linker keeps one of each.
 */
#ifndef RAQIB_MAPS_H
#define RAQIB_MAPS_H

/*
 * A journal's table: one map for each slot (or journal and slot), made by user space in the
 * size that the configuration asks for. The pointers only make the compiler describe the two
 * types whole. The inner map has sizes instead of types because Linux 5.15 to 6.1 take a map
 * with types for another shape than one without (no timer in it is not the same as no types).
 */
#define TABLE(name, slots, key_type, value_type)                                               \
	const struct key_type *name##_key __attribute__((unused));                             \
	const struct value_type *name##_value __attribute__((unused));                         \
	struct {                                                                               \
		__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);                                      \
		__uint(max_entries, slots);                                                    \
		__type(key, __u32);                                                            \
		__array(values, struct {                                                       \
			__uint(type, BPF_MAP_TYPE_HASH);                                       \
			__uint(max_entries, 1);                                                \
			__uint(key_size, sizeof(struct key_type));                             \
			__uint(value_size, sizeof(struct value_type));                         \
		});                                                                            \
	} name SEC(".maps")

/* The epoch of each journal; the slot is its lowest bit. Written by user space only. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, J_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} epochs SEC(".maps") __weak;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, J_COUNT);
	__type(key, __u32);
	__type(value, struct limits);
} bell_limits SEC(".maps") __weak;

/* By journal * 2 + slot. Per CPU, so that counting never shares a cache line. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, J_COUNT * 2);
	__type(key, __u32);
	__type(value, struct ledger);
} ledgers SEC(".maps") __weak;

/* By journal * 2 + slot. Touched only when a row is made. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, J_COUNT * 2);
	__type(key, __u32);
	__type(value, struct fill);
} fills SEC(".maps") __weak;

/* At most one record an epoch and journal: one page is plenty. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} bells SEC(".maps") __weak;

/* What crosses without being a map's key or value, so that the skeleton describes it too. */
#define EXPOSE(kind, name) const kind name *exposed_##name __weak
EXPOSE(struct, bell);
EXPOSE(struct, prime_task);
EXPOSE(enum, journal_id);
EXPOSE(enum, node_flags);
EXPOSE(enum, file_action);
EXPOSE(enum, file_flags);
EXPOSE(enum, exec_event);
EXPOSE(enum, exec_flags);
EXPOSE(enum, text_kind);
EXPOSE(enum, flow_mark);
EXPOSE(enum, activity);
EXPOSE(enum, cgroup_event);
EXPOSE(enum, payload_kind);

/* Set before load. Our own acts are not facts: reading the maps would feed them. */
const volatile __u32 self_tgid __weak = 0;

#endif
