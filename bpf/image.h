/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What an execution is, below its path: the file's own times and size, the layer it is in, the
 * privileges that came with it, and what its standard streams are. Read once per exec.
 */
#ifndef RAQIB_IMAGE_H
#define RAQIB_IMAGE_H

#include "common.h"
#include "flavors.h"

#define SOCKFS 0x534F434B
#define ISUID 04000
#define ISGID 02000
#define IXGRP 00010
#define INET 2
#define INET6 10
#define PRESERVE_ARGV0 (1 << 3) /* BINPRM_FLAGS_PRESERVE_ARGV0 */

/* Since 6.13 the highest bit of a ctime's nanoseconds says that somebody asked for it. */
static __always_inline __u64 nanoseconds(__s64 seconds, __u64 nsec)
{
	return (__u64)seconds * 1000000000ULL + (nsec & 0x3fffffff);
}

static __always_inline __u64 mtime_of(struct inode *inode)
{
	struct inode___timespec *old = (void *)inode;
	struct inode___hidden *hidden = (void *)inode;

	if (bpf_core_field_exists(inode->i_mtime_sec))
		return nanoseconds(BPF_CORE_READ(inode, i_mtime_sec),
				   BPF_CORE_READ(inode, i_mtime_nsec));
	if (bpf_core_field_exists(hidden->__i_mtime))
		return nanoseconds(BPF_CORE_READ(hidden, __i_mtime.tv_sec),
				   BPF_CORE_READ(hidden, __i_mtime.tv_nsec));
	if (bpf_core_field_exists(old->i_mtime))
		return nanoseconds(BPF_CORE_READ(old, i_mtime.tv_sec),
				   BPF_CORE_READ(old, i_mtime.tv_nsec));
	return 0;
}

static __always_inline __u64 ctime_of(struct inode *inode)
{
	struct inode___timespec *old = (void *)inode;
	struct inode___hidden *hidden = (void *)inode;

	if (bpf_core_field_exists(inode->i_ctime_sec))
		return nanoseconds(BPF_CORE_READ(inode, i_ctime_sec),
				   BPF_CORE_READ(inode, i_ctime_nsec));
	if (bpf_core_field_exists(hidden->__i_ctime))
		return nanoseconds(BPF_CORE_READ(hidden, __i_ctime.tv_sec),
				   BPF_CORE_READ(hidden, __i_ctime.tv_nsec));
	if (bpf_core_field_exists(old->i_ctime))
		return nanoseconds(BPF_CORE_READ(old, i_ctime.tv_sec),
				   BPF_CORE_READ(old, i_ctime.tv_nsec));
	return 0;
}

/*
 * Whether an overlay's file has been written since its layers were stacked: then it has a dentry
 * in the upper layer. The type is overlayfs's own: known where it is built in, or where the
 * kernel has BTF of modules (5.11) and the module was loaded before us; else this stays false.
 */
static __always_inline bool in_upper_layer(struct inode *inode)
{
	struct ovl_inode___layers *layers = NULL;

	if (!bpf_core_field_exists(layers->__upperdentry))
		return false;
	layers = (void *)inode - bpf_core_field_offset(struct ovl_inode___layers, vfs_inode);
	return BPF_CORE_READ(layers, __upperdentry);
}

static __always_inline void describe_inode(struct exec_row *row, struct inode *inode)
{
	row->exe_mtime_ns = mtime_of(inode);
	row->exe_ctime_ns = ctime_of(inode);
	row->exe_size = BPF_CORE_READ(inode, i_size);
	row->exe_mode = BPF_CORE_READ(inode, i_mode);
	row->exe_nlink = BPF_CORE_READ(inode, i_nlink);
	row->exe_uid = BPF_CORE_READ(inode, i_uid.val);
	row->exe_gid = BPF_CORE_READ(inode, i_gid.val);
	row->exe_magic = BPF_CORE_READ(inode, i_sb, s_magic);
	if (row->exe_magic == OVERLAYFS_SUPER_MAGIC && in_upper_layer(inode))
		row->exec_flags |= EXEC_UPPER_LAYER;
}

/*
 * The old credentials are gone by now, but what the file gave is not: secureexec says that the
 * kernel let it, and the mode what it was. An id that is both real and effective was not gained.
 */
static __always_inline void describe_privileges(struct exec_row *row, struct task_struct *task)
{
	const struct cred *cred = get(task, cred);
	__u64 ambient = 0;

	if (!(row->exec_flags & EXEC_SECURE))
		return;
	if ((row->exe_mode & ISUID) && row->euid != row->uid && row->euid == row->exe_uid)
		row->exec_flags |= EXEC_SETUID;
	if ((row->exe_mode & (ISGID | IXGRP)) == (ISGID | IXGRP) && row->egid != row->gid &&
	    row->egid == row->exe_gid)
		row->exec_flags |= EXEC_SETGID;
	/* Who is nobody's root has no others than the file's and the ambient ones. */
	bpf_probe_read_kernel(&ambient, 8, &cred->cap_ambient);
	if (row->uid && row->euid == row->uid && row->egid == row->gid &&
	    (row->cap_permitted & ~ambient))
		row->exec_flags |= EXEC_FILE_CAPS;
}

/* Who is at the other end of the first standard stream that is a connection. */
static __always_inline void describe_remote(struct exec_row *row, struct sock *sk, __u8 family)
{
	if (row->stdio_port || (family != INET && family != INET6))
		return;
	row->stdio_port = __builtin_bswap16(BPF_CORE_READ(sk, __sk_common.skc_dport));
	row->stdio_ipv6 = family == INET6;
	if (family == INET)
		BPF_CORE_READ_INTO((__u32 *)row->stdio_remote, sk, __sk_common.skc_daddr);
	else
		BPF_CORE_READ_INTO((struct in6_addr *)row->stdio_remote, sk,
				   __sk_common.skc_v6_daddr);
}

static __always_inline void describe_stdio(struct exec_row *row, struct task_struct *task)
{
#pragma clang loop unroll(full)
	for (__s32 fd = 0; fd < 3; fd++) {
		struct file *file = (struct file *)fd_file(task, fd);
		struct socket *socket;
		struct sock *sk;

		if (!file || BPF_CORE_READ(file, f_inode, i_sb, s_magic) != SOCKFS)
			continue;
		socket = BPF_CORE_READ(file, private_data);
		sk = BPF_CORE_READ(socket, sk);
		row->stdio_family[fd] = BPF_CORE_READ(sk, __sk_common.skc_family);
		row->stdio_type[fd] = BPF_CORE_READ(socket, type);
		describe_remote(row, sk, row->stdio_family[fd]);
	}
}

static __always_inline void describe_image(struct exec_row *row, struct task_struct *task,
					   struct linux_binprm *bprm)
{
	struct dentry *cwd = BPF_CORE_READ(task, fs, pwd.dentry);

	if (BPF_CORE_READ(bprm, interp) != BPF_CORE_READ(bprm, filename))
		row->exec_flags |= EXEC_SCRIPT;
	if (BPF_CORE_READ_BITFIELD_PROBED(bprm, secureexec))
		row->exec_flags |= EXEC_SECURE;
	/* A descriptor of the file, or its own argv[0], is what only binfmt_misc hands on. */
	if (BPF_CORE_READ_BITFIELD_PROBED(bprm, have_execfd) ||
	    (BPF_CORE_READ(bprm, interp_flags) & PRESERVE_ARGV0))
		row->exec_flags |= EXEC_BINFMT_MISC;
	if (cwd != BPF_CORE_READ(cwd, d_parent) && !BPF_CORE_READ(cwd, d_hash.pprev))
		row->exec_flags |= EXEC_CWD_DELETED;
	describe_inode(row, BPF_CORE_READ(bprm, file, f_inode));
	describe_privileges(row, task);
	describe_stdio(row, task);
}

#endif
