//! A kernel's own filesystem, read where nobody has mounted it.
//!
//! securityfs and debugfs are often not mounted in containers and on small hosts, and what they
//! tell is true all the same. A mount that is attached nowhere lets us read one file of it: no
//! other process sees it, and it is gone with its descriptor.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

/// Text of `file` in the filesystem: below `mounted` if it is there, else through a mount of our
/// own.
///
/// # Errors
/// When neither way leads to the file: without CAP_SYS_ADMIN, or where the kernel has no such
/// filesystem or file.
pub fn read(filesystem: &CStr, mounted: &str, file: &CStr) -> io::Result<String> {
    let name = file.to_str().map_err(io::Error::other)?;
    if let Ok(text) = std::fs::read_to_string(Path::new(mounted).join(name)) {
        return Ok(text);
    }
    let root = mount(filesystem)?;
    // SAFETY: the descriptor is open and the name ends with a zero; openat keeps neither.
    let fd =
        unsafe { libc::openat(root.as_raw_fd(), file.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: openat has just given this descriptor to us alone.
    let mut file = unsafe { File::from_raw_fd(fd) };
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text)
}

/// A mount that is attached nowhere.
fn mount(filesystem: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: fsopen takes a name that ends with a zero, and flags; it keeps no pointer.
    let context = owned(unsafe {
        libc::syscall(libc::SYS_fsopen, filesystem.as_ptr(), libc::FSOPEN_CLOEXEC)
    })?;
    let nothing = std::ptr::null::<libc::c_char>();
    // SAFETY: this command takes neither key nor value, for which null is what is asked for.
    let made = unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            libc::FSCONFIG_CMD_CREATE,
            nothing,
            nothing,
            0,
        )
    };
    if made < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: integers only.
    owned(unsafe {
        libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), libc::FSMOUNT_CLOEXEC, 0)
    })
}

fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a system call has just given this descriptor to us alone; descriptors fit an int.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}
