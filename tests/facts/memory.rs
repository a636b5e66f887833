//! Memory that can be executed, and files that are only memory.

use std::path::Path;

use crate::calls::{map, opened};
use crate::{Fact, fact};

const PRIVATE: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;

fn protect(protection: i32) -> i64 {
    let page = map(4096, libc::PROT_READ, PRIVATE, -1);
    if page < 0 { page } else { call!(libc::SYS_mprotect, page, 4096, protection) }
}

fn anonymous(protection: i32) -> i64 {
    map(4096, protection, PRIVATE, -1).min(0)
}

/// Maps a file and changes what may be done there.
fn protect_file(dir: &Path, protection: i32) -> i64 {
    let fd = opened(dir, "a");
    let page = map(4096, libc::PROT_READ, libc::MAP_PRIVATE, fd.into());
    if page < 0 { page } else { call!(libc::SYS_mprotect, page, 4096, protection) }
}

/// `pkey_mprotect` without a key is `mprotect`.
fn protect_by_key(protection: i32) -> i64 {
    let page = map(4096, libc::PROT_READ, PRIVATE, -1);
    if page < 0 { page } else { call!(libc::SYS_pkey_mprotect, page, 4096, protection, -1) }
}

const ALL: i32 = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;

pub const FACTS: &[Fact] = &[
    fact(
        "memory",
        "protect_exec",
        activity!("memory_exec, details: {protection: exec, backing: protected}"),
        |_| protect(libc::PROT_READ | libc::PROT_EXEC),
        |_| protect(libc::PROT_READ),
    ),
    fact(
        "memory",
        "protect_all",
        activity!("memory_exec, details: {protection: write, backing: protected}"),
        |_| protect(ALL),
        |_| protect(libc::PROT_READ | libc::PROT_EXEC),
    ),
    fact(
        "memory",
        "pkey_protect_exec",
        activity!("memory_exec, details: {backing: protected}"),
        |_| protect_by_key(ALL),
        |_| protect_by_key(libc::PROT_READ),
    ),
    fact(
        "memory",
        "protect_file_exec",
        activity!("memory_exec, details: {backing: protected}"),
        |d| protect_file(d, libc::PROT_READ | libc::PROT_EXEC),
        |d| protect_file(d, libc::PROT_READ | libc::PROT_WRITE),
    ),
    fact(
        "memory",
        "map_exec",
        activity!("memory_exec, details: {protection: write, backing: anonymous}"),
        |_| anonymous(ALL),
        |_| anonymous(libc::PROT_READ | libc::PROT_WRITE),
    ),
    fact(
        "memory",
        "memfd",
        activity!("memfd_create, details: {memfd: raqib-memfd}"),
        |_| call!(libc::SYS_memfd_create, c"raqib-memfd".as_ptr(), 0),
        |_| call!(libc::SYS_memfd_create, c"other".as_ptr(), 0),
    ),
];
