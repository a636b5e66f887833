/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The epoch store as programs see it: enter an epoch once, work in that one only, count
 * everything, ring when it is half full. And the identity of a task.
 */
#ifndef RAQIB_COMMON_H
#define RAQIB_COMMON_H

#include "read.h"
#include "tracepoint.h"
#include "types.h"
#include "maps.h"

#define EEXIST 17

#define AT_FDCWD -100

/* One program's stay in one epoch of one journal. */
struct stay {
	__u64 epoch; /* first: who does not need it pays no stack for it */
	__u32 journal;
	__u32 slot;
	__u32 at; /* journal * 2 + slot */
	struct ledger *ledger;
};

/* The epoch is read here and nowhere else: user space waits for whoever read the old one. */
static __always_inline bool enter_epoch(struct stay *stay, __u32 journal, __u64 *number)
{
	__u64 *epoch = bpf_map_lookup_elem(&epochs, &journal);

	if (!epoch)
		return false;
	*number = *(volatile __u64 *)epoch;
	stay->journal = journal;
	stay->slot = *number & 1;
	stay->at = journal * 2 + stay->slot;
	stay->ledger = bpf_map_lookup_elem(&ledgers, &stay->at);
	return stay->ledger;
}

static __always_inline bool enter(struct stay *stay, __u32 journal)
{
	__u64 number;

	return enter_epoch(stay, journal, &number);
}

/* Atomic although per CPU: an interrupt may count in the middle of a task's own addition. */
static __always_inline void count_events(struct stay *stay, __u64 events)
{
	__sync_fetch_and_add(&stay->ledger->events, events);
}

static __always_inline void count_refused(struct stay *stay, __u64 events)
{
	__sync_fetch_and_add(&stay->ledger->refused, events);
}

/* One record an epoch: user space seals early. A full ring means that it already knows. */
static __noinline int ring(__u32 journal, __u32 slot)
{
	struct bell *bell = bpf_ringbuf_reserve(&bells, sizeof(*bell), 0);

	if (!bell)
		return 0;
	bell->journal = journal;
	bell->slot = slot;
	bpf_ringbuf_submit(bell, BPF_RB_FORCE_WAKEUP);
	return 0;
}

/* For what user space should look at now, not at its cadence: once an epoch. */
static __always_inline void ring_once(struct stay *stay)
{
	struct fill *fill = bpf_map_lookup_elem(&fills, &stay->at);

	if (!fill || fill->rung)
		return;
	fill->rung = 1;
	ring(stay->journal, stay->slot);
}

static __always_inline void count_row(struct stay *stay, bool text)
{
	struct fill *fill = bpf_map_lookup_elem(&fills, &stay->at);
	struct limits *limits = bpf_map_lookup_elem(&bell_limits, &stay->journal);

	if (!fill || !limits)
		return;
	if (text)
		__sync_fetch_and_add(&fill->text_rows, 1);
	else
		__sync_fetch_and_add(&fill->rows, 1);
	/* Two CPUs may both ring: harmless, and cheaper than an exchange on every row. */
	if (fill->rung || (fill->rows < limits->rows && fill->text_rows < limits->text_rows))
		return;
	fill->rung = 1;
	ring(stay->journal, stay->slot);
}

/*
 * The only ways into a table: a missing row is made from `empty`, and a refusal (NULL) is
 * counted by the caller as events. Never evicts. `make` is for who has just looked in vain.
 */
static __always_inline void *make(struct stay *stay, void *rows, const void *key,
				  const void *empty)
{
	long err = bpf_map_update_elem(rows, key, empty, BPF_NOEXIST);

	if (!err)
		count_row(stay, false);
	else if (err != -EEXIST)
		return NULL;
	return bpf_map_lookup_elem(rows, key);
}

static __always_inline void *find_or_make(struct stay *stay, void *rows, const void *key,
					  const void *empty)
{
	return bpf_map_lookup_elem(rows, key) ?: make(stay, rows, key, empty);
}

/* Texts hang on rows: a refusal costs a name, not an event, and is counted as such. */
static __always_inline bool put_text(struct stay *stay, void *texts, const void *key,
				     const void *text)
{
	long err = bpf_map_update_elem(texts, key, text, BPF_NOEXIST);

	if (!err) {
		count_row(stay, true);
		return true;
	}
	if (err != -EEXIST)
		__sync_fetch_and_add(&stay->ledger->text_refused, 1);
	return false;
}

/*
 * Bytes of a task's text with its NUL; negative: it cannot be read. Before Linux 6.14 the kernel
 * says 0, not 1, of an empty one, as the rest of a text is that fills its buffer to the last byte.
 */
static __always_inline long read_user_text(void *to, __u32 size, const void *from)
{
	long got = bpf_probe_read_user_str(to, size, from);

	return got ? got : 1;
}

static __always_inline void task_identity(struct task_struct *task, struct task_key *key)
{
	key->start_ns = get(task, group_leader, start_boottime);
	key->tgid = get(task, tgid);
	key->exec_id = (__u32)get(task, self_exec_id);
}

/* The open file behind an fd of the current task; 0: none. */
static __always_inline __u64 fd_file(struct task_struct *task, __s32 fd)
{
	struct fdtable *fdt = get(task, files, fdt);
	__u64 file = 0;

	if (fd < 0 || (__u32)fd >= get(fdt, max_fds))
		return 0;
	bpf_probe_read_kernel(&file, sizeof(file), get(fdt, fd) + fd);
	return file;
}

#define OVERLAYFS_SUPER_MAGIC 0x794c7630

/* enum file_flags of an open file: where it lives, and whether it still has a name. */
static __always_inline __u32 flags_of(struct dentry *dentry, struct inode *inode)
{
	__u32 flags = get(inode, i_sb, s_magic) == OVERLAYFS_SUPER_MAGIC ? FILE_OVERLAY : 0;

	if (dentry == get(dentry, d_parent))
		return flags | FILE_MEMFD;
	return get(dentry, d_hash.pprev) ? flags : flags | FILE_DELETED;
}

static __always_inline __u64 mix(__u64 a, __u64 b)
{
	a = (a ^ b) * 0x9E3779B97F4A7C15ULL;
	return a ^ (a >> 29);
}

/* Where a name lies that a task passed: the kernel has copied it for requests that wait. */
enum space { SPACE_USER, SPACE_KERNEL };

/* Entities call one another's facts through these; each stands in its entity's file. */
extern __u64 intern_path(__u64 mount, __u64 dentry, __u32 journal, __u32 slot);
extern __u64 intern_argument(__u64 parent, __u64 name, __u32 journal, __u32 slot, __u32 space);
extern __u64 intern_passed(__s32 dirfd, __u64 name, __u32 journal, __u32 slot, __u32 space);
extern __u64 intern_fd(__s32 fd, __u32 journal, __u32 slot);
extern int record_file(__u64 file, __u32 action, __u32 also);
extern int record_path(__s32 dirfd, __u64 name, __u32 side, __u32 action);
extern int note_passed(__u64 whose, __s32 dirfd, __u64 name, __u32 side, __u32 action);
extern int record_noted(__u64 whose, __u32 side, __u32 action);
extern int record_accept(__u64 file);
extern int record_activity(__u32 activity, __u64 a, __u64 b);
extern int record_env(__u64 start, __u64 end);
extern int record_entry(void);

#endif
