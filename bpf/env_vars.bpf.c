// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Environment variables at exec, only those that a recipe asks for by name: the rest of an
 * environment is full of secrets and nobody's business. User space writes the names down.
 */
#include "common.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define VARIABLES_MAX 512 /* looked at; the rest of a longer environment is counted as refused */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256);
	__type(key, struct env_name);
	__type(value, __u32);
} env_names SEC(".maps");

/* By first byte of a wanted name: most variables are passed over without a look-up. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, __u32);
} env_firsts SEC(".maps");

TABLE(env_rows, 2, env_key, env_row);

#define SCAN 4096
struct scan {
	struct env_row row;
	__u64 inside; /* the text is the rest of a value */
	__u8 text[SCAN];
	__u8 rest[SCAN];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scan);
} scans SEC(".maps");

/* The length of NAME in NAME=value, with the name copied; 0 when it is too long to be wanted. */
static __noinline __u32 take_name(struct scan *scan, struct env_key *key)
{
#pragma clang loop unroll(disable)
	for (__u32 at = 0; at < ENV_NAME; at++) {
		if (scan->text[at] == '=')
			return at;
		if (!scan->text[at])
			return 0;
		key->name[at] = scan->text[at];
	}
	return 0;
}

/* The variable in the scan's text, if its name is wanted. Not static: verified once. */
__weak int put_variable(__u32 length)
{
	__u32 zero = 0, name;
	struct scan *scan = bpf_map_lookup_elem(&scans, &zero);
	struct env_key key = {};
	struct env_row *row;
	struct stay stay;
	void *rows;

	if (!scan)
		return 0;
	name = take_name(scan, &key);
	if (!name || !bpf_map_lookup_elem(&env_names, key.name) || !enter(&stay, J_ENV_VARS))
		return 0;
	task_identity(untrusted_task(), &key.task);
	scan->row.exec_ns = bpf_ktime_get_boot_ns();
	scan->row.count = 0;
	scan->row.length = length - name - 1;
	name = (name + 1) & (ENV_NAME * 2 - 1);
	bpf_probe_read_kernel_str(scan->row.value, ENV_VALUE, scan->text + name);
	count_events(&stay, 1);
	rows = bpf_map_lookup_elem(&env_rows, &stay.slot);
	row = rows ? find_or_make(&stay, rows, &key, &scan->row) : NULL;
	if (row)
		__sync_fetch_and_add(&row->count, 1);
	else
		count_refused(&stay, 1);
	return 0;
}

#define RESTS 33 /* of SCAN - 1 bytes: the kernel takes no string of more than 32 pages */

/* How much of a value follows what was read of it: only its length is wanted. */
__weak __u32 rest_length(__u64 start)
{
	__u32 zero = 0, length = 0;
	struct scan *scan = bpf_map_lookup_elem(&scans, &zero);

	if (!scan)
		return 0;
#pragma clang loop unroll(disable)
	for (int part = 0; part < RESTS; part++) {
		long got = read_user_text(scan->rest, SCAN, (void *)start);

		if (got <= 0)
			break;
		length += got - 1;
		if (got < SCAN)
			break;
		start += SCAN - 1;
	}
	return length;
}

/*
 * Looks at the text at `start` and puts its variable if that is wanted. How far on the next one
 * is; 0: there is none. Not static: verified once, for the loop of hundreds of steps.
 */
__weak __u32 pass_variable(__u64 start)
{
	__u32 zero = 0, first, rest, *wanted;
	struct scan *scan = bpf_map_lookup_elem(&scans, &zero);
	long got;

	if (!scan)
		return 0;
	got = read_user_text(scan->text, SCAN, (void *)start);
	if (got <= 0)
		return 0;
	first = scan->text[0];
	wanted = bpf_map_lookup_elem(&env_firsts, &first);
	/* What follows a full buffer is the rest of a value, whatever it looks like. */
	if (!scan->inside && wanted && *wanted) {
		rest = got == SCAN ? rest_length(start + SCAN - 1) : 0;
		put_variable(got - 1 + rest);
	}
	scan->inside = got == SCAN;
	return scan->inside ? SCAN - 1 : got;
}

int record_env(__u64 start, __u64 end)
{
	__u32 zero = 0, length;
	struct scan *scan = bpf_map_lookup_elem(&scans, &zero);
	struct stay stay;

	if (!scan || !enter(&stay, J_ENV_VARS))
		return 0;
	scan->inside = 0;
#pragma clang loop unroll(disable)
	for (int variable = 0; variable < VARIABLES_MAX; variable++) {
		if (start >= end)
			return 0;
		length = pass_variable(start);
		if (!length)
			return 0;
		start += length;
	}
	if (start < end)
		__sync_fetch_and_add(&stay.ledger->text_refused, 1);
	return 0;
}
