//! The other two ways into the kernel: i386's (int 0x80 from a 64-bit program) and x32's. Numbers
//! and structs are different ones there, and what reads only x86-64's names another call or none.

use std::ffi::CStr;
use std::path::Path;

use crate::calls::{NONE, at, file, map, opened, with_sleeper};
use crate::common::acts::c;
use crate::{Fact, fact};

/// Memory below 4 GB: what 32 bits can point to.
struct Low {
    at: u64,
    used: u64,
}

impl Low {
    fn new() -> Self {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
        let both = libc::PROT_READ | libc::PROT_WRITE;
        let at = map(65536, both, flags, -1);
        assert!(at > 0 && at < 1 << 32, "no memory below 4 GB");
        Self { at: at as u64, used: 0 }
    }

    /// Puts it there; where it is.
    fn bytes(&mut self, bytes: &[u8]) -> u32 {
        let at = self.at + self.used;
        assert!(self.used + (bytes.len() as u64) < 65536);
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), at as *mut u8, bytes.len()) };
        self.used = (self.used + bytes.len() as u64).next_multiple_of(16);
        at as u32
    }

    fn text(&mut self, text: &CStr) -> u32 {
        self.bytes(text.to_bytes_with_nul())
    }

    fn words(&mut self, words: &[u32]) -> u32 {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        self.bytes(&bytes)
    }
}

/// A call of i386's; a signal where the kernel has no such entry.
fn int80(number: u32, arguments: [u32; 5]) -> i64 {
    let [first, second, third, fourth, fifth] = arguments.map(u64::from);
    let returned: i64;
    unsafe {
        std::arch::asm!(
            "xchg rbx, {first}", "int 0x80", "xchg rbx, {first}",
            first = inout(reg) first => _,
            inout("rax") u64::from(number) => returned,
            in("rcx") second, in("rdx") third, in("rsi") fourth, in("rdi") fifth,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    i64::from(returned as i32)
}

const SOCKET: u32 = 1;
const BIND: u32 = 2;
const CONNECT: u32 = 3;
const LISTEN: u32 = 4;
const SENDTO: u32 = 11;
const SENDMSG: u32 = 16;
const RECVMSG: u32 = 17;

/// All calls on sockets by one number, with their arguments in memory.
fn socketcall(low: &mut Low, call: u32, arguments: [u32; 6]) -> i64 {
    let arguments = low.words(&arguments);
    int80(102, [call, arguments, 0, 0, 0])
}

fn socket(low: &mut Low, family: i32, kind: i32) -> i64 {
    socketcall(low, SOCKET, [family as u32, kind as u32, 0, 0, 0, 0])
}

/// On a stream socket, with an address of this machine: bind or connect.
fn addressed(low: &mut Low, call: u32, port: u16) -> (i64, i64) {
    let fd = socket(low, libc::AF_INET, libc::SOCK_STREAM);
    let mut to = [0u8; 16];
    to[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
    to[2..4].copy_from_slice(&port.to_be_bytes());
    to[4..8].copy_from_slice(&[127, 0, 0, 1]);
    let to = low.bytes(&to);
    (fd, socketcall(low, call, [fd as u32, to, 16, 0, 0, 0]))
}

fn bound(port: u16) -> i64 {
    addressed(&mut Low::new(), BIND, port).1
}

fn listening(port: u16) -> i64 {
    let mut low = Low::new();
    let (fd, bound) = addressed(&mut low, BIND, port);
    bound.min(socketcall(&mut low, LISTEN, [fd as u32, 1, 0, 0, 0, 0]))
}

fn connected(port: u16) -> i64 {
    match addressed(&mut Low::new(), CONNECT, port).1 {
        -111 => 0,
        other => other,
    }
}

/// A request to the kernel's network configuration, by sendto or sendmsg.
fn netlink(call: u32, message: u16) -> i64 {
    let mut low = Low::new();
    let fd = socket(&mut low, libc::AF_NETLINK, libc::SOCK_RAW) as u32;
    let mut request = [0u8; 32];
    request[0] = 32;
    request[4..6].copy_from_slice(&message.to_ne_bytes());
    request[6] = 1;
    let request = low.bytes(&request);
    if call == SENDTO {
        return socketcall(&mut low, SENDTO, [fd, request, 32, 0, 0, 0]);
    }
    let part = low.words(&[request, 32]);
    let message = low.words(&[0, 0, part, 1, 0, 0, 0]);
    socketcall(&mut low, SENDMSG, [fd, message, 0, 0, 0, 0])
}

/// Takes a message with a descriptor, or without, by a call with i386's structs.
fn received(descriptor: Option<i32>, receive: fn(&mut Low, u32, u32) -> i64) -> i64 {
    let mut low = Low::new();
    let mut pair = [0; 2];
    unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_DGRAM, 0, pair.as_mut_ptr()) };
    let byte = low.bytes(b"x");
    let part = low.words(&[byte, 1]);
    // Length, SOL_SOCKET, SCM_RIGHTS, descriptor; padded to 4 bytes, as all is there.
    let control = low.words(&[16, 1, 1, descriptor.unwrap_or(-1) as u32, 0, 0, 0, 0]);
    let length = if descriptor.is_some() { 16 } else { 0 };
    let message = low.words(&[0, 0, part, 1, control, length, 0]);
    let sent = int80(370, [pair[0] as u32, message, 0, 0, 0]);
    if sent < 0 {
        return sent;
    }
    let message = low.words(&[0, 0, part, 1, control, 32, 0]);
    receive(&mut low, pair[1] as u32, message)
}

fn by_recvmsg(_: &mut Low, fd: u32, message: u32) -> i64 {
    int80(372, [fd, message, 0, 0, 0])
}

fn by_socketcall(low: &mut Low, fd: u32, message: u32) -> i64 {
    socketcall(low, RECVMSG, [fd, message, 0, 0, 0, 0])
}

/// The first mmap, with its arguments in memory.
fn old_mmap(protection: i32, flags: i32, fd: i32) -> i64 {
    let arguments = Low::new().words(&[0, 4096, protection as u32, flags as u32, fd as u32, 0]);
    match int80(90, [arguments, 0, 0, 0, 0]) {
        errno @ -4095..0 => errno,
        _ => 0,
    }
}

fn on_path(number: u32, path: &CStr, more: [u32; 2]) -> i64 {
    let path = Low::new().text(path);
    int80(number, [path, more[0], more[1], 0, 0])
}

fn attribute(dir: &Path, name: &CStr) -> i64 {
    let mut low = Low::new();
    let path = low.text(&file(dir, "a"));
    let (name, value) = (low.text(name), low.bytes(b"x"));
    int80(226, [path, name, value, 1, 0])
}

const PTRACE_ATTACH: u32 = 16;
const X32: libc::c_long = 0x4000_0000;

/// A message with a descriptor by x32's own numbers: its structs are i386's, its pointers 64 bits.
fn x32_received(descriptor: i32) -> i64 {
    let mut low = Low::new();
    let mut pair = [0; 2];
    unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_DGRAM, 0, pair.as_mut_ptr()) };
    let byte = low.bytes(b"x");
    let part = low.words(&[byte, 1]);
    let control = low.words(&[16, 1, 1, descriptor as u32, 0, 0, 0, 0]);
    let message = low.words(&[0, 0, part, 1, control, 16, 0]);
    let sent = call!(X32 | 518, pair[0], u64::from(message), 0);
    if sent < 0 {
        return sent;
    }
    let message = low.words(&[0, 0, part, 1, control, 32, 0]);
    call!(X32 | 519, pair[1], u64::from(message), 0)
}

pub const FACTS: &[Fact] = &[
    fact(
        "compat",
        "i386_open",
        file_fact!("open", "HEREa$"),
        |d| on_path(5, &file(d, "a"), [0, 0]),
        |d| on_path(33, &file(d, "a"), [0, 0]),
    ),
    fact(
        "compat",
        "i386_mkdir",
        file_fact!("mkdir"),
        |d| on_path(39, &at(d, "made"), [0o700, 0]),
        |d| on_path(10, &file(d, "made"), [0, 0]),
    ),
    fact(
        "compat",
        "i386_setid",
        file_fact!("setid"),
        |d| on_path(15, &file(d, "suid"), [0o4755, 0]),
        |d| on_path(15, &file(d, "suid"), [0o755, 0]),
    ),
    fact(
        "compat",
        "i386_unlink",
        file_fact!("unlink"),
        |d| on_path(10, &file(d, "a"), [0, 0]),
        |d| on_path(39, &at(d, "made"), [0o700, 0]),
    ),
    fact(
        "compat",
        "i386_setxattr",
        file_fact!("setxattr"),
        |d| attribute(d, c"trusted.raqib"),
        |d| on_path(15, &file(d, "a"), [0o600, 0]),
    ),
    fact(
        "compat",
        "i386_write",
        file_fact!("write", "HEREa$"),
        |d| {
            let bytes = Low::new().bytes(b"hay");
            int80(4, [opened(d, "a") as u32, bytes, 3, 0, 0])
        },
        |d| {
            let bytes = Low::new().bytes(b"hay");
            int80(3, [opened(d, "a") as u32, bytes, 3, 0, 0])
        },
    ),
    fact(
        "compat",
        "i386_ptrace",
        activity!("ptrace, details: {request: attach}"),
        |_| with_sleeper(|pid| int80(26, [PTRACE_ATTACH, pid as u32, 0, 0, 0])),
        |_| with_sleeper(|pid| int80(37, [pid as u32, 0, 0, 0, 0])),
    ),
    fact(
        "compat",
        "i386_setuid",
        activity!("set_uid, details: {uid: '65534'}"),
        |_| int80(208, [65534, 65534, 65534, 0, 0]),
        |_| int80(208, [0, 0, 0, 0, 0]),
    ),
    fact(
        "compat",
        "i386_chroot",
        activity!("chroot, details: {path: {regex: raqib-facts-}}"),
        |d| on_path(61, &c(d), [0, 0]),
        |d| on_path(12, &c(d), [0, 0]),
    ),
    fact(
        "compat",
        "i386_mprotect",
        activity!("memory_exec, details: {backing: protected}"),
        |_| int80(125, [Low::new().at as u32, 4096, 7, 0, 0]),
        |_| int80(125, [Low::new().at as u32, 4096, 3, 0, 0]),
    ),
    fact(
        "compat",
        "i386_old_mmap",
        activity!("memory_exec, details: {backing: anonymous}"),
        |_| old_mmap(7, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1),
        |_| old_mmap(3, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1),
    ),
    fact(
        "compat",
        "i386_old_mmap_of_file",
        file_fact!("mmap_exec"),
        |d| old_mmap(5, libc::MAP_PRIVATE, opened(d, "a")),
        |d| old_mmap(1, libc::MAP_PRIVATE, opened(d, "a")),
    ),
    fact(
        "compat",
        "i386_socket",
        activity!("socket_create, details: {family: packet, type: raw}"),
        |_| socket(&mut Low::new(), libc::AF_PACKET, libc::SOCK_RAW),
        |_| socket(&mut Low::new(), libc::AF_INET, libc::SOCK_STREAM),
    ),
    fact(
        "compat",
        "i386_bind",
        activity!("bind, details: {address: 127.0.0.1, port: '47481'}"),
        |_| bound(47481),
        |_| bound(47482),
    ),
    fact(
        "compat",
        "i386_listen",
        activity!("listen, details: {port: '47483'}"),
        |_| listening(47483),
        |_| bound(47484),
    ),
    fact(
        "compat",
        "i386_connect",
        activity!("connect, details: {port: '47485'}, result: failure"),
        |_| connected(47485),
        |_| connected(47486),
    ),
    fact(
        "compat",
        "i386_netlink_sendto",
        activity!("netlink_config, details: {message: newlink}"),
        |_| netlink(SENDTO, 16),
        |_| netlink(SENDTO, 18),
    ),
    fact(
        "compat",
        "i386_netlink_sendmsg",
        activity!("netlink_config, details: {message: newlink}"),
        |_| netlink(SENDMSG, 16),
        |_| netlink(SENDMSG, 18),
    ),
    fact(
        "compat",
        "i386_fd_passing",
        file_fact!("receive"),
        |d| received(Some(opened(d, "a")), by_recvmsg),
        |_| received(None, by_recvmsg),
    ),
    fact(
        "compat",
        "i386_fd_passing_socketcall",
        file_fact!("receive"),
        |d| received(Some(opened(d, "a")), by_socketcall),
        |_| received(None, by_socketcall),
    ),
    fact(
        "compat",
        "x32_open",
        file_fact!("open", "HEREa$"),
        |d| call!(X32 | libc::SYS_open, file(d, "a").as_ptr(), 0, 0),
        |d| call!(libc::SYS_access, file(d, "a").as_ptr(), 0),
    ),
    fact(
        "compat",
        "x32_setuid",
        activity!("set_uid, details: {uid: '65534'}"),
        |_| call!(X32 | libc::SYS_setresuid, 65534, 65534, 65534),
        |_| call!(libc::SYS_getuid),
    ),
    fact(
        "compat",
        "x32_ptrace",
        activity!("ptrace, details: {request: attach}"),
        |_| with_sleeper(|pid| call!(X32 | 521, PTRACE_ATTACH, pid, NONE, NONE)),
        |_| call!(libc::SYS_getpid),
    ),
    fact(
        "compat",
        "x32_fd_passing",
        file_fact!("receive"),
        |d| x32_received(opened(d, "a")),
        |_| call!(libc::SYS_getpid),
    ),
];
