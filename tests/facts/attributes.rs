//! What a file is besides its content: modes, owners, times, attributes, rights, flags.

use std::path::Path;

use crate::calls::{AT, NONE, at, file, opened};
use crate::common::acts::c;
use crate::{Fact, fact};

/// VFS_CAP_REVISION_2, no capability in any set.
fn capability() -> [u8; 20] {
    let mut value = [0; 20];
    value[3] = 2;
    value
}

/// Rights of a user beside the owner's, as they stand in the attribute: version 2, then tag,
/// permissions and id of each.
fn rights() -> Vec<u8> {
    const ANY: u32 = u32::MAX;
    let entries = [(1u16, 6u16, ANY), (2, 4, 65534), (4, 4, ANY), (16, 4, ANY), (32, 0, ANY)];
    let mut value = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        value.extend(tag.to_le_bytes());
        value.extend(permissions.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    value
}

fn set_attribute(path: &std::ffi::CStr, name: &std::ffi::CStr, value: &[u8]) -> i64 {
    let bytes = value.as_ptr();
    call!(libc::SYS_setxattr, path.as_ptr(), name.as_ptr(), bytes, value.len(), 0)
}

const FS_IOC_GETFLAGS: u64 = 0x8008_6601;
const FS_IOC_SETFLAGS: u64 = 0x4008_6602;
const FS_IOC_FSGETXATTR: u64 = 0x801c_581f;
const FS_IOC_FSSETXATTR: u64 = 0x401c_5820;
const FS_IMMUTABLE: u64 = 0x10;

/// `chattr +i`, and back: else nobody could remove the file.
fn immutable(dir: &Path) -> i64 {
    let (fd, mut flags) = (opened(dir, "a"), 0u64);
    let got = call!(libc::SYS_ioctl, fd, FS_IOC_GETFLAGS, &raw mut flags);
    if got < 0 {
        return got;
    }
    let with = flags | FS_IMMUTABLE;
    let set = call!(libc::SYS_ioctl, fd, FS_IOC_SETFLAGS, &raw const with);
    set.min(call!(libc::SYS_ioctl, fd, FS_IOC_SETFLAGS, &raw const flags))
}

/// The same by the call that XFS brought.
fn immutable_too(dir: &Path) -> i64 {
    // Its flags are the first word; the rest stays as it was.
    let (fd, mut was) = (opened(dir, "a"), [0u32; 7]);
    let got = call!(libc::SYS_ioctl, fd, FS_IOC_FSGETXATTR, was.as_mut_ptr());
    if got < 0 {
        return got;
    }
    let mut with = was;
    with[0] |= 8;
    let set = call!(libc::SYS_ioctl, fd, FS_IOC_FSSETXATTR, with.as_ptr());
    set.min(call!(libc::SYS_ioctl, fd, FS_IOC_FSSETXATTR, was.as_ptr()))
}

/// From Linux 6.6 on.
const SYS_FCHMODAT2: libc::c_long = 452;
const SYS_FILE_GETATTR: libc::c_long = 468;
const SYS_FILE_SETATTR: libc::c_long = 469;

/// The same by a path, from Linux 6.17 on.
fn immutable_by_path(dir: &Path) -> i64 {
    let (path, mut was) = (file(dir, "a"), [0u64; 3]);
    let size = size_of_val(&was);
    let got = call!(SYS_FILE_GETATTR, AT, path.as_ptr(), was.as_mut_ptr(), size, 0);
    if got < 0 {
        return got;
    }
    let mut with = was;
    with[0] |= 8;
    let set = call!(SYS_FILE_SETATTR, AT, path.as_ptr(), with.as_ptr(), size, 0);
    set.min(call!(SYS_FILE_SETATTR, AT, path.as_ptr(), was.as_ptr(), size, 0))
}

pub const FACTS: &[Fact] = &[
    fact(
        "attributes",
        "chmod",
        file_fact!("chmod"),
        |d| call!(libc::SYS_chmod, file(d, "a").as_ptr(), 0o600),
        |d| call!(libc::SYS_access, file(d, "a").as_ptr(), 0),
    ),
    fact(
        "attributes",
        "fchmod",
        file_fact!("chmod"),
        |d| call!(libc::SYS_fchmod, opened(d, "a"), 0o600),
        |d| call!(libc::SYS_fsync, opened(d, "a")),
    ),
    fact(
        "attributes",
        "setid",
        file_fact!("setid"),
        |d| call!(libc::SYS_fchmodat, AT, file(d, "suid").as_ptr(), 0o4755),
        |d| call!(libc::SYS_fchmodat, AT, file(d, "suid2").as_ptr(), 0o755),
    ),
    fact(
        "attributes",
        "chown",
        file_fact!("chown"),
        |d| call!(libc::SYS_fchownat, AT, file(d, "a").as_ptr(), 0, 0, 0),
        |d| call!(libc::SYS_chmod, file(d, "a").as_ptr(), 0o600),
    ),
    fact(
        "attributes",
        "utimes",
        file_fact!("utimes"),
        |d| call!(libc::SYS_utimensat, AT, file(d, "a").as_ptr(), NONE, 0),
        |d| call!(libc::SYS_chmod, file(d, "a").as_ptr(), 0o600),
    ),
    fact(
        "attributes",
        "xattr",
        file_fact!("setxattr"),
        |d| {
            call!(
                libc::SYS_setxattr,
                file(d, "a").as_ptr(),
                c("trusted.raqib").as_ptr(),
                b"x".as_ptr(),
                1,
                0
            )
        },
        |d| {
            call!(libc::SYS_getxattr, file(d, "a").as_ptr(), c("trusted.raqib").as_ptr(), NONE, 0)
                .max(0)
        },
    ),
    fact(
        "attributes",
        "file_capability",
        file_fact!("setcap"),
        |d| {
            call!(
                libc::SYS_setxattr,
                file(d, "a").as_ptr(),
                c("security.capability").as_ptr(),
                capability().as_ptr(),
                20,
                0
            )
        },
        |d| {
            call!(
                libc::SYS_setxattr,
                file(d, "a").as_ptr(),
                c("trusted.raqib").as_ptr(),
                b"x".as_ptr(),
                1,
                0
            )
            .max(0)
        },
    ),
    fact("attributes", "immutable", file_fact!("setflags"), immutable, |d| {
        let mut flags = 0u64;
        call!(libc::SYS_ioctl, opened(d, "a"), FS_IOC_GETFLAGS, &raw mut flags)
    }),
    fact(
        "attributes",
        "fchmodat2",
        file_fact!("setid"),
        |d| call!(SYS_FCHMODAT2, AT, file(d, "suid").as_ptr(), 0o4755, 0),
        |d| call!(SYS_FCHMODAT2, AT, file(d, "plain").as_ptr(), 0o755, 0),
    ),
    fact(
        "attributes",
        "fchmodat2_empty_path",
        file_fact!("chmod"),
        |d| call!(SYS_FCHMODAT2, opened(d, "a"), c"".as_ptr(), 0o700, libc::AT_EMPTY_PATH),
        |d| call!(libc::SYS_fstat, opened(d, "a"), [0u8; 256].as_mut_ptr()),
    ),
    fact(
        "attributes",
        "made_setid",
        file_fact!("setid"),
        |d| {
            let flags = libc::O_CREAT | libc::O_WRONLY;
            call!(libc::SYS_openat, AT, at(d, "suid").as_ptr(), flags, 0o4755)
        },
        |d| {
            let flags = libc::O_CREAT | libc::O_WRONLY;
            // There already: the mode is nobody's.
            call!(libc::SYS_openat, AT, at(d, "a").as_ptr(), flags, 0o4755)
        },
    ),
    fact(
        "attributes",
        "setgid",
        file_fact!("setid"),
        |d| call!(libc::SYS_fchmod, opened(d, "sgid"), 0o2755),
        |d| call!(libc::SYS_fchmod, opened(d, "plain"), 0o1755),
    ),
    fact(
        "attributes",
        "fchown",
        file_fact!("chown"),
        |d| call!(libc::SYS_fchown, opened(d, "a"), 65534, 65534),
        |d| call!(libc::SYS_fchmod, opened(d, "a"), 0o600),
    ),
    fact(
        "attributes",
        "utimes_of_descriptor",
        file_fact!("utimes"),
        |d| call!(libc::SYS_utimensat, opened(d, "a"), NONE, NONE, 0),
        |d| call!(libc::SYS_fsync, opened(d, "a")),
    ),
    fact(
        "attributes",
        "access_list",
        file_fact!("setacl"),
        |d| set_attribute(&file(d, "a"), c"system.posix_acl_access", &rights()),
        |d| set_attribute(&file(d, "a"), c"trusted.raqib", b"x"),
    ),
    fact(
        "attributes",
        "access_list_removed",
        file_fact!("setacl"),
        |d| {
            let path = file(d, "a");
            let set = set_attribute(&path, c"system.posix_acl_access", &rights());
            let name = c"system.posix_acl_access".as_ptr();
            set.min(call!(libc::SYS_removexattr, path.as_ptr(), name))
        },
        |d| set_attribute(&file(d, "a"), c"trusted.raqib", b"x"),
    ),
    fact(
        "attributes",
        "xattr_by_descriptor",
        file_fact!("setxattr"),
        |d| {
            let name = c"trusted.raqib".as_ptr();
            call!(libc::SYS_fsetxattr, opened(d, "a"), name, b"x".as_ptr(), 1, 0)
        },
        |d| {
            let name = c"trusted.raqib".as_ptr();
            call!(libc::SYS_fgetxattr, opened(d, "a"), name, NONE, 0).max(0)
        },
    ),
    fact("attributes", "immutable_fsxattr", file_fact!("setflags"), immutable_too, |d| {
        let mut flags = [0u32; 7];
        let fd = opened(d, "a");
        call!(libc::SYS_ioctl, fd, FS_IOC_FSGETXATTR, flags.as_mut_ptr()).max(0)
    }),
    fact("attributes", "immutable_by_path", file_fact!("setflags"), immutable_by_path, |d| {
        let (path, mut flags) = (file(d, "a"), [0u64; 3]);
        call!(SYS_FILE_GETATTR, AT, path.as_ptr(), flags.as_mut_ptr(), 24, 0).max(0)
    }),
];
