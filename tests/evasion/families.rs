//! The families of evasions and what is seen of each: what tests assert and the page shows.

use std::fmt::Write;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Seen,
    Partly,
    NotSeen,
    /// No kernel of the matrix has it.
    Untested,
}

use Verdict::{NotSeen, Partly, Seen, Untested};

impl Verdict {
    pub fn word(self) -> &'static str {
        match self {
            Seen => "seen",
            Partly => "partly",
            NotSeen => "not-seen",
            Untested => "untested",
        }
    }
}

/// One family, or one way of doing it that is seen differently.
pub struct Family {
    pub name: &'static str,
    /// On the tracepoint tier.
    pub verdict: Verdict,
    /// Where the objects behind names are noted as well.
    pub object: Verdict,
    pub why: &'static str,
    /// Facts of tests/facts that are the same acts; none: tests/evasion does them.
    pub facts: &'static [&'static str],
}

const fn row(name: &'static str, verdict: Verdict, why: &'static str) -> Family {
    Family { name, verdict, object: verdict, why, facts: &[] }
}

impl Family {
    /// On the object tier otherwise.
    const fn object(self, object: Verdict) -> Self {
        Self { object, ..self }
    }
}

/// Seen, as its facts assert on each kernel of the matrix that has them.
const fn by_facts(name: &'static str, facts: &'static [&'static str], why: &'static str) -> Family {
    Family { name, verdict: Seen, object: Seen, why, facts }
}

pub const FAMILIES: &[Family] = &[
    row(
        "io_uring files",
        Seen,
        "a completion leads to its request's file; names are the kernel's own copies, links in them not followed",
    ),
    row(
        "io_uring direct descriptors",
        Seen,
        "the slot's file, where the kernel keeps slots as Linux 6.13 does; before only with object hooks",
    ),
    row("io_uring then ordinary calls", Seen, "both are told of one file"),
    row(
        "io_uring network",
        Seen,
        "flows are packets of sockets, and a socket's owner is noted where it is made",
    ),
    row(
        "symbolic links and dots",
        Seen,
        "the path is that of the dentry that the descriptor leads to",
    ),
    row(
        "hard links",
        Partly,
        "told under the name used, with the inode that both names share; a recipe on the other name's path does not match",
    ),
    row(
        "bind mounts",
        Partly,
        "told under the path through the mount, with the true device and inode; a recipe on the original path does not match",
    ),
    row("open_tree and move_mount", Partly, "as bind mounts"),
    row("overlay", Partly, "told under the merged path; the layer's own path is not"),
    row("chroot", Seen, "paths go up to the mount namespace's root, past the task's own"),
    row("openat2, dirfd, O_PATH, /proc/self", Seen, "the path is that of the descriptor's dentry"),
    row("open_by_handle_at", Seen, "as above: no path argument is needed"),
    row("raced path of open", Seen, "no memory of the task is read: told = opened, file by file"),
    row("path on a userfaultfd page", Seen, "as above: the page need not be there on entry"),
    row(
        "raced path of truncate",
        NotSeen,
        "no descriptor is left: the name is read from the task when the call has returned, and can be another by then, which is then told; a security hook is handed the object",
    )
    .object(Seen),
    row("deep directories", Seen, "up to 256 levels and PATH_MAX, whole"),
    row(
        "directories below 256 levels",
        Partly,
        "the end of the path is told and flagged as truncated; a recipe on its beginning does not match",
    ),
    row(
        "descriptors passed",
        Seen,
        "reading is told of who reads, with the true path, though it never opened the file",
    ),
    row("sendfile, copy_file_range, splice", Seen, "read of one file and write of the other"),
    row("vmsplice into a file", Seen, "the splice from the pipe is a write of the file"),
    row(
        "writes through a mapping",
        Seen,
        "a shared writable mapping is told as mmap_write; single stores are no events",
    ),
    row(
        "atomic replacement",
        Seen,
        "both names of rename, RENAME_EXCHANGE, RENAME_WHITEOUT and linkat",
    ),
    row("int 0x80: open", Seen, "the compat table decodes i386 numbers"),
    row(
        "mass rewriting",
        Seen,
        "each write and rename is told; adding up over files is left to who reads the alerts",
    ),
    row("logs emptied and removed", Seen, "O_TRUNC, truncate and unlink"),
    row(
        "other mounts of /proc",
        Partly,
        "told under the other mount's path: a recipe on ^/proc/ does not match",
    ),
    row(
        "memfd and fexecve",
        Seen,
        "the image is the kernel's object: memfd flag and name, whatever path was executed",
    ),
    row("O_TMPFILE executed", Seen, "as above; it has no name, and is flagged"),
    row(
        "script in a memfd",
        Partly,
        "the interpreter and /dev/fd/N are told; what the script was is not",
    ),
    row(
        "execveat of a directory's descriptor and of a deleted file",
        Seen,
        "the dentry has its path, and the flag says that it is deleted",
    ),
    row("argv spoofing", Seen, "the image is told beside what it calls itself"),
    row("argv rewriting", Seen, "arguments are copied at execve, before the program can write"),
    row("comm renaming", Seen, "the image is told beside what the task calls itself"),
    row("short processes", Seen, "execve is told from the kernel, with arguments: 300 of 300"),
    row("double fork, setsid", Seen, "the lineage is kept from the fork on"),
    row("subreaper", Seen, "the lineage is that of forks, not of who reaps"),
    row("PID reuse", Seen, "identity is (pid, start time): two processes"),
    row(
        "huge argv",
        Partly,
        "head and tail are kept with the whole length and a flag; the middle is not",
    ),
    row(
        "LD_PRELOAD and LD_AUDIT",
        Seen,
        "the variable with its value, and the opening of the library",
    ),
    row("running through ld.so", Seen, "arguments, the target's name and its opening"),
    row(
        "interpreters",
        Partly,
        "arguments and the script's opening are told; the text from a pipe is not",
    ),
    row(
        "clone3 into namespaces",
        Seen,
        "pids are those of the first namespace; namespaces come with the process",
    ),
    row("reverse shell by dup", Seen, "flow and execution are told of one process"),
    row(
        "raw and packet sockets",
        Partly,
        "packets of raw sockets are flows; a packet socket's pass no control group",
    ),
    row("DNS over TCP", Seen, "answers are put together again"),
    row("own resolver", Seen, "answers are taken by port, whoever asks whom"),
    row(
        "DNS over HTTPS",
        Partly,
        "encrypted: the conversation and the resolver's name are told, from the client's hello; what is asked is not",
    ),
    row("IPv4-mapped IPv6", Seen, "told as IPv4: addresses are the packet's"),
    row("unconnected UDP", Seen, "sendto, sendmsg, sendmmsg: packets have their peers"),
    row("ptrace", Seen, "each request with its target"),
    row("process_vm_readv", Seen, "with its target"),
    row(
        "killing and stopping",
        Seen,
        "each signal with its target, by kill, tgkill, sigqueue and pidfd alike",
    ),
    row(
        "stopping the daemon",
        Seen,
        "the kernel goes on recording: who did it and what was done meanwhile are told when it runs again",
    ),
    row(
        "freezing the daemon",
        Seen,
        "as above, with the write to cgroup.freeze in the place of the signal",
    ),
    row("looking into the daemon", Seen, "ptrace and bpf() by others, told by itself"),
    row("killing the daemon", Seen, "told by a second daemon; nobody can tell of its own death"),
    row("comm renaming itself", Seen, "task_rename: prctl and /proc/self/comm alike"),
    row("io_uring requests", Seen, "the ring, each request's opcode, and what it did to a file"),
    row("setns, unshare, pivot_root", Seen, "with flags, the namespace joined, and paths"),
    row(
        "kernel modules",
        NotSeen,
        "asserted on a kernel without modules, where the attempt is no system call (ENOSYS) and is not told; kernels with modules are not tested here",
    ),
    row("bpf() by others", Seen, "each command"),
    row("making raw and packet sockets", Seen, "family and type"),
    row(
        "netlink by write(2)",
        NotSeen,
        "requests by sendto, sendmsg and sendmmsg are told; what is written to a socket like to a file is not looked at",
    ),
    by_facts(
        "FICLONE and FICLONERANGE",
        &["reflink", "reflink_range", "reflink_source"],
        "the sharing of blocks is told of the target (clone, write) and the source (read)",
    ),
    by_facts(
        "asynchronous I/O (io_submit)",
        &["aio_read", "aio_write"],
        "the first 16 requests of a call are looked at, in the memory of the task",
    ),
    by_facts(
        "descriptors behind credentials, and by recvmmsg",
        &["fd_passing_with_sender", "fd_passing_recvmmsg"],
        "the first four control messages are looked at; of several messages, the first",
    ),
    by_facts(
        "int 0x80: other calls",
        &[
            "i386_mkdir",
            "i386_setid",
            "i386_unlink",
            "i386_setxattr",
            "i386_write",
            "i386_ptrace",
            "i386_setuid",
            "i386_chroot",
            "i386_mprotect",
            "i386_old_mmap",
            "i386_old_mmap_of_file",
            "i386_socket",
            "i386_bind",
            "i386_listen",
            "i386_connect",
            "i386_netlink_sendto",
            "i386_netlink_sendmsg",
            "i386_fd_passing",
            "i386_fd_passing_socketcall",
        ],
        "as open: also socketcall and the old mmap, whose arguments are in memory, and messages with i386's structs",
    ),
    Family {
        name: "x32",
        verdict: Untested,
        object: Untested,
        why: "bit 30 is taken off, and calls from 512 on have rows of their own; no kernel of the matrix lets x32 in",
        facts: &["x32_open", "x32_setuid", "x32_ptrace", "x32_fd_passing"],
    },
    by_facts(
        "process_vm_writev and /proc/PID/mem",
        &["process_vm_write", "proc_mem_open", "proc_mem_write"],
        "the call with its target; the file under /proc with its path",
    ),
    by_facts(
        "ptrace: seize, poke, set registers",
        &["ptrace_seize", "ptrace_poke", "ptrace_setregs"],
        "requests are told by name",
    ),
    by_facts(
        "core_pattern, modprobe path, release_agent, binfmt_misc, sysrq",
        &[
            "core_pattern",
            "modprobe_path",
            "hotplug_path",
            "uevent_helper",
            "release_agent",
            "binfmt_register",
            "sysrq_trigger",
            "sysctl_write",
        ],
        "writes of their files, wherever the file system is mounted, under that path",
    ),
    by_facts(
        "rights without chmod",
        &["fchmodat2", "fchmodat2_empty_path", "made_setid", "access_list", "file_capability"],
        "fchmodat2, a set-user-id bit at creation, access lists, capabilities of files",
    ),
    by_facts(
        "immutable flags",
        &["immutable", "immutable_fsxattr", "immutable_by_path"],
        "both ioctls and file_setattr",
    ),
    by_facts(
        "mounts made step by step",
        &["fsconfig", "fsmount", "move_mount", "fspick", "reconfigure", "open_tree_attr"],
        "fsopen, fsconfig with source and options, move_mount, fspick, each as it is called",
    ),
    by_facts(
        "devices under mounts",
        &["loop_set_fd", "loop_configure", "device_mapper", "swap"],
        "the ioctl by name, with the device",
    ),
    by_facts(
        "accounts and logins",
        &["passwd", "group", "shadow", "passwd_replaced", "session_record", "login_id"],
        "writes and renames of the files, in whatever mount namespace; the login is told with each process",
    ),
    row("SUID, capabilities and time stamps", Seen, "chmod, setid, setcap and utimes of the file"),
];

/// docs/evasions.md.
pub fn page() -> String {
    let mut page = String::from(
        "# Evasions\n\n\
         Known ways round an agent, what Raqib tells of each, and why. Each row is done for real by \
         `tests/evasion/`, or `tests/facts/` on each kernel of the matrix (docs/kernels.md), and \
         asserted there, also where nothing is told; this page is written from the same \
         table (`RAQIB_WRITE_DOCS=1 cargo test --test evasion the_page`).\n\n\
         *seen*: the true object is told, of the right process. *partly*: some of it, or under \
         another name. *not-seen*: nothing, or something false. *untested*: no kernel of the \
         matrix has it. On which tier a host is, `raqib doctor` tells.\n\n\
         | Evasion | Tracepoint tier | Object tier | Why |\n|---|---|---|---|\n",
    );
    for Family { name, verdict, object, why, .. } in FAMILIES {
        let (tracepoint, object) = (verdict.word(), object.word());
        let _ = writeln!(page, "| {name} | {tracepoint} | {object} | {why} |");
    }
    page
}
