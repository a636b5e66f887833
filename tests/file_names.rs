//! Files that calls name and leave no descriptor of: under which name they are told.
//!
//! Where the kernel's security hooks can be had, it is the object that the name came to; elsewhere
//! the name as it was passed, and the alert says so. Which of both it has to be is the daemon's own
//! word on its hooks.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
#![allow(clippy::undocumented_unsafe_blocks, reason = "system calls with arguments in sight")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use common::acts::{c, in_child, of, ok};
use common::{Daemon, PATIENCE, cannot_run, file_recipe};
use serde_json::Value;

const ACTIONS: &str =
    "[rename, exchange, link, unlink, truncate, mkdir, rmdir, mknod, symlink, chmod, setid, chown]";

/// `needle` is in `true/`, to which `false` is a link: acts go by the one, and are of the other.
struct Acts<'a> {
    place: &'a Path,
}

impl Acts<'_> {
    fn c(&self, name: &str) -> std::ffi::CString {
        c(self.place.join("false").join(name))
    }

    fn all(&self) {
        unsafe {
            ok(libc::rename(self.c("old").as_ptr(), self.c("new").as_ptr()));
            let (one, other) = (self.c("one"), self.c("other"));
            let exchange = libc::RENAME_EXCHANGE;
            let renameat2 = libc::SYS_renameat2;
            ok(libc::syscall(renameat2, -100, one.as_ptr(), -100, other.as_ptr(), exchange));
            ok(libc::link(self.c("linked").as_ptr(), self.c("link").as_ptr()));
            ok(libc::unlink(self.c("gone").as_ptr()));
            ok(libc::truncate(self.c("cut").as_ptr(), 1));
            ok(libc::mkdir(self.c("made").as_ptr(), 0o700));
            ok(libc::rmdir(self.c("left").as_ptr()));
            ok(libc::mknod(self.c("pipe").as_ptr(), libc::S_IFIFO | 0o600, 0));
            ok(libc::symlink(c"anywhere".as_ptr(), self.c("symbolic").as_ptr()));
            ok(libc::chmod(self.c("mode").as_ptr(), 0o4755));
            ok(libc::chown(self.c("owner").as_ptr(), 1, 1));
        }
    }

    /// Each is refused by the rights of a directory or file, after the hooks were asked.
    fn refused(&self) {
        let fails = |returned: i32| assert_eq!(returned, -1);
        unsafe {
            ok(libc::setgroups(0, std::ptr::null()));
            ok(libc::setresgid(65534, 65534, 65534));
            ok(libc::setresuid(65534, 65534, 65534));
            fails(libc::rename(self.c("new").as_ptr(), self.c("refused").as_ptr()));
            fails(libc::link(self.c("linked").as_ptr(), self.c("refused").as_ptr()));
            fails(libc::unlink(self.c("linked").as_ptr()));
            fails(libc::truncate(self.c("cut").as_ptr(), 0));
            fails(libc::mkdir(self.c("refused").as_ptr(), 0o700));
            fails(libc::rmdir(self.c("made").as_ptr()));
            fails(libc::symlink(c"anywhere".as_ptr(), self.c("refused").as_ptr()));
            fails(libc::chmod(self.c("cut").as_ptr(), 0o777));
            fails(libc::chown(self.c("cut").as_ptr(), 2, 2));
            // What was noted for these must not be taken for what follows.
            ok(libc::unlink(c(self.place.join("open/own")).as_ptr()));
        }
    }
}

/// `path actions` of each alert on a process, sorted. They begin with `?` if known by name only.
fn told(alerts: &[Value], pid: u32) -> Vec<String> {
    let mut told: Vec<String> = of(alerts, "names", pid)
        .map(|alert| {
            let file = &alert["file"];
            let sure = if file["by_name"] == true { "?" } else { "" };
            let counts = file["actions"]["counts"].as_object().unwrap().iter();
            let counts: Vec<String> = counts.map(|(act, count)| format!("{act}={count}")).collect();
            format!("{sure}{} {}", file["path"].as_str().unwrap(), counts.join(" "))
        })
        .collect();
    told.sort();
    told
}

#[test]
fn names_are_told_as_the_kernel_found_them_or_as_they_were_passed() {
    if let Some(reason) = cannot_run() {
        skip!("names_are_told_as_the_kernel_found_them_or_as_they_were_passed", reason);
    }
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    fs::set_permissions(place, fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir_all(place.join("true/left")).unwrap();
    fs::create_dir(place.join("open")).unwrap();
    fs::set_permissions(place.join("open"), fs::Permissions::from_mode(0o777)).unwrap();
    symlink("true", place.join("false")).unwrap();
    for name in ["old", "one", "other", "linked", "gone", "cut", "mode", "owner"] {
        fs::write(place.join("true").join(name), "hay in a stack").unwrap();
    }
    fs::write(place.join("open/own"), "").unwrap();
    let identity = fs::metadata(place.join("true/old")).unwrap();
    let mut daemon =
        Daemon::with_recipes(&file_recipe("names", &format!("^{}/", place.display()), ACTIONS));
    let status = daemon.status();
    let hooks = status["hooks"].as_array().unwrap();
    let names = hooks.iter().find(|hook| hook["fact"] == "what names came to").unwrap();
    let objects = names["tier"] == "object";

    let acts = Acts { place };
    let pid = in_child(|| acts.all());
    let refused = in_child(|| acts.refused());

    let alerts = daemon.all(PATIENCE);
    for hook in hooks {
        println!("HOOK {}: {}", hook["fact"].as_str().unwrap(), hook["tier"].as_str().unwrap());
    }
    let expected = [
        "cut truncate=1",
        "gone unlink=1",
        "left rmdir=1",
        "link link=1",
        "linked link=1",
        "made mkdir=1",
        "mode chmod=1 setid=1",
        "new rename=1",
        "old rename=1",
        "one exchange=1 rename=1",
        "other exchange=1 rename=1",
        "owner chown=1",
        "pipe mknod=1",
        "symbolic symlink=1",
    ];
    let chown = names["programs"].as_array().unwrap().iter().any(|name| name == "path_chown");
    let found = told(&alerts, pid);
    let late = found.iter().filter(|act| act.starts_with('?')).count();
    let mut expected: Vec<String> = expected
        .iter()
        .map(|act| {
            let passed = format!("?{}/false/{act}", place.display());
            let noted = objects && (chown || !act.contains("chown"));
            // An epoch that ends within a call takes the note with it: one of these at most did.
            match noted && (late > 1 + usize::from(!chown) || !found.contains(&passed)) {
                true => format!("{}/true/{act}", place.display()),
                false => passed,
            }
        })
        .collect();
    expected.sort();
    assert_eq!(found, expected);
    let own = told(&alerts, refused).join("; ");
    assert_eq!(own.trim_start_matches('?'), format!("{}/open/own unlink=1", place.display()));
    let renamed = |name: &str| {
        let path = format!("{}/true/{name}", place.display());
        alerts.iter().find(move |alert| alert["file"]["path"] == path)
    };
    if objects {
        // Both names are of one file, which had the first.
        for alert in [renamed("old"), renamed("new")].into_iter().flatten() {
            let file = &alert["file"];
            assert_eq!(file["inode"], identity.ino());
            let device = format!("{}:{}", libc::major(identity.dev()), libc::minor(identity.dev()));
            assert_eq!(file["device"], device);
        }
    }
}
