// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Paths from dentries. Never from the strings that a task passed: those can be changed between
 * the kernel's look and ours, and name what a symbolic link is called instead of what it is.
 *
 * The walk goes up over mounts and over the task's own root to the root of the mount
 * namespace, so a chroot does not hide where a file is. It costs a few loads a level and runs
 * only when a row is made. Names are copied only for components that the epoch does not yet
 * have; rows of one directory share its chain.
 */
#include "common.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define DEPTH_MAX 256 /* 200 levels are asked for; a power of two lets the verifier mask */
#define NAME_CHUNKS 6 /* 255 bytes */

/* Path components of an epoch, by journal * 2 + slot. User space makes the inner maps. */
TABLE(nodes, J_COUNT * 2, node_key, path_node);

/*
 * The walk's memory: too large for the stack. Tracepoint programs are not preempted. What is
 * put into the table is here as well: global functions take numbers only before Linux 5.12, and
 * a key in memory that a function was handed is refused up to 6.1.
 */
struct walk {
	struct node_key key;
	struct path_node node;
	__u64 dentry[DEPTH_MAX]; /* from the leaf up */
	__u64 id[DEPTH_MAX];
	/* Here and not in registers: a depth that the verifier does not know costs it one pass. */
	__u32 depth;
	__u32 flags;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct walk);
} walks SEC(".maps");

/* Collects the components from the leaf up. */
static __noinline int climb(struct walk *walk, __u64 vfsmount, __u64 leaf)
{
	struct vfsmount *vfs = kernel(vfsmount, vfsmount);
	struct dentry *dentry = kernel(leaf, dentry);
	struct mount *mount;

	walk->depth = 0;
	walk->flags = 0;
	mount = kernel(vfsmount - bpf_core_field_offset(struct mount, mnt), mount);
#pragma clang loop unroll(disable)
	for (int step = 0; step < DEPTH_MAX; step++) {
		if (dentry == get(vfs, mnt_root)) {
			struct mount *parent = get(mount, mnt_parent);

			if (parent == mount)
				return 0;
			dentry = get(mount, mnt_mountpoint);
			mount = parent;
			vfs = kernel((__u64)mount +
						    bpf_core_field_offset(struct mount, mnt),
					    vfsmount);
			continue;
		}
		/* A memfd's only name; the root of a detached tree has none worth showing. */
		if (dentry == get(dentry, d_parent)) {
			walk->flags = NODE_DETACHED;
			if (!walk->depth) {
				walk->dentry[0] = (__u64)dentry;
				walk->depth = 1;
			}
			return 0;
		}
		walk->dentry[walk->depth & (DEPTH_MAX - 1)] = (__u64)dentry;
		walk->depth++;
		dentry = get(dentry, d_parent);
	}
	walk->flags = NODE_CUT;
	return 0;
}

/* Ids from the top down, so that a component's id stands for its whole chain. */
static __noinline __u64 identify(struct walk *walk)
{
	__u32 depth = walk->depth;
	__u64 id = NODE_ROOT;

#pragma clang loop unroll(disable)
	for (int step = 0; step < DEPTH_MAX; step++) {
		struct dentry *dentry;

		if (!depth)
			break;
		depth--;
		dentry = kernel(walk->dentry[depth & (DEPTH_MAX - 1)], dentry);
		id = mix(mix(id, get(dentry, d_name.hash_len)), get(dentry, d_inode, i_ino));
		walk->id[depth & (DEPTH_MAX - 1)] = id;
	}
	return id;
}

static __always_inline void copy_name(struct path_node *node, const void *name, __u32 from)
{
	__u32 length = node->length - from;

	if (length > NODE_NAME)
		length = NODE_NAME;
	barrier_var(length);
	if (length <= NODE_NAME)
		bpf_probe_read_kernel(node->name, length, name + from);
}

/*
 * Functions that are not static are verified once, on their own, whoever calls them and however
 * often: what is called in a loop of 256 steps must be one of these.
 */

static __always_inline struct walk *this_walk(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&walks, &zero);
}

/* Puts the walk's node under the walk's key; true when it was not there. */
__weak int put_node(__u32 at)
{
	void *table = bpf_map_lookup_elem(&nodes, &at);
	struct stay stay = { .journal = at / 2, .slot = at & 1, .at = at };
	struct walk *walk = this_walk();

	stay.ledger = bpf_map_lookup_elem(&ledgers, &at);
	if (!table || !stay.ledger || !walk)
		return 0;
	return put_text(&stay, table, &walk->key, &walk->node);
}

static __always_inline void start_node(struct walk *walk, __u64 id, __u64 parent, __u32 flags)
{
	struct path_node *node = &walk->node;

	walk->key.id = id;
	walk->key.chunk = 0;
	__builtin_memset(node, 0, sizeof(*node));
	node->parent = parent;
	node->flags = flags;
}

/* Puts one component; false when it was there, and so are its ancestors. */
__weak int put_component(__u64 address, __u64 id, __u64 parent, __u32 flags, __u32 at)
{
	struct dentry *dentry = kernel(address, dentry);
	const void *name = get(dentry, d_name.name);
	struct walk *walk = this_walk();
	struct path_node *node;

	if (!walk)
		return 0;
	node = &walk->node;
	start_node(walk, id, parent, flags);
	node->length = get(dentry, d_name.len);
	copy_name(node, name, 0);
	if (!put_node(at))
		return 0;
#pragma clang loop unroll(disable)
	for (__u32 chunk = 1; chunk < NAME_CHUNKS; chunk++) {
		if (chunk * NODE_NAME >= node->length)
			break;
		walk->key.chunk = chunk;
		copy_name(node, name, chunk * NODE_NAME);
		put_node(at);
	}
	return 1;
}

/*
 * The id of a path in the given epoch, with its components put there. 0: nothing to read.
 * The root of a namespace itself is NODE_ROOT, which has no component.
 */
__u64 intern_path(__u64 vfsmount, __u64 dentry, __u32 journal, __u32 slot)
{
	__u32 at = journal * 2 + slot;
	struct walk *walk = this_walk();
	__u64 id, parent;

	if (!walk || !dentry || !vfsmount)
		return 0;
	climb(walk, vfsmount, dentry);
	if (!walk->depth)
		return NODE_ROOT;
	id = identify(walk);
#pragma clang loop unroll(disable)
	for (__u32 level = 0; level < DEPTH_MAX; level++) {
		__u32 here = level & (DEPTH_MAX - 1), above = (level + 1) & (DEPTH_MAX - 1);

		if (level >= walk->depth)
			break;
		if (level + 1 < walk->depth)
			parent = walk->id[above];
		else
			parent = walk->flags ? 0 : NODE_ROOT;
		if (!put_component(walk->dentry[here], walk->id[here], parent, walk->flags, at))
			break;
	}
	return id;
}

static __always_inline long read_name(void *to, __u32 size, const void *from, __u32 space)
{
	return space == SPACE_KERNEL ? bpf_probe_read_kernel_str(to, size, from) :
				       bpf_probe_read_user_str(to, size, from);
}

#define ARGUMENT_CHUNKS 86 /* PATH_MAX */

/*
 * A path as a task passed it, kept whole below `parent`. For acts that leave no kernel object
 * to look at when the system call has returned (rename, unlink, link, truncate by path).
 */
__u64 intern_argument(__u64 parent, __u64 address, __u32 journal, __u32 slot, __u32 space)
{
	const char *name = (const char *)address;
	__u64 id = mix(parent, 0x6e616d65);
	__u32 at = journal * 2 + slot;
	struct walk *walk = this_walk();
	struct path_node *node;
	__u32 length = 0;
	__u64 *words;

	if (!walk)
		return 0;
	node = &walk->node;
	words = (__u64 *)node->name;
	start_node(walk, 0, parent, NODE_ARGUMENT);
	/* Twice over the string: its content is its identity, and chunks are keyed by it. */
#pragma clang loop unroll(disable)
	for (int chunk = 0; chunk < ARGUMENT_CHUNKS; chunk++) {
		long got;

		__builtin_memset(node->name, 0, NODE_NAME);
		got = read_name(node->name, NODE_NAME, name + length, space);
		if (got <= 0)
			return 0;
#pragma clang loop unroll(full)
		for (int word = 0; word < NODE_NAME / 8; word++)
			id = mix(id, words[word]);
		length += got - 1;
		if (got < NODE_NAME)
			break;
	}
	node->length = length;
	walk->key.id = id;
#pragma clang loop unroll(disable)
	for (__u32 chunk = 0; chunk < ARGUMENT_CHUNKS; chunk++) {
		__u32 from = chunk * (NODE_NAME - 1);

		if (from >= length && chunk)
			break;
		walk->key.chunk = chunk;
		__builtin_memset(node->name, 0, NODE_NAME);
		read_name(node->name, NODE_NAME, name + from, space);
		if (!put_node(at) && !chunk)
			break;
	}
	return id;
}

static __always_inline __u64 fd_path(__s32 fd, __u32 journal, __u32 slot)
{
	__u64 address = fd_file(current_task(), fd);
	struct file *file = kernel(address, file);

	if (!address)
		return 0;
	return intern_path(address_in(file, f_path.mnt), address_in(file, f_path.dentry), journal,
			   slot);
}

/* The path of an open file of the current task; 0: there is none. */
__u64 intern_fd(__s32 fd, __u32 journal, __u32 slot)
{
	return fd_path(fd, journal, slot);
}

/*
 * A path as the current task passed it. The directory that it begins at is a kernel object; the
 * string below it is the task's own word, read after the kernel has used it.
 */
__u64 intern_passed(__s32 dirfd, __u64 name, __u32 journal, __u32 slot, __u32 space)
{
	struct task_struct *task = current_task();
	char first = 0;
	__u64 base;

	if (space == SPACE_KERNEL)
		bpf_probe_read_kernel(&first, 1, (void *)name);
	else
		bpf_probe_read_user(&first, 1, (void *)name);
	/* An absolute one begins at the task's own root, which a chroot has moved. */
	if (first == '/')
		base = intern_path(address_in(task, fs, root.mnt),
				   address_in(task, fs, root.dentry), journal, slot);
	else if (dirfd == AT_FDCWD)
		base = intern_path(address_in(task, fs, pwd.mnt), address_in(task, fs, pwd.dentry),
				   journal, slot);
	else
		base = fd_path(dirfd, journal, slot);
	/* No name: the descriptor itself (AT_EMPTY_PATH). */
	if (!first)
		return base;
	return intern_argument(base, name, journal, slot, space);
}
