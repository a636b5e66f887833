// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Cgroups as they are made and removed, with their paths, and images that enter other cgroups
 * or mount namespaces than their parents': what containers are made of. Which of them is a
 * container, and whose, is for user space to say.
 */
#include "cgroup.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

TABLE(cgroup_rows, 2, cgroup_key, cgroup_row);

TABLE(cgroup_texts, 2, cgroup_text_key, text_row);

TABLE(entry_rows, 2, task_key, entry_row);

#define CGROUP_PATH_CHUNKS 5 /* the kernel's own limit for this tracepoint is 1024 bytes */

/* A row is larger than the stack likes. Tracepoint programs are not preempted. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct text_row);
} cgroup_drafts SEC(".maps");

static __always_inline void identify_task(struct task_struct *task, struct task_key *key)
{
	key->start_ns = BPF_CORE_READ(task, group_leader, start_boottime);
	key->tgid = BPF_CORE_READ(task, tgid);
	key->exec_id = (__u32)BPF_CORE_READ(task, self_exec_id);
}

static __noinline int put_cgroup_path(struct stay *stay, __u64 id, __u64 path)
{
	void *texts = bpf_map_lookup_elem(&cgroup_texts, &stay->slot);
	struct cgroup_text_key key = { .id = id };
	__u32 zero = 0;
	struct text_row *text = bpf_map_lookup_elem(&cgroup_drafts, &zero);

	if (!texts || !text)
		return 0;
#pragma clang loop unroll(disable)
	for (__u32 chunk = 0; chunk < CGROUP_PATH_CHUNKS; chunk++) {
		long got = bpf_probe_read_kernel_str(text->bytes, TEXT_CHUNK,
						     (void *)(path + chunk * (TEXT_CHUNK - 1)));

		if (got <= 0)
			return 0;
		text->length = got - 1;
		key.chunk = chunk;
		put_text(stay, texts, &key, text);
		if (got < TEXT_CHUNK)
			return 0;
	}
	return 0;
}

static __always_inline void record_cgroup(struct cgroup *cgrp, __u64 path, __u32 event)
{
	struct cgroup_row draft = {};
	struct cgroup_key key = {};
	struct cgroup_row *row;
	struct stay stay;
	void *rows;
	__u64 now;

	if (!enter(&stay, J_CONTAINERS))
		return;
	key.id = cgroup_number(cgrp);
	now = bpf_ktime_get_boot_ns();
	identify_task((struct task_struct *)bpf_get_current_task(), &draft.task);
	bpf_get_current_comm(draft.comm, sizeof(draft.comm));
	/* A cgroup begins with its own state, whose parent is the state of the cgroup above. */
	draft.parent = cgroup_number((struct cgroup *)BPF_CORE_READ(cgrp, self.parent));
	count_events(&stay, 1);
	rows = bpf_map_lookup_elem(&cgroup_rows, &stay.slot);
	row = rows ? find_or_make(&stay, rows, &key, &draft) : NULL;
	if (!row) {
		count_refused(&stay, 1);
		return;
	}
	__sync_fetch_and_add(&row->counts[event], 1);
	if (event == CG_REMOVED) {
		row->removed_ns = now;
		return;
	}
	row->made_ns = now;
	put_cgroup_path(&stay, key.id, path);
	/* At once: the files that name a container may be gone a few milliseconds later. */
	ring_once(&stay);
}

SEC("tp_btf/cgroup_mkdir")
int BPF_PROG(cgroup_mkdir, struct cgroup *cgrp, const char *path)
{
	record_cgroup(cgrp, (__u64)path, CG_MADE);
	return 0;
}

SEC("tp_btf/cgroup_rmdir")
int BPF_PROG(cgroup_rmdir, struct cgroup *cgrp, const char *path)
{
	record_cgroup(cgrp, (__u64)path, CG_REMOVED);
	return 0;
}

static __always_inline __u64 mount_namespace(struct task_struct *task)
{
	return (__u64)BPF_CORE_READ(task, nsproxy, mnt_ns);
}

static __always_inline __u32 number_of_mount_namespace(struct task_struct *task)
{
	return BPF_CORE_READ(task, nsproxy, mnt_ns, ns.inum);
}

/* Tasks of one cgroup in every hierarchy share one css_set: two pointers are compared. */
int record_entry(void)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct task_struct *parent = BPF_CORE_READ(task, real_parent);
	__u64 set = (__u64)BPF_CORE_READ(task, cgroups);
	__u64 parent_set = (__u64)BPF_CORE_READ(parent, cgroups);
	struct entry_row draft = {}, *row;
	struct task_key key = {};
	struct stay stay;
	void *rows;

	if (set == parent_set && mount_namespace(task) == mount_namespace(parent))
		return 0;
	if (!enter(&stay, J_CONTAINERS))
		return 0;
	identify_task(task, &key);
	identify_task(parent, &draft.parent);
	draft.first_ns = bpf_ktime_get_boot_ns();
	draft.cgroup = BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id);
	draft.cgroup1 = cgroup1_of(set);
	draft.parent_cgroup = BPF_CORE_READ(parent, cgroups, dfl_cgrp, kn, id);
	draft.parent_cgroup1 = cgroup1_of(parent_set);
	draft.ns_mnt = number_of_mount_namespace(task);
	draft.parent_ns_mnt = number_of_mount_namespace(parent);
	count_events(&stay, 1);
	rows = bpf_map_lookup_elem(&entry_rows, &stay.slot);
	row = rows ? find_or_make(&stay, rows, &key, &draft) : NULL;
	if (row)
		__sync_fetch_and_add(&row->count, 1);
	else
		count_refused(&stay, 1);
	return 0;
}
