// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The objects behind the names that calls take. A call that leaves no open file (rename, unlink,
 * mkdir, chmod ...) is known at its end only by the strings that the task passed, which may be
 * links, and may have been changed since. The kernel's security hooks are handed what it found
 * instead: it is noted for the thread, and the row is written when the call has succeeded.
 *
 * Attached as BPF LSM programs, or to the functions that call the hooks, whichever there is: the
 * arguments are the same. What a hook returns is that of a program without an opinion.
 */
#include "file.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define S_IFMT 0170000
#define S_IFREG 0100000
#define PF_IO_WORKER 0x10
#define PF_KTHREAD 0x00200000
#define SYS_IO_URING_ENTER 426 /* of every table */
#define O_TRUNC 01000
#define O_ACCMODE 3
#define MAY_WRITE 2
#define MAY_READ 4

/* One for each program, whose arguments are numbers: pointers could not be handed on. */
#define OBJECT(name)                                                                           \
	int name(unsigned long long *ctx);                                                     \
	static __always_inline void name##_body(unsigned long long *ctx);                      \
	int name(unsigned long long *ctx)                                                      \
	{                                                                                      \
		hold_cpu();                                                                    \
		name##_body(ctx);                                                              \
		release_cpu();                                                                 \
		return 0;                                                                      \
	}                                                                                      \
	static __always_inline void name##_body(unsigned long long *ctx)

/*
 * The name `address` on a mount; `of` is the dentry whose inode it is or will be. Noted whatever
 * comes of it: only who knows that the call has succeeded looks for it.
 */
int note_object(__u64 vfsmount, __u64 address, __u64 of, __u32 action, __u32 side)
{
	struct note_key key = { .whose = bpf_get_current_pid_tgid(), .side = side };
	struct dentry *dentry = kernel(address, dentry);
	struct inode *inode = get(kernel(of, dentry), d_inode);
	struct stay stay;
	struct note *note;
	__u32 zero = 0;
	__u64 epoch;

	note = bpf_map_lookup_elem(&note_drafts, &zero);
	if (!note || key.whose >> 32 == self_tgid || !enter_epoch(&stay, J_FILE_ACCESS, &epoch))
		return 0;
	__builtin_memset(note, 0, sizeof(*note));
	note->action = action;
	note->epoch = epoch;
	note->name = name_of((void *)vfsmount, dentry);
	note->dev = get(dentry, d_sb, s_dev);
	if (get(dentry, d_sb, s_magic) == OVERLAYFS_SUPER_MAGIC)
		note->flags = FILE_OVERLAY;
	if (inode) {
		note->inode = get(inode, i_ino);
		note->mode = get(inode, i_mode);
		note->uid = get(inode, i_uid.val);
		note->gid = get(inode, i_gid.val);
		note->size = get(inode, i_size);
	}
	note->path = intern_path(vfsmount, address, J_FILE_ACCESS, stay.slot);
	bpf_map_update_elem(&notes, &key, note, BPF_ANY);
	return 0;
}

/* A name in a directory: struct path * and struct dentry *. */
static __always_inline void in_directory(__u64 directory, __u64 dentry, __u64 of, __u32 action,
					 __u32 side)
{
	note_object(address_in(kernel(directory, path), mnt), dentry, of, action, side);
}

static __always_inline void at_path(__u64 address, __u32 action)
{
	struct path *path = kernel(address, path);
	__u64 dentry = address_in(path, dentry);

	note_object(address_in(path, mnt), dentry, dentry, action, 0);
}

SEC("lsm/path_unlink")
OBJECT(path_unlink)
{
	in_directory(argument(ctx, 0), argument(ctx, 1), argument(ctx, 1), FA_UNLINK, 0);
}

SEC("lsm/path_rmdir")
OBJECT(path_rmdir)
{
	in_directory(argument(ctx, 0), argument(ctx, 1), argument(ctx, 1), FA_RMDIR, 0);
}

SEC("lsm/path_mkdir")
OBJECT(path_mkdir)
{
	in_directory(argument(ctx, 0), argument(ctx, 1), argument(ctx, 1), FA_MKDIR, 0);
}

SEC("lsm/path_mknod")
OBJECT(path_mknod)
{
	/* Every creating open comes by here as well, and is told by its file. */
	if ((argument(ctx, 2) & S_IFMT) != S_IFREG)
		in_directory(argument(ctx, 0), argument(ctx, 1), argument(ctx, 1), FA_MKNOD, 0);
}

SEC("lsm/path_symlink")
OBJECT(path_symlink)
{
	in_directory(argument(ctx, 0), argument(ctx, 1), argument(ctx, 1), FA_SYMLINK, 0);
}

SEC("lsm/path_link")
OBJECT(path_link)
{
	/* Both names are on one mount, or there is no link. */
	in_directory(argument(ctx, 1), argument(ctx, 0), argument(ctx, 0), FA_LINK, 0);
	in_directory(argument(ctx, 1), argument(ctx, 2), argument(ctx, 0), FA_LINK, 1);
}

SEC("lsm/path_rename")
OBJECT(path_rename)
{
	in_directory(argument(ctx, 0), argument(ctx, 1), argument(ctx, 1), FA_RENAME, 0);
	in_directory(argument(ctx, 2), argument(ctx, 3), argument(ctx, 1), FA_RENAME, 1);
}

SEC("lsm/path_truncate")
OBJECT(path_truncate)
{
	at_path(argument(ctx, 0), FA_TRUNCATE);
}

SEC("lsm/path_chmod")
OBJECT(path_chmod)
{
	at_path(argument(ctx, 0), FA_CHMOD);
}

SEC("lsm/path_chown")
OBJECT(path_chown)
{
	at_path(argument(ctx, 0), FA_CHOWN);
}

static __always_inline struct pt_regs *registers(struct task_struct *task)
{
	/* Linux 5.15. Before, and on kernels that are built without: by the stack's layout. */
	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_task_pt_regs))
		return (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());
	return kernel(address_in(task, stack) + (4096 << 2) - sizeof(struct pt_regs), pt_regs);
}

/* Whether a ring's request is being served: no system call will tell what it opens. */
static __always_inline bool by_ring(void)
{
	struct task_struct *task = current_task();
	__u32 flags = get(task, flags);

	if (flags & PF_KTHREAD)
		return false;
	return (flags & PF_IO_WORKER) || get(registers(task), orig_ax) == SYS_IO_URING_ENTER;
}

/*
 * A layer's own file, which overlayfs opens beside the one that was asked for: on a mount that is in
 * no namespace (an error instead of a pointer).
 */
static __always_inline bool is_layer(struct file *file)
{
	struct mount *mount = kernel((void *)get(file, f_path.mnt) -
					     bpf_core_field_offset(struct mount, mnt),
				     mount);

	return (__u64)get(mount, mnt_ns) >= (__u64)-4095;
}

/* Opens that no descriptor or no completion will show. */
SEC("lsm/file_open")
OBJECT(file_open)
{
	__u64 address = argument(ctx, 0);
	struct file *file = kernel(address, file);
	__u32 flags = get(file, f_flags);
	bool truncates = (flags & O_TRUNC) && (flags & O_ACCMODE);

	if (by_ring() && !is_layer(file))
		record_file(address, FA_OPEN, truncates ? FA_TRUNCATE : FA_OPEN);
}

/* For kernels whose completions do not say of what. */
SEC("lsm/file_permission")
OBJECT(file_permission)
{
	__u64 address = argument(ctx, 0);
	__u64 mask = argument(ctx, 1);
	__u32 action = mask & MAY_WRITE ? FA_WRITE : FA_READ;

	if ((mask & (MAY_READ | MAY_WRITE)) && by_ring() && !is_layer(kernel(address, file)))
		record_file(address, action, action);
}
