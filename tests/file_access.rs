//! Files, as the running kernel tells of them.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
#![allow(clippy::undocumented_unsafe_blocks, reason = "system calls with arguments in sight")]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::acts::{
    c, chdir, close, counts, fork, in_child, mount, of, ok, open, openat, own_mounts, paths, read,
    told, touch, wait, write,
};
use common::{CADENCE, Daemon, PATIENCE, ancestry, cannot_run, file_recipe};
use libc::{O_CREAT, O_DIRECTORY, O_PATH, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY};
use serde_json::Value;

/// A directory of a test's own.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The same as a string, which alerts have.
    fn told(&self, name: &str) -> String {
        self.at(name).to_str().unwrap().to_owned()
    }

    fn file(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.at(name);
        fs::write(&path, "hay in a stack").unwrap();
        path
    }

    fn dir(&self, name: &str) -> PathBuf {
        fs::create_dir_all(self.at(name)).unwrap();
        self.at(name)
    }

    /// A recipe on all that lies in here.
    fn recipe(&self, actions: &str) -> String {
        file_recipe("place", &format!("^{}/", self.folder.path().display()), actions)
    }
}

#[test]
fn a_read_is_told_with_its_process_and_lineage() {
    if let Some(reason) = cannot_run() {
        skip!("a_read_is_told_with_its_process_and_lineage", reason);
    }
    let place = tempfile::tempdir().unwrap();
    let needle = place.path().join("needle");
    fs::write(&needle, "hay").unwrap();
    let mut daemon =
        Daemon::with_recipes(&file_recipe("needle", &format!("^{}$", needle.display()), "[read]"));
    let cat = std::process::Command::new("cat").arg(&needle).output().unwrap();
    assert_eq!(cat.stdout, b"hay");
    let alert = daemon.expect("needle", |_| true);
    assert_eq!(alert["process"]["cmd"], "cat");
    assert_eq!(alert["file"]["actions"]["counts"]["read"], 2);
    let lineage = ancestry(&alert);
    assert_eq!(lineage.first(), Some(&1), "{lineage:?}");
    assert!(lineage.contains(&u64::from(std::process::id())), "{lineage:?}");
}

#[test]
fn another_file_stays_silent() {
    if let Some(reason) = cannot_run() {
        skip!("another_file_stays_silent", reason);
    }
    let place = tempfile::tempdir().unwrap();
    let needle = place.path().join("needle");
    fs::write(place.path().join("needles"), "hay").unwrap();
    let mut daemon =
        Daemon::with_recipes(&file_recipe("needle", &format!("^{}$", needle.display()), "[read]"));
    fs::read(place.path().join("needles")).unwrap();
    daemon.expect_none("needle", |_| true);
}

#[test]
fn each_action_is_counted_exactly() {
    if let Some(reason) = cannot_run() {
        skip!("each_action_is_counted_exactly", reason);
    }
    let place = Place::new();
    for name in ["read", "seek", "map", "cut", "cut-by-name", "emptied", "lock", "old", "gone"] {
        place.file(name);
    }
    for name in ["vector", "synced", "linked", "refused", "true"] {
        place.file(name);
    }
    fs::copy("/bin/true", place.at("true")).unwrap();
    ok(unsafe { libc::mkfifo(c(place.at("fifo")).as_ptr(), 0o600) });
    let elsewhere = Place::new();
    elsewhere.file("read");
    let mut daemon = Daemon::with_recipes(&place.recipe("any"));

    let pid = in_child(|| unsafe {
        let fd = open(place.at("made"), O_CREAT | O_WRONLY);
        (0..3).for_each(|_| write(fd));
        close(fd);
        let fd = open(place.at("read"), O_RDONLY);
        (0..7).for_each(|_| assert_eq!(read(fd), 1));
        close(fd);
        let fd = open(place.at("vector"), O_RDWR);
        let mut bytes = [0u8; 4];
        let part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: 4 };
        ok(libc::pread(fd, bytes.as_mut_ptr().cast(), 4, 0));
        ok(libc::readv(fd, &raw const part, 1));
        ok(libc::preadv(fd, &raw const part, 1, 0));
        ok(libc::preadv2(fd, &raw const part, 1, 0, 0));
        ok(libc::pwrite(fd, bytes.as_ptr().cast(), 4, 0));
        ok(libc::writev(fd, &raw const part, 1));
        ok(libc::pwritev(fd, &raw const part, 1, 0));
        close(fd);
        let fd = open(place.at("seek"), O_RDONLY);
        for at in 0..4 {
            ok(libc::lseek(fd, at, libc::SEEK_SET));
        }
        close(fd);
        let fd = open(place.at("map"), O_RDWR);
        let both = libc::PROT_READ | libc::PROT_WRITE;
        let shared = libc::mmap(std::ptr::null_mut(), 4096, both, libc::MAP_SHARED, fd, 0);
        assert_ne!(shared, libc::MAP_FAILED);
        // Anonymous memory has nothing to do with the fd that is passed along.
        let anonymous = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        assert_ne!(
            libc::mmap(std::ptr::null_mut(), 4096, both, anonymous, fd, 0),
            libc::MAP_FAILED
        );
        close(fd);
        let fd = open(place.at("cut"), O_RDWR);
        ok(libc::ftruncate(fd, 2));
        ok(libc::ftruncate(fd, 1));
        close(fd);
        ok(libc::truncate(c(place.at("cut-by-name")).as_ptr(), 1));
        close(open(place.at("emptied"), O_WRONLY | O_TRUNC));
        let fd = open(place.at("lock"), O_RDONLY);
        ok(libc::flock(fd, libc::LOCK_EX));
        ok(libc::flock(fd, libc::LOCK_UN));
        close(fd);
        let fd = open(place.at("synced"), O_RDWR);
        ok(libc::fsync(fd));
        ok(libc::fdatasync(fd));
        close(fd);
        let fd = open(place.at("fifo"), O_RDWR);
        ok(libc::fcntl(fd, libc::F_SETFL, libc::O_ASYNC));
        let on: libc::c_int = 1;
        ok(libc::ioctl(fd, libc::FIOASYNC, &raw const on));
        // Not what is asked for: another flag, another request.
        ok(libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK));
        ok(libc::ioctl(fd, libc::FIONBIO, &raw const on));
        close(fd);
        ok(libc::rename(c(place.at("old")).as_ptr(), c(place.at("new")).as_ptr()));
        ok(libc::link(c(place.at("linked")).as_ptr(), c(place.at("link")).as_ptr()));
        ok(libc::unlink(c(place.at("gone")).as_ptr()));
        // What fails has not happened.
        let fd = open(place.at("refused"), O_WRONLY);
        assert_eq!(libc::read(fd, bytes.as_mut_ptr().cast(), 1), -1);
        assert_eq!(libc::ftruncate(fd, -1), -1);
        close(fd);
        assert_eq!(libc::open(c(place.at("missing")).as_ptr(), O_RDONLY), -1);
        assert_eq!(libc::unlink(c(place.at("missing")).as_ptr()), -1);
        // Another directory.
        let fd = open(elsewhere.at("read"), O_RDONLY);
        read(fd);
        close(fd);
        common::acts::exec(place.at("true"), &[b"true"]);
    });

    let alerts = daemon.all(PATIENCE);
    let expected = [
        ("cut", "open=1 truncate=2 close=1"),
        ("cut-by-name", "truncate=1"),
        ("emptied", "open=1 truncate=1 close=1"),
        ("fifo", "open=1 fasync=2 close=1"),
        ("gone", "unlink=1"),
        ("link", "link=1"),
        ("linked", "link=1"),
        ("lock", "open=1 flock=2 close=1"),
        ("made", "open=1 create=1 write=3 close=1"),
        ("map", "open=1 mmap=1 mmap_write=1 close=1"),
        ("new", "rename=1"),
        ("old", "rename=1"),
        ("read", "open=1 read=7 close=1"),
        ("refused", "open=1 close=1"),
        ("seek", "open=1 llseek=4 close=1"),
        ("synced", "open=1 fsync=2 close=1"),
        ("true", "execve=1"),
        ("vector", "open=1 read=4 write=3 close=1"),
    ];
    for (name, actions) in expected {
        assert_eq!(counts(&alerts, "place", pid, &place.told(name)), told(actions), "{name}");
    }
    let all = expected.map(|(name, _)| place.told(name));
    assert_eq!(paths(&alerts, "place", pid), all, "nothing else is told");
}

/// A recipe that asks for one action hears of that alone.
#[test]
fn actions_that_nobody_asked_for_stay_silent() {
    if let Some(reason) = cannot_run() {
        skip!("actions_that_nobody_asked_for_stay_silent", reason);
    }
    let place = Place::new();
    place.file("needle");
    let regex = format!("^{}$", place.told("needle"));
    let recipes: String = ["open", "read", "write", "truncate", "unlink", "flock", "close"]
        .iter()
        .map(|action| file_recipe(action, &regex, &format!("[{action}]")))
        .collect();
    let mut daemon = Daemon::with_recipes(&recipes);
    let pid = in_child(|| {
        let fd = open(place.at("needle"), O_RDWR);
        write(fd);
        // Ends without a close of its own.
        unsafe { libc::_exit(0) }
    });
    let alerts = daemon.all(PATIENCE);
    for (action, times) in [
        ("open", 1),
        ("write", 1),
        ("read", 0),
        ("truncate", 0),
        ("unlink", 0),
        ("flock", 0),
        ("close", 0),
    ] {
        assert_eq!(of(&alerts, action, pid).count(), times, "{action}");
    }
}

#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// `open(2)` by int 0x80 with the path below 4 GB; none where a signal says that there is no such entry.
#[cfg(target_arch = "x86_64")]
unsafe fn open_as_32_bit(path: &Path) -> i64 {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
    let both = libc::PROT_READ | libc::PROT_WRITE;
    let text = path.as_os_str().as_bytes();
    let returned: i64;
    unsafe {
        let low = libc::mmap(std::ptr::null_mut(), 8192, both, flags, -1, 0);
        assert!((low as u64) < 1 << 32, "no memory below 4 GB");
        std::ptr::copy_nonoverlapping(text.as_ptr(), low.cast(), text.len());
        std::arch::asm!(
            "xchg rbx, {path}", "int 0x80", "xchg rbx, {path}",
            path = inout(reg) low => _,
            inout("rax") 5i64 => returned,
            in("rcx") i64::from(O_RDONLY), in("rdx") 0i64,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    i64::from(returned as i32)
}

/// However a file is reached, its path is that of the dentry below the namespace's own root.
#[test]
fn paths_are_those_of_the_kernels_objects() {
    if let Some(reason) = cannot_run() {
        skip!("paths_are_those_of_the_kernels_objects", reason);
    }
    let place = Place::new();
    let (secret, bound) = (place.dir("secret"), place.dir("bound"));
    let needle = place.file("secret/needle");
    // With one name only: a handle leads to the inode, and any of its names would do.
    let handled = place.file("secret/handled");
    symlink("secret", place.at("way")).unwrap();
    symlink(place.at("way/needle"), place.at("short")).unwrap();
    fs::hard_link(&needle, place.at("second-name")).unwrap();
    let jail = place.dir("jail");
    for name in ["jail/inner", "jail/inner-old", "jail/inner-gone", "jail/cut", "untouched"] {
        place.file(name);
    }
    let deep = (0..200).fold(place.at("deep"), |path, at| path.join(format!("directory-{at:07}")));
    fs::create_dir_all(&deep).unwrap();
    let bottom = deep.join("bottom");
    assert!((3500..4096).contains(&bottom.as_os_str().len()), "{}", bottom.as_os_str().len());
    fs::write(&bottom, "hay").unwrap();
    let told_needle = place.told("secret/needle");
    let mut daemon = Daemon::with_recipes(&place.recipe("any"));

    let mut expected = Vec::new();
    let mut expect = |what: &'static str, pid: u32, path: &str, actions: &str| {
        expected.push((what, pid, path.to_owned(), told(actions)));
    };
    let pid = in_child(|| touch(place.at("short")));
    expect("symbolic links", pid, &told_needle, "open=1");
    let pid = in_child(|| touch(place.at("secret/../secret/./needle")));
    expect("dots", pid, &told_needle, "open=1");
    let pid = in_child(|| touch(place.at("second-name")));
    expect("hard link", pid, &place.told("second-name"), "open=1");
    let pid = in_child(|| {
        let fd = open(&needle, O_PATH);
        touch(format!("/proc/self/fd/{fd}"));
    });
    expect("O_PATH and its link in /proc", pid, &told_needle, "open=2");
    let pid = in_child(|| {
        let dir = open(&secret, O_DIRECTORY);
        openat(dir, "needle", O_RDONLY);
        let how = OpenHow { flags: 0, mode: 0, resolve: 0 };
        ok(unsafe {
            libc::syscall(libc::SYS_openat2, dir, c("../way/needle").as_ptr(), &raw const how, 24)
        });
        chdir(&secret);
        touch("needle");
    });
    expect("relative", pid, &told_needle, "open=3");
    let pid = in_child(|| {
        own_mounts();
        mount(&secret, &bound, None, libc::MS_BIND, "");
        touch(place.at("bound/needle"));
        touch(&needle);
    });
    expect("bind mount", pid, &place.told("bound/needle"), "open=1");
    expect("beside the bind mount", pid, &told_needle, "open=1");
    let pid = in_child(|| unsafe {
        ok(libc::chroot(c(&jail).as_ptr()));
        chdir("/");
        touch("/inner");
        ok(libc::rename(c("/inner-old").as_ptr(), c("inner-new").as_ptr()));
        ok(libc::unlink(c("/inner-gone").as_ptr()));
        ok(libc::truncate(c("/../../cut").as_ptr(), 1));
    });
    expect("chroot", pid, &place.told("jail/inner"), "open=1");
    expect("rename in a chroot", pid, &place.told("jail/inner-old"), "rename=1");
    expect("new name in a chroot", pid, &place.told("jail/inner-new"), "rename=1");
    expect("unlink in a chroot", pid, &place.told("jail/inner-gone"), "unlink=1");
    expect("truncate over a chroot's root", pid, &place.told("jail/cut"), "truncate=1");
    let pid = in_child(|| unsafe {
        let mut handle = [0u32; 64];
        handle[0] = 128;
        // Any file of the mount will do, if it is the mount that the handle is of.
        let (mut mount_id, dir) = (0i32, open(place.at("secret"), O_DIRECTORY));
        let by_name = libc::SYS_name_to_handle_at;
        let name = c(&handled);
        ok(libc::syscall(by_name, -100, name.as_ptr(), handle.as_mut_ptr(), &raw mut mount_id, 0));
        ok(libc::syscall(libc::SYS_open_by_handle_at, dir, handle.as_ptr(), O_RDONLY));
    });
    expect("handle", pid, &place.told("secret/handled"), "open=1");
    let pid = in_child(|| touch(&bottom));
    expect("200 directories", pid, bottom.to_str().unwrap(), "open=1");
    #[cfg(target_arch = "x86_64")]
    {
        let pid = fork(|| assert!(unsafe { open_as_32_bit(&needle) } >= 0));
        match wait(pid) {
            0 => expect("int 0x80", pid, &told_needle, "open=1"),
            libc::SIGSEGV => println!("SKIPPED: int 0x80: this kernel has no 32-bit entry"),
            status => panic!("open by int 0x80: {status}"),
        }
    }

    let alerts = daemon.all(PATIENCE);
    for (what, pid, path, actions) in &expected {
        assert_eq!(&counts(&alerts, "place", *pid, path), actions, "{what}: {path}");
    }
    let inode = fs::metadata(&needle).unwrap();
    let device = format!("{}:{}", libc::major(inode.dev()), libc::minor(inode.dev()));
    for name in ["secret/needle", "second-name", "bound/needle"] {
        let alert = alerts.iter().find(|alert| alert["file"]["path"] == place.told(name)).unwrap();
        assert_eq!(alert["file"]["inode"], inode.ino(), "one file under each name");
        assert_eq!(alert["file"]["device"], device);
    }
    let untouched = place.told("untouched");
    assert!(!alerts.iter().any(|alert| alert["file"]["path"] == untouched));
    assert!(alerts.iter().all(|alert| alert["file"]["truncated"].is_null()));
}

#[test]
fn names_of_any_bytes_are_told_whole() {
    if let Some(reason) = cannot_run() {
        skip!("names_of_any_bytes_are_told_whole", reason);
    }
    let place = Place::new();
    let names: [&[u8]; 7] = [
        b"two\nlines",
        b"\"quoted\" 'twice' \\back",
        b"\x1b[31mred\x1b[0m\x07",
        b" spaces ",
        "caf\u{e9}\u{202e}fdp".as_bytes(),
        &[b'n'; 255],
        &[b'm'; 96],
    ];
    let wrong: [(&[u8], &str); 2] =
        [(b"bad-\xff\xfe-end", "bad-\\xff\\xfe-end"), (b"\xc3", "\\xc3")];
    let bytes = |name: &[u8]| place.at(OsStr::from_bytes(name));
    let mut daemon = Daemon::with_recipes(&place.recipe("[create, rename, unlink]"));
    let pid = in_child(|| {
        for name in names.iter().chain(wrong.iter().map(|(name, _)| name)) {
            close(open(bytes(name), O_CREAT | O_WRONLY));
        }
        // The same over the other way that a name takes: as it was passed.
        for name in names.iter().chain(wrong.iter().map(|(name, _)| name)) {
            ok(unsafe { libc::unlink(c(bytes(name)).as_ptr()) });
        }
    });
    let alerts = daemon.all(PATIENCE);
    for name in names {
        let path = place.told(std::str::from_utf8(name).unwrap());
        assert_eq!(counts(&alerts, "place", pid, &path).get("create"), Some(&1), "{path}");
        assert_eq!(counts(&alerts, "place", pid, &path).get("unlink"), Some(&1), "{path}");
        let exact =
            |alert: &Value| alert["file"]["path"] == path && alert["file"]["path_raw"].is_null();
        assert!(alerts.iter().any(exact), "no raw form of what is exact: {path}");
    }
    for (name, shown) in wrong {
        let path = place.told(shown);
        assert_eq!(counts(&alerts, "place", pid, &path).get("create"), Some(&1), "{path}");
        assert_eq!(counts(&alerts, "place", pid, &path).get("unlink"), Some(&1), "{path}");
        let raw = bytes(name);
        let hex: String =
            raw.as_os_str().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let named = |alert: &&Value| alert["file"]["path"] == path;
        assert!(
            alerts.iter().filter(named).all(|alert| alert["file"]["path_raw"] == hex),
            "{path}"
        );
    }
    assert_eq!(paths(&alerts, "place", pid).len(), names.len() + wrong.len());
}

#[test]
fn names_that_change_are_told_as_they_were() {
    if let Some(reason) = cannot_run() {
        skip!("names_that_change_are_told_as_they_were", reason);
    }
    let place = Place::new();
    let (first, second) = (place.dir("first"), place.dir("second"));
    for name in ["first/a", "first/b", "second/c", "second/d", "stays"] {
        place.file(name);
    }
    place.dir("before");
    place.file("before/needle");
    place.dir("outer-before/inner");
    place.file("outer-before/inner/needle");
    place.file("doomed");
    let mut daemon = Daemon::with_recipes(&place.recipe("[read, rename, unlink, link]"));
    let rename = |from: &Path, to: &Path| unsafe {
        ok(libc::rename(c(from).as_ptr(), c(to).as_ptr()));
    };
    let relative = in_child(|| unsafe {
        chdir(&first);
        rename(Path::new("a"), Path::new("../second/a2"));
        ok(libc::unlink(c("./b").as_ptr()));
        let (one, two) = (open(&first, O_DIRECTORY), open(&second, O_DIRECTORY));
        ok(libc::renameat(two, c("c").as_ptr(), one, c("c2").as_ptr()));
        ok(libc::linkat(one, c("c2").as_ptr(), two, c("c3").as_ptr(), 0));
        ok(libc::unlinkat(two, c("d").as_ptr(), 0));
    });
    let moved = in_child(|| {
        for [from, to, name] in
            [["before", "after", "needle"], ["outer-before", "outer-after", "inner/needle"]]
        {
            for dir in [from, to] {
                let fd = open(place.at(dir).join(name), O_RDONLY);
                (0..3).for_each(|_| assert_eq!(read(fd), 1));
                close(fd);
                if dir == from {
                    rename(&place.at(from), &place.at(to));
                }
            }
        }
    });
    let doomed = open(place.at("doomed"), O_RDONLY);
    fs::remove_file(place.at("doomed")).unwrap();
    let stays = open(place.at("stays"), O_RDONLY);
    let reader = in_child(|| {
        read(doomed);
        read(stays);
    });
    close(doomed);
    close(stays);

    let alerts = daemon.all(PATIENCE);
    let is = |pid: u32, name: &str, actions: &str| {
        assert_eq!(counts(&alerts, "place", pid, &place.told(name)), told(actions), "{name}");
    };
    is(relative, "first/a", "rename=1");
    is(relative, "second/a2", "rename=1");
    is(relative, "first/b", "unlink=1");
    is(relative, "second/c", "rename=1");
    is(relative, "first/c2", "rename=1 link=1");
    is(relative, "second/c3", "link=1");
    is(relative, "second/d", "unlink=1");
    assert_eq!(paths(&alerts, "place", relative).len(), 7);
    is(moved, "before/needle", "open=1 read=3");
    is(moved, "after/needle", "open=1 read=3");
    is(moved, "outer-before/inner/needle", "open=1 read=3");
    is(moved, "outer-after/inner/needle", "open=1 read=3");
    is(reader, "doomed", "read=1");
    let flag = |name: &str| {
        let path = place.told(name);
        of(&alerts, "place", reader).find(|alert| alert["file"]["path"] == path).unwrap()["file"]["deleted"].clone()
    };
    assert_eq!(flag("doomed"), true);
    assert_eq!(flag("stays"), Value::Null);
}

#[test]
fn reads_and_writes_without_read_and_write() {
    if let Some(reason) = cannot_run() {
        skip!("reads_and_writes_without_read_and_write", reason);
    }
    let place = Place::new();
    for name in ["from", "sent", "copied", "shared", "layer"] {
        place.file(name);
    }
    for dir in ["lower", "upper", "work", "merged"] {
        place.dir(dir);
    }
    place.file("lower/needle");
    let mut daemon = Daemon::with_recipes(&place.recipe("[read, write]"));
    let sender = in_child(|| unsafe {
        let from = open(place.at("from"), O_RDONLY);
        let (sent, copied) = (open(place.at("sent"), O_WRONLY), open(place.at("copied"), O_WRONLY));
        assert_eq!(ok(libc::sendfile(sent, from, std::ptr::null_mut(), 4)), 4);
        let null = std::ptr::null_mut();
        assert_eq!(ok(libc::copy_file_range(from, null, copied, null, 4, 0)), 4);
    });
    let threads = in_child(|| {
        let fd = open(place.at("shared"), O_RDONLY);
        let readers: Vec<_> = (0..5)
            .map(|_| {
                let reader = std::thread::Builder::new().spawn(move || {
                    for _ in 0..20 {
                        let mut byte = 0u8;
                        ok(unsafe { libc::pread(fd, (&raw mut byte).cast(), 1, 0) });
                    }
                });
                reader.unwrap()
            })
            .collect();
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
    let overlay = fork(|| {
        own_mounts();
        let at = |name: &str| place.at(name).display().to_string();
        let layers =
            format!("lowerdir={},upperdir={},workdir={}", at("lower"), at("upper"), at("work"));
        mount("overlay", place.at("merged"), Some("overlay"), 0, &layers);
        read(open(place.at("merged/needle"), O_RDONLY));
        read(open(place.at("layer"), O_RDONLY));
    });
    let overlay = if wait(overlay) == 0 { Some(overlay) } else { None };

    let alerts = daemon.all(PATIENCE);
    let is = |pid: u32, name: &str, actions: &str| {
        assert_eq!(counts(&alerts, "place", pid, &place.told(name)), told(actions), "{name}");
    };
    is(sender, "from", "open=1 read=2");
    is(sender, "sent", "open=1 write=1");
    is(sender, "copied", "open=1 write=1");
    is(threads, "shared", "open=1 read=100");
    assert!(
        of(&alerts, "place", threads).count() <= 2,
        "threads are one process, in two epochs at most"
    );
    match overlay {
        None => println!("SKIPPED: overlay: it cannot be mounted here"),
        Some(pid) => {
            is(pid, "merged/needle", "open=1 read=1");
            let flag = |name: &str| {
                let path = place.told(name);
                of(&alerts, "place", pid).find(|alert| alert["file"]["path"] == path).unwrap()["file"]["overlay"].clone()
            };
            assert_eq!(flag("merged/needle"), true);
            assert_eq!(flag("layer"), Value::Null);
        }
    }
}

#[test]
fn all_of_several_actions_may_take_several_epochs() {
    if let Some(reason) = cannot_run() {
        skip!("all_of_several_actions_may_take_several_epochs", reason);
    }
    let place = Place::new();
    for name in ["both", "half", "early"] {
        place.file(name);
    }
    let recipe = place.recipe("[read, write]");
    let recipe = recipe.replace("file_actions:", "file_actions_how: all, file_actions:");
    let mut daemon = Daemon::with_recipes(&recipe);
    let pause = CADENCE + Duration::from_millis(200);
    let pid = fork(|| {
        let (both, half) = (open(place.at("both"), O_RDWR), open(place.at("half"), O_RDWR));
        read(both);
        read(half);
        std::thread::sleep(pause);
        read(half);
        std::thread::sleep(pause);
        write(both);
    });
    daemon.expect_none("place", |_| false);
    assert_eq!(wait(pid), 0);
    let alerts = daemon.all(PATIENCE);
    assert_eq!(paths(&alerts, "place", pid), [place.told("both")]);
    assert_eq!(of(&alerts, "place", pid).count(), 1);
}

/// Its own acts are not facts, whoever may have asked for its recipes to be read again.
#[test]
fn what_the_daemon_does_itself_is_not_told() {
    if let Some(reason) = cannot_run() {
        skip!("what_the_daemon_does_itself_is_not_told", reason);
    }
    let mut daemon = Daemon::with_recipes(&file_recipe("own", r"/recipes/test\.yaml$", "any"));
    let file = daemon.folder.path().join("recipes/test.yaml");
    daemon.signal(libc::SIGHUP);
    let until = Instant::now() + PATIENCE;
    while !daemon.stderr().contains("reloaded: 1 recipes") {
        assert!(Instant::now() < until, "not read again: {}", daemon.stderr());
        std::thread::sleep(Duration::from_millis(10));
    }
    let path = file.to_str().unwrap().to_owned();
    let pid = in_child(|| touch(&file));
    let alerts = daemon.all(PATIENCE);
    let told: Vec<_> =
        alerts.iter().filter(|alert| alert["file"]["path"] == path.as_str()).collect();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["process"]["pid"], pid);
}
