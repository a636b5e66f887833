// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* Files as tasks reach them: one row for each (task image, name of an inode), acts counted. */
#include "file.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define FMODE_CREATED 0x100000
#define S_ISUID_OR_GID 06000

/* Superblocks whose files are not files: they have no names and are acted upon all the time. */
#define PIPEFS_MAGIC 0x50495045
#define SOCKFS_MAGIC 0x534F434B
#define ANON_INODE_FS_MAGIC 0x09041934

TABLE(file_rows, 2, file_key, file_row);

/* A new row, too large for the stack of a long chain of calls. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct file_row);
} file_drafts SEC(".maps");

static __always_inline struct file_row *new_draft(void)
{
	__u32 zero = 0;
	struct file_row *draft = bpf_map_lookup_elem(&file_drafts, &zero);

	if (draft)
		__builtin_memset(draft, 0, sizeof(*draft));
	return draft;
}

static __always_inline bool begin_epoch(struct stay *stay, struct file_key *key, __u64 *epoch)
{
	struct task_struct *task = current_task();

	task_identity(task, &key->task);
	return key->task.tgid != self_tgid && enter_epoch(stay, J_FILE_ACCESS, epoch);
}

static __always_inline bool begin(struct stay *stay, struct file_key *key)
{
	__u64 epoch;

	return begin_epoch(stay, key, &epoch);
}

/* Everything that only a new row needs: the path walk is the costly part. */
static __always_inline struct file_row *describe(__u64 address, __u32 slot)
{
	struct file *file = kernel(address, file);
	struct dentry *dentry = get(file, f_path.dentry);
	struct inode *inode = get(file, f_inode);
	struct file_row *row = new_draft();

	if (!row)
		return NULL;
	row->first_ns = bpf_ktime_get_boot_ns();
	row->first_tick = bpf_jiffies64();
	row->mode = get(inode, i_mode);
	row->uid = get(inode, i_uid.val);
	row->gid = get(inode, i_gid.val);
	row->size = get(inode, i_size);
	row->flags = flags_of(dentry, inode);
	row->path = intern_path(address_in(file, f_path.mnt), address_in(file, f_path.dentry),
				J_FILE_ACCESS, slot);
	return row;
}

/* The table of the epoch, with the events counted: from here on each is in a row or refused. */
static __always_inline void *open_table(struct stay *stay, __u32 events)
{
	void *rows = bpf_map_lookup_elem(&file_rows, &stay->slot);

	count_events(stay, events);
	if (!rows)
		count_refused(stay, events);
	return rows;
}

static __always_inline void add(struct file_row *row, __u32 action)
{
	__sync_fetch_and_add(&row->counts[action & (FA_COUNT - 1)], 1);
}

/* What else one act is, in one word: the stack of a long chain of calls is short. */
#define BESIDE_ALSO 1
#define BESIDE_CREATE 2
#define BESIDE_SETID 4

static __always_inline __u32 events_of(__u32 beside)
{
	return 1 + (beside & 1) + (beside >> 1 & 1) + (beside >> 2);
}

/* `action` of enum file_action happened to an open file, and `also` another, or the same. */
int record_file(__u64 address, __u32 action, __u32 also)
{
	struct file *file = kernel(address, file);
	struct inode *inode = get(file, f_inode);
	struct dentry *dentry = get(file, f_path.dentry);
	struct super_block *sb = get(inode, i_sb);
	__u64 magic = get(sb, s_magic);
	struct file_key key = {};
	struct file_row *row;
	struct stay stay;
	__u32 beside;
	void *rows;

	if (!inode || magic == SOCKFS_MAGIC || magic == PIPEFS_MAGIC ||
	    magic == ANON_INODE_FS_MAGIC)
		return 0;
	if (!begin(&stay, &key))
		return 0;
	beside = also != action ? BESIDE_ALSO : 0;
	if (action == FA_OPEN && (get(file, f_mode) & FMODE_CREATED)) {
		beside |= BESIDE_CREATE;
		/* Made with the bits, without a chmod. */
		if (get(inode, i_mode) & S_ISUID_OR_GID)
			beside |= BESIDE_SETID;
	}
	key.inode = get(inode, i_ino);
	key.dev = get(sb, s_dev);
	key.name = name_of(get(file, f_path.mnt), dentry);
	rows = open_table(&stay, events_of(beside));
	if (!rows)
		return 0;
	row = bpf_map_lookup_elem(rows, &key);
	if (!row) {
		struct file_row *draft = describe(address, stay.slot);

		row = draft ? make(&stay, rows, &key, draft) : NULL;
	}
	if (!row) {
		count_refused(&stay, events_of(beside));
		return 0;
	}
	add(row, action);
	if (beside & BESIDE_CREATE)
		add(row, FA_CREATE);
	if (beside & BESIDE_SETID)
		add(row, FA_SETID);
	if (beside & BESIDE_ALSO)
		add(row, also);
	row->last_tick = bpf_jiffies64();
	return 0;
}

/* What the note for an action was made for: some acts are two in one. */
static __always_inline __u32 noted_as(__u32 action)
{
	switch (action) {
	case FA_EXCHANGE:
		return FA_RENAME;
	case FA_SETID:
		return FA_CHMOD;
	}
	return action;
}

static __always_inline void count_act(struct stay *stay, struct file_key *key,
				      struct file_row *draft, __u32 action)
{
	void *rows = open_table(stay, 1);
	struct file_row *row;

	if (!rows)
		return;
	draft->first_ns = bpf_ktime_get_boot_ns();
	draft->first_tick = bpf_jiffies64();
	row = find_or_make(stay, rows, key, draft);
	if (!row) {
		count_refused(stay, 1);
		return;
	}
	add(row, action);
	row->last_tick = bpf_jiffies64();
}

/*
 * `action` happened to what was noted before (see struct note); 0: nothing was, or in an epoch
 * that is over. A successful call always made its own note, so an older one of the same thread
 * and action cannot be met.
 */
int record_noted(__u64 whose, __u32 side, __u32 action)
{
	struct note_key note_key = { .whose = whose, .side = side };
	struct note *note = bpf_map_lookup_elem(&notes, &note_key);
	struct file_row *draft = new_draft();
	struct file_key key = {};
	struct stay stay;
	__u64 epoch;

	if (!note || !draft || note->action != noted_as(action))
		return 0;
	/* The daemon's own acts are told by nobody, which is as good as told. */
	if (!begin_epoch(&stay, &key, &epoch))
		return 1;
	if (epoch != note->epoch)
		return 0;
	key.inode = note->inode;
	key.name = note->name;
	key.dev = note->dev;
	draft->path = note->path;
	draft->mode = note->mode;
	draft->uid = note->uid;
	draft->gid = note->gid;
	draft->size = note->size;
	draft->flags = note->flags;
	count_act(&stay, &key, draft, action);
	return 1;
}

/* A name that the kernel has copied and will act upon, noted as it is. */
int note_passed(__u64 whose, __s32 dirfd, __u64 name, __u32 side, __u32 action)
{
	struct note_key key = { .whose = whose, .side = side };
	struct stay stay;
	struct note *note;
	__u32 zero = 0;
	__u64 epoch;

	note = bpf_map_lookup_elem(&note_drafts, &zero);
	if (!note || !enter_epoch(&stay, J_FILE_ACCESS, &epoch))
		return 0;
	__builtin_memset(note, 0, sizeof(*note));
	note->action = action;
	note->epoch = epoch;
	note->flags = FILE_BY_NAME;
	note->path = intern_passed(dirfd, name, J_FILE_ACCESS, stay.slot, SPACE_KERNEL);
	note->name = note->path;
	bpf_map_update_elem(&notes, &key, note, BPF_ANY);
	return 0;
}

/* Whether anything notes what names came to; if not, nobody looks. */
const volatile bool names_noted = false;

/* `action` happened to a path that the task passed (see intern_passed), its first or second. */
int record_path(__s32 dirfd, __u64 name, __u32 side, __u32 action)
{
	struct file_row *draft;
	struct file_key key = {};
	struct stay stay;

	if (names_noted && record_noted(bpf_get_current_pid_tgid(), side, action))
		return 0;
	draft = new_draft();
	if (!draft || !begin(&stay, &key))
		return 0;
	draft->flags = FILE_BY_NAME;
	draft->path = intern_passed(dirfd, name, J_FILE_ACCESS, stay.slot, SPACE_USER);
	key.name = draft->path;
	count_act(&stay, &key, draft, action);
	return 0;
}
