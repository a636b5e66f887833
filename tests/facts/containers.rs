//! Namespaces, and the ways out of them.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::Path;

use crate::calls::{mounted, nothing, written};
use crate::{Fact, fact};

/// Unshares what the kernel calls so; what is beside it shares a table of descriptors no more.
macro_rules! unshare {
    ($name:expr, $flag:expr) => {
        fact(
            "containers",
            concat!("unshare_", $name),
            activity!(concat!("unshare, details: {flags: ", $name, "}")),
            |_| call!(libc::SYS_unshare, $flag),
            |_| call!(libc::SYS_unshare, libc::CLONE_FILES),
        )
    };
}

const CLONE_NEWTIME: i32 = 0x80;

fn release_agent(dir: &Path) -> i64 {
    let made = mounted("none", dir, "cgroup", "none,name=raqib-fact");
    // Nothing, as it was.
    if made < 0 { made } else { written(dir.join("mount/release_agent"), b"\n") }
}

pub const FACTS: &[Fact] = &[
    unshare!("mount", libc::CLONE_NEWNS),
    unshare!("uts", libc::CLONE_NEWUTS),
    unshare!("ipc", libc::CLONE_NEWIPC),
    unshare!("user", libc::CLONE_NEWUSER),
    unshare!("pid", libc::CLONE_NEWPID),
    unshare!("net", libc::CLONE_NEWNET),
    unshare!("cgroup", libc::CLONE_NEWCGROUP),
    unshare!("time", CLONE_NEWTIME),
    fact(
        "containers",
        "setns",
        activity!("setns"),
        |_| {
            let own = File::open("/proc/self/ns/uts").unwrap();
            call!(libc::SYS_setns, own.as_raw_fd(), 0)
        },
        nothing,
    ),
    fact(
        "containers",
        "release_agent",
        file_fact!("write", "HEREmount/release_agent$"),
        release_agent,
        |dir| {
            let made = mounted("none", dir, "cgroup", "none,name=raqib-quiet");
            if made == 0 {
                let _ = fs::read(dir.join("mount/release_agent"));
            }
            made
        },
    ),
];
