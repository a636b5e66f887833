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
#define STRIDE 8 /* most paths are one stride long */
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
	/* Where the climb is: addresses of kernel objects. */
	__u64 mount;
	__u64 here;
	__u64 name; /* of the component that is put */
	__u64 dentry[DEPTH_MAX]; /* from the leaf up */
	__u64 id[DEPTH_MAX + 1]; /* behind the last: what the top hangs on */
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

static __always_inline struct walk *this_walk(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&walks, &zero);
}

/*
 * Functions that are not static are verified once, on their own, whoever calls them and however
 * often: what a loop of 256 steps does must be in one of these. Loops themselves are verified
 * step by step, and where a step has branches and kernel memory, its states are hardly merged:
 * 256 of them cost 300,000 instructions. So the long loops go by strides, which are such functions.
 */

/* Collects up to STRIDE components upwards; true at the top. */
__weak int climb(void)
{
	struct walk *walk = this_walk();
	struct dentry *dentry, *parent;
	struct mount *mount, *below;

	if (!walk)
		return 1;
	mount = kernel(walk->mount, mount);
	dentry = kernel(walk->here, dentry);
#pragma clang loop unroll(disable)
	for (int step = 0; step < STRIDE; step++) {
		if (dentry == get(mount, mnt.mnt_root)) {
			below = mount;
			mount = get(below, mnt_parent);
			if (mount == below) {
				walk->flags = 0;
				return 1;
			}
			dentry = get(below, mnt_mountpoint);
			continue;
		}
		parent = get(dentry, d_parent);
		/* A memfd's only name; the root of a detached tree has none worth showing. */
		if (dentry == parent) {
			walk->flags = NODE_DETACHED;
			if (!walk->depth) {
				walk->dentry[0] = (__u64)dentry;
				walk->depth = 1;
			}
			return 1;
		}
		walk->dentry[walk->depth & (DEPTH_MAX - 1)] = (__u64)dentry;
		walk->depth++;
		dentry = parent;
	}
	walk->mount = (__u64)mount;
	walk->here = (__u64)dentry;
	return 0;
}

/* Ids of up to STRIDE components below the id of their parent, from the level below `level` on. */
__weak __u64 identify(__u64 id, __u32 level)
{
	struct walk *walk = this_walk();

	if (!walk)
		return 0;
#pragma clang loop unroll(disable)
	for (int step = 0; step < STRIDE; step++) {
		struct dentry *dentry;

		if (!level)
			break;
		level--;
		dentry = kernel(walk->dentry[level & (DEPTH_MAX - 1)], dentry);
		id = mix(mix(id, get(dentry, d_name.hash_len)), get(dentry, d_inode, i_ino));
		walk->id[level & (DEPTH_MAX - 1)] = id;
	}
	return id;
}

/* All components, from the leaf up: false when there is none. */
static __always_inline bool climb_all(struct walk *walk, __u64 vfsmount, __u64 leaf)
{
	walk->mount = vfsmount - bpf_core_field_offset(struct mount, mnt);
	walk->here = leaf;
	walk->depth = 0;
	walk->flags = NODE_CUT;
#pragma clang loop unroll(disable)
	for (int stride = 0; stride < DEPTH_MAX / STRIDE; stride++)
		if (climb())
			break;
	return walk->depth;
}

/* Their ids, from the top down, so that a component's id stands for its whole chain. */
static __always_inline __u64 identify_all(struct walk *walk)
{
	__u32 level = walk->depth;
	__u64 id = NODE_ROOT;

	if (level <= DEPTH_MAX)
		walk->id[level] = walk->flags ? 0 : NODE_ROOT;
#pragma clang loop unroll(disable)
	for (int stride = 0; stride < DEPTH_MAX / STRIDE; stride++) {
		id = identify(id, level);
		if (level <= STRIDE)
			break;
		level -= STRIDE;
	}
	return id;
}

static __always_inline void copy_name(struct walk *walk, __u32 from)
{
	__u32 length = walk->node.length - from;

	if (length > NODE_NAME)
		length = NODE_NAME;
	barrier_var(length);
	if (length <= NODE_NAME)
		bpf_probe_read_kernel(walk->node.name, length, (void *)(walk->name + from));
}

/* Puts the walk's node under the walk's key; true when it was not there. */
__weak int put_node(__u32 at)
{
	struct walk *walk = this_walk();
	struct stay stay;
	void *table;

	stay.journal = at / 2;
	stay.slot = at & 1;
	stay.at = at;
	table = bpf_map_lookup_elem(&nodes, &stay.at);
	stay.ledger = bpf_map_lookup_elem(&ledgers, &stay.at);
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

/*
 * Puts the walk's component of a level; false when it was there, and so are its ancestors. Which
 * one it is comes by number, and not what it is: each value across a call is a word of the frame.
 */
__weak int put_component(__u32 level, __u32 at)
{
	struct walk *walk = this_walk();
	struct dentry *dentry;

	if (!walk)
		return 0;
	level &= DEPTH_MAX - 1;
	dentry = kernel(walk->dentry[level], dentry);
	walk->name = (__u64)get(dentry, d_name.name);
	start_node(walk, walk->id[level], walk->id[level + 1], walk->flags);
	walk->node.length = get(dentry, d_name.len);
#pragma clang loop unroll(disable)
	for (__u32 chunk = 0; chunk < NAME_CHUNKS; chunk++) {
		if (chunk && chunk * NODE_NAME >= walk->node.length)
			break;
		walk->key.chunk = chunk;
		copy_name(walk, chunk * NODE_NAME);
		if (!put_node(at) && !chunk)
			return 0;
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
	__u64 id;

	if (!walk || !dentry || !vfsmount)
		return 0;
	if (!climb_all(walk, vfsmount, dentry))
		return NODE_ROOT;
	id = identify_all(walk);
#pragma clang loop unroll(disable)
	for (__u32 level = 0; level < DEPTH_MAX; level++) {
		if (level >= walk->depth || !put_component(level, at))
			break;
	}
	return id;
}

static __always_inline long read_name(void *to, __u32 size, const void *from, __u32 space)
{
	return space == SPACE_KERNEL ? bpf_probe_read_kernel_str(to, size, from) :
				       read_user_text(to, size, from);
}

#define ARGUMENT_CHUNKS 86 /* PATH_MAX */

/* The next piece of a name, in the walk's node and mixed into its id; its bytes and NUL. */
__weak int take_piece(__u64 from, __u32 space)
{
	struct walk *walk = this_walk();
	__u64 *words, id;
	long got;

	if (!walk)
		return 0;
	words = (__u64 *)walk->node.name;
	id = walk->key.id;
	__builtin_memset(words, 0, NODE_NAME);
	got = read_name(words, NODE_NAME, (void *)from, space);
#pragma clang loop unroll(full)
	for (int word = 0; word < NODE_NAME / 8; word++)
		id = mix(id, words[word]);
	walk->key.id = id;
	return got;
}

/* A piece again, now that the id of the whole is known; true when it was not there. */
__weak int put_piece(__u64 from, __u32 chunk, __u32 space, __u32 at)
{
	struct walk *walk = this_walk();

	if (!walk)
		return 0;
	walk->key.chunk = chunk;
	__builtin_memset(walk->node.name, 0, NODE_NAME);
	read_name(walk->node.name, NODE_NAME, (void *)from, space);
	return put_node(at);
}

/*
 * A path as a task passed it, kept whole below `parent`. For acts that leave no kernel object
 * to look at when the system call has returned (rename, unlink, link, truncate by path).
 */
__u64 intern_argument(__u64 parent, __u64 name, __u32 journal, __u32 slot, __u32 space)
{
	__u32 at = journal * 2 + slot;
	struct walk *walk = this_walk();
	__u32 length = 0;
	int got;

	if (!walk)
		return 0;
	start_node(walk, mix(parent, 0x6e616d65), parent, NODE_ARGUMENT);
	/* Twice over the string: its content is its identity, and chunks are keyed by it. */
#pragma clang loop unroll(disable)
	for (int chunk = 0; chunk < ARGUMENT_CHUNKS; chunk++) {
		got = take_piece(name + chunk * (NODE_NAME - 1), space);
		if (got <= 0)
			return 0;
		length += got - 1;
		if (got < NODE_NAME)
			break;
	}
	walk->node.length = length;
	if (!put_piece(name, 0, space, at))
		return walk->key.id;
#pragma clang loop unroll(disable)
	for (__u32 chunk = 1; chunk < ARGUMENT_CHUNKS; chunk++) {
		__u32 from = chunk * (NODE_NAME - 1);

		if (from >= length)
			break;
		put_piece(name + from, chunk, space, at);
	}
	return walk->key.id;
}

/* The path of an open file of the current task; 0: there is none. */
__u64 intern_fd(__s32 fd, __u32 journal, __u32 slot)
{
	__u64 address = fd_file(untrusted_task(), fd);
	struct file *file = kernel(address, file);

	if (!address)
		return 0;
	return intern_path(address_in(file, f_path.mnt), address_in(file, f_path.dentry), journal,
			   slot);
}

/*
 * A path as the current task passed it. The directory that it begins at is a kernel object; the
 * string below it is the task's own word, read after the kernel has used it.
 */
__u64 intern_passed(__s32 dirfd, __u64 name, __u32 journal, __u32 slot, __u32 space)
{
	struct task_struct *task = current_task();
	__u32 at = journal * 2 + slot;
	__u64 mount, dentry, address, base;
	char first = 0;

	/* One number across the calls, not two: this frame is one of the longest chain's. */
	barrier_var(at);
	if (space == SPACE_KERNEL)
		bpf_probe_read_kernel(&first, 1, (void *)name);
	else
		bpf_probe_read_user(&first, 1, (void *)name);
	/* An absolute one begins at the task's own root, which a chroot has moved. */
	if (first == '/') {
		mount = address_in(task, fs, root.mnt);
		dentry = address_in(task, fs, root.dentry);
	} else if (dirfd == AT_FDCWD) {
		mount = address_in(task, fs, pwd.mnt);
		dentry = address_in(task, fs, pwd.dentry);
	} else {
		address = fd_file(task, dirfd);
		mount = address_in((struct file *)address, f_path.mnt);
		dentry = address_in((struct file *)address, f_path.dentry);
	}
	base = intern_path(mount, dentry, at / 2, at & 1);
	/* No name: the descriptor itself (AT_EMPTY_PATH). */
	if (!first)
		return base;
	return intern_argument(base, name, at / 2, at & 1, space);
}
