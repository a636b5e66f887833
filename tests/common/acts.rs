//! Acts of children, system call by system call, so that what is counted is known exactly.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// A path as system calls want it.
pub fn c(path: impl AsRef<Path>) -> CString {
    CString::new(path.as_ref().as_os_str().as_bytes()).unwrap()
}

/// What a system call returned; panics with errno when it failed.
#[track_caller]
pub fn ok(returned: impl TryInto<i64>) -> i32 {
    let returned = returned.try_into().ok().unwrap();
    assert!(returned >= 0, "{}", std::io::Error::last_os_error());
    returned as i32
}

/// Forks; the child does `act` and ends with 0, or with 101 if it panics.
pub fn fork(act: impl FnOnce()) -> u32 {
    match unsafe { libc::fork() } {
        0 => child(act),
        pid => ok(pid) as u32,
    }
}

/// What a forked child does: never returns into the test.
pub fn child(act: impl FnOnce()) -> ! {
    let failed = catch_unwind(AssertUnwindSafe(act)).is_err();
    unsafe { libc::_exit(if failed { 101 } else { 0 }) }
}

/// The wait status of a child.
pub fn wait(pid: u32) -> i32 {
    let mut status = 0;
    assert_eq!(ok(unsafe { libc::waitpid(pid as i32, &raw mut status, 0) }), pid as i32);
    status
}

/// Does `act` in a child, which must succeed; its pid.
#[track_caller]
pub fn in_child(act: impl FnOnce()) -> u32 {
    let pid = fork(act);
    assert_eq!(wait(pid), 0, "the act failed");
    pid
}

pub fn open(path: impl AsRef<Path>, flags: i32) -> i32 {
    ok(unsafe { libc::open(c(path).as_ptr(), flags, 0o644) })
}

/// Opens for reading and leaves it so.
pub fn touch(path: impl AsRef<Path>) {
    open(path, libc::O_RDONLY);
}

pub fn openat(dir: i32, path: impl AsRef<Path>, flags: i32) -> i32 {
    ok(unsafe { libc::openat(dir, c(path).as_ptr(), flags, 0o644) })
}

pub fn read(fd: i32) -> i32 {
    let mut byte = [0u8; 1];
    ok(unsafe { libc::read(fd, byte.as_mut_ptr().cast(), 1) })
}

pub fn write(fd: i32) {
    assert_eq!(ok(unsafe { libc::write(fd, b"hay".as_ptr().cast(), 3) }), 3);
}

pub fn close(fd: i32) {
    ok(unsafe { libc::close(fd) });
}

pub fn chdir(path: impl AsRef<Path>) {
    ok(unsafe { libc::chdir(c(path).as_ptr()) });
}

/// Runs the program in place of the caller.
pub fn exec(path: impl AsRef<Path>, args: &[&[u8]]) {
    let args: Vec<CString> = args.iter().map(|arg| CString::new(*arg).unwrap()).collect();
    let mut pointers: Vec<_> = args.iter().map(|arg| arg.as_ptr()).collect();
    pointers.push(std::ptr::null());
    let none = [std::ptr::null()];
    ok(unsafe { libc::execve(c(path).as_ptr(), pointers.as_ptr(), none.as_ptr()) });
}

/// A mount namespace of the caller's own, whose mounts stay inside and go with it.
pub fn own_mounts() {
    ok(unsafe { libc::unshare(libc::CLONE_NEWNS) });
    mount("none", "/", None, libc::MS_REC | libc::MS_PRIVATE, "");
}

pub fn mount(
    source: impl AsRef<Path>,
    target: impl AsRef<Path>,
    kind: Option<&str>,
    flags: u64,
    data: &str,
) {
    let (source, target, kind, data) = (c(source), c(target), kind.map(c), c(data));
    let kind = kind.as_ref().map_or(std::ptr::null(), |kind| kind.as_ptr());
    ok(unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind, flags, data.as_ptr().cast()) });
}

/// A program that ends with status 7 after a few microseconds; none without a compiler. Where
/// there is none, `RAQIB_TINY` may name one that was built elsewhere.
pub fn tiny_program(at: &Path) -> Option<()> {
    if let Some(built) = std::env::var_os("RAQIB_TINY") {
        return std::fs::copy(built, at).ok().map(drop);
    }
    let source = at.with_extension("c");
    let text = "void _start(void){__asm__ volatile(\"syscall\"::\"a\"(231),\"D\"(7));}";
    std::fs::write(&source, text).unwrap();
    let gcc = ["-static", "-nostdlib", "-O1", "-o"];
    let built = Command::new("gcc").args(gcc).arg(at).arg(&source).output().ok()?;
    std::fs::remove_file(source).unwrap();
    built.status.success().then_some(())
}

/// What the alerts of one recipe say of one process and path, added up: what a child does may
/// fall into two epochs.
pub fn counts(alerts: &[Value], recipe: &str, pid: u32, path: &str) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for alert in of(alerts, recipe, pid).filter(|alert| alert["file"]["path"] == path) {
        for (action, count) in alert["file"]["actions"]["counts"].as_object().unwrap() {
            *sums.entry(action.clone()).or_default() += count.as_u64().unwrap();
        }
    }
    sums
}

/// `open=1 read=7` as [`counts`] gives it.
pub fn told(text: &str) -> BTreeMap<String, u64> {
    let pairs = text.split_whitespace().map(|pair| pair.split_once('=').unwrap());
    pairs.map(|(action, count)| (action.to_owned(), count.parse().unwrap())).collect()
}

/// The alerts of one recipe on one process.
pub fn of<'a>(
    alerts: &'a [Value],
    recipe: &'a str,
    pid: u32,
) -> impl Iterator<Item = &'a Value> + Clone {
    alerts
        .iter()
        .filter(move |alert| alert["metadata"]["name"] == recipe && alert["process"]["pid"] == pid)
}

/// The paths of those, sorted, each once.
pub fn paths(alerts: &[Value], recipe: &str, pid: u32) -> Vec<String> {
    let mut paths: Vec<String> = of(alerts, recipe, pid)
        .map(|alert| alert["file"]["path"].as_str().unwrap().to_owned())
        .collect();
    paths.sort_unstable();
    paths.dedup();
    paths
}
