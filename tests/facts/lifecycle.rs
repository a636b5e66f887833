//! Processes and threads: how they begin, and what they are told.

use crate::calls::{end, nothing, sleeper, with_sleeper};
use crate::common::Daemon;
use crate::common::acts::{child, fork, wait};
use crate::{Fact, fact};

/// What ran, for those facts that are told with a program.
pub const PROGRAM: &str = "program";
pub const RECIPE: &str = "- {kind: program, name: program, version: 1.0, description: test, \
     breed: execution, mechanism: execution, tactic: none, technique: none, importance: low, \
     regex: '/true$'}\n";

fn clone3(flags: i32) -> i64 {
    let mut arguments = [0u64; 8];
    arguments[0] = flags as u64;
    arguments[4] = libc::SIGCHLD as u64;
    match call!(libc::SYS_clone3, arguments.as_ptr(), 64) {
        0 => child(|| ()),
        pid => reaped(pid),
    }
}

fn reaped(pid: i64) -> i64 {
    if pid > 0 {
        wait(pid as u32);
    }
    pid
}

fn clone(flags: i32) -> i64 {
    match call!(libc::SYS_clone, flags | libc::SIGCHLD, 0, 0, 0, 0) {
        0 => child(|| ()),
        pid => reaped(pid),
    }
}

/// The child borrows the caller's stack, so it does nothing but end.
#[cfg(target_arch = "x86_64")]
fn vfork() -> i64 {
    let pid: i64;
    unsafe {
        std::arch::asm!(
            "mov eax, {vfork}",
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor edi, edi",
            "mov eax, {exit}",
            "syscall",
            "2:",
            vfork = const libc::SYS_vfork,
            exit = const libc::SYS_exit_group,
            out("rax") pid, out("rcx") _, out("r11") _, out("rdi") _,
        );
    }
    reaped(pid)
}

#[cfg(not(target_arch = "x86_64"))]
fn vfork() -> i64 {
    clone(libc::CLONE_VFORK)
}

/// Begins children in every way there is; its pid, and how many.
pub fn parent_of_every_kind() -> (u32, u64) {
    let pid = fork(|| {
        assert!(clone(0) > 0 && clone(libc::CLONE_VFORK) > 0);
        assert!(vfork() > 0 && clone3(0) > 0);
        end(sleeper());
    });
    assert_eq!(wait(pid), 0, "the parent failed");
    (pid, 5)
}

/// Each child was counted, and no thread among them.
pub fn check(daemon: &Daemon, (pid, begun): (u32, u64)) {
    let query = daemon.query(pid);
    let children = query["execution"][0]["children"].as_u64();
    assert_eq!(children, Some(begun), "{query}");
    println!("FACT lifecycle/children_counted seen");
}

fn signalled(number: libc::c_long, signal: i32) -> i64 {
    let mut info = [0u32; 32];
    // si_code: SI_QUEUE
    (info[0], info[2]) = (signal as u32, -1i32 as u32);
    with_sleeper(|pid| match number {
        libc::SYS_tgkill => call!(number, pid, pid, signal),
        libc::SYS_pidfd_send_signal => {
            let pidfd = call!(libc::SYS_pidfd_open, pid, 0);
            if pidfd < 0 { pidfd } else { call!(number, pidfd, signal, 0, 0) }
        }
        libc::SYS_rt_sigqueueinfo => call!(number, pid, signal, info.as_ptr()),
        _ => call!(libc::SYS_kill, pid, signal),
    })
}

/// A ring whose one request does nothing.
fn ring(submit: u32) -> i64 {
    let mut parameters = [0u32; 30];
    let ring = call!(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr());
    if ring < 0 || submit == 0 {
        return ring;
    }
    // sq_off.tail and sq_off.array; the entry 0, which is a request with opcode 0 (NOP).
    let (tail, array) = (parameters[11] as usize, parameters[16] as usize);
    let both = libc::PROT_READ | libc::PROT_WRITE;
    let map = |at: u64| call!(libc::SYS_mmap, 0usize, 4096, both, libc::MAP_SHARED, ring, at);
    let (queue, entries) = (map(0), map(0x1000_0000));
    if queue < 0 || entries < 0 {
        return queue.min(entries);
    }
    unsafe {
        (queue as *mut u8).add(array).cast::<u32>().write_volatile(0);
        (queue as *mut u8).add(tail).cast::<u32>().write_volatile(1);
    }
    call!(libc::SYS_io_uring_enter, ring, submit, 0, 0, 0usize, 0usize)
}

pub const FACTS: &[Fact] = &[
    fact(
        "lifecycle",
        "signal",
        activity!("signal, details: {signal: kill}"),
        |_| signalled(libc::SYS_kill, libc::SIGKILL),
        |_| {
            let pid = sleeper();
            let returned = call!(libc::SYS_kill, pid, libc::SIGTERM);
            wait(pid as u32);
            returned
        },
    ),
    fact(
        "lifecycle",
        "signal_to_thread",
        activity!("signal, details: {signal: stop}"),
        |_| signalled(libc::SYS_tgkill, libc::SIGSTOP),
        |_| signalled(libc::SYS_tgkill, libc::SIGCONT),
    ),
    fact(
        "lifecycle",
        "signal_by_pidfd",
        activity!("signal, details: {signal: usr2}"),
        |_| signalled(libc::SYS_pidfd_send_signal, libc::SIGUSR2),
        |_| signalled(libc::SYS_pidfd_send_signal, 0),
    ),
    fact(
        "lifecycle",
        "signal_queued",
        activity!("signal, details: {signal: usr1}"),
        |_| signalled(libc::SYS_rt_sigqueueinfo, libc::SIGUSR1),
        |_| signalled(libc::SYS_rt_sigqueueinfo, libc::SIGUSR2),
    ),
    fact(
        "lifecycle",
        "comm_change",
        activity!("comm_change, details: {comm: raqib-renamed}"),
        |_| call!(libc::SYS_prctl, libc::PR_SET_NAME, c"raqib-renamed".as_ptr(), 0, 0, 0),
        |_| call!(libc::SYS_prctl, libc::PR_SET_NAME, c"raqib-other".as_ptr(), 0, 0, 0),
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
        "clone_namespaces",
        activity!("namespaces_create, details: {flags: ipc}"),
        |_| clone(libc::CLONE_NEWIPC),
        |_| clone(0),
    ),
    fact(
        "lifecycle",
        "clone3_namespaces",
        activity!("namespaces_create, details: {flags: uts}"),
        |_| clone3(libc::CLONE_NEWUTS),
        |_| clone3(0),
    ),
    fact("lifecycle", "io_uring", activity!("io_uring_setup"), |_| ring(0), nothing),
    fact(
        "lifecycle",
        "io_uring_request",
        activity!("io_uring_request, details: {opcode: nop}"),
        |_| ring(1),
        |_| ring(0),
    ),
    fact(
        "lifecycle",
        "personality",
        activity!("personality, details: {persona: addr_no_randomize}"),
        |_| call!(libc::SYS_personality, 0x4_0000u64),
        |_| call!(libc::SYS_personality, 0xffff_ffffu64),
    ),
];
