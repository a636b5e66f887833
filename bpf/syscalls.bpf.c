// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The tracepoint tier's dispatcher: one program at the end of every system call. Each further
 * program there would cost every call of the host 55-75 ns, so entities share this one.
 *
 * It looks at a call when it has returned: the fd is then a kernel object, and what failed has
 * not happened. Numbers are x86's; the compat table is i386's. x32 numbers have bit 30 set.
 */
#include "common.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define TS_COMPAT 2
#define X32_BIT 0x40000000
#define F_SETFL 4
#define FIOASYNC 0x5452
#define MAP_ANONYMOUS 0x20
#define O_TRUNC 01000
#define O_ACCMODE 3
#define FASYNC 020000

/* What a call does: which argument is what. `A_` is the low part, the action the high one. */
enum act {
	A_NONE,
	A_OPEN, /* returns a file; flags in argument 1 */
	A_OPENAT, /* flags in argument 2 */
	A_OPENAT2, /* flags in *argument 2 */
	A_OPENED, /* returns a file */
	A_FD0, /* acts on the file in argument 0 */
	A_MMAP, /* maps the file in argument 4, unless argument 3 says that there is none */
	A_COPY_IN_OUT, /* reads argument 0, writes argument 2 */
	A_COPY_OUT_IN, /* writes argument 0, reads argument 1 */
	A_SETFL,
	A_FIOASYNC,
	A_PATH0, /* acts on the path in argument 0 */
	A_PATH1, /* acts on (dirfd, path) in arguments 0 and 1 */
	A_TWO_PATHS, /* paths in arguments 0 and 1 */
	A_TWO_PATHS_AT, /* (dirfd, path) in arguments 0, 1 and 2, 3 */
	A_ACCEPT,
};

#define ACT(act, action) ((act) | (action) << 8)

#define CALLS 512
static const __u16 calls64[CALLS] = {
	[0] = ACT(A_FD0, FA_READ), /* read */
	[1] = ACT(A_FD0, FA_WRITE), /* write */
	[2] = ACT(A_OPEN, FA_OPEN), /* open */
	[8] = ACT(A_FD0, FA_LLSEEK), /* lseek */
	[9] = ACT(A_MMAP, FA_MMAP), /* mmap */
	[16] = ACT(A_FIOASYNC, FA_FASYNC), /* ioctl */
	[17] = ACT(A_FD0, FA_READ), /* pread64 */
	[18] = ACT(A_FD0, FA_WRITE), /* pwrite64 */
	[19] = ACT(A_FD0, FA_READ), /* readv */
	[20] = ACT(A_FD0, FA_WRITE), /* writev */
	[40] = ACT(A_COPY_OUT_IN, 0), /* sendfile */
	[43] = ACT(A_ACCEPT, 0), /* accept */
	[72] = ACT(A_SETFL, FA_FASYNC), /* fcntl */
	[73] = ACT(A_FD0, FA_FLOCK), /* flock */
	[74] = ACT(A_FD0, FA_FSYNC), /* fsync */
	[75] = ACT(A_FD0, FA_FSYNC), /* fdatasync */
	[76] = ACT(A_PATH0, FA_TRUNCATE), /* truncate */
	[77] = ACT(A_FD0, FA_TRUNCATE), /* ftruncate */
	[82] = ACT(A_TWO_PATHS, FA_RENAME), /* rename */
	[84] = ACT(A_PATH0, FA_UNLINK), /* rmdir */
	[85] = ACT(A_OPENED, FA_OPEN), /* creat */
	[86] = ACT(A_TWO_PATHS, FA_LINK), /* link */
	[87] = ACT(A_PATH0, FA_UNLINK), /* unlink */
	[257] = ACT(A_OPENAT, FA_OPEN), /* openat */
	[263] = ACT(A_PATH1, FA_UNLINK), /* unlinkat */
	[264] = ACT(A_TWO_PATHS_AT, FA_RENAME), /* renameat */
	[265] = ACT(A_TWO_PATHS_AT, FA_LINK), /* linkat */
	[275] = ACT(A_COPY_IN_OUT, 0), /* splice */
	[277] = ACT(A_FD0, FA_FSYNC), /* sync_file_range */
	[288] = ACT(A_ACCEPT, 0), /* accept4 */
	[295] = ACT(A_FD0, FA_READ), /* preadv */
	[296] = ACT(A_FD0, FA_WRITE), /* pwritev */
	[304] = ACT(A_OPENED, FA_OPEN), /* open_by_handle_at */
	[316] = ACT(A_TWO_PATHS_AT, FA_RENAME), /* renameat2 */
	[326] = ACT(A_COPY_IN_OUT, 0), /* copy_file_range */
	[327] = ACT(A_FD0, FA_READ), /* preadv2 */
	[328] = ACT(A_FD0, FA_WRITE), /* pwritev2 */
	[437] = ACT(A_OPENAT2, FA_OPEN), /* openat2 */
};

static const __u16 calls32[CALLS] = {
	[3] = ACT(A_FD0, FA_READ),
	[4] = ACT(A_FD0, FA_WRITE),
	[5] = ACT(A_OPEN, FA_OPEN),
	[8] = ACT(A_OPENED, FA_OPEN),
	[9] = ACT(A_TWO_PATHS, FA_LINK),
	[10] = ACT(A_PATH0, FA_UNLINK),
	[19] = ACT(A_FD0, FA_LLSEEK),
	[38] = ACT(A_TWO_PATHS, FA_RENAME),
	[40] = ACT(A_PATH0, FA_UNLINK),
	[54] = ACT(A_FIOASYNC, FA_FASYNC),
	[55] = ACT(A_SETFL, FA_FASYNC),
	[92] = ACT(A_PATH0, FA_TRUNCATE),
	[93] = ACT(A_FD0, FA_TRUNCATE),
	[118] = ACT(A_FD0, FA_FSYNC),
	[140] = ACT(A_FD0, FA_LLSEEK), /* _llseek */
	[143] = ACT(A_FD0, FA_FLOCK),
	[145] = ACT(A_FD0, FA_READ), /* readv */
	[146] = ACT(A_FD0, FA_WRITE), /* writev */
	[148] = ACT(A_FD0, FA_FSYNC), /* fdatasync */
	[180] = ACT(A_FD0, FA_READ), /* pread64 */
	[181] = ACT(A_FD0, FA_WRITE), /* pwrite64 */
	[187] = ACT(A_COPY_OUT_IN, 0), /* sendfile */
	[192] = ACT(A_MMAP, FA_MMAP), /* mmap2 */
	[193] = ACT(A_PATH0, FA_TRUNCATE), /* truncate64 */
	[194] = ACT(A_FD0, FA_TRUNCATE), /* ftruncate64 */
	[221] = ACT(A_SETFL, FA_FASYNC), /* fcntl64 */
	[239] = ACT(A_COPY_OUT_IN, 0), /* sendfile64 */
	[295] = ACT(A_OPENAT, FA_OPEN),
	[301] = ACT(A_PATH1, FA_UNLINK),
	[302] = ACT(A_TWO_PATHS_AT, FA_RENAME),
	[303] = ACT(A_TWO_PATHS_AT, FA_LINK),
	[313] = ACT(A_COPY_IN_OUT, 0), /* splice */
	[333] = ACT(A_FD0, FA_READ), /* preadv */
	[334] = ACT(A_FD0, FA_WRITE), /* pwritev */
	[342] = ACT(A_OPENED, FA_OPEN), /* open_by_handle_at */
	[353] = ACT(A_TWO_PATHS_AT, FA_RENAME), /* renameat2 */
	[364] = ACT(A_ACCEPT, 0), /* accept4 */
	[377] = ACT(A_COPY_IN_OUT, 0), /* copy_file_range */
	[378] = ACT(A_FD0, FA_READ), /* preadv2 */
	[379] = ACT(A_FD0, FA_WRITE), /* pwritev2 */
	[437] = ACT(A_OPENAT2, FA_OPEN),
};

struct args {
	__u64 at[6];
};

static __always_inline void take_args(struct args *args, struct pt_regs *regs, bool compat)
{
	if (compat) {
		args->at[0] = (__u32)regs->bx;
		args->at[1] = (__u32)regs->cx;
		args->at[2] = (__u32)regs->dx;
		args->at[3] = (__u32)regs->si;
		args->at[4] = (__u32)regs->di;
	} else {
		args->at[0] = regs->di;
		args->at[1] = regs->si;
		args->at[2] = regs->dx;
		args->at[3] = regs->r10;
		args->at[4] = regs->r8;
	}
}

static __always_inline int on_fd_also(struct task_struct *task, __s32 fd, __u32 action, __u32 also)
{
	__u64 file = fd_file(task, fd);

	return file ? record_file(file, action, also) : 0;
}

static __always_inline int on_fd(struct task_struct *task, __s32 fd, __u32 action)
{
	return on_fd_also(task, fd, action, action);
}

static __always_inline int opened(struct task_struct *task, __s32 fd, __u64 flags)
{
	/* O_TRUNC on a file opened for reading only does nothing that can be relied upon. */
	bool truncates = (flags & O_TRUNC) && (flags & O_ACCMODE);

	return on_fd_also(task, fd, FA_OPEN, truncates ? FA_TRUNCATE : FA_OPEN);
}

/* The rarer acts, apart from the path that every open, read and write takes. */
static __noinline int rare(struct args *args, __u32 act, __u32 action, __s64 ret)
{
	struct task_struct *task = current_task();
	__u64 flags = 0;

	switch (act) {
	case A_OPENAT2:
		bpf_probe_read_user(&flags, sizeof(flags), (void *)args->at[2]);
		return opened(task, ret, flags);
	case A_COPY_IN_OUT:
		on_fd(task, args->at[0], FA_READ);
		return on_fd(task, args->at[2], FA_WRITE);
	case A_COPY_OUT_IN:
		on_fd(task, args->at[1], FA_READ);
		return on_fd(task, args->at[0], FA_WRITE);
	case A_SETFL:
		if (args->at[1] != F_SETFL || !(args->at[2] & FASYNC))
			return 0;
		return on_fd(task, args->at[0], FA_FASYNC);
	case A_FIOASYNC:
		if (args->at[1] != FIOASYNC)
			return 0;
		return on_fd(task, args->at[0], FA_FASYNC);
	case A_PATH0:
		return record_path(AT_FDCWD, args->at[0], action);
	case A_PATH1:
		return record_path(args->at[0], args->at[1], action);
	case A_TWO_PATHS:
		record_path(AT_FDCWD, args->at[0], action);
		return record_path(AT_FDCWD, args->at[1], action);
	case A_TWO_PATHS_AT:
		record_path(args->at[0], args->at[1], action);
		return record_path(args->at[2], args->at[3], action);
	case A_ACCEPT:
		return record_accept(fd_file(task, ret));
	}
	return 0;
}

SEC("tp_btf/sys_exit")
TRACEPOINT(sys_exit, struct pt_regs *regs, long ret)
{
	__u64 number = regs->orig_ax & ~X32_BIT;
	struct task_struct *task;
	struct args args = {};
	__u32 call, act;
	bool compat;

	/* -4095 to -1 is an error; a mapping's address may have any other sign. */
	if (number >= CALLS || (__u64)ret >= (__u64)-4095)
		return 0;
	task = current_task();
	compat = get(task, thread_info.status) & TS_COMPAT;
	call = compat ? calls32[number & (CALLS - 1)] : calls64[number & (CALLS - 1)];
	if (!call)
		return 0;
	take_args(&args, regs, compat);
	act = call & 0xff;
	call >>= 8;
	switch (act) {
	case A_FD0:
		return on_fd(task, args.at[0], call & 15);
	case A_MMAP:
		return args.at[3] & MAP_ANONYMOUS ? 0 : on_fd(task, args.at[4], call & 15);
	case A_OPEN:
		return opened(task, ret, args.at[1]);
	case A_OPENAT:
		return opened(task, ret, args.at[2]);
	case A_OPENED:
		return opened(task, ret, 0);
	}
	return rare(&args, act, call, ret);
}

/*
 * Only a close must be seen before it is done: afterwards the fd leads nowhere. Attached when a
 * recipe asks for the action, since it costs every system call of the host.
 */
SEC("tp_btf/sys_enter")
TRACEPOINT(sys_enter, struct pt_regs *regs, long id)
{
	struct task_struct *task;
	bool compat;

	if (id != 3 && id != 6)
		return 0;
	task = current_task();
	compat = get(task, thread_info.status) & TS_COMPAT;
	if (id != (compat ? 6 : 3))
		return 0;
	return on_fd(task, compat ? (__u32)regs->bx : regs->di, FA_CLOSE);
}
