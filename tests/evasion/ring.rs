//! An io_uring by raw system calls: one request at a time, so that each is known exactly.

use std::ffi::CStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::common::acts::ok;

pub const SQPOLL: u32 = 1 << 1;
/// `IOSQE_ASYNC`: a worker does it, not who submits.
pub const ASYNC: u8 = 1 << 4;
/// `IOSQE_FIXED_FILE`: the descriptor is a slot of the ring.
pub const FIXED: u8 = 1;

const ENTER_GETEVENTS: u32 = 1;
const ENTER_SQ_WAKEUP: u32 = 2;
const SQ_NEED_WAKEUP: u32 = 1;
const REGISTER_FILES: u32 = 2;
const SLOTS: u32 = 8;

pub mod op {
    pub const CONNECT: u8 = 16;
    pub const OPENAT: u8 = 18;
    pub const READ: u8 = 22;
    pub const WRITE: u8 = 23;
    pub const SEND: u8 = 26;
    pub const OPENAT2: u8 = 28;
    pub const RENAMEAT: u8 = 35;
    pub const UNLINKAT: u8 = 36;
    pub const LINKAT: u8 = 39;
    pub const SOCKET: u8 = 45;
}

/// A request, as the kernel lays it out.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Request {
    pub opcode: u8,
    pub flags: u8,
    pub priority: u16,
    pub fd: i32,
    pub offset: u64,
    pub address: u64,
    pub length: u32,
    pub op_flags: u32,
    pub mark: u64,
    pub buffer: u16,
    pub personality: u16,
    /// The slot of a direct descriptor, and one; 0: an ordinary descriptor.
    pub slot: u32,
    pub rest: [u64; 2],
}

impl Request {
    /// On a path relative to the working directory or from the root.
    pub fn at(opcode: u8, path: &CStr) -> Self {
        Self { opcode, fd: libc::AT_FDCWD, address: path.as_ptr() as u64, ..Self::default() }
    }

    pub fn open(path: &CStr, flags: i32) -> Self {
        Self { op_flags: flags as u32, length: 0o600, ..Self::at(op::OPENAT, path) }
    }

    /// From or to memory, at the start of the file.
    pub fn bytes(opcode: u8, fd: i32, bytes: &mut [u8]) -> Self {
        let (address, length) = (bytes.as_mut_ptr() as u64, bytes.len() as u32);
        Self { opcode, fd, address, length, ..Self::default() }
    }

    /// With a second path.
    pub fn and(self, path: &CStr) -> Self {
        Self { offset: path.as_ptr() as u64, length: libc::AT_FDCWD as u32, ..self }
    }
}

#[repr(C)]
#[derive(Default)]
struct Params {
    sq_entries: u32,
    cq_entries: u32,
    flags: u32,
    cpu: u32,
    idle: u32,
    features: u32,
    workqueue: u32,
    reserved: [u32; 3],
    sq: Offsets,
    cq: Offsets,
}

/// Both queues begin alike: head, tail, mask, entries; then they differ.
#[repr(C)]
#[derive(Default)]
struct Offsets {
    head: u32,
    tail: u32,
    mask: u32,
    entries: u32,
    fifth: u32,
    sixth: u32,
    seventh: u32,
    reserved: u32,
    address: u64,
}

pub struct Ring {
    fd: i32,
    flags: u32,
    params: Params,
    queues: *mut u8,
    requests: *mut Request,
}

impl Ring {
    pub fn new(flags: u32) -> Self {
        // The kernel's thread sleeps after this many milliseconds.
        let mut params = Params { flags, idle: 50, ..Params::default() };
        let fd = ok(unsafe { libc::syscall(libc::SYS_io_uring_setup, SLOTS, &raw mut params) });
        let map = |length: usize, at: i64| unsafe {
            let both = libc::PROT_READ | libc::PROT_WRITE;
            let none = std::ptr::null_mut();
            let at = libc::mmap(none, length, both, libc::MAP_SHARED | libc::MAP_POPULATE, fd, at);
            assert_ne!(at, libc::MAP_FAILED);
            at.cast::<u8>()
        };
        assert_eq!(params.features & 1, 1, "both queues are in one mapping since Linux 5.4");
        let requests = map(size_of::<Request>() * SLOTS as usize, 0x1000_0000).cast();
        Self { fd, flags, params, queues: map(4096, 0), requests }
    }

    /// Room for direct descriptors, all of them free.
    pub fn with_slots(self) -> Self {
        let none = [-1i32; 4];
        let register = libc::SYS_io_uring_register;
        ok(unsafe { libc::syscall(register, self.fd, REGISTER_FILES, none.as_ptr(), none.len()) });
        self
    }

    fn word(&self, offset: u32) -> &AtomicU32 {
        unsafe { &*self.queues.add(offset as usize).cast::<AtomicU32>() }
    }

    /// Submits one request and waits for what it returned.
    pub fn result(&self, request: Request) -> i32 {
        let (sq, cq) = (&self.params.sq, &self.params.cq);
        let tail = self.word(sq.tail).load(Ordering::Acquire);
        let slot = tail & self.word(sq.mask).load(Ordering::Relaxed);
        unsafe { self.requests.add(slot as usize).write(request) };
        self.word(sq.seventh + slot * 4).store(slot, Ordering::Relaxed);
        self.word(sq.tail).store(tail + 1, Ordering::Release);
        let enter = |submit: u32, wait: u32, flags: u32| unsafe {
            let none = std::ptr::null::<u8>();
            ok(libc::syscall(libc::SYS_io_uring_enter, self.fd, submit, wait, flags, none, 0));
        };
        let head = self.word(cq.head).load(Ordering::Acquire);
        if self.flags & SQPOLL == 0 {
            enter(1, 1, ENTER_GETEVENTS);
        }
        let until = Instant::now() + Duration::from_secs(5);
        while self.word(cq.tail).load(Ordering::Acquire) == head {
            assert!(Instant::now() < until, "the ring does not answer");
            if self.flags & SQPOLL != 0
                && self.word(sq.fifth).load(Ordering::Acquire) & SQ_NEED_WAKEUP != 0
            {
                enter(0, 0, ENTER_SQ_WAKEUP);
            }
            std::thread::yield_now();
        }
        // A completion: its mark (8 bytes), the result, flags.
        let entry = (head & self.word(cq.mask).load(Ordering::Relaxed)) * 16;
        let returned = self.word(cq.sixth + entry + 8).load(Ordering::Relaxed) as i32;
        self.word(cq.head).store(head + 1, Ordering::Release);
        returned
    }

    /// The same, which must succeed.
    #[track_caller]
    pub fn ask(&self, request: Request) -> i32 {
        let returned = self.result(request);
        let error = std::io::Error::from_raw_os_error(-returned.min(0));
        assert!(returned >= 0, "request {}: {error}", request.opcode);
        returned
    }
}
