/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Every struct that crosses from the kernel to user space. This file is the only truth on their
 * layout: user space uses the types that the skeleton generates from it. Fixed-width fields,
 * widest first, no implicit padding (padding in a key would be a different key), sizes asserted.
 */
#ifndef RAQIB_TYPES_H
#define RAQIB_TYPES_H

#define SIZE_IS(type, size) _Static_assert(sizeof(struct type) == (size), #type)

/* Journals: each is a pair of epochs with its own ledger, cadence and doorbell. */
enum journal_id {
	J_EXECUTION,
	J_FILE_ACCESS,
	J_NETWORK_FLOWS,
	J_NETWORK_PEERS,
	J_ENV_VARS,
	J_ACTIVITY,
	J_CONTAINERS,
	J_COUNT,
};

/* What a CPU counted in one epoch of one journal. events = sum of the rows' counts + refused. */
struct ledger {
	__u64 events;  /* recorded, before it was known whether a row could be had */
	__u64 refused; /* of those: no row could be had, the table was full */
	__u64 text_refused; /* path components or arguments without a place; the row is kept */
	__u64 unowned; /* packets of sockets without a known task: not facts of this journal */
};
SIZE_IS(ledger, 32);

/* Shared by all CPUs: how full the epoch is, and whether its doorbell has been rung. */
struct fill {
	__u64 rows;
	__u64 text_rows;
	__u64 rung;
};
SIZE_IS(fill, 24);

/* Set by user space before the first epoch: ring when the rows reach these. */
struct limits {
	__u64 rows;
	__u64 text_rows;
};
SIZE_IS(limits, 16);

struct bell {
	__u32 journal;
	__u32 slot;
};
SIZE_IS(bell, 8);

/* One image of one process: see TaskKey in src/event.rs. */
struct task_key {
	__u64 start_ns;
	__u32 tgid;
	__u32 exec_id;
};
SIZE_IS(task_key, 16);

/*
 * A path is a chain of components. A component's id mixes its parent's id, the dentry's name
 * hash and length, and its inode: equal ids mean equal chains, and a chain whose leaf is in the
 * table has all its ancestors there too. Names longer than one row go on in further chunks.
 */
#define NODE_ROOT 1ULL
#define NODE_NAME 48
struct node_key {
	__u64 id;
	__u32 chunk;
	__u32 pad;
};
SIZE_IS(node_key, 16);

enum node_flags {
	NODE_CUT = 1, /* the chain was too deep: ancestors are missing */
	NODE_DETACHED = 2, /* no way up to a root: memfd, unmounted, disconnected */
	NODE_ARGUMENT = 4, /* a path as a task passed it, relative to the parent id */
};

struct path_node {
	__u64 parent; /* NODE_ROOT: the root itself; 0: none */
	__u32 length; /* of the whole name */
	__u32 flags;
	__u8 name[NODE_NAME];
};
SIZE_IS(path_node, 64);

/*
 * file_access: one name of one inode, as one task image reached it. The key is small because it
 * is compared on every event, and each cache line that a look-up touches costs more than the
 * instructions around it.
 */
struct file_key {
	struct task_key task;
	__u64 inode; /* 0: known by name only */
	__u64 name; /* mixes which of its names it is: see name_of in file_access.bpf.c */
	__u32 dev; /* the kernel's dev_t */
	__u32 pad;
};
SIZE_IS(file_key, 40);

enum file_action {
	FA_FASYNC,
	FA_FLOCK,
	FA_FSYNC,
	FA_LLSEEK,
	FA_MMAP,
	FA_OPEN,
	FA_READ,
	FA_WRITE,
	FA_RENAME,
	FA_TRUNCATE,
	FA_UNLINK,
	FA_CREATE,
	FA_CLOSE,
	FA_LINK,
	FA_EXECVE,
	/* From here on beyond the 15 that recipes of other programs know. */
	FA_CHMOD,
	FA_CHOWN,
	FA_UTIMES,
	FA_SETXATTR, /* set or removed, beside the two that follow */
	FA_SETACL,
	FA_SETCAP,
	FA_SETFLAGS, /* immutable, append-only ... */
	FA_SETID, /* its mode became set-user-id or set-group-id */
	FA_SYMLINK,
	FA_MKDIR,
	FA_RMDIR,
	FA_MKNOD,
	FA_CLONE, /* shares another file's blocks (reflink) */
	FA_MMAP_EXEC,
	FA_MMAP_WRITE, /* shared and writable: written without a call */
	FA_RECEIVE, /* an open file came in a message or out of another process */
	FA_EXCHANGE, /* two names changed places */
	FA_COUNT, /* 32: they are the bits of one word */
};

enum file_flags {
	FILE_DELETED = 1,
	FILE_OVERLAY = 4,
	FILE_BY_NAME = 8,
	FILE_MEMFD = 32,
};

struct file_row {
	/* What every event writes comes first: with the key, it spans two cache lines. */
	__u64 last_tick; /* jiffies: a clock read on every event would cost as much as the rest */
	__u32 counts[FA_COUNT]; /* a bit of the mask is a count that is not zero */
	__u64 first_ns; /* since boot, suspend included */
	__u64 first_tick;
	__u64 path; /* node id */
	__u64 size;
	__u32 mode;
	__u32 uid;
	__u32 gid;
	__u32 flags;
};
SIZE_IS(file_row, 184);

/* execution: fork, exec and exit of one task image. */
enum exec_event {
	EX_FORK,
	EX_EXEC,
	EX_EXIT,
	EX_COUNT,
};

/* What an execution was: bits of exec_flags. */
enum exec_flags {
	EXEC_SCRIPT = 1, /* another program was run than was asked for: #! or binfmt_misc */
	EXEC_BINFMT_MISC = 2,
	EXEC_SECURE = 4, /* the kernel told the C library to trust nothing (AT_SECURE) */
	EXEC_SETUID = 8, /* privileges gained by this exec */
	EXEC_SETGID = 16,
	EXEC_FILE_CAPS = 32,
	EXEC_UPPER_LAYER = 64, /* not of the image: in the upper layer of an overlay */
	EXEC_CWD_DELETED = 128,
};

struct exec_row {
	__u64 fork_ns; /* since boot; 0: not in this epoch, as for the others */
	__u64 exec_ns;
	__u64 exit_ns;
	struct task_key parent; /* the image that forked; only with fork_ns */
	__u64 exe_path;
	__u64 cwd_path;
	__u64 exe_inode;
	__u64 cgroup; /* cgroup v2: inode of its directory */
	__u64 cgroup1; /* a v1 hierarchy's, see cgroup.h; 0: in none */
	__u64 cap_effective;
	__u64 cap_permitted;
	__u64 cap_inheritable;
	__u64 exe_mtime_ns; /* wall clock, as the file system keeps it */
	__u64 exe_ctime_ns;
	__u64 exe_size;
	__u64 image_ns; /* when the first process of a pid namespace but the first began */
	__u32 exe_dev;
	__u32 exe_flags; /* enum file_flags */
	__u32 ppid;
	__u32 uid;
	__u32 gid;
	__u32 euid;
	__u32 egid;
	__u32 loginuid;
	__u32 sessionid;
	__u32 ns_mnt;
	__u32 ns_pid;
	__u32 ns_uts;
	__u32 ns_ipc;
	__u32 ns_net;
	__u32 ns_cgroup;
	__u32 ns_user;
	__u32 args_length;
	__u32 exec_flags; /* enum exec_flags */
	__u32 exit_status; /* as wait(2) gives it */
	__u32 counts[EX_COUNT];
	__u32 exe_mode;
	__u32 exe_nlink;
	__u32 exe_magic; /* of the file system */
	__u32 exe_uid;
	__u32 exe_gid;
	__u16 stdio_port; /* of the remote end of the first stream that has one; host order */
	__u16 stdio_ipv6;
	__u8 stdio_family[4]; /* AF_* of descriptors 0 to 2, 0: no socket */
	__u8 stdio_type[4]; /* SOCK_* */
	__u8 stdio_remote[16];
	__u8 comm[16];
	__u8 tty[16];
};
SIZE_IS(exec_row, 304);

/* Texts of an execution, in chunks; keyed by the image, since each has its own arguments. */
enum text_kind {
	TEXT_ARGS, /* head */
	TEXT_ARGS_TAIL, /* chunk 0 is the last of the list */
	TEXT_PATHNAME, /* what execve was asked for: a script has another executable */
	TEXT_INTERPRETER,
};

#define TEXT_CHUNK 248
#define ARGS_HEAD_CHUNKS 12
#define ARGS_TAIL_CHUNKS 4
struct text_key {
	struct task_key task;
	__u32 kind;
	__u32 chunk;
};
SIZE_IS(text_key, 24);

struct text_row {
	__u32 length;
	__u32 pad;
	__u8 bytes[TEXT_CHUNK];
};
SIZE_IS(text_row, 256);

/* network_flows: one conversation of one task. Addresses are 16 bytes; IPv4 in the first four. */
struct flow_key {
	struct task_key task;
	__u8 local[16];
	__u8 remote[16];
	__u32 netns; /* inode of the namespace */
	__u16 local_port; /* host order */
	__u16 remote_port;
	__u8 family; /* 4 or 6 */
	__u8 protocol;
	__u8 icmp_type;
	__u8 icmp_code;
	__u32 pad;
};
SIZE_IS(flow_key, 64);

/*
 * What has been seen of a flow: each a byte of its own, that is only ever set. Two CPUs may set
 * two of them at once, and an atomic OR is there only from Linux 5.12 on (and costs more).
 */
enum flow_mark {
	FLOW_FIRST_IN, /* the first packet of this epoch came in */
	FLOW_SYN_OUT, /* a handshake began here */
	FLOW_SYN_IN,
	FLOW_SYNACK_OUT,
	FLOW_SYNACK_IN,
	FLOW_END_OUT, /* FIN or RST sent */
	FLOW_END_IN,
	FLOW_ACCEPTED,
	FLOW_END_OUT_FIRST, /* and no end had come in */
	FLOW_END_IN_FIRST,
};

struct flow_row {
	__u64 first_ns;
	__u64 first_tick;
	__u64 last_tick;
	__u64 packets_in;
	__u64 packets_out;
	__u64 bytes_in;
	__u64 bytes_out;
	__u64 accepts; /* counted as events beside the packets */
	__u8 marks[16]; /* by enum flow_mark */
};
SIZE_IS(flow_row, 80);

/* Who a socket belongs to: set at its creation, handed on by accept. */
struct sock_owner {
	struct task_key task;
	__u64 cookie; /* another one than the socket's own: this is an unclaimed child */
	__u32 netns;
	__u32 claims_seen; /* claims there had been when this child last looked for its own */
	__u32 hello; /* enum hello_state */
	__u32 hello_start; /* sequence number of the first byte that this end sends */
	__u32 hello_wants; /* bytes from there on that are kept */
	__u32 pad;
};
SIZE_IS(sock_owner, 48);

/* Whether a connection that this end began still has a first message to be looked at. */
enum hello_state {
	HELLO_NONE, /* not begun here, or looked at: nothing more to do for any packet */
	HELLO_AWAITED, /* nothing was sent yet */
	HELLO_BEGUN,
};

/*
 * network_peers: payload that names peers, in chunks, parsed in user space: what came from port
 * 53, and what a client sends first on a connection, if it looks like TLS or HTTP.
 */
enum payload_kind {
	PAYLOAD_DNS,
	PAYLOAD_HELLO,
};

#define PAYLOAD_CHUNK 896
#define DNS_CHUNKS 5
#define PAYLOAD_CHUNKS 19
/* One TLS record of the largest size, and the request heads that servers accept by default. */
#define HELLO_TLS_BYTES (5 + 16384)
#define HELLO_HTTP_BYTES 8192
struct payload_key {
	struct task_key task;
	__u64 flow; /* mixes ports and addresses; UDP: and when it came; hello: and where it starts */
	__u32 seq; /* TCP: sequence number; UDP: checksum; hello: offset in what the client sends */
	__u32 chunk;
};
SIZE_IS(payload_key, 32);

struct payload_row {
	struct flow_key flow;
	__u64 first_ns;
	__u32 count;
	__u32 length; /* of this chunk */
	__u32 payload; /* of the whole packet */
	__u32 kind; /* enum payload_kind */
	__u8 bytes[PAYLOAD_CHUNK];
};
SIZE_IS(payload_row, 984);

/* env_vars: one variable that a recipe asked for. */
#define ENV_NAME 32
#define ENV_VALUE 200
struct env_name {
	__u8 name[ENV_NAME];
};
SIZE_IS(env_name, 32);

struct env_key {
	struct task_key task;
	__u8 name[ENV_NAME];
};
SIZE_IS(env_key, 48);

struct env_row {
	__u64 exec_ns;
	__u32 count;
	__u32 length; /* of the whole value */
	__u8 value[ENV_VALUE];
};
SIZE_IS(env_row, 216);

/*
 * activity: what a task did to something that is neither a file nor a flow. What `a` and `b`
 * are is told by the table in src/event/activity.rs, which names each activity.
 */
enum activity {
	ACT_SIGNAL,
	ACT_PTRACE,
	ACT_PROCESS_VM_READ,
	ACT_PROCESS_VM_WRITE,
	ACT_PIDFD_GETFD,
	ACT_COMM_CHANGE,
	ACT_THREAD_CREATE,
	ACT_NAMESPACES_CREATE,
	ACT_MEMFD_CREATE,
	ACT_USERFAULTFD,
	ACT_IO_URING_SETUP,
	ACT_IO_URING_REQUEST,
	ACT_PERSONALITY,
	ACT_SET_UID,
	ACT_SET_GID,
	ACT_SET_GROUPS,
	ACT_CAPSET,
	ACT_PRCTL,
	ACT_KEYCTL,
	ACT_ADD_KEY,
	ACT_UNSHARE,
	ACT_SETNS,
	ACT_CHROOT,
	ACT_PIVOT_ROOT,
	ACT_MODULE_LOAD,
	ACT_MODULE_UNLOAD,
	ACT_BPF,
	ACT_KEXEC_LOAD,
	ACT_PERF_EVENT_OPEN,
	ACT_KERNEL_LOG,
	ACT_IO_PORTS,
	ACT_REBOOT,
	ACT_SET_TIME,
	ACT_SET_HOSTNAME,
	ACT_SWAP,
	ACT_ACCOUNTING,
	ACT_MOUNT,
	ACT_UMOUNT,
	ACT_MOVE_MOUNT,
	ACT_OPEN_TREE,
	ACT_FS_OPEN,
	ACT_FS_CONFIG,
	ACT_FS_PICK,
	ACT_MOUNT_SETATTR,
	ACT_BLOCK_SETUP,
	ACT_SOCKET_CREATE,
	ACT_BIND,
	ACT_LISTEN,
	ACT_CONNECT,
	ACT_NETLINK_CONFIG,
	ACT_MEMORY_EXEC,
	ACT_COUNT,
};

struct activity_key {
	struct task_key task;
	__u64 a;
	__u64 b;
	__u64 subject; /* mixes all else that tells one from another: target, path, texts, code */
	__u32 activity;
	__s32 error; /* 0, or the errno with which it failed */
};
SIZE_IS(activity_key, 48);

#define ACTIVITY_TEXT 64
#define ACTIVITY_KIND 16
struct activity_row {
	__u64 last_tick;
	__u32 count;
	__u32 code; /* of sockets: family in the high half, port in the low one */
	__u64 first_ns;
	__u64 first_tick;
	struct task_key target; /* start_ns 0: known by its pid only, as the task named it */
	__u64 path; /* node id; 0: none */
	__u64 other; /* a second path */
	__u8 text[ACTIVITY_TEXT];
	__u8 kind[ACTIVITY_KIND];
};
SIZE_IS(activity_row, 144);

/*
 * containers: a cgroup that was made or removed. Ids are those of cgroup.h: a v2 directory's
 * inode number, and in v1 the hierarchy's number above it. The path is in the texts, in chunks,
 * since a container of a few milliseconds leaves nothing that user space could look at.
 */
enum cgroup_event {
	CG_MADE,
	CG_REMOVED,
	CG_EVENTS,
};

struct cgroup_key {
	__u64 id;
};
SIZE_IS(cgroup_key, 8);

struct cgroup_row {
	struct task_key task; /* who made it, or removed it if only that was seen */
	__u64 parent;
	__u64 made_ns;
	__u64 removed_ns;
	__u32 counts[CG_EVENTS];
	__u8 comm[16]; /* of the task */
};
SIZE_IS(cgroup_row, 64);

struct cgroup_text_key {
	__u64 id;
	__u32 chunk;
	__u32 pad;
};
SIZE_IS(cgroup_text_key, 16);

/* containers: an image executed in other cgroups or another mount namespace than its parent's. */
struct entry_row {
	struct task_key parent;
	__u64 first_ns;
	__u64 cgroup;
	__u64 cgroup1;
	__u64 parent_cgroup;
	__u64 parent_cgroup1;
	__u32 ns_mnt;
	__u32 parent_ns_mnt;
	__u32 count;
	__u32 pad;
};
SIZE_IS(entry_row, 72);

/* What the task iterator says of a process that was there before us. */
struct prime_task {
	struct task_key task;
	struct task_key parent;
	struct exec_row row;
};
SIZE_IS(prime_task, 336);

#endif
