//! Names that do not name what is opened, and names that change under way.

use std::ffi::CStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::{O_DIRECTORY, O_PATH, O_RDONLY};

use crate::common::actor::Actor;
use crate::common::acts::{
    c, chdir, close, in_child, mount, of, ok, open, openat, own_mounts, touch,
};
use crate::common::{Daemon, PATIENCE, cannot_run};
use crate::place::{Place, acts, identity, identity_told, if_possible};
use crate::{Findings, OBJECTS, skip};

fn openat2(dir: i32, path: &CStr) -> i32 {
    let how = [0u64; 3];
    ok(unsafe { libc::syscall(libc::SYS_openat2, dir, path.as_ptr(), how.as_ptr(), 24) })
}

#[test]
fn names_that_do_not_name_what_is_opened() {
    if let Some(reason) = cannot_run() {
        skip!("names_that_do_not_name_what_is_opened", reason);
    }
    let place = Place::new();
    let (secret, needle) = (place.dir("secret"), "secret/needle");
    place.file(needle);
    // With one name only: a handle leads to the inode, and any of its names would do.
    place.file("secret/handled");
    symlink("secret", place.at("first")).unwrap();
    symlink(place.at("first"), place.at("second")).unwrap();
    symlink("second/needle", place.at("third")).unwrap();
    let readme = place.file("readme");
    for dir in ["bound", "moved", "upper", "work", "merged", "proc"] {
        place.dir(dir);
    }
    let bound_file = place.file("harmless");
    let true_identity = identity(place.at(needle));
    let mut daemon = Daemon::with_recipes(&place.recipes());

    let links = in_child(|| touch(place.at("third")));
    let dots = in_child(|| touch(place.at("secret/../first/./needle")));
    fs::remove_file(&readme).unwrap();
    let hard = in_child(|| {
        ok(unsafe { libc::link(c(place.at(needle)).as_ptr(), c(&readme).as_ptr()) });
        touch(&readme);
        ok(unsafe { libc::unlink(c(&readme).as_ptr()) });
    });
    let bound = in_child(|| {
        own_mounts();
        mount(&secret, place.at("bound"), None, libc::MS_BIND, "");
        touch(place.at("bound/needle"));
        mount(place.at(needle), &bound_file, None, libc::MS_BIND, "");
        touch(&bound_file);
    });
    let moved = if_possible(|| unsafe {
        own_mounts();
        const CLONE: i32 = 1;
        const FROM_FD: i32 = 4;
        let (from, to) = (c(&secret), c(place.at("moved")));
        let tree = ok(libc::syscall(libc::SYS_open_tree, -100, from.as_ptr(), CLONE));
        let (call, none) = (libc::SYS_move_mount, c"");
        ok(libc::syscall(call, tree, none.as_ptr(), -100, to.as_ptr(), FROM_FD));
        touch(place.at("moved/needle"));
    });
    let overlay = if_possible(|| {
        own_mounts();
        let [upper, work] = ["upper", "work"].map(|name| place.told(name));
        let layers = format!("lowerdir={},upperdir={upper},workdir={work}", secret.display());
        mount("overlay", place.at("merged"), Some("overlay"), 0, &layers);
        touch(place.at("merged/needle"));
    });
    let jailed = in_child(|| {
        ok(unsafe { libc::chroot(c(&secret).as_ptr()) });
        chdir("/");
        touch("/needle");
        touch("/../needle");
    });
    let relative = in_child(|| {
        let dir = open(&secret, O_DIRECTORY);
        openat2(dir, c"needle");
        openat(dir, "../first/needle", O_RDONLY);
        let unopened = openat(dir, "needle", O_PATH);
        touch(format!("/proc/self/fd/{unopened}"));
        touch(format!("/proc/self/root{}", place.told(needle)));
    });
    let handled = in_child(|| unsafe {
        let mut handle = [0u32; 64];
        handle[0] = 128;
        let (mut mount_id, dir) = (0i32, open(&secret, O_DIRECTORY));
        let (by_name, at, id) =
            (libc::SYS_name_to_handle_at, handle.as_mut_ptr(), &raw mut mount_id);
        ok(libc::syscall(by_name, dir, c"handled".as_ptr(), at, id, 0));
        ok(libc::syscall(libc::SYS_open_by_handle_at, dir, handle.as_ptr(), O_RDONLY));
    });
    #[cfg(target_arch = "x86_64")]
    let old_entry = if_possible(|| assert!(unsafe { open_as_32_bit(&place.at(needle)) } >= 0));
    let proc = in_child(|| {
        own_mounts();
        mount("proc", place.at("proc"), Some("proc"), 0, "");
        // Opened for writing and left as it is.
        open(place.at("proc/sys/kernel/core_pattern"), libc::O_WRONLY);
    });

    let alerts = daemon.all(PATIENCE);
    let counts = |pid: u32, name: &str| place.counts(&alerts, pid, name);
    let known = |pid: u32, name: &str| identity_told(&alerts, pid, &place.told(name));
    let mut findings = Findings::default();
    for pid in [links, dots] {
        findings.seen("symbolic links and dots", acts("open=1"), counts(pid, needle));
        findings.seen("symbolic links and dots", true_identity.clone(), known(pid, needle));
    }
    findings.seen("hard links", acts("link=1 open=1 unlink=1"), {
        // One name by its string, and by its inode.
        counts(hard, "readme")
    });
    let opened = of(&alerts, "file", hard).find(|alert| alert["file"]["actions"]["open"] == true);
    let inode = opened.unwrap()["file"]["inode"].as_u64().unwrap();
    findings.seen("hard links", fs::metadata(place.at(needle)).unwrap().ino(), inode);
    findings.are("hard links", acts("link=1 open=1"), acts("link=1"), counts(hard, needle));
    let mut through_mount = |family, pid, name: &str| {
        findings.seen(family, acts("open=1"), counts(pid, name));
        findings.seen(family, true_identity.clone(), known(pid, name));
        findings.unseen(family, acts("open=1"), counts(pid, needle));
    };
    through_mount("bind mounts", bound, "bound/needle");
    through_mount("bind mounts", bound, "harmless");
    match moved {
        Some(pid) => through_mount("open_tree and move_mount", pid, "moved/needle"),
        None => println!("SKIPPED: open_tree and move_mount: Linux 5.2 or newer is needed"),
    }
    match overlay {
        Some(pid) => {
            findings.seen("overlay", acts("open=1"), counts(pid, "merged/needle"));
            findings.unseen("overlay", acts("open=1"), counts(pid, needle));
        }
        None => println!("SKIPPED: overlay: it cannot be mounted here"),
    }
    findings.seen("chroot", acts("open=2"), counts(jailed, needle));
    // Opening with O_PATH counts as well.
    let five = counts(relative, needle);
    findings.seen("openat2, dirfd, O_PATH, /proc/self", acts("open=5"), five);
    findings.seen("open_by_handle_at", acts("open=1"), counts(handled, "secret/handled"));
    #[cfg(target_arch = "x86_64")]
    match old_entry {
        Some(pid) => findings.seen("int 0x80: open", acts("open=1"), counts(pid, needle)),
        None => println!("SKIPPED: int 0x80: this kernel has no 32-bit entry"),
    }
    let name = "proc/sys/kernel/core_pattern";
    findings.seen("other mounts of /proc", acts("open=1"), counts(proc, name));
    let first = |alert: &&serde_json::Value| {
        alert["file"]["path"].as_str().unwrap().starts_with("/proc/sys")
    };
    findings.unseen("other mounts of /proc", 1, of(&alerts, "file", proc).filter(first).count());
    findings.report();
}

/// `open(2)` by int 0x80 with the path below 4 GB; a signal where there is no such entry.
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

/// Opens by a path that another thread changes all the time; how many times each file was opened.
fn race(place: &Place) -> [u64; 2] {
    let inode = fs::metadata(place.at("raced-a")).unwrap().ino();
    let path = c(place.at("raced-a")).into_raw();
    let last = unsafe { path.add(libc::strlen(path) - 1) } as usize;
    static STOP: AtomicBool = AtomicBool::new(false);
    let flips = std::thread::Builder::new().spawn(move || {
        let last = last as *mut u8;
        while !STOP.load(Ordering::Relaxed) {
            unsafe { last.write_volatile(last.read_volatile() ^ b'a' ^ b'b') };
        }
    });
    let mut opened = [0; 2];
    for _ in 0..400 {
        let fd = ok(unsafe { libc::open(path, O_RDONLY) });
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        ok(unsafe { libc::fstat(fd, &raw mut stat) });
        opened[usize::from(stat.st_ino != inode)] += 1;
        close(fd);
    }
    STOP.store(true, Ordering::Relaxed);
    flips.unwrap().join().unwrap();
    opened
}

/// Opens by a path whose page is not there until the kernel asks for it.
fn open_by_late_page(path: &Path) {
    const API: u64 = 0xc018_aa3f;
    const REGISTER: u64 = 0xc020_aa00;
    const COPY: u64 = 0xc028_aa03;
    unsafe {
        let fd = ok(libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC));
        let mut api = [0xaau64, 0, 0];
        ok(libc::ioctl(fd, API, api.as_mut_ptr()));
        let (both, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        let page = libc::mmap(std::ptr::null_mut(), 4096, both, flags, -1, 0);
        let mut range = [page as u64, 4096, 1, 0];
        ok(libc::ioctl(fd, REGISTER, range.as_mut_ptr()));
        let mut text = vec![0u8; 4096];
        text[..path.as_os_str().len()].copy_from_slice(path.as_os_str().as_bytes());
        let address = page as u64;
        let filler = std::thread::Builder::new().spawn(move || {
            let mut message = [0u8; 32];
            assert_eq!(libc::read(fd, message.as_mut_ptr().cast(), 32), 32);
            let mut copy = [address, text.as_ptr() as u64, 4096, 0, 0];
            ok(libc::ioctl(fd, COPY, copy.as_mut_ptr()));
        });
        ok(libc::open(page.cast(), O_RDONLY));
        filler.unwrap().join().unwrap();
    }
}

/// Truncates by a path that is another by the time the call returns: it waits for a lease, whose
/// holder changes the path before it gives way.
fn truncate_raced(place: &Place) {
    let path = c(place.at("cut-a")).into_raw() as usize;
    unsafe {
        let mut io: libc::sigset_t = std::mem::zeroed();
        libc::sigaddset(&raw mut io, libc::SIGIO);
        ok(libc::sigprocmask(libc::SIG_BLOCK, &raw const io, std::ptr::null_mut()));
        let held = open(place.at("cut-a"), O_RDONLY);
        ok(libc::fcntl(held, libc::F_SETLEASE, libc::F_RDLCK));
        let cutter = std::thread::Builder::new().spawn(move || {
            ok(libc::truncate(path as *const libc::c_char, 1));
        });
        let patience = libc::timespec { tv_sec: 5, tv_nsec: 0 };
        ok(libc::sigtimedwait(&raw const io, std::ptr::null_mut(), &raw const patience));
        let path = path as *mut libc::c_char;
        path.add(libc::strlen(path) - 1).write_volatile(b'b' as libc::c_char);
        ok(libc::fcntl(held, libc::F_SETLEASE, libc::F_UNLCK));
        cutter.unwrap().join().unwrap();
    }
    assert_eq!(fs::metadata(place.at("cut-a")).unwrap().len(), 1);
    assert_eq!(fs::metadata(place.at("cut-b")).unwrap().len(), 28);
}

#[test]
fn names_that_change_under_way() {
    if let Some(reason) = cannot_run() {
        skip!("names_that_change_under_way", reason);
    }
    let place = Place::new();
    for name in ["raced-a", "raced-b", "cut-a", "cut-b", "late"] {
        place.file(name);
    }
    let mut daemon = Daemon::with_recipes(&place.recipes());
    let mut racer = Actor::start(|stage| {
        let opened = race(&place);
        opened.iter().for_each(|count| stage.say(*count));
    });
    let opened = [racer.hear(), racer.hear()];
    let racer = racer.wait();
    let late = if_possible(|| open_by_late_page(&place.at("late")));
    let cutter = in_child(|| truncate_raced(&place));

    let alerts = daemon.all(PATIENCE);
    let mut findings = Findings::default();
    assert_eq!(opened.iter().sum::<u64>(), 400);
    println!("raced: {opened:?}");
    let told = ["raced-a", "raced-b"]
        .map(|name| place.counts(&alerts, racer, name).get("open").copied().unwrap_or(0));
    findings.seen("raced path of open", opened, told);
    match late {
        Some(pid) => {
            let told = place.counts(&alerts, pid, "late");
            findings.seen("path on a userfaultfd page", acts("open=1"), told);
        }
        None => {
            println!("SKIPPED: userfaultfd: this kernel has none, or not for faults of its own")
        }
    }
    let [told, false_told] =
        ["cut-a", "cut-b"].map(|name| place.counts(&alerts, cutter, name).get("truncate").copied());
    let family = "raced path of truncate";
    if *OBJECTS {
        findings.seen(family, [Some(1), None], [told, false_told]);
    } else {
        findings.unseen(family, Some(1), told);
        assert_eq!(false_told, Some(1), "the name that stood there last is told instead");
    }
    findings.report();
}

#[test]
fn names_longer_than_paths() {
    if let Some(reason) = cannot_run() {
        skip!("names_longer_than_paths", reason);
    }
    let place = Place::new();
    let deep = (0..200).fold(place.at("deep"), |path, at| path.join(format!("directory-{at:07}")));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("bottom"), "hay").unwrap();
    fs::copy("/bin/true", deep.join("true")).unwrap();
    let file = "^.*/deeper/.*/leaf-of-all$|/leaf-of-all$".to_owned();
    let recipes = place.recipes() + &crate::common::file_recipe("leaf", &file, "any");
    let mut daemon = Daemon::with_recipes(&recipes);
    let bottom = in_child(|| {
        touch(deep.join("bottom"));
        fs::rename(deep.join("bottom"), deep.join("top")).unwrap();
    });
    let ran = in_child(|| crate::common::acts::exec(deep.join("true"), &[b"true"]));
    let below = in_child(|| {
        chdir(place.at("deep"));
        for _ in 0..300 {
            ok(unsafe { libc::mkdir(c"deeper".as_ptr(), 0o700) });
            chdir("deeper");
        }
        fs::write("leaf-of-all", "hay").unwrap();
    });

    let alerts = daemon.all(PATIENCE);
    let bottom_told = deep.strip_prefix(place.at("")).unwrap().join("bottom");
    let mut findings = Findings::default();
    let told = place.counts(&alerts, bottom, bottom_told.to_str().unwrap());
    findings.seen("deep directories", acts("open=1 rename=1"), told);
    let ran = of(&alerts, "run", ran).next().map(|alert| alert["process"]["exe"].to_string());
    let exe = format!("\"{}\"", deep.join("true").display());
    findings.seen("deep directories", Some(exe), ran);
    let leaf: Vec<_> = of(&alerts, "leaf", below).collect();
    findings.seen("directories below 256 levels", 1, leaf.len());
    findings.seen("directories below 256 levels", true, leaf[0]["file"]["truncated"] == true);
    let whole = place.told(&format!("deep/{}leaf-of-all", "deeper/".repeat(300)));
    let path = leaf[0]["file"]["path"].as_str().unwrap();
    assert!(whole.ends_with(path.trim_start_matches("...").trim_start_matches('…')), "{path}");
    let begins = of(&alerts, "file", below).count();
    findings.unseen("directories below 256 levels", 1, begins);
    findings.report();
    // Too deep for a path: removed step by step.
    in_child(|| {
        chdir(place.at("deep"));
        (0..300).for_each(|_| chdir("deeper"));
        fs::remove_file("leaf-of-all").unwrap();
        for _ in 0..300 {
            chdir("..");
            ok(unsafe { libc::rmdir(c"deeper".as_ptr()) });
        }
    });
}
