//! What is done to the kernel itself, and to other processes' memory.

use std::path::{Path, PathBuf};

use crate::calls::{
    AT, NONE, failed, mounted, nothing, opened, read, rewritten, tried, with_sleeper, written,
};
use crate::common::acts::c;
use crate::{Fact, fact};

/// Another process, whose memory at the same place has the same word: what is done there changes
/// nothing.
fn with_double(act: impl FnOnce(i32, *mut u64) -> i64) -> i64 {
    let mut word = 0x7261_7169_6272_6171u64;
    let at = &raw mut word;
    with_sleeper(|pid| act(pid, at))
}

fn memory(number: libc::c_long) -> i64 {
    with_double(|pid, at| {
        let vector = libc::iovec { iov_base: at.cast(), iov_len: 8 };
        let vector = &raw const vector;
        call!(number, pid, vector, 1, vector, 1, 0usize)
    })
}

fn memory_file(flags: i32) -> i64 {
    with_double(|pid, at| {
        let fd = call!(libc::SYS_openat, AT, c(format!("/proc/{pid}/mem")).as_ptr(), flags);
        if fd < 0 {
            fd
        } else if flags == libc::O_RDONLY {
            call!(libc::SYS_pread64, fd, [0u64; 1].as_mut_ptr(), 8, at)
        } else {
            call!(libc::SYS_pwrite64, fd, at, 8, at)
        }
    })
}

/// Stops another one by `request` (attach or seize), puts back what is there, and lets it go.
fn traced(request: u32, put_back: bool) -> i64 {
    with_double(|pid, at| {
        let stopped = call!(libc::SYS_ptrace, request, pid, 0, 0);
        if stopped < 0 {
            return stopped;
        }
        if request == libc::PTRACE_SEIZE {
            let interrupted = call!(libc::SYS_ptrace, libc::PTRACE_INTERRUPT, pid, 0, 0);
            assert_eq!(interrupted, 0);
        }
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL) };
        let mut word = 0u64;
        let peeked = call!(libc::SYS_ptrace, libc::PTRACE_PEEKDATA, pid, at, &raw mut word);
        let mut registers = [0u64; 64];
        let got = call!(libc::SYS_ptrace, libc::PTRACE_GETREGS, pid, 0, registers.as_mut_ptr());
        if !put_back {
            return peeked.min(got);
        }
        let poked = call!(libc::SYS_ptrace, libc::PTRACE_POKEDATA, pid, at, word);
        let set = call!(libc::SYS_ptrace, libc::PTRACE_SETREGS, pid, 0, registers.as_ptr());
        peeked.min(got).min(poked).min(set)
    })
}

/// Loads the module that the machine has for it, and unloads it; or tries with what is none.
fn module(dir: &Path) -> i64 {
    let Some(path) = std::env::var_os("RAQIB_TEST_MODULE").map(PathBuf::from) else {
        let fd = opened(dir, "none.ko");
        return tried(call!(libc::SYS_finit_module, fd, c"".as_ptr(), 0));
    };
    let fd = call!(libc::SYS_openat, AT, c(&path).as_ptr(), libc::O_RDONLY);
    let loaded = call!(libc::SYS_finit_module, fd, c"".as_ptr(), 0);
    let name = c(path.file_stem().unwrap());
    if loaded < 0 { loaded } else { call!(libc::SYS_delete_module, name.as_ptr(), 0) }
}

const MAP_CREATE: i32 = 0;
const PROG_LOAD: i32 = 5;
const OBJ_PIN: i32 = 6;
const PROG_ATTACH: i32 = 8;
const PROG_DETACH: i32 = 9;
const RAW_TRACEPOINT_OPEN: i32 = 17;
const LINK_CREATE: i32 = 28;
const SOCKET_FILTER: u32 = 1;
const CGROUP_SOCK: u32 = 9;
const RAW_TRACEPOINT: u32 = 17;
const SOCKET_CREATE: u32 = 2;

fn bpf(command: i32, words: &[u32]) -> i64 {
    // Before Linux 5.11 maps and programs count as locked memory, of which 64 KiB may be had.
    let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) };
    let mut attributes = [0u32; 36];
    attributes[..words.len()].copy_from_slice(words);
    call!(libc::SYS_bpf, command, attributes.as_ptr(), 144)
}

fn map(kind: u32) -> i64 {
    bpf(MAP_CREATE, &[kind, 4, 4, 1])
}

/// A program that answers 1: what it is asked for may be done.
fn program(kind: u32, attach: u32, name: &[u8]) -> i64 {
    // r0 = 1; exit
    let code = [0x0000_0001_0000_00b7u64, 0x95];
    let (code, license) = (code.as_ptr() as u64, c"GPL".as_ptr() as u64);
    let halves = |address: u64| [address as u32, (address >> 32) as u32];
    let mut words = [0u32; 18];
    (words[0], words[1], words[17]) = (kind, 2, attach);
    words[2..4].copy_from_slice(&halves(code));
    words[4..6].copy_from_slice(&halves(license));
    for (word, bytes) in words[12..16].iter_mut().zip(name.chunks(4)) {
        let mut padded = [0; 4];
        padded[..bytes.len()].copy_from_slice(bytes);
        *word = u32::from_ne_bytes(padded);
    }
    bpf(PROG_LOAD, &words)
}

/// At a control group that nobody is in.
fn at_cgroup(dir: &Path, attach: impl FnOnce(u32, u32) -> i64) -> i64 {
    let made = mounted("none", dir, "cgroup2", "");
    if made < 0 {
        return made;
    }
    let group = dir.join("mount/raqib-fact");
    if std::fs::create_dir(&group).is_err() {
        return failed();
    }
    let fd = call!(libc::SYS_openat, AT, c(&group).as_ptr(), libc::O_RDONLY);
    let program = program(CGROUP_SOCK, SOCKET_CREATE, b"raqib_group");
    let attached = if program < 0 { program } else { attach(fd as u32, program as u32) };
    std::fs::remove_dir(&group).unwrap();
    attached
}

fn pinned(dir: &Path) -> i64 {
    let made = mounted("none", dir, "bpf", "");
    let map = map(2);
    let path = c(dir.join("mount/pinned"));
    let address = path.as_ptr() as u64;
    let words = [address as u32, (address >> 32) as u32, map as u32];
    made.min(map).min(if map < 0 { 0 } else { bpf(OBJ_PIN, &words) })
}

fn traced_point(name: &std::ffi::CStr) -> i64 {
    let program = program(RAW_TRACEPOINT, 0, b"raqib_point");
    let address = name.as_ptr() as u64;
    let words = [address as u32, (address >> 32) as u32, program as u32];
    if program < 0 { program } else { bpf(RAW_TRACEPOINT_OPEN, &words) }
}

/// An interpreter for files that begin with a word, and away with it.
fn interpreter(dir: &Path) -> i64 {
    let made = mounted("none", dir, "binfmt_misc", "");
    if made < 0 {
        return made;
    }
    let at = dir.join("mount");
    let registered = written(at.join("register"), b":raqib-fact:M::RAQIB-FACT::/bin/true:");
    if registered < 0 { registered } else { written(at.join("raqib-fact"), b"-1") }
}

fn lockdown(dir: &Path, flags: i32) -> i64 {
    let made = mounted("none", dir, "securityfs", "");
    if made < 0 {
        return made;
    }
    call!(libc::SYS_openat, AT, c(dir.join("mount/lockdown")).as_ptr(), flags)
}

fn hostname(name: &str) -> i64 {
    let own = call!(libc::SYS_unshare, libc::CLONE_NEWUTS);
    if own < 0 { own } else { call!(libc::SYS_sethostname, name.as_ptr(), name.len()) }
}

/// A file whose rewriting with its own value is seen, and whose reading is not.
macro_rules! rewriting {
    ($name:expr, $path:expr) => {
        fact(
            "kernel",
            $name,
            file_fact!("write", concat!("^", $path, "$")),
            |_| rewritten($path),
            |_| read($path).max(0),
        )
    };
}

pub const FACTS: &[Fact] = &[
    fact(
        "kernel",
        "ptrace",
        activity!("ptrace, details: {request: attach}"),
        |_| with_sleeper(|pid| call!(libc::SYS_ptrace, libc::PTRACE_ATTACH, pid, 0, 0)),
        |_| call!(libc::SYS_ptrace, libc::PTRACE_TRACEME, 0, 0, 0),
    ),
    fact(
        "kernel",
        "ptrace_seize",
        activity!("ptrace, details: {request: seize}"),
        |_| traced(libc::PTRACE_SEIZE, false),
        |_| traced(libc::PTRACE_ATTACH, false),
    ),
    fact(
        "kernel",
        "ptrace_poke",
        activity!("ptrace, details: {request: pokedata}"),
        |_| traced(libc::PTRACE_ATTACH, true),
        |_| traced(libc::PTRACE_ATTACH, false),
    ),
    fact(
        "kernel",
        "ptrace_setregs",
        activity!("ptrace, details: {request: setregs}"),
        |_| traced(libc::PTRACE_SEIZE, true),
        |_| traced(libc::PTRACE_SEIZE, false),
    ),
    fact(
        "kernel",
        "process_vm_write",
        activity!("process_vm_write, result: success"),
        |_| memory(libc::SYS_process_vm_writev),
        |_| memory(libc::SYS_process_vm_readv),
    ),
    fact(
        "kernel",
        "process_vm_read",
        activity!("process_vm_read, result: success"),
        |_| memory(libc::SYS_process_vm_readv),
        |_| memory(libc::SYS_process_vm_writev),
    ),
    fact(
        "kernel",
        "proc_mem_open",
        file_fact!("open", "^/proc/[0-9]+/mem$"),
        |_| memory_file(libc::O_RDONLY),
        |_| read("/proc/self/stat"),
    ),
    fact(
        "kernel",
        "proc_mem_write",
        file_fact!("write", "^/proc/[0-9]+/mem$"),
        |_| memory_file(libc::O_RDWR),
        |_| memory_file(libc::O_RDONLY),
    ),
    fact(
        "kernel",
        "pidfd_getfd",
        activity!("pidfd_getfd"),
        |_| {
            with_sleeper(|pid| {
                let pidfd = call!(libc::SYS_pidfd_open, pid, 0);
                call!(libc::SYS_pidfd_getfd, pidfd, 0, 0)
            })
        },
        |_| with_sleeper(|pid| call!(libc::SYS_pidfd_open, pid, 0)),
    ),
    fact(
        "kernel",
        "module_load",
        activity!("module_load, details: {path: {regex: '\\.ko$'}}"),
        module,
        |d| call!(libc::SYS_fsync, opened(d, "module.ko")),
    ),
    fact(
        "kernel",
        "module_from_memory",
        activity!("module_load"),
        |_| tried(call!(libc::SYS_init_module, c"none".as_ptr(), 4, c"".as_ptr())),
        nothing,
    ),
    fact(
        "kernel",
        "module_unload",
        activity!("module_unload, details: {module: raqib_none}"),
        |_| tried(call!(libc::SYS_delete_module, c"raqib_none".as_ptr(), 0)),
        nothing,
    ),
    fact(
        "kernel",
        "bpf_map",
        activity!("bpf, details: {command: map_create, type: '2'}"),
        |_| map(2),
        |_| map(1),
    ),
    fact(
        "kernel",
        "bpf_program",
        activity!("bpf, details: {command: prog_load, type: '1', object: raqib_filter}"),
        |_| program(SOCKET_FILTER, 0, b"raqib_filter"),
        |_| program(SOCKET_FILTER, 0, b"raqib_other"),
    ),
    fact(
        "kernel",
        "bpf_tracepoint",
        activity!("bpf, details: {command: raw_tracepoint_open}"),
        |_| traced_point(c"task_newtask"),
        |_| program(RAW_TRACEPOINT, 0, b"raqib_point"),
    ),
    fact(
        "kernel",
        "bpf_attach",
        activity!("bpf, details: {command: prog_attach}"),
        |d| {
            at_cgroup(d, |group, program| {
                let words = [group, program, SOCKET_CREATE, 0];
                bpf(PROG_ATTACH, &words).min(bpf(PROG_DETACH, &words))
            })
        },
        |d| at_cgroup(d, |_, _| 0),
    ),
    fact(
        "kernel",
        "bpf_link",
        activity!("bpf, details: {command: link_create}"),
        |d| at_cgroup(d, |group, program| bpf(LINK_CREATE, &[program, group, SOCKET_CREATE, 0])),
        |d| at_cgroup(d, |_, _| 0),
    ),
    fact("kernel", "bpf_pin", activity!("bpf, details: {command: obj_pin}"), pinned, |_| map(2)),
    fact(
        "kernel",
        "perf_event_open",
        activity!("perf_event_open, details: {type: software}"),
        |_| {
            let mut attributes = [0u64; 16];
            attributes[0] = 1 | 128 << 32;
            call!(libc::SYS_perf_event_open, attributes.as_ptr(), 0, -1, -1, 0)
        },
        nothing,
    ),
    fact(
        "kernel",
        "userfaultfd",
        activity!("userfaultfd"),
        |_| call!(libc::SYS_userfaultfd, 0),
        nothing,
    ),
    fact(
        "kernel",
        "kernel_log",
        activity!("kernel_log"),
        |_| call!(libc::SYS_syslog, 10, NONE, 0),
        nothing,
    ),
    fact(
        "kernel",
        "kexec_load",
        activity!("kexec_load"),
        // More segments than there may be.
        |_| tried(call!(libc::SYS_kexec_load, 0, 1000, NONE, 0)),
        nothing,
    ),
    fact(
        "kernel",
        "kexec_file_load",
        activity!("kexec_load, details: {path: {regex: 'raqib-facts-.*/kernel$'}}"),
        |d| {
            let fd = opened(d, "kernel");
            tried(call!(libc::SYS_kexec_file_load, fd, -1, 1, c"".as_ptr(), 4))
        },
        |d| call!(libc::SYS_fsync, opened(d, "kernel")),
    ),
    fact(
        "kernel",
        "io_ports",
        activity!("io_ports"),
        // Away with a right that it never had.
        |_| tried(call!(libc::SYS_ioperm, 0x80, 1, 0)),
        nothing,
    ),
    fact(
        "kernel",
        "reboot",
        activity!("reboot, details: {command: '0x7261'}"),
        // Without the magic numbers: nothing happens.
        |_| tried(call!(libc::SYS_reboot, 0, 0, 0x7261, NONE)),
        nothing,
    ),
    fact(
        "kernel",
        "set_time",
        activity!("set_time, details: {clock: '1'}"),
        // CLOCK_MONOTONIC, which nobody can set.
        |_| tried(call!(libc::SYS_clock_settime, 1, [1u64, 0].as_ptr())),
        |_| call!(libc::SYS_clock_gettime, 1, [0u64; 2].as_mut_ptr()),
    ),
    fact(
        "kernel",
        "set_hostname",
        activity!("set_hostname, details: {hostname: raqib-host}"),
        |_| hostname("raqib-host"),
        |_| hostname("other-host"),
    ),
    fact(
        "kernel",
        "lockdown",
        file_fact!("open", "HEREmount/lockdown$"),
        // Not written to: it can be raised and not lowered.
        |d| lockdown(d, libc::O_WRONLY),
        |d| mounted("none", d, "securityfs", ""),
    ),
    rewriting!("sysctl_write", "/proc/sys/kernel/ctrl-alt-del"),
    rewriting!("core_pattern", "/proc/sys/kernel/core_pattern"),
    rewriting!("modprobe_path", "/proc/sys/kernel/modprobe"),
    rewriting!("hotplug_path", "/proc/sys/kernel/hotplug"),
    rewriting!("uevent_helper", "/sys/kernel/uevent_helper"),
    rewriting!("forwarding", "/proc/sys/net/ipv4/ip_forward"),
    rewriting!("address_randomness", "/proc/sys/kernel/randomize_va_space"),
    fact(
        "kernel",
        "sysrq_trigger",
        file_fact!("write", "^/proc/sysrq-trigger$"),
        // A letter that does nothing but print which do something.
        |_| written("/proc/sysrq-trigger", b"#"),
        nothing,
    ),
    fact(
        "kernel",
        "binfmt_register",
        file_fact!("write", "HEREmount/register$"),
        interpreter,
        |d| mounted("none", d, "binfmt_misc", ""),
    ),
];
