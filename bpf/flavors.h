/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Kernel types that vmlinux.h, which is one kernel's, does not have, or has in another shape;
 * each with the change that made it necessary. CO-RE finds the kernel's own by name.
 */
#ifndef RAQIB_FLAVORS_H
#define RAQIB_FLAVORS_H

#include "vmlinux.h"

/*
 * Linux 7.0, "tracing: Guard __DECLARE_TRACE() use of __DO_TRACE_CALL() with SRCU-fast": the
 * guard's type came with its only user, so a kernel that has it runs tracepoints preemptibly.
 * The content does not matter.
 */
typedef struct class_srcu_fast_notrace {
	void *lock;
} class_srcu_fast_notrace_t;

/* A file's times were timespecs until 6.10 (6.11: i_mtime_sec and i_mtime_nsec) ... */
struct inode___timespec {
	struct timespec64 i_mtime;
	struct timespec64 i_ctime;
} __attribute__((preserve_access_index));

/* ... under names that nobody was to use any more since 6.6 (ctime) and 6.7 (mtime). */
struct inode___hidden {
	struct timespec64 __i_mtime;
	struct timespec64 __i_ctime;
} __attribute__((preserve_access_index));

/* Overlayfs is a module on most kernels, and then this is not in the BTF of vmlinux. */
struct ovl_inode___layers {
	struct inode vfs_inode;
	struct dentry *__upperdentry;
} __attribute__((preserve_access_index));

/* Linux 7.0, "allow incomplete imports of filenames": what io_uring keeps until a request runs. */
struct delayed_filename___late {
	struct filename *__incomplete_filename;
} __attribute__((preserve_access_index));

struct io_unlink___late {
	struct delayed_filename___late filename;
} __attribute__((preserve_access_index));

struct io_mkdir___late {
	struct delayed_filename___late filename;
} __attribute__((preserve_access_index));

struct io_rename___late {
	struct delayed_filename___late oldpath;
	struct delayed_filename___late newpath;
} __attribute__((preserve_access_index));

#endif
