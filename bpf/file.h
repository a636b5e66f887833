/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What names a file, and what is noted of names until the call that took them has succeeded. */
#ifndef RAQIB_FILE_H
#define RAQIB_FILE_H

#include "common.h"

/*
 * Which of its names an inode was reached by: the name and its directory, the mount, and two
 * more directories, since a renamed one is another path. Each further level would cost its loads
 * on every event: one that is renamed higher up, in the middle of an epoch, shows in that epoch
 * under the path that it had first.
 */
static __always_inline __u64 name_of(const void *vfsmount, struct dentry *dentry)
{
	struct dentry *parent = get(dentry, d_parent);
	__u64 above = get(parent, d_name.hash) ^
		      get(parent, d_parent, d_name.hash) * 31;
	/* Pointers cannot be reckoned with; the mount's own number can. */
	struct mount *mount = kernel(vfsmount - bpf_core_field_offset(struct mount, mnt), mount);

	return mix(mix(get(dentry, d_name.hash_len), get(parent, d_inode, i_ino)),
		   above << 32 | (__u32)get(mount, mnt_id));
}

/* Calls that take names take two at most: `side` 0 and 1. */
struct note_key {
	__u64 whose; /* the thread (pid and tgid), or the request's address */
	__u64 side;
};

/* A file as a row will have it, if the call succeeds. */
struct note {
	__u64 path; /* interned in `epoch` */
	__u64 inode; /* 0: by name only, or not made yet */
	__u64 name;
	__u64 size;
	__u64 epoch;
	__u32 action;
	__u32 dev;
	__u32 mode;
	__u32 uid;
	__u32 gid;
	__u32 flags;
};

/*
 * A note lives from the kernel's look-up of a name to the end of the same call. One that was
 * pushed out in between costs its object: the act is told under the name that was passed.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1); /* by the number of CPUs, when it is loaded */
	__type(key, struct note_key);
	__type(value, struct note);
} notes SEC(".maps") __weak;

/* A new one, larger than the stack likes. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct note);
} note_drafts SEC(".maps") __weak;

#endif
