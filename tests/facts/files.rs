//! What is done with files and their names.

use std::ffi::CStr;
use std::fs;

use std::path::Path;

use crate::calls::{AT, NO_PROGRAM, NONE, at, file, looped, map, mount, opened, own_mounts, run};
use crate::common::acts::c;
use crate::{Fact, fact};

fn open(dir: &Path, name: &str, flags: i32) -> i64 {
    call!(libc::SYS_openat, AT, at(dir, name).as_ptr(), flags, 0o600)
}

fn openat2(path: &CStr) -> i64 {
    // flags, mode, resolve
    call!(libc::SYS_openat2, AT, path.as_ptr(), [0u64; 3].as_ptr(), 24)
}

/// By what the kernel calls the file, without a path.
fn open_by_handle(dir: &Path, open: bool) -> i64 {
    // Room for 128 bytes, and the handle's type.
    let (mut handle, mut mount) = ([0u32; 34], 0i32);
    handle[0] = 128;
    let (path, at) = (file(dir, "a"), handle.as_mut_ptr());
    let got = call!(libc::SYS_name_to_handle_at, AT, path.as_ptr(), at, &raw mut mount, 0);
    if got < 0 || !open {
        return got;
    }
    let folder = call!(libc::SYS_openat, AT, c(dir).as_ptr(), libc::O_RDONLY);
    call!(libc::SYS_open_by_handle_at, folder, handle.as_ptr(), libc::O_RDONLY)
}

/// A vector of one part.
fn vector(number: libc::c_long, fd: i64) -> i64 {
    let mut bytes = *b"needle";
    let part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: 6 };
    call!(number, fd, &raw const part, 1, 0, 0, 0usize)
}

const IOCB_CMD_PREAD: u32 = 0;
const IOCB_CMD_PWRITE: u32 = 1;

/// Hands a request over to the kernel, which does it later, and waits until it has.
fn submitted(dir: &Path, opcode: u32) -> i64 {
    let (mut context, mut bytes, fd) = (0u64, *b"hay", opened(dir, "a"));
    let made = call!(libc::SYS_io_setup, 1, &raw mut context);
    if made < 0 {
        return made;
    }
    // Opcode in the third word and the descriptor beside it; buffer, length, offset.
    let start = u64::from(opcode) | (fd as u64) << 32;
    let request = [0, 0, start, bytes.as_mut_ptr() as u64, 3, 0, 0, 0];
    let requests = [request.as_ptr()];
    let sent = call!(libc::SYS_io_submit, context, 1, requests.as_ptr());
    let mut events = [0u64; 4];
    sent.min(call!(libc::SYS_io_getevents, context, 1, 1, events.as_mut_ptr(), NONE))
}

fn pipe() -> [i32; 2] {
    let mut ends = [0; 2];
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    ends
}

fn mapped(dir: &Path, protection: i32, flags: i32) -> i64 {
    map(4096, protection, flags, opened(dir, "a").into()).min(0)
}

/// Where control messages are put, aligned as they have to be.
type Control = [u64; 32];

/// Sends a message to itself, with descriptors if there are any, and takes it by this call. With
/// `named`, who sent it comes first.
fn passed(files: &[i32], number: libc::c_long, named: bool) -> i64 {
    let (mut pair, mut byte, mut control) = ([0; 2], *b"x", Control::default());
    let (one, on) = (size_of::<i32>() as u32, 1i32);
    unsafe {
        libc::socketpair(libc::AF_UNIX, libc::SOCK_DGRAM, 0, pair.as_mut_ptr());
        if named {
            let (level, option) = (libc::SOL_SOCKET, libc::SO_PASSCRED);
            libc::setsockopt(pair[1], level, option, (&raw const on).cast(), one);
        }
    }
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    let mut messages: [libc::mmsghdr; 1] = unsafe { std::mem::zeroed() };
    let message = &raw mut messages[0].msg_hdr;
    unsafe {
        ((*message).msg_iov, (*message).msg_iovlen) = (&raw mut part, 1);
        if !files.is_empty() {
            (*message).msg_control = control.as_mut_ptr().cast();
            let length = size_of_val(files) as u32;
            (*message).msg_controllen = libc::CMSG_SPACE(length) as usize;
            let head = libc::CMSG_FIRSTHDR(message);
            ((*head).cmsg_level, (*head).cmsg_type) = (libc::SOL_SOCKET, libc::SCM_RIGHTS);
            (*head).cmsg_len = libc::CMSG_LEN(length) as usize;
            let to = libc::CMSG_DATA(head).cast::<i32>();
            std::ptr::copy_nonoverlapping(files.as_ptr(), to, files.len());
        }
        let sent = call!(libc::SYS_sendmsg, pair[0], message, 0);
        if sent < 0 {
            return sent;
        }
        (*message).msg_control = control.as_mut_ptr().cast();
        (*message).msg_controllen = size_of::<Control>();
    }
    if number == libc::SYS_recvmmsg {
        call!(number, pair[1], messages.as_mut_ptr(), 1, 0, NONE)
    } else {
        call!(number, pair[1], message, 0)
    }
}

/// A file system that can share blocks between files, mounted for the act alone, with two files.
fn sharing(dir: &Path) -> Result<[i64; 2], i64> {
    let (image, target) = (dir.join("image"), dir.join("mount"));
    let kinds: [(&str, &str, &[&str], u64); 2] =
        [("btrfs", "mkfs.btrfs", &["-q", "-f"], 128), ("xfs", "mkfs.xfs", &["-q", "-f"], 320)];
    let mut refused = NO_PROGRAM;
    for (kind, program, options, mebibytes) in kinds {
        fs::File::create(&image).unwrap().set_len(mebibytes << 20).unwrap();
        let args = [options, &[image.to_str().unwrap()]].concat();
        match run(program, &args) {
            NO_PROGRAM => continue,
            0 => {}
            errno => return Err(errno),
        }
        let (_device, path) = looped(&image)?;
        let made = own_mounts();
        let _ = fs::create_dir(&target);
        refused = made.min(mount(path.to_str().unwrap(), &target, kind, 0, ""));
        if refused == 0 {
            fs::write(target.join("from"), vec![7; 65536]).unwrap();
            return Ok([open(&target, "from", libc::O_RDONLY), {
                open(&target, "to", libc::O_RDWR | libc::O_CREAT)
            }]);
        }
    }
    Err(refused)
}

const FICLONE: u64 = 0x4004_9409;
const FICLONERANGE: u64 = 0x4020_940d;

fn cloned(dir: &Path) -> i64 {
    match sharing(dir) {
        Ok([from, to]) => call!(libc::SYS_ioctl, to, FICLONE, from),
        Err(errno) => errno,
    }
}

fn cloned_range(dir: &Path) -> i64 {
    match sharing(dir) {
        // src_fd, src_offset, src_length, dest_offset
        Ok([from, to]) => {
            call!(libc::SYS_ioctl, to, FICLONERANGE, [from as u64, 0, 4096, 0].as_ptr())
        }
        Err(errno) => errno,
    }
}

/// Refused: these file systems share no blocks, or the descriptor is none.
fn not_cloned(dir: &Path) -> i64 {
    call!(libc::SYS_ioctl, opened(dir, "b"), FICLONE, -1);
    0
}

/// What one piece of a passed name holds in a row: bpf/types.h, NODE_NAME without its NUL.
const PIECE: usize = 47;

/// A name in the directory that fills its last piece to the last byte, with all above it.
fn whole_pieces(dir: &Path, first: char) -> std::ffi::CString {
    let above = dir.as_os_str().len() + 1;
    let length = (above + 8).next_multiple_of(PIECE) - above;
    at(dir, &first.to_string().repeat(length))
}

const BOTH: i32 = libc::PROT_READ | libc::PROT_WRITE;

/// An act on a file by its descriptor, which is the only thing that differs from opening it.
macro_rules! by_descriptor {
    ($name:expr, $action:expr, $act:expr) => {
        fact(
            "files",
            $name,
            file_fact!($action),
            |dir| {
                let act: fn(i64) -> i64 = $act;
                act(i64::from(opened(dir, "a")))
            },
            |dir| i64::from(opened(dir, "a")),
        )
    };
}

pub const FACTS: &[Fact] = &[
    fact(
        "files",
        "open",
        file_fact!("open"),
        |d| call!(libc::SYS_openat, AT, file(d, "a").as_ptr(), libc::O_RDONLY),
        |d| call!(libc::SYS_mkdirat, AT, at(d, "made").as_ptr(), 0o700),
    ),
    fact(
        "files",
        "openat2",
        file_fact!("open", "HEREa$"),
        |d| openat2(&file(d, "a")),
        |d| openat2(&at(d, "b")),
    ),
    fact(
        "files",
        "open_path",
        file_fact!("open", "HEREa$"),
        |d| {
            let path = file(d, "a");
            call!(libc::SYS_openat, AT, path.as_ptr(), libc::O_PATH)
        },
        |d| call!(libc::SYS_openat, AT, at(d, "b").as_ptr(), libc::O_PATH),
    ),
    fact(
        "files",
        "open_by_handle",
        file_fact!("open", "HEREa$"),
        |d| open_by_handle(d, true),
        |d| open_by_handle(d, false),
    ),
    fact(
        "files",
        "create",
        file_fact!("create", "HEREnew$"),
        |d| open(d, "new", libc::O_CREAT | libc::O_WRONLY),
        |d| open(d, "a", libc::O_CREAT | libc::O_WRONLY),
    ),
    by_descriptor!("read", "read", |fd| call!(libc::SYS_read, fd, [0u8; 8].as_mut_ptr(), 8)),
    by_descriptor!("pread", "read", |fd| {
        call!(libc::SYS_pread64, fd, [0u8; 8].as_mut_ptr(), 8, 0)
    }),
    by_descriptor!("readv", "read", |fd| vector(libc::SYS_readv, fd)),
    by_descriptor!("preadv2", "read", |fd| vector(libc::SYS_preadv2, fd)),
    by_descriptor!("pwrite", "write", |fd| call!(libc::SYS_pwrite64, fd, b"hay".as_ptr(), 3, 0)),
    by_descriptor!("writev", "write", |fd| vector(libc::SYS_writev, fd)),
    by_descriptor!("pwritev2", "write", |fd| vector(libc::SYS_pwritev2, fd)),
    by_descriptor!("fallocate", "write", |fd| call!(libc::SYS_fallocate, fd, 0, 0, 4096)),
    by_descriptor!("seek", "llseek", |fd| call!(libc::SYS_lseek, fd, 1, libc::SEEK_SET)),
    by_descriptor!("ftruncate", "truncate", |fd| call!(libc::SYS_ftruncate, fd, 0)),
    by_descriptor!("fsync", "fsync", |fd| call!(libc::SYS_fsync, fd)),
    by_descriptor!("flock", "flock", |fd| call!(libc::SYS_flock, fd, libc::LOCK_EX)),
    by_descriptor!("close", "close", |fd| call!(libc::SYS_close, fd)),
    by_descriptor!("fasync", "fasync", |fd| {
        // Ordinary files have no such signals: the flag is asked for all the same.
        call!(libc::SYS_fcntl, fd, libc::F_SETFL, libc::O_ASYNC)
    }),
    fact(
        "files",
        "aio_read",
        file_fact!("read"),
        |d| submitted(d, IOCB_CMD_PREAD),
        |d| submitted(d, IOCB_CMD_PWRITE),
    ),
    fact(
        "files",
        "aio_write",
        file_fact!("write"),
        |d| submitted(d, IOCB_CMD_PWRITE),
        |d| submitted(d, IOCB_CMD_PREAD),
    ),
    fact(
        "files",
        "write",
        file_fact!("write", "HEREa$"),
        |d| call!(libc::SYS_write, opened(d, "a"), b"hay".as_ptr(), 3),
        |d| call!(libc::SYS_read, opened(d, "a"), [0u8; 8].as_mut_ptr(), 8),
    ),
    fact(
        "files",
        "truncate",
        file_fact!("truncate", "HEREa$"),
        |d| call!(libc::SYS_truncate, at(d, "a").as_ptr(), 1),
        |d| call!(libc::SYS_truncate, at(d, "b").as_ptr(), 1),
    ),
    fact(
        "files",
        "open_truncating",
        file_fact!("truncate", "HEREa$"),
        |d| call!(libc::SYS_openat, AT, file(d, "a").as_ptr(), libc::O_TRUNC | libc::O_WRONLY),
        |d| i64::from(opened(d, "a")),
    ),
    fact(
        "files",
        "rename",
        file_fact!("rename", "HERErenamed$"),
        |d| call!(libc::SYS_rename, file(d, "a").as_ptr(), at(d, "renamed").as_ptr()),
        |d| call!(libc::SYS_link, file(d, "a").as_ptr(), at(d, "renamed").as_ptr()),
    ),
    fact(
        "files",
        "link",
        file_fact!("link", "HERElinked$"),
        |d| call!(libc::SYS_link, file(d, "a").as_ptr(), at(d, "linked").as_ptr()),
        |d| call!(libc::SYS_symlink, c"nowhere".as_ptr(), at(d, "linked").as_ptr()),
    ),
    fact(
        "files",
        "unlink",
        file_fact!("unlink", "HEREa$"),
        |d| call!(libc::SYS_unlink, file(d, "a").as_ptr()),
        |d| call!(libc::SYS_rename, file(d, "a").as_ptr(), at(d, "kept").as_ptr()),
    ),
    fact(
        "files",
        "copy_file_range",
        file_fact!("write", "HEREb$"),
        |d| {
            let (from, to) = (opened(d, "a"), opened(d, "b"));
            call!(libc::SYS_copy_file_range, from, NONE, to, NONE, 3, 0usize)
        },
        |d| i64::from(opened(d, "b")),
    ),
    fact(
        "files",
        "sendfile",
        file_fact!("read", "HEREa$"),
        |d| call!(libc::SYS_sendfile, opened(d, "b"), opened(d, "a"), NONE, 3),
        |d| i64::from(opened(d, "a")),
    ),
    fact(
        "files",
        "splice",
        file_fact!("read", "HEREa$"),
        |d| call!(libc::SYS_splice, opened(d, "a"), NONE, pipe()[1], NONE, 3, 0usize),
        |d| i64::from(opened(d, "a")),
    ),
    fact("files", "reflink", file_fact!("clone", "HEREmount/to$"), cloned, not_cloned),
    fact("files", "reflink_range", file_fact!("clone", "HEREmount/to$"), cloned_range, not_cloned),
    fact(
        "files",
        "reflink_source",
        file_fact!("read", "HEREmount/from$"),
        cloned_range,
        not_cloned,
    ),
    fact(
        "files",
        "symlink",
        file_fact!("symlink"),
        |d| call!(libc::SYS_symlink, c"/etc/passwd".as_ptr(), at(d, "link").as_ptr()),
        |d| call!(libc::SYS_link, file(d, "a").as_ptr(), at(d, "hard").as_ptr()),
    ),
    fact(
        "files",
        "mkdir",
        file_fact!("mkdir"),
        |d| call!(libc::SYS_mkdirat, AT, at(d, "made").as_ptr(), 0o700),
        |d| call!(libc::SYS_access, c(d).as_ptr(), 0),
    ),
    fact(
        "files",
        "name_of_whole_pieces",
        file_fact!("mkdir", "HEREx+$"),
        |d| call!(libc::SYS_mkdirat, AT, whole_pieces(d, 'x').as_ptr(), 0o700),
        |d| call!(libc::SYS_mkdirat, AT, whole_pieces(d, 'y').as_ptr(), 0o700),
    ),
    fact(
        "files",
        "rmdir",
        file_fact!("rmdir"),
        |d| {
            fs::create_dir(d.join("gone")).unwrap();
            call!(libc::SYS_unlinkat, AT, at(d, "gone").as_ptr(), libc::AT_REMOVEDIR)
        },
        |d| call!(libc::SYS_unlinkat, AT, file(d, "a").as_ptr(), 0),
    ),
    fact(
        "files",
        "mknod",
        file_fact!("mknod"),
        |d| call!(libc::SYS_mknodat, AT, at(d, "fifo").as_ptr(), libc::S_IFIFO | 0o600, 0),
        |d| call!(libc::SYS_mkdirat, AT, at(d, "nofifo").as_ptr(), 0o700),
    ),
    fact(
        "files",
        "exchange",
        file_fact!("exchange"),
        |d| {
            let (from, to) = (file(d, "a"), file(d, "b"));
            let flags = libc::RENAME_EXCHANGE;
            call!(libc::SYS_renameat2, AT, from.as_ptr(), AT, to.as_ptr(), flags)
        },
        |d| call!(libc::SYS_renameat2, AT, file(d, "a").as_ptr(), AT, at(d, "q").as_ptr(), 0),
    ),
    fact(
        "files",
        "mmap",
        file_fact!("mmap"),
        |d| mapped(d, libc::PROT_READ, libc::MAP_PRIVATE),
        |d| i64::from(opened(d, "a")),
    ),
    fact(
        "files",
        "mmap_exec",
        file_fact!("mmap_exec"),
        |d| mapped(d, libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE),
        |d| mapped(d, libc::PROT_READ, libc::MAP_PRIVATE),
    ),
    fact(
        "files",
        "mmap_write",
        file_fact!("mmap_write"),
        |d| mapped(d, BOTH, libc::MAP_SHARED),
        |d| mapped(d, BOTH, libc::MAP_PRIVATE),
    ),
    fact(
        "files",
        "posix_lock",
        file_fact!("flock"),
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
        file_fact!("receive", "HEREb$"),
        |d| passed(&[opened(d, "a"), opened(d, "b")], libc::SYS_recvmsg, false),
        |d| {
            let _ = opened(d, "b");
            passed(&[], libc::SYS_recvmsg, false)
        },
    ),
    fact(
        "files",
        "fd_passing_recvmmsg",
        file_fact!("receive"),
        |d| passed(&[opened(d, "a")], libc::SYS_recvmmsg, false),
        |_| passed(&[], libc::SYS_recvmmsg, false),
    ),
    fact(
        "files",
        "fd_passing_with_sender",
        file_fact!("receive"),
        |d| passed(&[opened(d, "a")], libc::SYS_recvmsg, true),
        |_| passed(&[], libc::SYS_recvmsg, true),
    ),
];
