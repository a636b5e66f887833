// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * One row for each image of each process: forked, executed, ended. All three are taken where
 * the kernel has already done them, so nothing depends on the process still being there when
 * user space looks: one that lives for a few microseconds is as complete as any other.
 *
 * Threads are not rows: they share the image. A thread group ends when its last thread does.
 */
#include "image.h"
#include "activity.h"
#include "task.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define PF_KTHREAD 0x00200000

TABLE(exec_rows, 2, task_key, exec_row);

TABLE(exec_texts, 2, text_key, text_row);

/* Rows and texts are larger than the stack likes. Tracepoint programs are not preempted. */
struct draft {
	struct exec_row row;
	struct text_key key;
	struct text_row text;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct draft);
} drafts SEC(".maps");

static __always_inline struct draft *this_draft(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&drafts, &zero);
}

static __always_inline struct draft *new_draft(void)
{
	struct draft *draft = this_draft();

	if (draft)
		__builtin_memset(&draft->row, 0, sizeof(draft->row));
	return draft;
}

static __always_inline void describe_exe(struct exec_row *row, __u64 address, __u32 slot)
{
	struct file *file = kernel(address, file);
	struct dentry *dentry = get(file, f_path.dentry);
	struct inode *inode = get(file, f_inode);

	row->exe_inode = get(inode, i_ino);
	row->exe_dev = get(inode, i_sb, s_dev);
	row->exe_flags = flags_of(dentry, inode);
	row->exe_path = intern_path(address_in(file, f_path.mnt),
				    address_in(file, f_path.dentry), J_EXECUTION, slot);
}

/* Finds or makes the row of `key` and adds what `draft` learned, unless it is there already. */
static __always_inline struct exec_row *put_row(struct stay *stay, struct task_key *key,
						struct exec_row *draft, __u32 event)
{
	void *rows = bpf_map_lookup_elem(&exec_rows, &stay->slot);
	struct exec_row *row;

	count_events(stay, 1);
	row = rows ? find_or_make(stay, rows, key, draft) : NULL;
	if (!row) {
		count_refused(stay, 1);
		return NULL;
	}
	__sync_fetch_and_add(&row->counts[event], 1);
	return row;
}

#define CLONE_NEWNS 0x00020000
#define CLONE_NEWCGROUP 0x02000000
#define CLONE_NEWUTS 0x04000000
#define CLONE_NEWIPC 0x08000000
#define CLONE_NEWUSER 0x10000000
#define CLONE_NEWPID 0x20000000
#define CLONE_NEWNET 0x40000000

/* Compared, not asked for: clone3 has its flags in memory that the task can change. */
static __always_inline void record_namespaces(struct task_struct *parent,
					      struct task_struct *child)
{
	struct nsproxy *old = parent->nsproxy, *new = child->nsproxy;
	__u64 made = 0;

	if (!old || !new)
		return;
	if (old != new) {
		made |= old->mnt_ns != new->mnt_ns ? CLONE_NEWNS : 0;
		made |= old->cgroup_ns != new->cgroup_ns ? CLONE_NEWCGROUP : 0;
		made |= old->uts_ns != new->uts_ns ? CLONE_NEWUTS : 0;
		made |= old->ipc_ns != new->ipc_ns ? CLONE_NEWIPC : 0;
		made |= old->net_ns != new->net_ns ? CLONE_NEWNET : 0;
		made |= old->pid_ns_for_children != new->pid_ns_for_children ? CLONE_NEWPID : 0;
	}
	if (parent->cred->user_ns != child->cred->user_ns)
		made |= CLONE_NEWUSER;
	if (made)
		record_activity(ACT_NAMESPACES_CREATE, made, 0);
}

SEC("tp_btf/sched_process_fork")
TRACEPOINT(process_fork, struct task_struct *parent, struct task_struct *child)
{
	struct draft *draft;
	struct task_key key;
	struct stay stay;

	parent = kernel(parent, task_struct);
	child = kernel(child, task_struct);
	if (child->flags & PF_KTHREAD)
		return 0;
	if (child->pid != child->tgid)
		return record_activity(ACT_THREAD_CREATE, 0, 0);
	record_namespaces(parent, child);
	if (!enter(&stay, J_EXECUTION))
		return 0;
	draft = new_draft();
	if (!draft)
		return 0;
	task_identity(child, &key);
	task_identity(parent, &draft->row.parent);
	draft->row.fork_ns = key.start_ns;
	describe_task(&draft->row, child);
	put_row(&stay, &key, &draft->row, EX_FORK);
	return 0;
}

/* Puts the draft's text under the draft's key. Not static: verified once, for all the loops. */
__weak int put_image_text(__u32 slot)
{
	void *texts = bpf_map_lookup_elem(&exec_texts, &slot);
	struct stay stay = { .journal = J_EXECUTION, .slot = slot, .at = J_EXECUTION * 2 + slot };
	struct draft *draft = this_draft();

	stay.ledger = bpf_map_lookup_elem(&ledgers, &stay.at);
	if (!texts || !draft || !stay.ledger)
		return 0;
	return put_text(&stay, texts, &draft->key, &draft->text);
}

/* One chunk of user memory. A page that is not there ends the text. */
static __always_inline bool put_chunk(struct draft *draft, __u32 slot, __u64 from, __u32 length)
{
	if (length > TEXT_CHUNK)
		length = TEXT_CHUNK;
	barrier_var(length);
	if (length > TEXT_CHUNK || bpf_probe_read_user(draft->text.bytes, length, (void *)from))
		return false;
	draft->text.length = length;
	put_image_text(slot);
	return true;
}

/* The head and the tail of the argument block; what is between is left out and said so. */
static __noinline int put_args(struct draft *draft, __u32 slot, __u64 start, __u64 end)
{
	__u64 head = start, from;

	if (end <= start)
		return 0;
	draft->key.kind = TEXT_ARGS;
#pragma clang loop unroll(disable)
	for (__u32 chunk = 0; chunk < ARGS_HEAD_CHUNKS; chunk++) {
		if (head >= end)
			return 0;
		draft->key.chunk = chunk;
		if (!put_chunk(draft, slot, head, end - head))
			return 0;
		head += TEXT_CHUNK;
	}
	draft->key.kind = TEXT_ARGS_TAIL;
#pragma clang loop unroll(disable)
	for (__u32 chunk = 0; chunk < ARGS_TAIL_CHUNKS; chunk++) {
		if (end <= head)
			return 0;
		from = end - TEXT_CHUNK > head ? end - TEXT_CHUNK : head;
		draft->key.chunk = chunk;
		if (!put_chunk(draft, slot, from, end - from))
			return 0;
		end = from;
	}
	return 0;
}

#define PATH_CHUNKS 17 /* PATH_MAX */
static __noinline int put_string(struct draft *draft, __u32 slot, __u32 kind, __u64 string)
{
	draft->key.kind = kind;
#pragma clang loop unroll(disable)
	for (__u32 chunk = 0; chunk < PATH_CHUNKS; chunk++) {
		long got = bpf_probe_read_kernel_str(
			draft->text.bytes, TEXT_CHUNK,
			(void *)(string + chunk * (TEXT_CHUNK - 1)));

		if (got <= 0)
			return 0;
		draft->text.length = got - 1;
		draft->key.chunk = chunk;
		put_image_text(slot);
		if (got < TEXT_CHUNK)
			return 0;
	}
	return 0;
}

SEC("tp_btf/sched_process_exec")
TRACEPOINT(process_exec, struct task_struct *task, pid_t old_pid,
	     struct linux_binprm *bprm)
{
	struct mm_struct *mm;
	struct fs_struct *fs;
	__u64 image = address_in(bprm, file);
	__u64 args, args_end;
	struct draft *draft = new_draft();
	struct exec_row *row;
	struct task_key key;
	struct stay stay;

	task = kernel(task, task_struct);
	mm = task->mm;
	fs = task->fs;
	args = mm->arg_start;
	args_end = mm->arg_end;
	task_identity(task, &key);
	if (!draft || key.tgid == self_tgid || !enter(&stay, J_EXECUTION))
		return 0;
	row = &draft->row;
	row->exec_ns = bpf_ktime_get_boot_ns();
	describe_task(row, task);
	describe_exe(row, image, stay.slot);
	row->cwd_path = intern_path(address_in(fs, pwd.mnt), address_in(fs, pwd.dentry),
				    J_EXECUTION, stay.slot);
	row->args_length = args_end - args;
	describe_image(row, task, bprm);
	if (put_row(&stay, &key, row, EX_EXEC)) {
		draft->key.task = key;
		put_args(draft, stay.slot, args, args_end);
		put_string(draft, stay.slot, TEXT_PATHNAME, address_in(bprm, filename));
		if (row->exec_flags & EXEC_SCRIPT)
			put_string(draft, stay.slot, TEXT_INTERPRETER, address_in(bprm, interp));
	}
	record_file(image, FA_EXECVE, FA_EXECVE);
	record_env(mm->env_start, mm->env_end);
	record_entry();
	return 0;
}

SEC("tp_btf/sched_process_exit")
TRACEPOINT(process_exit, struct task_struct *task)
{
	struct signal_struct *signal = task->signal;
	struct draft *draft;
	struct exec_row *row;
	struct task_key key;
	struct stay stay;
	__u64 now;

	if (signal->live.counter || (task->flags & PF_KTHREAD))
		return 0;
	draft = new_draft();
	if (!draft || !enter(&stay, J_EXECUTION))
		return 0;
	task_identity(task, &key);
	now = bpf_ktime_get_boot_ns();
	/* A row made here carries the end and nothing else: user space has the rest. */
	row = put_row(&stay, &key, &draft->row, EX_EXIT);
	if (!row)
		return 0;
	row->exit_ns = now;
	row->exit_status = signal->group_exit_code ? signal->group_exit_code : task->exit_code;
	return 0;
}
