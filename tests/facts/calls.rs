//! System calls and what they need, for the acts of all areas.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::common::acts::{c, child};

/// A system call by its number: what it returned, or its errno, negated. A sixth argument goes over
/// the stack, where a number of 32 bits has garbage beside it: it has to be a long one.
macro_rules! call {
    ($number:expr $(, $argument:expr)*) => {{
        #[allow(unused_unsafe, reason = "used in such blocks too")]
        let returned = unsafe { libc::syscall($number $(, $argument)*) };
        if returned < 0 { $crate::calls::failed() } else { returned }
    }};
}

/// A recipe on what is done to the files of an act.
macro_rules! file_fact {
    ($action:expr) => {
        concat!(
            "breed: file_access, mechanism: file_access, file_actions: ",
            $action,
            ", regex: 'HERE'"
        )
    };
    ($action:expr, $regex:expr) => {
        concat!(
            "breed: file_access, mechanism: file_access, file_actions: ",
            $action,
            ", regex: '",
            $regex,
            "'"
        )
    };
}

/// A recipe on an activity, whose name comes first.
macro_rules! activity {
    ($more:expr) => {
        concat!("breed: activity, mechanism: activity, activities: ", $more)
    };
}

pub const AT: i32 = libc::AT_FDCWD;
pub const NONE: *const libc::c_void = std::ptr::null();
/// No errno of these calls: a program that the act needs is not on this machine.
pub const NO_PROGRAM: i64 = -(libc::ENOPKG as i64);

/// The errno of the call that has just failed, negated.
pub fn failed() -> i64 {
    -i64::from(std::io::Error::last_os_error().raw_os_error().unwrap())
}

/// What is seen although it fails: all but a call that this kernel does not have.
pub fn tried(returned: i64) -> i64 {
    if returned == -i64::from(libc::ENOSYS) { returned } else { 0 }
}

pub fn nothing(_: &Path) -> i64 {
    0
}

/// Maps pages of a file, or of memory; where, or the errno.
pub fn map(length: usize, protection: i32, flags: i32, fd: i64) -> i64 {
    call!(libc::SYS_mmap, 0usize, length, protection, flags, fd, 0usize)
}

/// A file of the act's own, with some hay in it. `a` and `b` are there already.
pub fn file(dir: &Path, name: &str) -> CString {
    let path = dir.join(name);
    if !path.exists() {
        fs::write(&path, "hay").unwrap();
    }
    c(path)
}

pub fn opened(dir: &Path, name: &str) -> i32 {
    let path = file(dir, name);
    unsafe { libc::open(path.as_ptr(), libc::O_RDWR) }
}

pub fn at(dir: &Path, name: &str) -> CString {
    c(dir.join(name))
}

pub fn sleeper() -> i32 {
    match unsafe { libc::fork() } {
        0 => child(|| {
            let _ = unsafe { libc::sleep(20) };
        }),
        pid => pid,
    }
}

pub fn end(pid: i32) {
    unsafe {
        libc::kill(pid, libc::SIGKILL);
        libc::waitpid(pid, std::ptr::null_mut(), 0);
    }
}

/// Somebody to do it to, who is ended afterwards.
pub fn with_sleeper(act: impl FnOnce(i32) -> i64) -> i64 {
    let pid = sleeper();
    let returned = act(pid);
    end(pid);
    returned
}

/// A mount namespace of the caller's own; 0, or the errno.
pub fn own_mounts() -> i64 {
    let returned = call!(libc::SYS_unshare, libc::CLONE_NEWNS);
    if returned < 0 {
        return returned;
    }
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    call!(libc::SYS_mount, c("none").as_ptr(), c("/").as_ptr(), NONE, flags, NONE)
}

/// Something mounted on a directory of the act's own, in a namespace of its own; 0, or the errno.
pub fn mounted(source: &str, dir: &Path, kind: &str, options: &str) -> i64 {
    let made = own_mounts();
    if made < 0 {
        return made;
    }
    let target = dir.join("mount");
    let _ = fs::create_dir(&target);
    mount(source, &target, kind, 0, options)
}

pub fn mount(source: &str, target: &Path, kind: &str, flags: u64, options: &str) -> i64 {
    let (source, target, kind, options) = (c(source), c(target), c(kind), c(options));
    let (source, target) = (source.as_ptr(), target.as_ptr());
    call!(libc::SYS_mount, source, target, kind.as_ptr(), flags, options.as_ptr())
}

/// Puts the first over the second, for the caller alone.
pub fn bound(from: &Path, to: &str) -> i64 {
    own_mounts().min(mount(from.to_str().unwrap(), Path::new(to), "", libc::MS_BIND, ""))
}

/// Writes what can be read there, so that nothing changes; 0, or the errno.
pub fn rewritten(path: impl AsRef<Path>) -> i64 {
    let Ok(value) = fs::read(&path) else { return failed() };
    written(path, &value)
}

pub fn written(path: impl AsRef<Path>, value: &[u8]) -> i64 {
    let path = c(path);
    let fd = call!(libc::SYS_openat, AT, path.as_ptr(), libc::O_WRONLY);
    if fd < 0 { fd } else { call!(libc::SYS_write, fd, value.as_ptr(), value.len()).min(0) }
}

pub fn read(path: &str) -> i64 {
    if fs::read(path).is_ok() { 0 } else { failed() }
}

const LOOP_CTL_GET_FREE: u64 = 0x4c82;
const LOOP_SET_FD: u64 = 0x4c00;
const LOOP_SET_STATUS64: u64 = 0x4c04;

/// A loop device that is free at the moment, opened, and its path; or the errno.
pub fn free_loop() -> Result<(i32, PathBuf), i64> {
    let control = call!(libc::SYS_openat, AT, c("/dev/loop-control").as_ptr(), libc::O_RDWR);
    if control < 0 {
        return Err(control);
    }
    let number = call!(libc::SYS_ioctl, control, LOOP_CTL_GET_FREE);
    if number < 0 {
        return Err(number);
    }
    let path = PathBuf::from(format!("/dev/loop{number}"));
    match File::options().read(true).write(true).open(&path) {
        Ok(device) => Ok((device.into_raw_fd(), path)),
        Err(_) => Err(failed()),
    }
}

/// A loop device over the file, which goes when nobody uses it any more.
pub fn looped(over: &Path) -> Result<(i32, PathBuf), i64> {
    let file = File::options().read(true).write(true).open(over).unwrap();
    // Somebody else may take the one that was free.
    for _ in 0..5 {
        let (device, path) = free_loop()?;
        match call!(libc::SYS_ioctl, device, LOOP_SET_FD, file.as_raw_fd()) {
            0 => {
                let mut status = [0u8; 232];
                // lo_flags: LO_FLAGS_AUTOCLEAR
                status[52] = 4;
                let set = call!(libc::SYS_ioctl, device, LOOP_SET_STATUS64, status.as_ptr());
                return if set < 0 { Err(set) } else { Ok((device, path)) };
            }
            errno if errno != -i64::from(libc::EBUSY) => return Err(errno),
            _ => {}
        }
    }
    Err(-i64::from(libc::EBUSY))
}

/// Runs a program of this machine to its end, without its words.
pub fn run(program: &str, args: &[&str]) -> i64 {
    let path = "/usr/sbin:/usr/bin:/sbin:/bin";
    let command = Command::new(program)
        .args(args)
        .env("PATH", path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match command {
        Ok(status) => {
            if status.success() {
                0
            } else {
                -i64::from(libc::EIO)
            }
        }
        Err(_) => NO_PROGRAM,
    }
}
