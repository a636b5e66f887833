//! The table: add a fact here, and nowhere else.

use super::{CLOSE, Hook, Need, object, tracepoint};
use crate::event::Mechanism;

use Mechanism::{Activity, FileAccess, NetworkFlows, NetworkPeers};

pub const HOOKS: &[Hook] = &[
    Hook {
        fact: "processes",
        // Always loaded: every other fact is told with its process and lineage.
        mechanisms: &Mechanism::ALL,
        ways: &[tracepoint(&["process_fork", "process_exec", "process_exit"], "")],
        need: Need::Always,
        lacks: "",
        instead: "",
    },
    Hook {
        fact: "processes that were there before",
        mechanisms: &Mechanism::ALL,
        ways: &[tracepoint(&["prime_tasks"], "")],
        need: Need::Once,
        lacks: "",
        instead: "",
    },
    Hook {
        fact: "cgroups",
        // As processes: whose container a process is in is told with every fact.
        mechanisms: &Mechanism::ALL,
        ways: &[tracepoint(&["cgroup_mkdir", "cgroup_rmdir"], "")],
        need: Need::Always,
        lacks: "control groups (CONFIG_CGROUPS=y) and their tracepoints must be built into the \
                kernel: without them only containers that are older than raqib are named",
        instead: "",
    },
    Hook {
        fact: "files and activities",
        mechanisms: &[FileAccess, NetworkFlows, NetworkPeers, Activity],
        ways: &[tracepoint(&["sys_exit"], "")],
        need: Need::Always,
        lacks: "the system calls' tracepoints (CONFIG_FTRACE_SYSCALLS=y) must be built into the \
                kernel: without them neither files nor who accepts connections are told",
        instead: "",
    },
    Hook {
        fact: "what names came to",
        // For calls that leave no open file behind: sys_exit takes the notes of these.
        mechanisms: &[FileAccess],
        ways: &[
            object(
                &[
                    "path_chmod",
                    "path_chown",
                    "path_link",
                    "path_mkdir",
                    "path_mknod",
                    "path_rename",
                    "path_rmdir",
                    "path_symlink",
                    "path_truncate",
                    "path_unlink",
                ],
                "times and extended attributes by path are known by the name that was passed",
            ),
            // Before Linux 6.0 no program is handed a structure by value, as owners are.
            object(
                &[
                    "path_chmod",
                    "path_link",
                    "path_mkdir",
                    "path_mknod",
                    "path_rename",
                    "path_rmdir",
                    "path_symlink",
                    "path_truncate",
                    "path_unlink",
                ],
                "owners, times and extended attributes by path are known by the name that was \
                 passed",
            ),
        ],
        need: Need::Always,
        lacks: "",
        instead: "names are told as they were passed (`by_name`): links in them are not followed",
    },
    Hook {
        fact: "closes",
        mechanisms: &[FileAccess],
        ways: &[tracepoint(&["sys_enter"], "closes by exit, exec, dup2 and close_range")],
        need: Need::Action(CLOSE),
        lacks: "the system calls' tracepoints (CONFIG_FTRACE_SYSCALLS=y) must be built into the \
                kernel: `close` in recipes never comes true without them",
        instead: "",
    },
    Hook {
        fact: "signals",
        mechanisms: &[Activity],
        ways: &[tracepoint(&["signal_generate"], "")],
        need: Need::Always,
        lacks: "the tracepoint signal_generate must be built into the kernel: who is signalled is \
                not told without it",
        instead: "",
    },
    Hook {
        fact: "io_uring requests",
        // Names are noted here for the files below.
        mechanisms: &[FileAccess, Activity],
        ways: &[
            tracepoint(&["ring_submit_req"], "").asking("btf_trace_io_uring_submit_req"),
            // Its name until Linux 6.3.
            tracepoint(&["ring_submit_sqe"], "").asking("btf_trace_io_uring_submit_sqe"),
        ],
        need: Need::Always,
        lacks: "requests are not told; nothing is missed if the kernel is built without io_uring \
                (CONFIG_IO_URING)",
        instead: "",
    },
    Hook {
        fact: "files through io_uring",
        mechanisms: &[FileAccess],
        ways: &[
            // Requests have types since Linux 6.0.
            object(&["io_uring_complete", "file_open"], "where links in names lead to")
                .asking("io_cmd_data"),
            tracepoint(
                &["io_uring_complete"],
                "where links in names lead to; opens into a slot before Linux 6.13, and those \
                 that complete silently",
            )
            .asking("io_cmd_data"),
            object(
                &["file_open", "file_permission"],
                "what is renamed, linked, made and removed; what threads of the kernel do for a \
                 process before Linux 5.12",
            ),
        ],
        need: Need::Always,
        lacks: "Linux 6.0 or newer is needed, or one whose functions can be hooked: what is done \
                to files through io_uring is told as requests only",
        instead: "",
    },
    Hook {
        fact: "names of threads",
        mechanisms: &[Activity],
        ways: &[tracepoint(&["task_rename"], "")],
        need: Need::Always,
        lacks: "the tracepoint task_rename must be built into the kernel: a thread that renames \
                itself is not told without it",
        instead: "",
    },
    Hook {
        fact: "flows",
        mechanisms: &[NetworkFlows, NetworkPeers],
        ways: &[tracepoint(&["sock_create", "ingress", "egress"], "attempts that send no packet")],
        need: Need::Always,
        lacks: "programs of control groups (CONFIG_CGROUP_BPF=y) must be built into the kernel: \
                without them neither flows nor names of peers are told",
        instead: "",
    },
    Hook {
        fact: "sockets that were open before",
        mechanisms: &[NetworkFlows, NetworkPeers],
        ways: &[tracepoint(&["prime_sockets"], "").asking("BPF_FUNC_sock_from_file")],
        need: Need::Once,
        lacks: "Linux 5.11 (bpf_sock_from_file) or newer is needed",
        instead: "asked of each process by pidfd_getfd, as this kernel's iterators know no \
                  sockets (Linux 5.11 has one that does)",
    },
];
