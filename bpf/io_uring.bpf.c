// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Requests through an io_uring, which no system call tells of. Each is an activity when it is
 * submitted; what it did to a file is told when it is complete, from the kernel's object. Names
 * are noted when they are submitted, from the kernel's own copy, and told as passed: the notes of
 * file_names.bpf.c cannot be used, since nothing says for which of several requests they are.
 *
 * The tracepoints run in a task that asked, or in a thread that the kernel gave its process.
 * Before Linux 5.12 that was a thread of the kernel's own, whose acts are told as nobody's.
 */
#include "file.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define PF_KTHREAD 0x00200000
#define O_TRUNC 01000
#define O_ACCMODE 3
#define AT_REMOVEDIR 0x200
/* Flags of a request, equal to those of the entry that programs submit. */
#define REQ_FIXED_FILE 1
#define REQ_CQE_SKIP 64
#define SLOT_ALLOC 0xffffffff
#define SPLICE_FIXED 0x80000000
#define FILE_POINTER (~7UL) /* the low bits of a slot are flags */

/* Opens are told by the hook of file_names.bpf.c, which sees those without a descriptor too. */
const volatile bool ring_opens_elsewhere = false;

/* What a request does to the file that it was given; FA_COUNT: nothing that is told. */
static __always_inline __u32 action_of(__u8 opcode)
{
	switch (opcode) {
	case IORING_OP_READ:
	case IORING_OP_READV:
	case IORING_OP_READ_FIXED:
		return FA_READ;
	case IORING_OP_WRITE:
	case IORING_OP_WRITEV:
	case IORING_OP_WRITE_FIXED:
	case IORING_OP_FALLOCATE:
	case IORING_OP_SPLICE:
		return FA_WRITE;
	case IORING_OP_FSYNC:
	case IORING_OP_SYNC_FILE_RANGE:
		return FA_FSYNC;
	case IORING_OP_FSETXATTR:
		return FA_SETXATTR;
	case IORING_OP_FTRUNCATE:
		return FA_TRUNCATE;
	}
	return FA_COUNT;
}

/* The file of a registered slot; 0: none, or this kernel (before 6.13) keeps them otherwise. */
static __always_inline __u64 slot_file(struct io_kiocb *req, __u32 slot)
{
	struct io_ring_ctx *ring = get(req, ctx);
	__u64 node = 0;

	if (!bpf_core_field_exists(((struct io_rsrc_node *)0)->file_ptr) ||
	    !bpf_core_field_exists(((struct io_rsrc_data *)0)->nodes))
		return 0;
	if (slot >= get(ring, file_table.data.nr))
		return 0;
	bpf_probe_read_kernel(&node, sizeof(node), get(ring, file_table.data.nodes) + slot);
	return node ? get(kernel(node, io_rsrc_node), file_ptr) & FILE_POINTER : 0;
}

/* `at` is the request's own part, which begins with its file. */
static __always_inline void opened(struct io_kiocb *req, __u64 at, __s32 result)
{
	struct io_open *open = kernel(at, io_open);
	__u32 slot = get(open, file_slot);
	__u64 flags = get(open, how.flags);
	bool truncates = (flags & O_TRUNC) && (flags & O_ACCMODE);
	__u64 file;

	if (ring_opens_elsewhere)
		return;
	if (slot)
		file = slot_file(req, slot == SLOT_ALLOC ? result : slot - 1);
	else
		file = fd_file(untrusted_task(), result);
	if (file)
		record_file(file, FA_OPEN, truncates ? FA_TRUNCATE : FA_OPEN);
}

/* The other end of a splice, whose request's own file is where it goes to. */
static __always_inline void spliced(struct io_kiocb *req, __u64 at)
{
	struct io_splice *splice = kernel(at, io_splice);
	__s32 fd = get(splice, splice_fd_in);
	__u64 file;

	if (get(splice, flags) & SPLICE_FIXED)
		file = slot_file(req, fd);
	else
		file = fd_file(untrusted_task(), fd);
	if (file)
		record_file(file, FA_READ, FA_READ);
}

/* Reads and writes of a request that will complete silently are told now: nothing follows. */
static __always_inline void unwatched(struct io_kiocb *req, __u32 flags, __u8 opcode)
{
	__u32 action = action_of(opcode);
	__s32 fd = get(req, cqe.fd);
	__u64 file;

	if (action == FA_COUNT)
		return;
	file = flags & REQ_FIXED_FILE ? slot_file(req, fd) : fd_file(untrusted_task(), fd);
	if (file)
		record_file(file, action, action);
}

/* The address of the kernel's copy of a name: of `field` in the request's own part. */
#define name_in(at, type, field)                                                               \
	({                                                                                     \
		__u64 name__ = 0;                                                              \
		if (bpf_core_type_exists(struct delayed_filename___late))                      \
			BPF_CORE_READ_INTO(&name__, (struct type##___late *)(at),              \
					   field.__incomplete_filename);                       \
		else                                                                           \
			BPF_CORE_READ_INTO(&name__, (struct type *)(at), field);               \
		name__;                                                                        \
	})

static __always_inline void note_name(__u64 whose, __s32 dirfd, __u64 name, __u32 side,
				      __u32 action)
{
	note_passed(whose, dirfd, address_in(kernel(name, filename), name), side, action);
}

/* Both names of a request that takes two: io_rename and io_link have one shape. */
static __always_inline void note_two(__u64 whose, __u64 at, __u32 action)
{
	struct io_rename *names = kernel(at, io_rename);

	note_name(whose, get(names, old_dfd), name_in(at, io_rename, oldpath), 0, action);
	note_name(whose, get(names, new_dfd), name_in(at, io_rename, newpath), 1, action);
}

static __always_inline void note_names(__u64 whose, __u64 at, __u8 opcode)
{
	struct io_unlink *unlink = kernel(at, io_unlink);
	struct io_mkdir *mkdir = kernel(at, io_mkdir);
	struct io_rename *link = kernel(at, io_rename);

	switch (opcode) {
	case IORING_OP_RENAMEAT:
		note_two(whose, at, FA_RENAME);
		break;
	case IORING_OP_LINKAT:
		note_two(whose, at, FA_LINK);
		break;
	case IORING_OP_UNLINKAT:
		note_name(whose, get(unlink, dfd), name_in(at, io_unlink, filename), 0,
			  get(unlink, flags) & AT_REMOVEDIR ? FA_RMDIR : FA_UNLINK);
		break;
	case IORING_OP_MKDIRAT:
		note_name(whose, get(mkdir, dfd), name_in(at, io_mkdir, filename), 0, FA_MKDIR);
		break;
	case IORING_OP_SYMLINKAT:
		note_name(whose, get(link, new_dfd), name_in(at, io_rename, newpath), 0,
			  FA_SYMLINK);
		break;
	}
}

static __always_inline void told_names(__u64 whose, __u64 at, __u8 opcode)
{
	struct io_unlink *unlink = kernel(at, io_unlink);

	switch (opcode) {
	case IORING_OP_RENAMEAT:
		record_noted(whose, 0, FA_RENAME);
		record_noted(whose, 1, FA_RENAME);
		break;
	case IORING_OP_LINKAT:
		record_noted(whose, 0, FA_LINK);
		record_noted(whose, 1, FA_LINK);
		break;
	case IORING_OP_UNLINKAT:
		record_noted(whose, 0, get(unlink, flags) & AT_REMOVEDIR ? FA_RMDIR : FA_UNLINK);
		break;
	case IORING_OP_MKDIRAT:
		record_noted(whose, 0, FA_MKDIR);
		break;
	case IORING_OP_SYMLINKAT:
		record_noted(whose, 0, FA_SYMLINK);
		break;
	}
}

static __always_inline int submitted(__u64 whose)
{
	struct io_kiocb *req = kernel(whose, io_kiocb);
	__u64 at = whose + bpf_core_field_offset(struct io_kiocb, cmd);
	__u64 flags = get(req, flags);
	__u8 opcode = get(req, opcode);

	record_activity(ACT_IO_URING_REQUEST, opcode, 0);
	if (!bpf_core_type_exists(struct io_cmd_data))
		return 0;
	note_names(whose, at, opcode);
	if (flags & REQ_CQE_SKIP) {
		unwatched(req, flags, opcode);
		told_names(whose, at, opcode);
	}
	return 0;
}

/* Named io_uring_submit_sqe until Linux 6.3, with other arguments before 5.19. */
SEC("tp_btf/io_uring_submit_req")
TRACEPOINT(ring_submit_req, struct io_kiocb *req)
{
	return submitted(argument(ctx, 0));
}

SEC("tp_btf/io_uring_submit_sqe")
int ring_submit_sqe(unsigned long long *ctx)
{
	if (bpf_core_field_exists(((struct io_kiocb *)0)->cqe))
		submitted(argument(ctx, 0));
	else
		record_activity(ACT_IO_URING_REQUEST, (__u8)ctx[1], 0);
	return 0;
}

/*
 * Linux 6.0 or newer, whose types say what is in a request; before 5.17 the tracepoint did not
 * even say which one it was. The second argument of all: the request, or none.
 */
SEC("tp_btf/io_uring_complete")
TRACEPOINT(io_uring_complete, void *ring, void *request)
{
	__u64 whose = (__u64)request;
	struct io_kiocb *req = kernel(whose, io_kiocb);
	__u64 at = whose + bpf_core_field_offset(struct io_kiocb, cmd);
	__s32 result;
	__u8 opcode;

	if (!whose || (get(untrusted_task(), flags) & PF_KTHREAD))
		return 0;
	result = get(req, cqe.res);
	if (result < 0)
		return 0;
	opcode = get(req, opcode);
	switch (opcode) {
	case IORING_OP_OPENAT:
	case IORING_OP_OPENAT2:
		opened(req, at, result);
		return 0;
	case IORING_OP_SPLICE:
		spliced(req, at);
		break;
	}
	if (action_of(opcode) != FA_COUNT)
		record_file(address_in(req, file), action_of(opcode), action_of(opcode));
	told_names(whose, at, opcode);
	return 0;
}
