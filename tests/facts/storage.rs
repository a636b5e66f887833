//! Mounts, and the devices under them.

use std::fs;
use std::path::Path;

use crate::calls::{
    AT, NONE, at, failed, free_loop, looped, mount, mounted, nothing, own_mounts, tried,
};
use crate::common::acts::c;
use crate::{Fact, fact};

const TMPFS: &str = "tmpfs";

fn tmpfs(source: &str, dir: &Path) -> i64 {
    mounted(source, dir, TMPFS, "")
}

/// Mounted, and then changed with these flags.
fn changed(dir: &Path, flags: u64) -> i64 {
    let made = tmpfs("other", dir);
    if made < 0 { made } else { mount("none", &dir.join("mount"), "", flags, "") }
}

fn bind(dir: &Path, flags: u64) -> i64 {
    let _ = fs::create_dir(dir.join("over"));
    own_mounts().min(mount(dir.to_str().unwrap(), &dir.join("over"), "", flags, ""))
}

const OPEN_TREE_CLONE: i32 = 1;
const MOVE_MOUNT_F_EMPTY_PATH: i32 = 4;
const SYS_OPEN_TREE_ATTR: libc::c_long = 467;

/// Takes a directory up as a mount.
fn tree(dir: &Path) -> i64 {
    let made = own_mounts();
    if made < 0 {
        return made;
    }
    call!(libc::SYS_open_tree, AT, c(dir).as_ptr(), OPEN_TREE_CLONE)
}

fn moved(dir: &Path, name: &str) -> i64 {
    let taken = tree(dir);
    if taken < 0 {
        return taken;
    }
    let _ = fs::create_dir(dir.join(name));
    let (empty, to) = (c"".as_ptr(), at(dir, name));
    call!(libc::SYS_move_mount, taken, empty, AT, to.as_ptr(), MOVE_MOUNT_F_EMPTY_PATH)
}

const FSCONFIG_SET_STRING: i32 = 1;
const FSCONFIG_CMD_CREATE: i32 = 6;
const FSCONFIG_CMD_RECONFIGURE: i32 = 7;

/// What `mount` of util-linux 2.39 and newer does instead of mount(2).
fn made_step_by_step(dir: &Path, source: &std::ffi::CStr) -> i64 {
    let made = own_mounts();
    if made < 0 {
        return made;
    }
    let context = call!(libc::SYS_fsopen, c"tmpfs".as_ptr(), 0);
    if context < 0 {
        return context;
    }
    let (key, set) = (c"source".as_ptr(), FSCONFIG_SET_STRING);
    let set = call!(libc::SYS_fsconfig, context, set, key, source.as_ptr(), 0);
    let made = call!(libc::SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NONE, NONE, 0);
    let mount = call!(libc::SYS_fsmount, context, 0, 0);
    let _ = fs::create_dir(dir.join("stepwise"));
    let (empty, to) = (c"".as_ptr(), at(dir, "stepwise"));
    let put = call!(libc::SYS_move_mount, mount, empty, AT, to.as_ptr(), MOVE_MOUNT_F_EMPTY_PATH);
    set.min(made).min(mount).min(put)
}

/// Remounts by a picked-up file system.
fn picked(dir: &Path, command: i32) -> i64 {
    let made = tmpfs("other", dir);
    if made < 0 {
        return made;
    }
    let context = call!(libc::SYS_fspick, AT, at(dir, "mount").as_ptr(), 0);
    if context < 0 {
        return context;
    }
    let (key, set) = (c"size".as_ptr(), FSCONFIG_SET_STRING);
    let set = call!(libc::SYS_fsconfig, context, set, key, c"1m".as_ptr(), 0);
    if command == 0 { set } else { call!(libc::SYS_fsconfig, context, command, NONE, NONE, 0) }
}

/// A root of its own, which changes places with the old one.
fn pivot(dir: &Path) -> i64 {
    let made = tmpfs("other", dir);
    let old = dir.join("mount/old");
    if made < 0 || fs::create_dir(&old).is_err() {
        return made.min(failed());
    }
    call!(libc::SYS_pivot_root, at(dir, "mount").as_ptr(), c(old).as_ptr())
}

fn mount_setattr(path: &Path) -> i64 {
    // attr_set (MOUNT_ATTR_NOSUID), attr_clr, propagation, userns_fd
    let attributes = [2u64, 0, 0, 0];
    call!(libc::SYS_mount_setattr, AT, c(path).as_ptr(), 0, attributes.as_ptr(), 32)
}

fn image(dir: &Path) -> std::path::PathBuf {
    let path = dir.join("image");
    fs::write(&path, vec![0; 1 << 20]).unwrap();
    path
}

const LOOP_CONFIGURE: u64 = 0x4c0a;
const LOOP_GET_STATUS64: u64 = 0x4c05;

/// Descriptor, block size and everything else in one call.
fn configured(dir: &Path) -> i64 {
    let fd = call!(libc::SYS_openat, AT, c(image(dir)).as_ptr(), libc::O_RDWR);
    let mut config = [0u8; 304];
    config[..4].copy_from_slice(&(fd as u32).to_ne_bytes());
    // info.lo_flags: LO_FLAGS_AUTOCLEAR
    config[60] = 4;
    match free_loop() {
        Ok((device, _)) => call!(libc::SYS_ioctl, device, LOOP_CONFIGURE, config.as_ptr()),
        Err(errno) => errno,
    }
}

const DM_DEV_CREATE: u64 = 0xc138_fd03;
const DM_DEV_REMOVE: u64 = 0xc138_fd04;
const DM_VERSION: u64 = 0xc138_fd00;

/// Commands to the device mapper on a device of this name.
fn mapper(commands: &[u64]) -> i64 {
    let control = call!(libc::SYS_openat, AT, c"/dev/mapper/control".as_ptr(), libc::O_RDWR);
    if control < 0 {
        return control;
    }
    let done = commands.iter().map(|command| {
        let mut request = [0u8; 312];
        // Version 4.0.0, the struct's size, and the name behind the fixed part.
        request[0] = 4;
        request[12..16].copy_from_slice(&312u32.to_ne_bytes());
        if *command != DM_VERSION {
            request[48..58].copy_from_slice(b"raqib-fact");
        }
        call!(libc::SYS_ioctl, control, *command, request.as_mut_ptr())
    });
    done.min().unwrap_or(0)
}

/// Space to swap to, of 64 pages, for a moment.
fn swapped(dir: &Path) -> i64 {
    let mut pages = vec![0u8; 64 * 4096];
    pages[1024] = 1;
    pages[1028] = 63;
    pages[4086..4096].copy_from_slice(b"SWAPSPACE2");
    let path = dir.join("swap");
    fs::write(&path, pages).unwrap();
    let path = c(path);
    let fd = call!(libc::SYS_openat, AT, path.as_ptr(), libc::O_RDWR);
    call!(libc::SYS_fsync, fd);
    let on = call!(libc::SYS_swapon, path.as_ptr(), 0);
    // What it may lie on differs; that it was asked for is seen.
    if on == 0 { call!(libc::SYS_swapoff, path.as_ptr()) } else { tried(on) }
}

pub const FACTS: &[Fact] = &[
    fact(
        "storage",
        "mount",
        activity!("mount, details: {source: raqib-fact, fs_type: tmpfs}"),
        |d| tmpfs("raqib-fact", d),
        |d| tmpfs("other", d),
    ),
    fact(
        "storage",
        "bind_mount",
        activity!("mount, details: {flags: bind, path: {regex: raqib-facts-}}"),
        |d| bind(d, libc::MS_BIND),
        |d| tmpfs("other", d),
    ),
    fact(
        "storage",
        "recursive_bind_mount",
        activity!("mount, details: {flags: rec, path: {regex: raqib-facts-}}"),
        |d| bind(d, libc::MS_BIND | libc::MS_REC),
        |d| bind(d, libc::MS_BIND),
    ),
    fact(
        "storage",
        "umount",
        activity!("umount, details: {path: {regex: raqib-facts-}}"),
        |d| {
            let made = tmpfs("other", d);
            if made < 0 { made } else { call!(libc::SYS_umount2, at(d, "mount").as_ptr(), 0) }
        },
        |d| tmpfs("other", d),
    ),
    fact(
        "storage",
        "remount",
        activity!("mount, details: {flags: remount, path: {regex: raqib-facts-}}"),
        |d| changed(d, libc::MS_REMOUNT | libc::MS_RDONLY),
        |d| tmpfs("other", d),
    ),
    fact(
        "storage",
        "shared_mount",
        activity!("mount, details: {flags: shared, path: {regex: raqib-facts-}}"),
        |d| changed(d, libc::MS_SHARED),
        |d| changed(d, libc::MS_PRIVATE),
    ),
    fact(
        "storage",
        "pivot_root",
        activity!("pivot_root, details: {path: {regex: 'raqib-facts-.*/mount$'}}"),
        pivot,
        |d| tmpfs("other", d),
    ),
    fact(
        "storage",
        "chroot",
        activity!("chroot, details: {path: {regex: raqib-facts-}}"),
        |d| call!(libc::SYS_chroot, c(d).as_ptr()),
        |d| call!(libc::SYS_chdir, c(d).as_ptr()),
    ),
    fact(
        "storage",
        "open_tree",
        activity!("open_tree, details: {flags: '0x1', path: {regex: raqib-facts-}}"),
        tree,
        |d| call!(libc::SYS_open_tree, AT, c(d).as_ptr(), 0).min(0),
    ),
    fact(
        "storage",
        "open_tree_attr",
        activity!("open_tree, details: {flags: '0x1', path: {regex: raqib-facts-}}"),
        |d| {
            let (path, attributes) = (c(d), [2u64, 0, 0, 0]);
            let (path, attributes) = (path.as_ptr(), attributes.as_ptr());
            own_mounts().min(call!(SYS_OPEN_TREE_ATTR, AT, path, 1, attributes, 32).min(0))
        },
        |d| call!(libc::SYS_access, c(d).as_ptr(), 0),
    ),
    fact(
        "storage",
        "move_mount",
        activity!("move_mount, details: {path: {regex: 'raqib-facts-.*/target$'}}"),
        |d| moved(d, "target"),
        |d| moved(d, "elsewhere"),
    ),
    fact(
        "storage",
        "fsopen",
        activity!("fs_open, details: {fs_type: tmpfs}"),
        |_| call!(libc::SYS_fsopen, c"tmpfs".as_ptr(), 0),
        |_| call!(libc::SYS_fsopen, c"proc".as_ptr(), 0),
    ),
    fact(
        "storage",
        "fsconfig",
        activity!("fs_config, details: {command: set_string, key: source, value: raqib-step}"),
        |d| made_step_by_step(d, c"raqib-step"),
        |d| made_step_by_step(d, c"other"),
    ),
    fact(
        "storage",
        "fsmount",
        activity!("move_mount, details: {path: {regex: 'raqib-facts-.*/stepwise$'}}"),
        |d| made_step_by_step(d, c"other"),
        |d| moved(d, "elsewhere"),
    ),
    fact(
        "storage",
        "fspick",
        activity!("fs_pick, details: {path: {regex: 'raqib-facts-.*/mount$'}}"),
        |d| picked(d, 0),
        |d| tmpfs("other", d),
    ),
    fact(
        "storage",
        "reconfigure",
        activity!("fs_config, details: {command: reconfigure}"),
        |d| picked(d, FSCONFIG_CMD_RECONFIGURE),
        |d| picked(d, 0),
    ),
    fact(
        "storage",
        "mount_setattr",
        activity!("mount_setattr, details: {path: {regex: 'raqib-facts-.*/mount$'}}"),
        |d| {
            let made = tmpfs("other", d);
            if made < 0 { made } else { mount_setattr(&d.join("mount")) }
        },
        |d| tmpfs("other", d),
    ),
    fact(
        "storage",
        "loop_free",
        activity!("block_setup, details: {command: loop_ctl_get_free, path: /dev/loop-control}"),
        |_| free_loop().map_or_else(|errno| errno, |_| 0),
        |_| call!(libc::SYS_access, c"/dev/loop-control".as_ptr(), 0),
    ),
    fact(
        "storage",
        "loop_set_fd",
        activity!("block_setup, details: {command: loop_set_fd, path: {regex: '^/dev/loop[0-9]'}}"),
        |d| looped(&image(d)).map_or_else(|errno| errno, |_| 0),
        |_| match free_loop() {
            Ok((device, _)) => {
                // Refused, since there is nothing on it.
                call!(libc::SYS_ioctl, device, LOOP_GET_STATUS64, [0u8; 232].as_mut_ptr()).max(0)
            }
            Err(errno) => errno,
        },
    ),
    fact(
        "storage",
        "loop_configure",
        activity!(
            "block_setup, details: {command: loop_configure, path: {regex: '^/dev/loop[0-9]'}}"
        ),
        configured,
        |d| looped(&image(d)).map_or_else(|errno| errno, |_| 0),
    ),
    fact(
        "storage",
        "device_mapper",
        activity!("block_setup, details: {command: dm_dev_create, path: /dev/mapper/control}"),
        |_| mapper(&[DM_DEV_CREATE, DM_DEV_REMOVE]),
        |_| mapper(&[DM_VERSION]),
    ),
    fact(
        "storage",
        "swap",
        activity!("swap, details: {path: {regex: 'raqib-facts-.*/swap$'}}"),
        swapped,
        |d| call!(libc::SYS_fsync, crate::calls::opened(d, "swap")),
    ),
    fact(
        "storage",
        "accounting",
        activity!("accounting, details: {path: {regex: 'raqib-facts-.*/nowhere$'}}"),
        // No such file: nothing is turned on or off.
        |d| tried(call!(libc::SYS_acct, at(d, "nowhere").as_ptr())),
        nothing,
    ),
];
