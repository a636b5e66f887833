//! Every fact that is neither a plain file access nor a flow: for each, an act that must be seen
//! and one beside it that must stay silent, on the running kernel.
//!
//! A fact is one row of [`FACTS`]: a recipe's conditions, the act, the silent act. One daemon
//! serves them all; each act is done by a child of its own, so that a pid tells whose alert it is.
//! Prints `FACT <area>/<name> <verdict>`: `seen`, `missed`, `silent-violated`, or `not-offered`
//! with the errno by which this kernel refused the act.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
#![allow(clippy::undocumented_unsafe_blocks, reason = "system calls with arguments in sight")]

mod common;

use std::ffi::CString;
use std::fs;
use std::os::fd::AsRawFd;
use std::path::Path;

use common::acts::{c, child, wait};
use common::{Daemon, cannot_run};

/// One fact.
struct Fact {
    area: &'static str,
    name: &'static str,
    /// Conditions of its recipe, in YAML's flow form.
    recipe: &'static str,
    /// Returns what the system call did: an errno, negated, where it failed.
    act: fn(&Path) -> i64,
    quiet: fn(&Path) -> i64,
}

macro_rules! call {
    ($number:expr $(, $argument:expr)*) => {{
        let returned = unsafe { libc::syscall($number $(, $argument)*) };
        if returned < 0 { -i64::from(std::io::Error::last_os_error().raw_os_error().unwrap()) } else { returned }
    }};
}

fn file(dir: &Path, name: &str) -> CString {
    let path = dir.join(name);
    if !path.exists() {
        fs::write(&path, "hay").unwrap();
    }
    c(path)
}

fn opened(dir: &Path, name: &str) -> i32 {
    let path = file(dir, name);
    unsafe { libc::open(path.as_ptr(), libc::O_RDWR) }
}

/// What is seen although it fails: all but a call that this kernel does not have.
fn tried(returned: i64) -> i64 {
    if returned == -i64::from(libc::ENOSYS) { returned } else { 0 }
}

const NONE: *const libc::c_void = std::ptr::null();

fn capability() -> [u8; 20] {
    // VFS_CAP_REVISION_2, no capability in any set.
    let mut value = [0; 20];
    value[3] = 2;
    value
}

fn socket_pair_pass(file: Option<i32>) -> i64 {
    let mut pair = [0; 2];
    unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_DGRAM, 0, pair.as_mut_ptr()) };
    let mut byte = *b"x";
    let mut control = [0u8; 64];
    let mut vector = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut vector, 1);
    if let Some(fd) = file {
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = unsafe { libc::CMSG_SPACE(4) } as usize;
        unsafe {
            let head = libc::CMSG_FIRSTHDR(&raw const message);
            (*head).cmsg_level = libc::SOL_SOCKET;
            (*head).cmsg_type = libc::SCM_RIGHTS;
            (*head).cmsg_len = libc::CMSG_LEN(4) as usize;
            libc::CMSG_DATA(head).cast::<i32>().write_unaligned(fd);
        }
    }
    let sent = call!(libc::SYS_sendmsg, pair[0], &raw const message, 0);
    if sent < 0 {
        return sent;
    }
    (message.msg_control, message.msg_controllen) = (control.as_mut_ptr().cast(), 64);
    call!(libc::SYS_recvmsg, pair[1], &raw mut message, 0)
}

fn map(dir: &Path, protection: i32, flags: i32) -> i64 {
    let fd = opened(dir, "mapped");
    call!(libc::SYS_mmap, 0, 4096, protection, flags, fd, 0).min(0)
}

fn anonymous(protection: i32) -> i64 {
    call!(
        libc::SYS_mmap,
        0,
        4096,
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        -1,
        0
    )
    .min(0)
    .min(protect(protection))
}

fn protect(protection: i32) -> i64 {
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            4096,
            libc::PROT_READ,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    call!(libc::SYS_mprotect, page, 4096, protection)
}

fn sleeper() -> i32 {
    match unsafe { libc::fork() } {
        0 => child(|| {
            let _ = unsafe { libc::sleep(2) };
        }),
        pid => pid,
    }
}

fn end(pid: i32) {
    unsafe {
        libc::kill(pid, libc::SIGKILL);
        libc::waitpid(pid, std::ptr::null_mut(), 0);
    }
}

fn memory(number: libc::c_long, pid: i32) -> i64 {
    let mut word = 0u64;
    let vector = libc::iovec { iov_base: (&raw mut word).cast(), iov_len: 8 };
    call!(number, pid, &raw const vector, 1, &raw const vector, 1, 0)
}

fn with_sleeper(act: impl FnOnce(i32) -> i64) -> i64 {
    let pid = sleeper();
    let returned = act(pid);
    end(pid);
    returned
}

/// Network namespace first: what is set up stays inside.
fn netlink(message: u16) -> i64 {
    let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW, 0) };
    // RTM_NEWLINK of nothing is refused by the kernel, which is told in an answer, not by sendto.
    let mut request = [0u8; 32];
    request[..4].copy_from_slice(&32u32.to_ne_bytes());
    request[4..6].copy_from_slice(&message.to_ne_bytes());
    request[6..8].copy_from_slice(&1u16.to_ne_bytes());
    call!(libc::SYS_sendto, fd, request.as_ptr(), 32, 0, NONE, 0)
}

fn address(port: u16) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) },
        sin_zero: [0; 8],
    }
}

fn socket() -> i32 {
    unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0) }
}

fn connect(port: u16) -> i64 {
    match call!(libc::SYS_connect, socket(), std::ptr::from_ref(&address(port)), 16) {
        // Nobody listens there: it was asked for all the same.
        -111 => 0,
        other => other,
    }
}

fn bpf(map_type: u32) -> i64 {
    let mut attributes = [0u32; 32];
    attributes[..4].copy_from_slice(&[map_type, 4, 4, 1]);
    call!(libc::SYS_bpf, 0, attributes.as_ptr(), 128)
}

fn mounted(source: &str, dir: &Path, flags: u64) -> i64 {
    unsafe { libc::unshare(libc::CLONE_NEWNS) };
    let (root, none) = (c("/"), c("none"));
    call!(
        libc::SYS_mount,
        none.as_ptr(),
        root.as_ptr(),
        NONE,
        libc::MS_REC | libc::MS_PRIVATE,
        NONE
    );
    let target = dir.join("mount");
    let _ = fs::create_dir(&target);
    let (source, target, kind) = (c(source), c(target), c("tmpfs"));
    call!(libc::SYS_mount, source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, NONE)
}

fn nothing(_: &Path) -> i64 {
    0
}

const fn fact(
    area: &'static str,
    name: &'static str,
    recipe: &'static str,
    act: fn(&Path) -> i64,
    quiet: fn(&Path) -> i64,
) -> Fact {
    Fact { area, name, recipe, act, quiet }
}

macro_rules! file_fact {
    ($area:expr, $action:expr) => {
        concat!(
            "breed: file_access, mechanism: file_access, file_actions: ",
            $action,
            ", regex: '/raqib-facts-'"
        )
    };
}

macro_rules! activity {
    ($more:expr) => {
        concat!("breed: activity, mechanism: activity, activities: ", $more)
    };
}

const AT: i32 = libc::AT_FDCWD;

const FACTS: &[Fact] = &[
    fact(
        "attributes",
        "chmod",
        file_fact!("", "chmod"),
        |d| call!(libc::SYS_chmod, file(d, "a").as_ptr(), 0o600),
        |d| call!(libc::SYS_access, file(d, "a").as_ptr(), 0),
    ),
    fact(
        "attributes",
        "fchmod",
        file_fact!("", "chmod"),
        |d| call!(libc::SYS_fchmod, opened(d, "a"), 0o600),
        |d| call!(libc::SYS_fsync, opened(d, "a")),
    ),
    fact(
        "attributes",
        "setid",
        file_fact!("", "setid"),
        |d| call!(libc::SYS_fchmodat, AT, file(d, "suid").as_ptr(), 0o4755),
        |d| call!(libc::SYS_fchmodat, AT, file(d, "suid2").as_ptr(), 0o755),
    ),
    fact(
        "attributes",
        "chown",
        file_fact!("", "chown"),
        |d| call!(libc::SYS_fchownat, AT, file(d, "a").as_ptr(), 0, 0, 0),
        |d| call!(libc::SYS_chmod, file(d, "a").as_ptr(), 0o600),
    ),
    fact(
        "attributes",
        "utimes",
        file_fact!("", "utimes"),
        |d| call!(libc::SYS_utimensat, AT, file(d, "a").as_ptr(), NONE, 0),
        |d| call!(libc::SYS_chmod, file(d, "a").as_ptr(), 0o600),
    ),
    fact(
        "attributes",
        "xattr",
        file_fact!("", "setxattr"),
        |d| {
            call!(
                libc::SYS_setxattr,
                file(d, "a").as_ptr(),
                c("trusted.raqib").as_ptr(),
                b"x".as_ptr(),
                1,
                0
            )
        },
        |d| {
            call!(libc::SYS_getxattr, file(d, "a").as_ptr(), c("trusted.raqib").as_ptr(), NONE, 0)
                .max(0)
        },
    ),
    fact(
        "attributes",
        "file_capability",
        file_fact!("", "setcap"),
        |d| {
            call!(
                libc::SYS_setxattr,
                file(d, "a").as_ptr(),
                c("security.capability").as_ptr(),
                capability().as_ptr(),
                20,
                0
            )
        },
        |d| {
            call!(
                libc::SYS_setxattr,
                file(d, "a").as_ptr(),
                c("trusted.raqib").as_ptr(),
                b"x".as_ptr(),
                1,
                0
            )
            .max(0)
        },
    ),
    fact(
        "attributes",
        "immutable",
        file_fact!("", "setflags"),
        |d| {
            let flags = 0u64;
            call!(libc::SYS_ioctl, opened(d, "a"), 0x4008_6602u64, &raw const flags)
        },
        |d| {
            let mut flags = 0u64;
            call!(libc::SYS_ioctl, opened(d, "a"), 0x8008_6601u64, &raw mut flags)
        },
    ),
    fact(
        "files",
        "symlink",
        file_fact!("", "symlink"),
        |d| call!(libc::SYS_symlink, c("/etc/passwd").as_ptr(), c(d.join("link")).as_ptr()),
        |d| call!(libc::SYS_link, file(d, "a").as_ptr(), c(d.join("hard")).as_ptr()),
    ),
    fact(
        "files",
        "mkdir",
        file_fact!("", "mkdir"),
        |d| call!(libc::SYS_mkdirat, AT, c(d.join("made")).as_ptr(), 0o700),
        |d| call!(libc::SYS_access, c(d).as_ptr(), 0),
    ),
    fact(
        "files",
        "rmdir",
        file_fact!("", "rmdir"),
        |d| {
            fs::create_dir(d.join("gone")).unwrap();
            call!(libc::SYS_unlinkat, AT, c(d.join("gone")).as_ptr(), libc::AT_REMOVEDIR)
        },
        |d| call!(libc::SYS_unlinkat, AT, file(d, "unlinked").as_ptr(), 0),
    ),
    fact(
        "files",
        "mknod",
        file_fact!("", "mknod"),
        |d| call!(libc::SYS_mknodat, AT, c(d.join("fifo")).as_ptr(), libc::S_IFIFO | 0o600, 0),
        |d| call!(libc::SYS_mkdirat, AT, c(d.join("nofifo")).as_ptr(), 0o700),
    ),
    fact(
        "files",
        "exchange",
        file_fact!("", "exchange"),
        |d| {
            call!(
                libc::SYS_renameat2,
                AT,
                file(d, "x").as_ptr(),
                AT,
                file(d, "y").as_ptr(),
                libc::RENAME_EXCHANGE
            )
        },
        |d| call!(libc::SYS_renameat2, AT, file(d, "p").as_ptr(), AT, c(d.join("q")).as_ptr(), 0),
    ),
    fact(
        "files",
        "mmap_exec",
        file_fact!("", "mmap_exec"),
        |d| map(d, libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE),
        |d| map(d, libc::PROT_READ, libc::MAP_PRIVATE),
    ),
    fact(
        "files",
        "mmap_write",
        file_fact!("", "mmap_write"),
        |d| map(d, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED),
        |d| map(d, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE),
    ),
    fact(
        "files",
        "posix_lock",
        file_fact!("", "flock"),
        |d| {
            let lock: libc::flock = unsafe { std::mem::zeroed() };
            call!(libc::SYS_fcntl, opened(d, "a"), libc::F_SETLK, &raw const lock)
        },
        |d| {
            let mut lock: libc::flock = unsafe { std::mem::zeroed() };
            call!(libc::SYS_fcntl, opened(d, "a"), libc::F_GETLK, &raw mut lock)
        },
    ),
    fact(
        "files",
        "fd_passing",
        file_fact!("", "receive"),
        |d| socket_pair_pass(Some(opened(d, "passed"))),
        |_| socket_pair_pass(None),
    ),
    fact(
        "lifecycle",
        "signal",
        activity!("signal, details: {signal: kill}"),
        |_| with_sleeper(|pid| call!(libc::SYS_kill, pid, libc::SIGKILL)),
        |_| {
            let pid = sleeper();
            let returned = call!(libc::SYS_kill, pid, libc::SIGTERM);
            unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
            returned
        },
    ),
    fact(
        "lifecycle",
        "comm_change",
        activity!("comm_change, details: {comm: raqib-renamed}"),
        |_| call!(libc::SYS_prctl, libc::PR_SET_NAME, c("raqib-renamed").as_ptr(), 0, 0, 0),
        |_| call!(libc::SYS_prctl, libc::PR_SET_NAME, c("raqib-other").as_ptr(), 0, 0, 0),
    ),
    fact(
        "lifecycle",
        "thread",
        activity!("thread_create"),
        |_| {
            std::thread::Builder::new().spawn(|| ()).unwrap().join().unwrap();
            0
        },
        |_| {
            end(sleeper());
            0
        },
    ),
    fact(
        "lifecycle",
        "clone3_namespaces",
        activity!("namespaces_create, details: {flags: uts}"),
        |_| {
            let mut arguments = [0u64; 8];
            arguments[0] = libc::CLONE_NEWUTS as u64;
            arguments[4] = libc::SIGCHLD as u64;
            match call!(libc::SYS_clone3, arguments.as_ptr(), 64) {
                0 => child(|| ()),
                pid => {
                    if pid > 0 {
                        wait(pid as u32);
                    }
                    pid
                }
            }
        },
        |_| {
            end(sleeper());
            0
        },
    ),
    fact(
        "lifecycle",
        "io_uring",
        activity!("io_uring_setup"),
        |_| {
            let mut parameters = [0u8; 120];
            call!(libc::SYS_io_uring_setup, 2, parameters.as_mut_ptr())
        },
        nothing,
    ),
    fact(
        "lifecycle",
        "personality",
        activity!("personality, details: {persona: addr_no_randomize}"),
        |_| call!(libc::SYS_personality, 0x4_0000u64),
        |_| call!(libc::SYS_personality, 0xffff_ffffu64),
    ),
    fact(
        "identity",
        "setuid",
        activity!("set_uid, details: {uid: '65534'}"),
        |_| call!(libc::SYS_setresuid, 65534, 65534, 65534),
        |_| call!(libc::SYS_setresuid, 0, 0, 0),
    ),
    fact(
        "identity",
        "setgid",
        activity!("set_gid, details: {gid: '65534'}"),
        |_| call!(libc::SYS_setresgid, 65534, 65534, 65534),
        |_| call!(libc::SYS_setresgid, 0, 0, 0),
    ),
    fact(
        "identity",
        "setgroups",
        activity!("set_groups"),
        |_| call!(libc::SYS_setgroups, 0, NONE),
        |_| call!(libc::SYS_getgroups, 0, NONE),
    ),
    fact(
        "identity",
        "capset",
        activity!("capset, result: success"),
        |_| {
            let head = [0x2008_0522u32, 0];
            let sets = [0u32; 6];
            call!(libc::SYS_capset, head.as_ptr(), sets.as_ptr())
        },
        |_| {
            let head = [0x2008_0522u32, 0];
            let mut sets = [0u32; 6];
            call!(libc::SYS_capget, head.as_ptr(), sets.as_mut_ptr())
        },
    ),
    fact(
        "identity",
        "no_new_privs",
        activity!("prctl, details: {option: set_no_new_privs}"),
        |_| call!(libc::SYS_prctl, libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        |_| call!(libc::SYS_prctl, libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0),
    ),
    fact(
        "identity",
        "ambient_set",
        activity!("prctl, details: {option: cap_ambient}"),
        |_| call!(libc::SYS_prctl, libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0),
        |_| call!(libc::SYS_prctl, libc::PR_GET_DUMPABLE, 0, 0, 0, 0),
    ),
    fact(
        "identity",
        "keyring",
        activity!("keyctl, details: {operation: join_session_keyring}"),
        |_| call!(libc::SYS_keyctl, 1, c("raqib").as_ptr()),
        |_| call!(libc::SYS_keyctl, 0, -3, 0).max(0),
    ),
    fact(
        "identity",
        "add_key",
        activity!("add_key, details: {key_type: user, description: raqib-key}"),
        |_| {
            call!(
                libc::SYS_add_key,
                c("user").as_ptr(),
                c("raqib-key").as_ptr(),
                b"x".as_ptr(),
                1,
                -2
            )
        },
        |_| {
            call!(
                libc::SYS_add_key,
                c("user").as_ptr(),
                c("other-key").as_ptr(),
                b"x".as_ptr(),
                1,
                -2
            )
            .max(0)
        },
    ),
    fact(
        "kernel",
        "ptrace",
        activity!("ptrace, details: {request: attach}"),
        |_| with_sleeper(|pid| call!(libc::SYS_ptrace, libc::PTRACE_ATTACH, pid, 0, 0)),
        |_| call!(libc::SYS_ptrace, libc::PTRACE_TRACEME, 0, 0, 0),
    ),
    fact(
        "kernel",
        "process_vm_write",
        activity!("process_vm_write"),
        |_| memory(libc::SYS_process_vm_writev, std::process::id() as i32),
        |_| memory(libc::SYS_process_vm_readv, std::process::id() as i32),
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
        "proc_mem",
        "breed: file_access, mechanism: file_access, file_actions: open, regex: '^/proc/[0-9]+/mem$'",
        |_| {
            with_sleeper(|pid| {
                call!(libc::SYS_openat, AT, c(format!("/proc/{pid}/mem")).as_ptr(), libc::O_RDWR)
            })
        },
        |_| {
            with_sleeper(|pid| {
                call!(libc::SYS_openat, AT, c(format!("/proc/{pid}/stat")).as_ptr(), libc::O_RDONLY)
            })
        },
    ),
    fact(
        "kernel",
        "module_load",
        activity!("module_load"),
        |d| tried(call!(libc::SYS_finit_module, opened(d, "module.ko"), c("").as_ptr(), 0)),
        |d| call!(libc::SYS_fsync, opened(d, "module.ko")),
    ),
    fact(
        "kernel",
        "module_unload",
        activity!("module_unload, details: {module: raqib_none}"),
        |_| tried(call!(libc::SYS_delete_module, c("raqib_none").as_ptr(), 0)),
        nothing,
    ),
    fact(
        "kernel",
        "bpf",
        activity!("bpf, details: {command: map_create, type: '2'}"),
        |_| bpf(2),
        |_| bpf(1),
    ),
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
        "sysctl_write",
        "breed: file_access, mechanism: file_access, file_actions: write, regex: '^/proc/sys/kernel/'",
        |_| {
            let path = c("/proc/sys/kernel/ctrl-alt-del");
            let fd = unsafe { libc::open(path.as_ptr(), libc::O_WRONLY) };
            call!(libc::SYS_write, fd, b"0".as_ptr(), 1)
        },
        |_| {
            drop(fs::read("/proc/sys/kernel/ctrl-alt-del"));
            0
        },
    ),
    fact(
        "storage",
        "mount",
        activity!("mount, details: {source: raqib-fact, fs_type: tmpfs}"),
        |d| mounted("raqib-fact", d, 0),
        |d| mounted("other", d, 0),
    ),
    fact(
        "storage",
        "umount",
        activity!("umount, details: {path: {regex: raqib-facts-}}"),
        |d| {
            mounted("other", d, 0);
            call!(libc::SYS_umount2, c(d.join("mount")).as_ptr(), 0)
        },
        |d| mounted("other", d, 0),
    ),
    fact(
        "storage",
        "remount",
        activity!("mount, details: {flags: remount}"),
        |d| {
            mounted("other", d, 0);
            mounted_again(d)
        },
        |d| mounted("other", d, 0),
    ),
    fact(
        "storage",
        "chroot",
        activity!("chroot, details: {path: {regex: raqib-facts-}}"),
        |d| call!(libc::SYS_chroot, c(d).as_ptr()),
        |d| call!(libc::SYS_chdir, c(d).as_ptr()),
    ),
    fact(
        "storage",
        "fsopen",
        activity!("fs_open, details: {fs_type: tmpfs}"),
        |_| call!(430, c("tmpfs").as_ptr(), 0),
        nothing,
    ),
    fact(
        "containers",
        "unshare",
        activity!("unshare, details: {flags: uts}"),
        |_| call!(libc::SYS_unshare, libc::CLONE_NEWUTS),
        |_| call!(libc::SYS_unshare, libc::CLONE_FILES),
    ),
    fact(
        "containers",
        "setns",
        activity!("setns"),
        |_| {
            let own = fs::File::open("/proc/self/ns/uts").unwrap();
            call!(libc::SYS_setns, own.as_raw_fd(), 0)
        },
        nothing,
    ),
    fact(
        "network",
        "socket",
        activity!("socket_create, details: {family: packet}"),
        |_| call!(libc::SYS_socket, libc::AF_PACKET, libc::SOCK_RAW, 0),
        |_| call!(libc::SYS_socket, libc::AF_INET, libc::SOCK_STREAM, 0),
    ),
    fact(
        "network",
        "raw_socket",
        activity!("socket_create, details: {family: inet, type: raw}"),
        |_| call!(libc::SYS_socket, libc::AF_INET, libc::SOCK_RAW, 1),
        |_| call!(libc::SYS_socket, libc::AF_INET, libc::SOCK_DGRAM, 0),
    ),
    fact(
        "network",
        "bind",
        activity!("bind, details: {port: '47471'}"),
        |_| call!(libc::SYS_bind, socket(), std::ptr::from_ref(&address(47471)), 16),
        |_| call!(libc::SYS_bind, socket(), std::ptr::from_ref(&address(47472)), 16),
    ),
    fact(
        "network",
        "listen",
        activity!("listen, details: {port: '47473'}"),
        |_| {
            let fd = socket();
            call!(libc::SYS_bind, fd, std::ptr::from_ref(&address(47473)), 16);
            call!(libc::SYS_listen, fd, 1)
        },
        |_| call!(libc::SYS_bind, socket(), std::ptr::from_ref(&address(47474)), 16),
    ),
    fact(
        "network",
        "connect_refused",
        activity!("connect, details: {port: '47475'}, result: failure"),
        |_| connect(47475),
        |_| connect(47476),
    ),
    fact(
        "network",
        "unix_connect",
        activity!("connect, details: {socket_path: /run/raqib-nobody}"),
        |_| unix("/run/raqib-nobody"),
        |_| unix("/run/raqib-other"),
    ),
    fact(
        "network",
        "netlink_config",
        activity!("netlink_config, details: {message: newlink}"),
        |_| netlink(16),
        |_| netlink(18),
    ),
    fact(
        "memory",
        "protect_exec",
        activity!("memory_exec, details: {protection: exec, backing: protected}"),
        |_| anonymous(libc::PROT_READ | libc::PROT_EXEC),
        |_| anonymous(libc::PROT_READ),
    ),
    fact(
        "memory",
        "map_exec",
        activity!("memory_exec, details: {protection: write, backing: anonymous}"),
        |_| {
            call!(libc::SYS_mmap, 0, 4096, 7, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0).min(0)
        },
        |_| {
            call!(libc::SYS_mmap, 0, 4096, 3, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0).min(0)
        },
    ),
    fact(
        "memory",
        "memfd",
        activity!("memfd_create, details: {memfd: raqib-memfd}"),
        |_| call!(libc::SYS_memfd_create, c("raqib-memfd").as_ptr(), 0),
        |_| call!(libc::SYS_memfd_create, c("other").as_ptr(), 0),
    ),
];

fn mounted_again(dir: &Path) -> i64 {
    let (none, target) = (c("none"), c(dir.join("mount")));
    call!(
        libc::SYS_mount,
        none.as_ptr(),
        target.as_ptr(),
        NONE,
        libc::MS_REMOUNT | libc::MS_RDONLY,
        NONE
    )
}

fn unix(path: &str) -> i64 {
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as u16;
    for (to, from) in address.sun_path.iter_mut().zip(path.bytes()) {
        *to = from as libc::c_char;
    }
    let fd = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0) };
    // Nobody is there: asked for all the same.
    call!(libc::SYS_connect, fd, &raw const address, size_of::<libc::sockaddr_un>()).max(0)
}

/// Does it in a child; its pid, and the errno by which it failed, if so.
fn perform(act: fn(&Path) -> i64, folder: &Path) -> (u32, i32) {
    let _ = fs::create_dir_all(folder);
    let pid = match unsafe { libc::fork() } {
        0 => {
            let returned = std::panic::catch_unwind(|| act(folder)).unwrap_or(-200);
            unsafe { libc::_exit(if returned < 0 { -returned as i32 } else { 0 }) }
        }
        pid => pid as u32,
    };
    let status = wait(pid);
    (pid, if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 255 })
}

#[test]
fn each_fact_is_seen_and_what_is_beside_it_is_not() {
    if let Some(reason) = cannot_run() {
        skip!("each_fact_is_seen_and_what_is_beside_it_is_not", reason);
    }
    let recipes: String = FACTS
        .iter()
        .map(|fact| {
            format!(
                "- {{kind: fact, name: {}_{}, version: 1.0, description: test, tactic: none, \
                 technique: none, importance: low, {}}}\n",
                fact.area, fact.name, fact.recipe
            )
        })
        .collect();
    let mut daemon = Daemon::with_recipes(&recipes);
    let folder = tempfile::Builder::new().prefix("raqib-facts-").tempdir().unwrap();
    let done: Vec<_> = FACTS
        .iter()
        .map(|fact| {
            let at = |kind| folder.path().join(format!("{}-{}-{kind}", fact.area, fact.name));
            (fact, perform(fact.act, &at("act")), perform(fact.quiet, &at("quiet")))
        })
        .collect();
    let alerts = daemon.all(common::PATIENCE * 2);
    let mut wrong = Vec::new();
    for (fact, (actor, errno), (quiet, quiet_errno)) in done {
        let recipe = format!("{}_{}", fact.area, fact.name);
        let told = |pid: u32| {
            alerts
                .iter()
                .any(|alert| alert["metadata"]["name"] == *recipe && alert["process"]["pid"] == pid)
        };
        let verdict = match (told(actor), told(quiet)) {
            (_, true) => "silent-violated".to_owned(),
            (true, false) => "seen".to_owned(),
            (false, false) if errno != 0 => format!("not-offered: errno {errno}"),
            (false, false) => "missed".to_owned(),
        };
        println!("FACT {}/{} {verdict}", fact.area, fact.name);
        // An act that the test itself got wrong proves nothing.
        if verdict == "missed" || verdict == "silent-violated" || errno == 200 || quiet_errno == 200
        {
            wrong.push(format!("{recipe}: {verdict}"));
        }
    }
    let journal = daemon.journal("activity");
    assert_eq!(journal["refused"], 0, "{journal}");
    assert!(wrong.is_empty(), "{wrong:#?}\n{}", daemon.stderr());
}
