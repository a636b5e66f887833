// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * What tasks do to what is neither a file nor a flow: one row for each (task image, activity,
 * outcome, arguments that tell one from another), repeats counted.
 *
 * Most of it is a system call that has returned, described by a table: which argument is a
 * number, a process, a text, a path. Numbers, descriptors and credentials are the kernel's own;
 * texts and addresses of calls that failed are the task's word, read after the kernel used it.
 */
#include "activity.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define EINTR 4
#define EAGAIN 11
#define ENOSYS 38
#define EINPROGRESS 115
#define ERESTARTSYS 512
#define NSFS_MAGIC 0x6e736673
#define MS_MGC_MASK 0xffff0000ULL
#define MS_MGC_VALUE 0xC0ED0000ULL
#define PROT_EXEC 4
#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
#define AF_NETLINK 16
#define PF_KTHREAD 0x00200000
#define S_IFMT 0170000
#define S_IFSOCK 0140000

TABLE(activity_rows, 2, activity_key, activity_row);

/* Larger than the stack likes; programs at tracepoints have their CPU to themselves. */
struct activity_draft {
	struct activity_key key;
	struct activity_row row;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct activity_draft);
} activity_drafts SEC(".maps");

static __always_inline struct activity_draft *this_draft(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&activity_drafts, &zero);
}

/* An empty draft in the name of the current task; none for what the daemon does itself. */
static __always_inline struct activity_draft *begin(struct stay *stay, __u32 activity)
{
	struct activity_draft *draft = this_draft();

	if (!draft || !enter(stay, J_ACTIVITY))
		return NULL;
	__builtin_memset(draft, 0, sizeof(*draft));
	task_identity(untrusted_task(), &draft->key.task);
	draft->key.activity = activity;
	return draft->key.task.tgid == self_tgid ? NULL : draft;
}

/* What is not in the key itself, in one number. */
static __always_inline __u64 subject_of(const struct activity_row *row)
{
	const __u64 *text = (const __u64 *)row->text;
	const __u64 *kind = (const __u64 *)row->kind;
	__u64 subject = mix(row->target.start_ns, row->target.tgid);

	subject = mix(mix(subject, row->path), row->other);
	subject = mix(subject, row->code);
#pragma clang loop unroll(full)
	for (int word = 0; word < ACTIVITY_TEXT / 8; word++)
		subject = mix(subject, text[word]);
#pragma clang loop unroll(full)
	for (int word = 0; word < ACTIVITY_KIND / 8; word++)
		subject = mix(subject, kind[word]);
	return subject;
}

static __always_inline int put(struct stay *stay, struct activity_draft *draft)
{
	void *rows = bpf_map_lookup_elem(&activity_rows, &stay->slot);
	struct activity_row *row;

	draft->key.subject = subject_of(&draft->row);
	count_events(stay, 1);
	row = rows ? bpf_map_lookup_elem(rows, &draft->key) : NULL;
	if (!row && rows) {
		draft->row.first_ns = bpf_ktime_get_boot_ns();
		draft->row.first_tick = bpf_jiffies64();
		row = make(stay, rows, &draft->key, &draft->row);
	}
	if (!row) {
		count_refused(stay, 1);
		return 0;
	}
	__sync_fetch_and_add(&row->count, 1);
	row->last_tick = bpf_jiffies64();
	return 0;
}

/* Arguments by number, from 1; 0: there is none. */
struct shape {
	__u8 a;
	__u8 b;
	__u8 pid;
	__u8 text;
	__u8 kind;
	__u8 path; /* below the working directory, or below `dirfd` */
	__u8 dirfd;
	__u8 other;
	__u8 other_dirfd;
	__u8 fd; /* its file is the path */
};

static const struct shape shapes[ACT_COUNT] = {
	[ACT_PTRACE] = { .a = 1, .pid = 2 },
	[ACT_PROCESS_VM_READ] = { .pid = 1 },
	[ACT_PROCESS_VM_WRITE] = { .pid = 1 },
	[ACT_PIDFD_GETFD] = { .a = 2 },
	[ACT_MEMFD_CREATE] = { .a = 2, .text = 1 },
	[ACT_USERFAULTFD] = { .a = 1 },
	[ACT_IO_URING_SETUP] = { .a = 1 },
	[ACT_PERSONALITY] = { .a = 1 },
	[ACT_SET_GROUPS] = { .a = 1 },
	[ACT_PRCTL] = { .a = 1, .b = 2 },
	[ACT_KEYCTL] = { .a = 1 },
	[ACT_ADD_KEY] = { .kind = 1, .text = 2 },
	[ACT_UNSHARE] = { .a = 1 },
	[ACT_SETNS] = { .a = 2 },
	[ACT_CHROOT] = { .path = 1 },
	[ACT_PIVOT_ROOT] = { .path = 1, .other = 2 },
	[ACT_MODULE_UNLOAD] = { .text = 1 },
	[ACT_BPF] = { .a = 1 },
	[ACT_KERNEL_LOG] = { .a = 1 },
	[ACT_IO_PORTS] = { .a = 1 },
	[ACT_REBOOT] = { .a = 3 },
	[ACT_SET_TIME] = { .a = 1 },
	[ACT_SET_HOSTNAME] = { .text = 1 },
	[ACT_SWAP] = { .path = 1 },
	[ACT_ACCOUNTING] = { .path = 1 },
	[ACT_MOUNT] = { .a = 4, .text = 1, .kind = 3, .path = 2 },
	[ACT_UMOUNT] = { .a = 2, .path = 1 },
	[ACT_MOVE_MOUNT] = { .path = 4, .dirfd = 3, .other = 2, .other_dirfd = 1 },
	[ACT_OPEN_TREE] = { .a = 3, .path = 2, .dirfd = 1 },
	[ACT_FS_OPEN] = { .kind = 1 },
	[ACT_FS_CONFIG] = { .a = 2, .kind = 3, .text = 4 },
	[ACT_FS_PICK] = { .a = 3, .path = 2, .dirfd = 1 },
	[ACT_MOUNT_SETATTR] = { .path = 2, .dirfd = 1 },
	[ACT_BLOCK_SETUP] = { .a = 2, .fd = 1 },
	[ACT_SOCKET_CREATE] = { .a = 1, .b = 2 },
	[ACT_MEMORY_EXEC] = { .a = 3 },
};

static __always_inline __u64 passed(const struct activity_args *args, __u8 number)
{
	return number ? args->at[(number - 1) & 7] : 0;
}

static __always_inline __u64 path_argument(const struct activity_args *args, __u8 path,
					   __u8 dirfd, __u32 slot)
{
	__s32 base = dirfd ? (__s32)passed(args, dirfd) : AT_FDCWD;

	return path ? intern_passed(base, passed(args, path), J_ACTIVITY, slot, SPACE_USER) : 0;
}

static __always_inline int shape_draft(__u32 activity, __u32 slot)
{
	struct activity_draft *draft = this_draft();
	__u32 zero = 0;
	struct activity_args *args = bpf_map_lookup_elem(&activity_calls, &zero);
	const struct shape *shape;

	if (!draft || !args || activity >= ACT_COUNT)
		return 0;
	shape = &shapes[activity];
	draft->key.a = passed(args, shape->a);
	draft->key.b = passed(args, shape->b);
	draft->row.target.tgid = passed(args, shape->pid);
	if (shape->text)
		bpf_probe_read_user_str(draft->row.text, ACTIVITY_TEXT,
					(void *)passed(args, shape->text));
	if (shape->kind)
		bpf_probe_read_user_str(draft->row.kind, ACTIVITY_KIND,
					(void *)passed(args, shape->kind));
	draft->row.path = path_argument(args, shape->path, shape->dirfd, slot);
	draft->row.other = path_argument(args, shape->other, shape->other_dirfd, slot);
	if (shape->fd)
		draft->row.path = intern_fd(passed(args, shape->fd), J_ACTIVITY, slot);
	return 0;
}

/* Properties that guards depend on; most options are asked all the time and change nothing. */
static __always_inline bool guarded(__u64 option)
{
	switch (option) {
	case 4: /* PR_SET_DUMPABLE */
	case 8: /* PR_SET_KEEPCAPS */
	case 22: /* PR_SET_SECCOMP */
	case 24: /* PR_CAPBSET_DROP */
	case 26: /* PR_SET_TSC */
	case 28: /* PR_SET_SECUREBITS */
	case 35: /* PR_SET_MM */
	case 36: /* PR_SET_CHILD_SUBREAPER */
	case 38: /* PR_SET_NO_NEW_PRIVS */
	case 47: /* PR_CAP_AMBIENT */
	case 53: /* PR_SET_SPECULATION_CTRL */
	case 59: /* PR_SET_SYSCALL_USER_DISPATCH */
	case 0x59616d61: /* PR_SET_PTRACER */
		return true;
	}
	return false;
}

/* The names of what is made stand at fixed places in the call's own struct. */
static __always_inline void describe_bpf(struct activity_draft *draft,
					 const struct activity_args *args)
{
	__u64 attr = args->at[1];
	__u32 type = 0;

	if (draft->key.a != 0 && draft->key.a != 5)
		return;
	bpf_probe_read_user(&type, sizeof(type), (void *)attr);
	draft->key.b = type;
	bpf_probe_read_user_str(draft->row.text, 16, (void *)attr + (draft->key.a ? 48 : 28));
}

static __always_inline void describe_perf(struct activity_draft *draft,
					  const struct activity_args *args)
{
	__u32 type = 0;

	bpf_probe_read_user(&type, sizeof(type), (void *)args->at[0]);
	draft->key.a = type;
	bpf_probe_read_user(&draft->key.b, 8, (void *)args->at[0] + 8);
}

static __always_inline void describe_ids(struct activity_draft *draft, bool group)
{
	struct task_struct *task = untrusted_task();

	if (group) {
		draft->key.a = get(task, cred, gid.val);
		draft->key.b = get(task, cred, egid.val);
	} else {
		draft->key.a = get(task, cred, uid.val);
		draft->key.b = get(task, cred, euid.val);
	}
}

static __always_inline void describe_caps(struct activity_draft *draft)
{
	struct task_struct *task = untrusted_task();
	const struct cred *cred = get(task, cred);

	/* An array of two words before Linux 6.3, one long since: the same 8 bytes. */
	bpf_probe_read_kernel(&draft->key.a, 8,
			      (void *)cred + bpf_core_field_offset(struct cred, cap_effective));
	bpf_probe_read_kernel(&draft->key.b, 8,
			      (void *)cred + bpf_core_field_offset(struct cred, cap_permitted));
}

static __always_inline void describe_namespace(struct activity_draft *draft, __s32 fd)
{
	__u64 address = fd_file(untrusted_task(), fd);
	struct file *file = kernel(address, file);

	if (address && get(file, f_inode, i_sb, s_magic) == NSFS_MAGIC)
		draft->key.b = get(file, f_inode, i_ino);
}

/* A pidfd holds the process itself. */
static __always_inline void describe_pidfd(struct activity_draft *draft, __s32 fd)
{
	__u64 address = fd_file(untrusted_task(), fd);
	struct file *file = kernel(address, file);
	struct upid upid = {};
	__u64 pid;

	if (!address)
		return;
	pid = (__u64)get(file, private_data);
	bpf_probe_read_kernel(&upid, sizeof(upid),
			      (void *)pid + bpf_core_field_offset(struct pid, numbers));
	draft->row.target.tgid = upid.nr;
}

/* The socket behind a descriptor; 0: it is none. */
static __always_inline __u64 fd_sock(__s32 fd)
{
	__u64 address = fd_file(untrusted_task(), fd);
	struct file *file = kernel(address, file);
	struct socket *socket;

	if (!address || (get(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return 0;
	socket = kernel(get(file, private_data), socket);
	return (__u64)get(socket, sk);
}

/* What the kernel made of the address: with the port that it chose. */
static __always_inline bool describe_sock(struct activity_draft *draft, __s32 fd, bool remote)
{
	__u64 address = fd_sock(fd);
	struct sock *sk = kernel(address, sock);
	__u16 family, port;

	if (!address)
		return false;
	family = get(sk, __sk_common.skc_family);
	if (family != AF_INET && family != AF_INET6)
		return false;
	port = remote ? __builtin_bswap16(get(sk, __sk_common.skc_dport)) :
			get(sk, __sk_common.skc_num);
	if (family == AF_INET)
		draft->key.a = remote ? get(sk, __sk_common.skc_daddr) :
					get(sk, __sk_common.skc_rcv_saddr);
	else
		/* Both halves: a and b stand together in the key. */
		bpf_probe_read_kernel(
			&draft->key.a, 16,
			(void *)address +
				(remote ? bpf_core_field_offset(struct sock,
								__sk_common.skc_v6_daddr) :
					  bpf_core_field_offset(
						  struct sock, __sk_common.skc_v6_rcv_saddr)));
	draft->row.code = (__u32)family << 16 | port;
	return true;
}

static __always_inline void describe_sockaddr(struct activity_draft *draft, __u64 user)
{
	__u16 head[2] = {}; /* family, port */

	bpf_probe_read_user(head, sizeof(head), (void *)user);
	draft->row.code = (__u32)head[0] << 16;
	if (head[0] == AF_INET) {
		bpf_probe_read_user(&draft->key.a, 4, (void *)user + 4);
		draft->row.code |= __builtin_bswap16(head[1]);
	} else if (head[0] == AF_INET6) {
		bpf_probe_read_user(&draft->key.a, 16, (void *)user + 8);
		draft->row.code |= __builtin_bswap16(head[1]);
	} else if (head[0] == AF_UNIX) {
		char first = 0;

		bpf_probe_read_user(&first, 1, (void *)user + 2);
		/* An abstract name begins with a NUL: shown as @, as everybody does. */
		if (first) {
			bpf_probe_read_user_str(draft->row.text, ACTIVITY_TEXT,
						(void *)user + 2);
		} else {
			draft->row.text[0] = '@';
			bpf_probe_read_user_str(draft->row.text + 1, ACTIVITY_TEXT - 1,
						(void *)user + 3);
		}
	}
}

/* What the table cannot say; false: this one is no fact. */
static __always_inline int finish_draft(__u32 activity, __u32 slot)
{
	struct activity_draft *draft = this_draft();
	__u32 zero = 0;
	struct activity_args *args = bpf_map_lookup_elem(&activity_calls, &zero);

	if (!draft || !args)
		return 0;
	switch (activity) {
	case ACT_SET_UID:
	case ACT_SET_GID:
		describe_ids(draft, activity == ACT_SET_GID);
		return 1;
	case ACT_CAPSET:
		describe_caps(draft);
		return 1;
	case ACT_PRCTL:
		return guarded(draft->key.a);
	case ACT_PERSONALITY:
		return (__u32)draft->key.a && (__u32)draft->key.a != 0xffffffff;
	case ACT_BPF:
		describe_bpf(draft, args);
		return 1;
	case ACT_PERF_EVENT_OPEN:
		describe_perf(draft, args);
		return 1;
	case ACT_SETNS:
		describe_namespace(draft, args->at[0]);
		return 1;
	case ACT_PIDFD_GETFD:
		describe_pidfd(draft, args->at[0]);
		return 1;
	case ACT_MODULE_LOAD:
	case ACT_KEXEC_LOAD:
		/* A descriptor where the call takes one, which its caller says. */
		if (args->variant)
			draft->row.path = intern_fd(args->at[0], J_ACTIVITY, slot);
		return 1;
	case ACT_SET_HOSTNAME:
		/* Its text ends by length, not by a NUL. */
		if (args->at[1] < ACTIVITY_TEXT)
			draft->row.text[args->at[1] & (ACTIVITY_TEXT - 1)] = 0;
		return 1;
	case ACT_MOUNT:
		if ((draft->key.a & MS_MGC_MASK) == MS_MGC_VALUE)
			draft->key.a &= ~MS_MGC_MASK;
		return 1;
	case ACT_FS_CONFIG:
		/* FSCONFIG_SET_STRING and _PATH: the value of others is no text. */
		if (draft->key.a != 1 && draft->key.a != 3)
			__builtin_memset(draft->row.text, 0, ACTIVITY_TEXT);
		return 1;
	case ACT_SOCKET_CREATE:
		draft->row.code = args->at[2];
		draft->key.b &= 15;
		return 1;
	case ACT_BIND:
		if (draft->key.error || !describe_sock(draft, args->at[0], false))
			describe_sockaddr(draft, args->at[1]);
		return 1;
	case ACT_LISTEN:
		describe_sock(draft, args->at[0], false);
		return 1;
	case ACT_CONNECT:
		if (draft->key.error || !describe_sock(draft, args->at[0], true))
			describe_sockaddr(draft, args->at[1]);
		return 1;
	case ACT_MEMORY_EXEC:
		draft->key.b = args->variant;
		return draft->key.a & PROT_EXEC ? 1 : 0;
	}
	return 1;
}

/* A call in `activity_calls` has returned. */
int record_call(__u32 activity, __s64 ret)
{
	struct activity_draft *draft;
	struct stay stay;
	__s32 error = 0;

	if (ret < 0 && ret >= -4095)
		error = -ret;
	/* Not a refusal: it goes on, is tried again, or does not exist here. */
	if (error == EINPROGRESS)
		error = 0;
	if (error == EINTR || error == EAGAIN || error == ENOSYS || error >= ERESTARTSYS)
		return 0;
	draft = begin(&stay, activity);
	if (!draft)
		return 0;
	draft->key.error = error;
	shape_draft(activity, stay.slot);
	if (!finish_draft(activity, stay.slot))
		return 0;
	return put(&stay, draft);
}

/* What needs no more than a number. */
int record_activity(__u32 activity, __u64 a, __u64 b)
{
	struct activity_draft *draft;
	struct stay stay;

	draft = begin(&stay, activity);
	if (!draft)
		return 0;
	draft->key.a = a;
	draft->key.b = b;
	return put(&stay, draft);
}

#define RTM_BASE 16
#define RTM_KINDS 4
#define RTM_GET 2

/* Requests that change the network's configuration; those that ask are the many. */
int record_netlink(__s32 fd, __u64 message)
{
	__u64 address = fd_sock(fd);
	struct sock *sk = kernel(address, sock);
	__u16 type = 0;

	if (!address || get(sk, __sk_common.skc_family) != AF_NETLINK || get(sk, sk_protocol))
		return 0;
	bpf_probe_read_user(&type, sizeof(type), (void *)message + 4);
	if (type < RTM_BASE || (type - RTM_BASE) % RTM_KINDS == RTM_GET)
		return 0;
	return record_activity(ACT_NETLINK_CONFIG, type, 0);
}

#define SI_USER 0
#define SI_QUEUE -1
#define SI_TKILL -6

/* Sent by a task to another one; what the kernel itself sends is not anybody's act. */
SEC("tp_btf/signal_generate")
TRACEPOINT(signal_generate, int sig, struct kernel_siginfo *info, struct task_struct *task,
	   int group, int result)
{
	struct activity_draft *draft;
	struct stay stay;
	__s32 code;

	/* Special values that are no addresses. */
	if ((__u64)info <= 2)
		return 0;
	/* Not through its type: since Linux 6.12 the verifier takes it for a possible error. */
	code = BPF_CORE_READ(info, si_code);
	if (code != SI_USER && code != SI_QUEUE && code != SI_TKILL)
		return 0;
	draft = begin(&stay, ACT_SIGNAL);
	if (!draft || draft->key.task.tgid == (__u32)task->tgid)
		return 0;
	task_identity(task, &draft->row.target);
	draft->key.a = sig;
	return put(&stay, draft);
}

SEC("tp_btf/task_rename")
TRACEPOINT(task_rename, struct task_struct *task, const char *comm)
{
	struct activity_draft *draft;
	struct stay stay;

	/* An exec renames too: the image says so already. */
	if ((task->flags & PF_KTHREAD) || BPF_CORE_READ_BITFIELD_PROBED(task, in_execve))
		return 0;
	draft = begin(&stay, ACT_COMM_CHANGE);
	if (!draft)
		return 0;
	bpf_probe_read_kernel_str(draft->row.text, 16, comm);
	return put(&stay, draft);
}
