// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The tracepoint tier's dispatcher: one program at the end of every system call. Each further
 * program there would cost every call of the host 55-75 ns, so entities share this one.
 *
 * It looks at a call when it has returned: the fd is then a kernel object, and what failed has
 * not happened. Numbers are x86's; the compat table is i386's. x32 numbers have bit 30 set; those
 * from 512 on are calls of its own, for the structs that have i386's layout there.
 */
#include "activity.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

#define TS_COMPAT 2
#define X32_BIT 0x40000000
#define F_SETFL 4
#define F_SETLK 6
#define F_SETLKW 7
#define F_SETLK64 13 /* i386's */
#define F_SETLKW64 14
#define F_OFD_SETLK 37
#define F_OFD_SETLKW 38
#define FIOASYNC 0x5452
#define FICLONE 0x40049409
#define FICLONERANGE 0x4020940d
#define FS_IOC_SETFLAGS 0x40086602
#define FS_IOC32_SETFLAGS 0x40046602
#define FS_IOC_FSSETXATTR 0x401c5820
#define IOCTL_TYPE(command) (((command) >> 8) & 0xff)
#define LOOP_TYPE 0x4c
#define DM_TYPE 0xfd
#define RENAME_EXCHANGE 2
#define AT_REMOVEDIR 0x200
#define MAP_TYPE 0x0f
#define MAP_SHARED 1
#define MAP_SHARED_VALIDATE 3
#define PROT_WRITE 2
#define PROT_EXEC 4
#define S_ISUID_OR_GID 06000
#define SOL_SOCKET 1
#define SCM_RIGHTS 1
#define SCM_FDS 16 /* looked at; the kernel allows 253 */
#define SCM_BEFORE 4 /* control messages looked at for one with descriptors */
#define AIO_REQUESTS 16 /* looked at of one call */
#define AIO_OPCODE 16 /* where it stands in struct iocb */
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
	A_FCNTL,
	A_IOCTL,
	A_PATH0, /* acts on the path in argument 0 */
	A_PATH1, /* acts on (dirfd, path) in arguments 0 and 1 */
	A_TWO_PATHS, /* paths in arguments 0 and 1 */
	A_TWO_PATHS_AT, /* (dirfd, path) in arguments 0, 1 and 2, 3 */
	A_ACCEPT,
	A_PATH0_MODE, /* path in argument 0, mode in 1 */
	A_PATH1_MODE, /* (dirfd, path) in arguments 0 and 1, mode in 2 */
	A_FD0_MODE,
	A_PATH1_ONLY, /* path in argument 1 */
	A_PATH2, /* (dirfd, path) in arguments 1 and 2 */
	A_TIMES, /* (dirfd, path) in arguments 0 and 1; without a path, the descriptor itself */
	A_XATTR_PATH, /* path in argument 0, name in 1 */
	A_XATTR_FD,
	A_XATTR_AT, /* (dirfd, path) in arguments 0 and 1, name in 3 */
	A_UNLINKAT, /* as A_PATH1, flags in argument 2 */
	A_RENAMEAT2, /* as A_TWO_PATHS_AT, flags in argument 4 */
	A_RECVMSG, /* message in argument 1; of several, the first */
	A_RECVMSG32, /* the same with pointers and lengths of 32 bits */
	A_SENDTO, /* buffer in argument 1 */
	A_SENDMSG, /* message in argument 1; of several, the first */
	A_SENDMSG32,
	A_AIO, /* pointers to requests in argument 2, as many as it returns */
	A_AIO32,
	A_MPROTECT,
	A_CALL, /* an activity */
	A_CALL_FD, /* one whose first argument is a descriptor */
	/* i386: the arguments are in memory. */
	A_OLD_MMAP,
	A_SOCKETCALL, /* argument 0 says which call */
};

#define ACT(act, action) ((act) | (action) << 8)

#define CALLS 1024
static const __u16 calls64[CALLS] = {
	[0] = ACT(A_FD0, FA_READ), /* read */
	[1] = ACT(A_FD0, FA_WRITE), /* write */
	[2] = ACT(A_OPEN, FA_OPEN), /* open */
	[8] = ACT(A_FD0, FA_LLSEEK), /* lseek */
	[9] = ACT(A_MMAP, FA_MMAP), /* mmap */
	[10] = ACT(A_MPROTECT, ACT_MEMORY_EXEC), /* mprotect */
	[16] = ACT(A_IOCTL, 0), /* ioctl */
	[17] = ACT(A_FD0, FA_READ), /* pread64 */
	[18] = ACT(A_FD0, FA_WRITE), /* pwrite64 */
	[19] = ACT(A_FD0, FA_READ), /* readv */
	[20] = ACT(A_FD0, FA_WRITE), /* writev */
	[40] = ACT(A_COPY_OUT_IN, 0), /* sendfile */
	[41] = ACT(A_CALL, ACT_SOCKET_CREATE), /* socket */
	[42] = ACT(A_CALL, ACT_CONNECT), /* connect */
	[43] = ACT(A_ACCEPT, 0), /* accept */
	[44] = ACT(A_SENDTO, 0), /* sendto */
	[46] = ACT(A_SENDMSG, 0), /* sendmsg */
	[47] = ACT(A_RECVMSG, FA_RECEIVE), /* recvmsg */
	[49] = ACT(A_CALL, ACT_BIND), /* bind */
	[50] = ACT(A_CALL, ACT_LISTEN), /* listen */
	[72] = ACT(A_FCNTL, 0), /* fcntl */
	[73] = ACT(A_FD0, FA_FLOCK), /* flock */
	[74] = ACT(A_FD0, FA_FSYNC), /* fsync */
	[75] = ACT(A_FD0, FA_FSYNC), /* fdatasync */
	[76] = ACT(A_PATH0, FA_TRUNCATE), /* truncate */
	[77] = ACT(A_FD0, FA_TRUNCATE), /* ftruncate */
	[82] = ACT(A_TWO_PATHS, FA_RENAME), /* rename */
	[83] = ACT(A_PATH0, FA_MKDIR), /* mkdir */
	[84] = ACT(A_PATH0, FA_RMDIR), /* rmdir */
	[85] = ACT(A_OPENED, FA_OPEN), /* creat */
	[86] = ACT(A_TWO_PATHS, FA_LINK), /* link */
	[87] = ACT(A_PATH0, FA_UNLINK), /* unlink */
	[88] = ACT(A_PATH1_ONLY, FA_SYMLINK), /* symlink */
	[90] = ACT(A_PATH0_MODE, FA_CHMOD), /* chmod */
	[91] = ACT(A_FD0_MODE, FA_CHMOD), /* fchmod */
	[92] = ACT(A_PATH0, FA_CHOWN), /* chown */
	[93] = ACT(A_FD0, FA_CHOWN), /* fchown */
	[94] = ACT(A_PATH0, FA_CHOWN), /* lchown */
	[101] = ACT(A_CALL, ACT_PTRACE), /* ptrace */
	[103] = ACT(A_CALL, ACT_KERNEL_LOG), /* syslog */
	[105] = ACT(A_CALL, ACT_SET_UID), /* setuid */
	[106] = ACT(A_CALL, ACT_SET_GID), /* setgid */
	[113] = ACT(A_CALL, ACT_SET_UID), /* setreuid */
	[114] = ACT(A_CALL, ACT_SET_GID), /* setregid */
	[116] = ACT(A_CALL, ACT_SET_GROUPS), /* setgroups */
	[117] = ACT(A_CALL, ACT_SET_UID), /* setresuid */
	[119] = ACT(A_CALL, ACT_SET_GID), /* setresgid */
	[122] = ACT(A_CALL, ACT_SET_UID), /* setfsuid */
	[123] = ACT(A_CALL, ACT_SET_GID), /* setfsgid */
	[126] = ACT(A_CALL, ACT_CAPSET), /* capset */
	[132] = ACT(A_PATH0, FA_UTIMES), /* utime */
	[133] = ACT(A_PATH0, FA_MKNOD), /* mknod */
	[135] = ACT(A_CALL, ACT_PERSONALITY), /* personality */
	[155] = ACT(A_CALL, ACT_PIVOT_ROOT), /* pivot_root */
	[157] = ACT(A_CALL, ACT_PRCTL), /* prctl */
	[161] = ACT(A_CALL, ACT_CHROOT), /* chroot */
	[163] = ACT(A_CALL, ACT_ACCOUNTING), /* acct */
	[164] = ACT(A_CALL, ACT_SET_TIME), /* settimeofday */
	[165] = ACT(A_CALL, ACT_MOUNT), /* mount */
	[166] = ACT(A_CALL, ACT_UMOUNT), /* umount2 */
	[167] = ACT(A_CALL, ACT_SWAP), /* swapon */
	[168] = ACT(A_CALL, ACT_SWAP), /* swapoff */
	[169] = ACT(A_CALL, ACT_REBOOT), /* reboot */
	[170] = ACT(A_CALL, ACT_SET_HOSTNAME), /* sethostname */
	[171] = ACT(A_CALL, ACT_SET_HOSTNAME), /* setdomainname */
	[172] = ACT(A_CALL, ACT_IO_PORTS), /* iopl */
	[173] = ACT(A_CALL, ACT_IO_PORTS), /* ioperm */
	[175] = ACT(A_CALL, ACT_MODULE_LOAD), /* init_module */
	[176] = ACT(A_CALL, ACT_MODULE_UNLOAD), /* delete_module */
	[188] = ACT(A_XATTR_PATH, FA_SETXATTR), /* setxattr */
	[189] = ACT(A_XATTR_PATH, FA_SETXATTR), /* lsetxattr */
	[190] = ACT(A_XATTR_FD, FA_SETXATTR), /* fsetxattr */
	[197] = ACT(A_XATTR_PATH, FA_SETXATTR), /* removexattr */
	[198] = ACT(A_XATTR_PATH, FA_SETXATTR), /* lremovexattr */
	[199] = ACT(A_XATTR_FD, FA_SETXATTR), /* fremovexattr */
	[209] = ACT(A_AIO, 0), /* io_submit */
	[227] = ACT(A_CALL, ACT_SET_TIME), /* clock_settime */
	[235] = ACT(A_PATH0, FA_UTIMES), /* utimes */
	[246] = ACT(A_CALL, ACT_KEXEC_LOAD), /* kexec_load */
	[248] = ACT(A_CALL, ACT_ADD_KEY), /* add_key */
	[249] = ACT(A_CALL, ACT_ADD_KEY), /* request_key */
	[250] = ACT(A_CALL, ACT_KEYCTL), /* keyctl */
	[257] = ACT(A_OPENAT, FA_OPEN), /* openat */
	[258] = ACT(A_PATH1, FA_MKDIR), /* mkdirat */
	[259] = ACT(A_PATH1, FA_MKNOD), /* mknodat */
	[260] = ACT(A_TIMES, FA_CHOWN), /* fchownat */
	[261] = ACT(A_TIMES, FA_UTIMES), /* futimesat */
	[263] = ACT(A_UNLINKAT, FA_UNLINK), /* unlinkat */
	[264] = ACT(A_TWO_PATHS_AT, FA_RENAME), /* renameat */
	[265] = ACT(A_TWO_PATHS_AT, FA_LINK), /* linkat */
	[266] = ACT(A_PATH2, FA_SYMLINK), /* symlinkat */
	[268] = ACT(A_PATH1_MODE, FA_CHMOD), /* fchmodat */
	[272] = ACT(A_CALL, ACT_UNSHARE), /* unshare */
	[275] = ACT(A_COPY_IN_OUT, 0), /* splice */
	[277] = ACT(A_FD0, FA_FSYNC), /* sync_file_range */
	[280] = ACT(A_TIMES, FA_UTIMES), /* utimensat */
	[285] = ACT(A_FD0, FA_WRITE), /* fallocate */
	[288] = ACT(A_ACCEPT, 0), /* accept4 */
	[295] = ACT(A_FD0, FA_READ), /* preadv */
	[296] = ACT(A_FD0, FA_WRITE), /* pwritev */
	[298] = ACT(A_CALL, ACT_PERF_EVENT_OPEN), /* perf_event_open */
	[299] = ACT(A_RECVMSG, FA_RECEIVE), /* recvmmsg */
	[304] = ACT(A_OPENED, FA_OPEN), /* open_by_handle_at */
	[307] = ACT(A_SENDMSG, 0), /* sendmmsg */
	[308] = ACT(A_CALL, ACT_SETNS), /* setns */
	[310] = ACT(A_CALL, ACT_PROCESS_VM_READ), /* process_vm_readv */
	[311] = ACT(A_CALL, ACT_PROCESS_VM_WRITE), /* process_vm_writev */
	[313] = ACT(A_CALL_FD, ACT_MODULE_LOAD), /* finit_module */
	[316] = ACT(A_RENAMEAT2, FA_RENAME), /* renameat2 */
	[319] = ACT(A_CALL, ACT_MEMFD_CREATE), /* memfd_create */
	[320] = ACT(A_CALL_FD, ACT_KEXEC_LOAD), /* kexec_file_load */
	[321] = ACT(A_CALL, ACT_BPF), /* bpf */
	[323] = ACT(A_CALL, ACT_USERFAULTFD), /* userfaultfd */
	[326] = ACT(A_COPY_IN_OUT, 0), /* copy_file_range */
	[327] = ACT(A_FD0, FA_READ), /* preadv2 */
	[328] = ACT(A_FD0, FA_WRITE), /* pwritev2 */
	[329] = ACT(A_MPROTECT, ACT_MEMORY_EXEC), /* pkey_mprotect */
	[425] = ACT(A_CALL, ACT_IO_URING_SETUP), /* io_uring_setup */
	[428] = ACT(A_CALL, ACT_OPEN_TREE), /* open_tree */
	[429] = ACT(A_CALL, ACT_MOVE_MOUNT), /* move_mount */
	[430] = ACT(A_CALL, ACT_FS_OPEN), /* fsopen */
	[431] = ACT(A_CALL, ACT_FS_CONFIG), /* fsconfig */
	[433] = ACT(A_CALL, ACT_FS_PICK), /* fspick */
	[437] = ACT(A_OPENAT2, FA_OPEN), /* openat2 */
	[438] = ACT(A_CALL, ACT_PIDFD_GETFD), /* pidfd_getfd */
	[442] = ACT(A_CALL, ACT_MOUNT_SETATTR), /* mount_setattr */
	[452] = ACT(A_PATH1_MODE, FA_CHMOD), /* fchmodat2 */
	[463] = ACT(A_XATTR_AT, FA_SETXATTR), /* setxattrat */
	[466] = ACT(A_XATTR_AT, FA_SETXATTR), /* removexattrat */
	[467] = ACT(A_CALL, ACT_OPEN_TREE), /* open_tree_attr */
	[469] = ACT(A_PATH1, FA_SETFLAGS), /* file_setattr */
	/* x32's own */
	[514] = ACT(A_IOCTL, 0), /* ioctl */
	[515] = ACT(A_FD0, FA_READ), /* readv */
	[516] = ACT(A_FD0, FA_WRITE), /* writev */
	[518] = ACT(A_SENDMSG32, 0), /* sendmsg */
	[519] = ACT(A_RECVMSG32, FA_RECEIVE), /* recvmsg */
	[521] = ACT(A_CALL, ACT_PTRACE), /* ptrace */
	[528] = ACT(A_CALL, ACT_KEXEC_LOAD), /* kexec_load */
	[534] = ACT(A_FD0, FA_READ), /* preadv */
	[535] = ACT(A_FD0, FA_WRITE), /* pwritev */
	[537] = ACT(A_RECVMSG32, FA_RECEIVE), /* recvmmsg */
	[538] = ACT(A_SENDMSG32, 0), /* sendmmsg */
	[539] = ACT(A_CALL, ACT_PROCESS_VM_READ), /* process_vm_readv */
	[540] = ACT(A_CALL, ACT_PROCESS_VM_WRITE), /* process_vm_writev */
	[544] = ACT(A_AIO32, 0), /* io_submit */
	[546] = ACT(A_FD0, FA_READ), /* preadv2 */
	[547] = ACT(A_FD0, FA_WRITE), /* pwritev2 */
};

static const __u16 calls32[CALLS] = {
	[3] = ACT(A_FD0, FA_READ),
	[4] = ACT(A_FD0, FA_WRITE),
	[5] = ACT(A_OPEN, FA_OPEN),
	[8] = ACT(A_OPENED, FA_OPEN),
	[9] = ACT(A_TWO_PATHS, FA_LINK),
	[10] = ACT(A_PATH0, FA_UNLINK),
	[14] = ACT(A_PATH0, FA_MKNOD), /* mknod */
	[15] = ACT(A_PATH0_MODE, FA_CHMOD), /* chmod */
	[16] = ACT(A_PATH0, FA_CHOWN), /* lchown */
	[19] = ACT(A_FD0, FA_LLSEEK),
	[21] = ACT(A_CALL, ACT_MOUNT), /* mount */
	[22] = ACT(A_CALL, ACT_UMOUNT), /* umount2 */
	[23] = ACT(A_CALL, ACT_SET_UID), /* setuid */
	[25] = ACT(A_CALL, ACT_SET_TIME), /* stime */
	[26] = ACT(A_CALL, ACT_PTRACE), /* ptrace */
	[30] = ACT(A_PATH0, FA_UTIMES), /* utime */
	[38] = ACT(A_TWO_PATHS, FA_RENAME),
	[39] = ACT(A_PATH0, FA_MKDIR), /* mkdir */
	[40] = ACT(A_PATH0, FA_RMDIR), /* rmdir */
	[46] = ACT(A_CALL, ACT_SET_GID), /* setgid */
	[51] = ACT(A_CALL, ACT_ACCOUNTING), /* acct */
	[52] = ACT(A_CALL, ACT_UMOUNT), /* umount2 */
	[54] = ACT(A_IOCTL, 0), /* ioctl */
	[55] = ACT(A_FCNTL, 0), /* fcntl */
	[61] = ACT(A_CALL, ACT_CHROOT), /* chroot */
	[70] = ACT(A_CALL, ACT_SET_UID), /* setreuid */
	[71] = ACT(A_CALL, ACT_SET_GID), /* setregid */
	[74] = ACT(A_CALL, ACT_SET_HOSTNAME), /* sethostname */
	[79] = ACT(A_CALL, ACT_SET_TIME), /* settimeofday */
	[81] = ACT(A_CALL, ACT_SET_GROUPS), /* setgroups */
	[83] = ACT(A_PATH1_ONLY, FA_SYMLINK), /* symlink */
	[87] = ACT(A_CALL, ACT_SWAP), /* swapon */
	[88] = ACT(A_CALL, ACT_REBOOT), /* reboot */
	[90] = ACT(A_OLD_MMAP, FA_MMAP), /* mmap */
	[92] = ACT(A_PATH0, FA_TRUNCATE),
	[93] = ACT(A_FD0, FA_TRUNCATE),
	[94] = ACT(A_FD0_MODE, FA_CHMOD), /* fchmod */
	[95] = ACT(A_FD0, FA_CHOWN), /* fchown */
	[101] = ACT(A_CALL, ACT_IO_PORTS), /* ioperm */
	[102] = ACT(A_SOCKETCALL, 0), /* socketcall */
	[103] = ACT(A_CALL, ACT_KERNEL_LOG), /* syslog */
	[110] = ACT(A_CALL, ACT_IO_PORTS), /* iopl */
	[115] = ACT(A_CALL, ACT_SWAP), /* swapoff */
	[118] = ACT(A_FD0, FA_FSYNC),
	[121] = ACT(A_CALL, ACT_SET_HOSTNAME), /* setdomainname */
	[125] = ACT(A_MPROTECT, ACT_MEMORY_EXEC), /* mprotect */
	[128] = ACT(A_CALL, ACT_MODULE_LOAD), /* init_module */
	[129] = ACT(A_CALL, ACT_MODULE_UNLOAD), /* delete_module */
	[136] = ACT(A_CALL, ACT_PERSONALITY), /* personality */
	[138] = ACT(A_CALL, ACT_SET_UID), /* setfsuid */
	[139] = ACT(A_CALL, ACT_SET_GID), /* setfsgid */
	[140] = ACT(A_FD0, FA_LLSEEK), /* _llseek */
	[143] = ACT(A_FD0, FA_FLOCK),
	[145] = ACT(A_FD0, FA_READ), /* readv */
	[146] = ACT(A_FD0, FA_WRITE), /* writev */
	[148] = ACT(A_FD0, FA_FSYNC), /* fdatasync */
	[164] = ACT(A_CALL, ACT_SET_UID), /* setresuid */
	[170] = ACT(A_CALL, ACT_SET_GID), /* setresgid */
	[172] = ACT(A_CALL, ACT_PRCTL), /* prctl */
	[180] = ACT(A_FD0, FA_READ), /* pread64 */
	[181] = ACT(A_FD0, FA_WRITE), /* pwrite64 */
	[182] = ACT(A_PATH0, FA_CHOWN), /* chown */
	[185] = ACT(A_CALL, ACT_CAPSET), /* capset */
	[187] = ACT(A_COPY_OUT_IN, 0), /* sendfile */
	[192] = ACT(A_MMAP, FA_MMAP), /* mmap2 */
	[193] = ACT(A_PATH0, FA_TRUNCATE), /* truncate64 */
	[194] = ACT(A_FD0, FA_TRUNCATE), /* ftruncate64 */
	[198] = ACT(A_PATH0, FA_CHOWN), /* lchown */
	[203] = ACT(A_CALL, ACT_SET_UID), /* setreuid */
	[204] = ACT(A_CALL, ACT_SET_GID), /* setregid */
	[206] = ACT(A_CALL, ACT_SET_GROUPS), /* setgroups */
	[207] = ACT(A_FD0, FA_CHOWN), /* fchown */
	[208] = ACT(A_CALL, ACT_SET_UID), /* setresuid */
	[210] = ACT(A_CALL, ACT_SET_GID), /* setresgid */
	[212] = ACT(A_PATH0, FA_CHOWN), /* chown */
	[213] = ACT(A_CALL, ACT_SET_UID), /* setuid */
	[214] = ACT(A_CALL, ACT_SET_GID), /* setgid */
	[215] = ACT(A_CALL, ACT_SET_UID), /* setfsuid */
	[216] = ACT(A_CALL, ACT_SET_GID), /* setfsgid */
	[217] = ACT(A_CALL, ACT_PIVOT_ROOT), /* pivot_root */
	[221] = ACT(A_FCNTL, 0), /* fcntl64 */
	[226] = ACT(A_XATTR_PATH, FA_SETXATTR), /* setxattr */
	[227] = ACT(A_XATTR_PATH, FA_SETXATTR), /* lsetxattr */
	[228] = ACT(A_XATTR_FD, FA_SETXATTR), /* fsetxattr */
	[235] = ACT(A_XATTR_PATH, FA_SETXATTR), /* removexattr */
	[236] = ACT(A_XATTR_PATH, FA_SETXATTR), /* lremovexattr */
	[237] = ACT(A_XATTR_FD, FA_SETXATTR), /* fremovexattr */
	[239] = ACT(A_COPY_OUT_IN, 0), /* sendfile64 */
	[248] = ACT(A_AIO32, 0), /* io_submit */
	[264] = ACT(A_CALL, ACT_SET_TIME), /* clock_settime */
	[271] = ACT(A_PATH0, FA_UTIMES), /* utimes */
	[283] = ACT(A_CALL, ACT_KEXEC_LOAD), /* kexec_load */
	[286] = ACT(A_CALL, ACT_ADD_KEY), /* add_key */
	[287] = ACT(A_CALL, ACT_ADD_KEY), /* request_key */
	[288] = ACT(A_CALL, ACT_KEYCTL), /* keyctl */
	[295] = ACT(A_OPENAT, FA_OPEN),
	[296] = ACT(A_PATH1, FA_MKDIR), /* mkdirat */
	[297] = ACT(A_PATH1, FA_MKNOD), /* mknodat */
	[298] = ACT(A_TIMES, FA_CHOWN), /* fchownat */
	[299] = ACT(A_TIMES, FA_UTIMES), /* futimesat */
	[301] = ACT(A_UNLINKAT, FA_UNLINK), /* unlinkat */
	[302] = ACT(A_TWO_PATHS_AT, FA_RENAME),
	[303] = ACT(A_TWO_PATHS_AT, FA_LINK),
	[304] = ACT(A_PATH2, FA_SYMLINK), /* symlinkat */
	[306] = ACT(A_PATH1_MODE, FA_CHMOD), /* fchmodat */
	[310] = ACT(A_CALL, ACT_UNSHARE), /* unshare */
	[313] = ACT(A_COPY_IN_OUT, 0), /* splice */
	[314] = ACT(A_FD0, FA_FSYNC), /* sync_file_range */
	[320] = ACT(A_TIMES, FA_UTIMES), /* utimensat */
	[324] = ACT(A_FD0, FA_WRITE), /* fallocate */
	[333] = ACT(A_FD0, FA_READ), /* preadv */
	[334] = ACT(A_FD0, FA_WRITE), /* pwritev */
	[336] = ACT(A_CALL, ACT_PERF_EVENT_OPEN), /* perf_event_open */
	[337] = ACT(A_RECVMSG32, FA_RECEIVE), /* recvmmsg */
	[342] = ACT(A_OPENED, FA_OPEN), /* open_by_handle_at */
	[345] = ACT(A_SENDMSG32, 0), /* sendmmsg */
	[346] = ACT(A_CALL, ACT_SETNS), /* setns */
	[347] = ACT(A_CALL, ACT_PROCESS_VM_READ), /* process_vm_readv */
	[348] = ACT(A_CALL, ACT_PROCESS_VM_WRITE), /* process_vm_writev */
	[350] = ACT(A_CALL_FD, ACT_MODULE_LOAD), /* finit_module */
	[353] = ACT(A_RENAMEAT2, FA_RENAME), /* renameat2 */
	[356] = ACT(A_CALL, ACT_MEMFD_CREATE), /* memfd_create */
	[357] = ACT(A_CALL, ACT_BPF), /* bpf */
	[359] = ACT(A_CALL, ACT_SOCKET_CREATE), /* socket */
	[361] = ACT(A_CALL, ACT_BIND), /* bind */
	[362] = ACT(A_CALL, ACT_CONNECT), /* connect */
	[363] = ACT(A_CALL, ACT_LISTEN), /* listen */
	[364] = ACT(A_ACCEPT, 0), /* accept4 */
	[369] = ACT(A_SENDTO, 0), /* sendto */
	[370] = ACT(A_SENDMSG32, 0), /* sendmsg */
	[372] = ACT(A_RECVMSG32, FA_RECEIVE), /* recvmsg */
	[374] = ACT(A_CALL, ACT_USERFAULTFD), /* userfaultfd */
	[377] = ACT(A_COPY_IN_OUT, 0), /* copy_file_range */
	[378] = ACT(A_FD0, FA_READ), /* preadv2 */
	[379] = ACT(A_FD0, FA_WRITE), /* pwritev2 */
	[380] = ACT(A_MPROTECT, ACT_MEMORY_EXEC), /* pkey_mprotect */
	[404] = ACT(A_CALL, ACT_SET_TIME), /* clock_settime */
	[412] = ACT(A_TIMES, FA_UTIMES), /* utimensat */
	[417] = ACT(A_RECVMSG32, FA_RECEIVE), /* recvmmsg */
	[425] = ACT(A_CALL, ACT_IO_URING_SETUP), /* io_uring_setup */
	[428] = ACT(A_CALL, ACT_OPEN_TREE), /* open_tree */
	[429] = ACT(A_CALL, ACT_MOVE_MOUNT), /* move_mount */
	[430] = ACT(A_CALL, ACT_FS_OPEN), /* fsopen */
	[431] = ACT(A_CALL, ACT_FS_CONFIG), /* fsconfig */
	[433] = ACT(A_CALL, ACT_FS_PICK), /* fspick */
	[437] = ACT(A_OPENAT2, FA_OPEN),
	[438] = ACT(A_CALL, ACT_PIDFD_GETFD), /* pidfd_getfd */
	[442] = ACT(A_CALL, ACT_MOUNT_SETATTR), /* mount_setattr */
	[452] = ACT(A_PATH1_MODE, FA_CHMOD), /* fchmodat2 */
	[463] = ACT(A_XATTR_AT, FA_SETXATTR), /* setxattrat */
	[466] = ACT(A_XATTR_AT, FA_SETXATTR), /* removexattrat */
	[467] = ACT(A_CALL, ACT_OPEN_TREE), /* open_tree_attr */
	[469] = ACT(A_PATH1, FA_SETFLAGS), /* file_setattr */
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

/* By their numbers in socketcall. */
#define SOCKETCALLS 32
static const __u16 socketcalls[SOCKETCALLS] = {
	[1] = ACT(A_CALL, ACT_SOCKET_CREATE), /* socket */
	[2] = ACT(A_CALL, ACT_BIND), /* bind */
	[3] = ACT(A_CALL, ACT_CONNECT), /* connect */
	[4] = ACT(A_CALL, ACT_LISTEN), /* listen */
	[5] = ACT(A_ACCEPT, 0), /* accept */
	[11] = ACT(A_SENDTO, 0), /* sendto */
	[16] = ACT(A_SENDMSG32, 0), /* sendmsg */
	[17] = ACT(A_RECVMSG32, FA_RECEIVE), /* recvmsg */
	[18] = ACT(A_ACCEPT, 0), /* accept4 */
	[19] = ACT(A_RECVMSG32, FA_RECEIVE), /* recvmmsg */
	[20] = ACT(A_SENDMSG32, 0), /* sendmmsg */
};

/* What the call is whose arguments are in memory, as i386 has always passed more than five. */
static __noinline __u32 from_memory(struct args *args, __u32 act)
{
	__u64 call = args->at[0];
	__u32 words[5] = {};

	if (bpf_probe_read_user(words, sizeof(words),
				(void *)args->at[act == A_SOCKETCALL ? 1 : 0]))
		return 0;
#pragma clang loop unroll(full)
	for (int word = 0; word < 5; word++)
		args->at[word] = words[word];
	if (act == A_OLD_MMAP)
		return ACT(A_MMAP, FA_MMAP);
	return call < SOCKETCALLS ? socketcalls[call & (SOCKETCALLS - 1)] : 0;
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

/* Not static: verified once, for the loop that calls it. */
__weak int received(__s32 fd)
{
	return on_fd(untrusted_task(), fd, FA_RECEIVE);
}

static __always_inline int opened(struct task_struct *task, __s32 fd, __u64 flags)
{
	/* O_TRUNC on a file opened for reading only does nothing that can be relied upon. */
	bool truncates = (flags & O_TRUNC) && (flags & O_ACCMODE);

	return on_fd_also(task, fd, FA_OPEN, truncates ? FA_TRUNCATE : FA_OPEN);
}

static __always_inline int on_fcntl(struct task_struct *task, struct args *args)
{
	switch (args->at[1]) {
	case F_SETFL:
		return args->at[2] & FASYNC ? on_fd(task, args->at[0], FA_FASYNC) : 0;
	case F_SETLK:
	case F_SETLKW:
	case F_SETLK64:
	case F_SETLKW64:
	case F_OFD_SETLK:
	case F_OFD_SETLKW:
		return on_fd(task, args->at[0], FA_FLOCK);
	}
	return 0;
}

/* Hands the call over to the activities; through a map, since pointers cannot cross. */
static __always_inline int on_call(struct args *args, __u32 activity, __s64 ret, __u32 variant)
{
	__u32 zero = 0;
	struct activity_args *there = bpf_map_lookup_elem(&activity_calls, &zero);

	if (!there)
		return 0;
	there->variant = variant;
#pragma clang loop unroll(full)
	for (int argument = 0; argument < 5; argument++)
		there->at[argument] = args->at[argument];
	return record_call(activity, ret);
}

static __always_inline int on_ioctl(struct task_struct *task, struct args *args, __s64 ret)
{
	__u32 command = args->at[1];
	__s64 source;

	switch (command) {
	case FIOASYNC:
		return on_fd(task, args->at[0], FA_FASYNC);
	case FICLONE:
		on_fd(task, args->at[2], FA_READ);
		return on_fd_also(task, args->at[0], FA_CLONE, FA_WRITE);
	case FICLONERANGE:
		/* The source stands first in its struct. */
		if (!bpf_probe_read_user(&source, sizeof(source), (void *)args->at[2]))
			on_fd(task, source, FA_READ);
		return on_fd_also(task, args->at[0], FA_CLONE, FA_WRITE);
	case FS_IOC_SETFLAGS:
	case FS_IOC32_SETFLAGS:
	case FS_IOC_FSSETXATTR:
		return on_fd(task, args->at[0], FA_SETFLAGS);
	}
	if (IOCTL_TYPE(command) == LOOP_TYPE || IOCTL_TYPE(command) == DM_TYPE)
		return on_call(args, ACT_BLOCK_SETUP, ret, 0);
	return 0;
}

static __always_inline int mode_of_path(__s32 dirfd, __u64 name, __u64 mode)
{
	if (mode & S_ISUID_OR_GID)
		record_path(dirfd, name, 0, FA_SETID);
	return record_path(dirfd, name, 0, FA_CHMOD);
}

/* Which attribute: two of them are rights by another name. */
static __always_inline __u32 xattr_action(__u64 user_name)
{
	char name[20] = {};

	bpf_probe_read_user_str(name, sizeof(name), (void *)user_name);
	/* security.capability, system.posix_acl_access and _default */
	if (name[0] == 's' && name[1] == 'e' && name[9] == 'c' && name[10] == 'a' &&
	    name[11] == 'p')
		return FA_SETCAP;
	if (name[0] == 's' && name[1] == 'y' && name[7] == 'p' && name[13] == 'a' &&
	    name[14] == 'c' && name[15] == 'l')
		return FA_SETACL;
	return FA_SETXATTR;
}

/* Where the control messages of a message are. */
struct control {
	__u64 at;
	__u64 length;
};

/* One of them: a length, of which the word has 8 bytes or 4, a level and a type. */
struct control_head {
	__u64 length;
	__u32 level;
	__u32 type;
};

static __always_inline bool read_control(struct control *control, __u64 message, bool narrow)
{
	/* Behind a name, its length, a vector and its length. */
	if (narrow) {
		__u32 words[2];

		if (bpf_probe_read_user(words, sizeof(words), (void *)message + 16))
			return false;
		control->at = words[0];
		control->length = words[1];
		return true;
	}
	return !bpf_probe_read_user(control, sizeof(*control), (void *)message + 32);
}

static __always_inline bool read_head(struct control_head *head, __u64 at, bool narrow)
{
	if (narrow) {
		__u32 words[3];

		if (bpf_probe_read_user(words, sizeof(words), (void *)at))
			return false;
		head->length = words[0];
		head->level = words[1];
		head->type = words[2];
		return true;
	}
	return !bpf_probe_read_user(head, sizeof(*head), (void *)at);
}

/*
 * Open files that came with a message. What the kernel puts before them, where it was asked to:
 * who sent it (SCM_CREDENTIALS), or what its label is.
 */
static __always_inline int on_message(__u64 message, bool narrow)
{
	__u32 head_size = narrow ? 12 : 16, align = narrow ? 3 : 7;
	struct control_head head = {};
	struct control control = {};
	__s32 fd;

	if (!read_control(&control, message, narrow))
		return 0;
#pragma clang loop unroll(disable)
	for (int before = 0; before < SCM_BEFORE; before++) {
		if (control.length < head_size + sizeof(fd) ||
		    !read_head(&head, control.at, narrow) || head.length < head_size)
			return 0;
		if (head.level == SOL_SOCKET && head.type == SCM_RIGHTS)
			break;
		head.length = (head.length + align) & ~(__u64)align;
		if (head.length >= control.length)
			return 0;
		control.at += head.length;
		control.length -= head.length;
	}
	if (head.level != SOL_SOCKET || head.type != SCM_RIGHTS)
		return 0;
#pragma clang loop unroll(disable)
	for (__u32 at = 0; at < SCM_FDS; at++) {
		__u64 from = head_size + at * sizeof(fd);

		if (from + sizeof(fd) > head.length ||
		    bpf_probe_read_user(&fd, sizeof(fd), (void *)control.at + from))
			return 0;
		received(fd);
	}
	return 0;
}

/* What it is and which file: of struct iocb, which is the same on all of x86. */
struct aio_request {
	__u16 opcode;
	__s16 priority;
	__s32 fd;
};

/* Not static: verified once, for the loop that calls it. */
__weak int submitted(__u64 request)
{
	struct aio_request what = {};

	bpf_probe_read_user(&what, sizeof(what), (void *)request + AIO_OPCODE);
	switch (what.opcode) {
	case 0: /* IOCB_CMD_PREAD */
	case 7: /* IOCB_CMD_PREADV */
		return on_fd(untrusted_task(), what.fd, FA_READ);
	case 1: /* IOCB_CMD_PWRITE */
	case 8: /* IOCB_CMD_PWRITEV */
		return on_fd(untrusted_task(), what.fd, FA_WRITE);
	case 2: /* IOCB_CMD_FSYNC */
	case 3: /* IOCB_CMD_FDSYNC */
		return on_fd(untrusted_task(), what.fd, FA_FSYNC);
	}
	return 0;
}

/* Reads and writes that were handed over and are done later. */
static __always_inline int on_aio(__u64 requests, __s64 count, __u32 word)
{
#pragma clang loop unroll(disable)
	for (__u32 at = 0; at < AIO_REQUESTS; at++) {
		__u64 request = 0;

		if (at >= count || bpf_probe_read_user(&request, word, (void *)requests))
			return 0;
		submitted(request);
		requests += word;
	}
	return 0;
}

/* The vector is the message's third word, the buffer the vector's first. */
static __always_inline __u64 first_buffer(__u64 message, bool narrow)
{
	__u32 word = narrow ? 4 : 8;
	__u64 vector = 0, buffer = 0;

	bpf_probe_read_user(&vector, word, (void *)message + 2 * word);
	bpf_probe_read_user(&buffer, word, (void *)vector);
	return buffer;
}

static __always_inline int rarer(struct args *args, __u32 act, __u32 action, __s64 ret)
{
	struct task_struct *task = current_task();

	switch (act) {
	case A_TIMES:
		if (!args->at[1])
			return on_fd(task, args->at[0], action);
		return record_path(args->at[0], args->at[1], 0, action);
	case A_XATTR_PATH:
		return record_path(AT_FDCWD, args->at[0], 0, xattr_action(args->at[1]));
	case A_XATTR_FD:
		return on_fd(task, args->at[0], xattr_action(args->at[1]));
	case A_XATTR_AT:
		return record_path(args->at[0], args->at[1], 0, xattr_action(args->at[3]));
	case A_RENAMEAT2:
		record_path(args->at[0], args->at[1], 0, FA_RENAME);
		record_path(args->at[2], args->at[3], 1, FA_RENAME);
		if (!(args->at[4] & RENAME_EXCHANGE))
			return 0;
		record_path(args->at[0], args->at[1], 0, FA_EXCHANGE);
		return record_path(args->at[2], args->at[3], 1, FA_EXCHANGE);
	case A_RECVMSG:
	case A_RECVMSG32:
		return on_message(args->at[1], act == A_RECVMSG32);
	case A_SENDTO:
		return record_netlink(args->at[0], args->at[1]);
	case A_SENDMSG:
	case A_SENDMSG32:
		return record_netlink(args->at[0],
				      first_buffer(args->at[1], act == A_SENDMSG32));
	case A_AIO:
		return on_aio(args->at[2], ret, 8);
	case A_AIO32:
		return on_aio(args->at[2], ret, 4);
	}
	return 0;
}

/*
 * The rarer acts, apart from the path that every open, read and write takes. What it calls is
 * inlined: the kernel allows eight frames, and a path is put away in the eighth.
 */
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
	case A_FCNTL:
		return on_fcntl(task, args);
	case A_IOCTL:
		return on_ioctl(task, args, ret);
	case A_PATH0:
		return record_path(AT_FDCWD, args->at[0], 0, action);
	case A_PATH1:
		return record_path(args->at[0], args->at[1], 0, action);
	case A_TWO_PATHS:
		record_path(AT_FDCWD, args->at[0], 0, action);
		return record_path(AT_FDCWD, args->at[1], 1, action);
	case A_TWO_PATHS_AT:
		record_path(args->at[0], args->at[1], 0, action);
		return record_path(args->at[2], args->at[3], 1, action);
	case A_ACCEPT:
		return record_accept(fd_file(task, ret));
	case A_PATH0_MODE:
		return mode_of_path(AT_FDCWD, args->at[0], args->at[1]);
	case A_PATH1_MODE:
		return mode_of_path(args->at[0], args->at[1], args->at[2]);
	case A_FD0_MODE:
		return on_fd_also(task, args->at[0], FA_CHMOD,
				  args->at[1] & S_ISUID_OR_GID ? FA_SETID : FA_CHMOD);
	case A_PATH1_ONLY:
		return record_path(AT_FDCWD, args->at[1], 0, action);
	case A_PATH2:
		return record_path(args->at[1], args->at[2], 0, action);
	case A_UNLINKAT:
		return record_path(args->at[0], args->at[1], 0,
				   args->at[2] & AT_REMOVEDIR ? FA_RMDIR : FA_UNLINK);
	}
	return rarer(args, act, action, ret);
}

static __noinline int mapped(struct task_struct *task, struct args *args, __s64 ret)
{
	__u32 type = args->at[3] & MAP_TYPE;
	bool shared = type == MAP_SHARED || type == MAP_SHARED_VALIDATE;
	__u32 also = args->at[2] & PROT_EXEC ? FA_MMAP_EXEC : FA_MMAP;

	if (args->at[3] & MAP_ANONYMOUS)
		return args->at[2] & PROT_EXEC ? on_call(args, ACT_MEMORY_EXEC, 0, 0) : 0;
	if (shared && (args->at[2] & PROT_WRITE))
		on_fd(task, args->at[4], FA_MMAP_WRITE);
	return on_fd_also(task, args->at[4], FA_MMAP, also);
}

SEC("tp_btf/sys_exit")
TRACEPOINT(sys_exit, struct pt_regs *regs, long ret)
{
	__u64 number = regs->orig_ax & ~X32_BIT;
	struct task_struct *task;
	struct args args = {};
	__u32 call, act;
	bool compat;

	if (number >= CALLS)
		return 0;
	task = current_task();
	compat = get(task, thread_info.status) & TS_COMPAT;
	call = compat ? calls32[number & (CALLS - 1)] : calls64[number & (CALLS - 1)];
	if (!call)
		return 0;
	take_args(&args, regs, compat);
	act = call & 0xff;
	if (act >= A_OLD_MMAP) {
		call = from_memory(&args, act);
		act = call & 0xff;
		if (!act)
			return 0;
	}
	call >>= 8;
	/*
	 * -4095 to -1 is an error; a mapping's address may have any other sign. What failed has
	 * not happened to a file; an activity is told with its error.
	 */
	if ((__u64)ret >= (__u64)-4095 && act < A_MPROTECT)
		return 0;
	switch (act) {
	case A_FD0:
		return on_fd(task, args.at[0], call & (FA_COUNT - 1));
	case A_MMAP:
		return mapped(task, &args, ret);
	case A_OPEN:
		return opened(task, ret, args.at[1]);
	case A_OPENAT:
		return opened(task, ret, args.at[2]);
	case A_OPENED:
		return opened(task, ret, 0);
	case A_MPROTECT:
		return args.at[2] & PROT_EXEC ? on_call(&args, ACT_MEMORY_EXEC, ret, 2) : 0;
	case A_CALL:
		return on_call(&args, call, ret, 0);
	case A_CALL_FD:
		return on_call(&args, call, ret, 1);
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
