//! Who a task is and may be: ids, capabilities, keys, accounts, logins.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::calls::{AT, NONE, bound, failed, mount, own_mounts, written};
use crate::common::acts::{exec, fork, of, wait};
use crate::{Fact, fact};

const VERSION: u32 = 0x2008_0522;
const CAP_KILL: u32 = 5;

fn capset(sets: [u32; 6]) -> i64 {
    call!(libc::SYS_capset, [VERSION, 0].as_ptr(), sets.as_ptr())
}

fn capget() -> [u32; 6] {
    let mut sets = [0; 6];
    assert_eq!(call!(libc::SYS_capget, [VERSION, 0].as_ptr(), sets.as_mut_ptr()), 0);
    sets
}

fn prctl(option: i32, argument: i32, second: u32) -> i64 {
    call!(libc::SYS_prctl, option, argument, second, 0, 0)
}

/// A capability that programs without any of their own inherit.
fn ambient() -> i64 {
    let mut sets = capget();
    // Inheritable: it has to be that first.
    sets[2] |= 1 << CAP_KILL;
    capset(sets).min(prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, CAP_KILL))
}

fn key(description: &std::ffi::CStr) -> i64 {
    let (kind, description) = (c"user".as_ptr(), description.as_ptr());
    // Of the process alone.
    call!(libc::SYS_add_key, kind, description, b"x".as_ptr(), 1, -2)
}

/// A file of the act's own in the place of a file of accounts, for the act alone.
fn account_file(dir: &Path, path: &str) -> i64 {
    let own = dir.join("accounts");
    fs::write(&own, "root:x:0:0:root:/root:/bin/sh\n").unwrap();
    if !Path::new(path).exists() {
        return -i64::from(libc::ENOENT);
    }
    bound(&own, path)
}

fn account(dir: &Path, path: &str) -> i64 {
    account_file(dir, path).min(written(path, b"raqib::0:0::/:/bin/sh\n"))
}

fn account_read(dir: &Path, path: &str) -> i64 {
    let made = account_file(dir, path);
    if made == 0 && fs::read(path).is_err() { failed() } else { made }
}

/// As `useradd` and its like do: a new file over the old one.
fn account_replaced(dir: &Path) -> i64 {
    let own = dir.join("etc");
    fs::create_dir_all(&own).unwrap();
    fs::write(own.join("passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
    let made =
        own_mounts().min(mount(own.to_str().unwrap(), Path::new("/etc"), "", libc::MS_BIND, ""));
    if made < 0 || fs::write("/etc/passwd+", "raqib::0:0::/:/bin/sh\n").is_err() {
        return made.min(failed());
    }
    let (from, to) = (c"/etc/passwd+".as_ptr(), c"/etc/passwd".as_ptr());
    call!(libc::SYS_renameat2, AT, from, AT, to, 0)
}

/// Who is logged in, as `login` says it.
fn session(dir: &Path, name: &str) -> i64 {
    let own = dir.join("run");
    fs::create_dir_all(&own).unwrap();
    let made =
        own_mounts().min(mount(own.to_str().unwrap(), Path::new("/run"), "", libc::MS_BIND, ""));
    fs::write(own.join(name), "").unwrap();
    made.min(written(format!("/run/{name}"), &[0; 384]))
}

/// Of a file of accounts: written to, and only read.
macro_rules! account {
    ($name:expr, $path:expr) => {
        fact(
            "identity",
            $name,
            file_fact!("write", concat!("^", $path, "$")),
            |d| account(d, $path),
            |d| account_read(d, $path),
        )
    };
}

pub const FACTS: &[Fact] = &[
    fact(
        "identity",
        "setuid",
        activity!("set_uid, details: {uid: '65534'}"),
        |_| call!(libc::SYS_setresuid, 65534, 65534, 65534),
        |_| call!(libc::SYS_setresuid, 0, 0, 0),
    ),
    fact(
        "identity",
        "seteuid",
        activity!("set_uid, details: {uid: '0', euid: '65534'}"),
        |_| call!(libc::SYS_setreuid, -1, 65534),
        |_| call!(libc::SYS_setuid, 0),
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
        "setfsuid",
        activity!("set_uid"),
        |_| call!(libc::SYS_setfsuid, 65534),
        |_| call!(libc::SYS_getuid),
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
        |_| capset([0; 6]),
        |_| i64::from(capget()[0]).min(0),
    ),
    fact(
        "identity",
        "bounding_set",
        activity!("prctl, details: {option: capbset_drop, argument: '0x5'}"),
        |_| prctl(libc::PR_CAPBSET_DROP, CAP_KILL as i32, 0),
        |_| prctl(libc::PR_CAPBSET_READ, CAP_KILL as i32, 0),
    ),
    fact(
        "identity",
        "ambient_raise",
        activity!("prctl, details: {option: cap_ambient, argument: '0x2'}"),
        |_| ambient(),
        |_| prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0),
    ),
    fact(
        "identity",
        "ambient_clear",
        activity!("prctl, details: {option: cap_ambient, argument: '0x4'}"),
        |_| prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0),
        |_| prctl(libc::PR_GET_DUMPABLE, 0, 0),
    ),
    fact(
        "identity",
        "secure_bits",
        activity!("prctl, details: {option: set_securebits}"),
        |_| prctl(libc::PR_SET_SECUREBITS, 1, 0),
        |_| prctl(libc::PR_GET_SECUREBITS, 0, 0),
    ),
    fact(
        "identity",
        "no_new_privs",
        activity!("prctl, details: {option: set_no_new_privs}"),
        |_| prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0),
        |_| prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0),
    ),
    fact(
        "identity",
        "keyring",
        activity!("keyctl, details: {operation: join_session_keyring}"),
        |_| call!(libc::SYS_keyctl, 1, c"raqib".as_ptr()),
        |_| call!(libc::SYS_keyctl, 0, -3, 0).max(0),
    ),
    fact(
        "identity",
        "add_key",
        activity!("add_key, details: {key_type: user, description: raqib-key}"),
        |_| key(c"raqib-key"),
        |_| key(c"other-key").max(0),
    ),
    fact(
        "identity",
        "request_key",
        activity!("add_key, details: {key_type: user, description: raqib-wanted}"),
        |_| {
            let (kind, name) = (c"user".as_ptr(), c"raqib-wanted".as_ptr());
            // Nobody has it, and nobody is asked to make it.
            call!(libc::SYS_request_key, kind, name, NONE, 0).max(0)
        },
        |_| key(c"other-key").max(0),
    ),
    account!("passwd", "/etc/passwd"),
    account!("group", "/etc/group"),
    account!("shadow", "/etc/shadow"),
    fact(
        "identity",
        "passwd_replaced",
        file_fact!("rename", "^/etc/passwd$"),
        account_replaced,
        |d| account_read(d, "/etc/passwd"),
    ),
    fact(
        "identity",
        "session_record",
        file_fact!("write", "^/run/utmp$"),
        |d| session(d, "utmp"),
        |d| session(d, "other"),
    ),
    fact(
        "identity",
        "login_id",
        file_fact!("write", "^/proc/[0-9]+/loginuid$"),
        |_| written("/proc/self/loginuid", b"4242"),
        |_| {
            let _ = fs::read("/proc/self/loginuid");
            0
        },
    ),
];

const LOGIN: u32 = 4242;

/// Somebody who logs in as another one and runs a program; the pid, and the errno where that
/// cannot be.
pub fn program_of_another_login() -> (u32, i32) {
    let pid = fork(|| {
        let set = written("/proc/self/loginuid", LOGIN.to_string().as_bytes());
        if set < 0 {
            unsafe { libc::_exit(-set as i32) }
        }
        exec("/bin/true", &[b"true"]);
    });
    let status = wait(pid);
    (pid, libc::WEXITSTATUS(status))
}

/// What is told of that program has the login; what is wrong, if anything.
pub fn check(alerts: &[Value], (pid, errno): (u32, i32)) -> Option<String> {
    let mut told = of(alerts, crate::lifecycle::PROGRAM, pid).map(|alert| &alert["process"]);
    let process = told.next().unwrap_or(&Value::Null);
    let seen = process["loginuid"] == LOGIN && process["session"].is_number();
    let verdict = match errno {
        0 if seen => "seen".to_owned(),
        0 => "missed".to_owned(),
        errno => format!("not-offered: errno {errno}"),
    };
    println!("FACT identity/login_told {verdict}");
    (verdict == "missed").then(|| format!("login_told: {process}"))
}
