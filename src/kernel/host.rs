//! What this host offers, asked once at start; each lack is one sentence with what to do.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// What every kernel must have. Known by trying: this is said when trying has failed.
pub const MINIMUM: &str = "this kernel cannot be watched: Linux 5.10 or newer is needed, with \
     CONFIG_BPF_SYSCALL, CONFIG_BPF_EVENTS, CONFIG_FTRACE_SYSCALLS and CONFIG_DEBUG_INFO_BTF";

/// Where the kernel's own types are; every program is fitted to them at load.
pub const BTF: &str = "/sys/kernel/btf/vmlinux";

/// What to do where no cgroup v2 hierarchy is mounted.
const NO_CGROUP2: &str = "no cgroup v2 hierarchy is mounted, network facts need one: \
     mount -t cgroup2 none /sys/fs/cgroup/unified (or turn the network plugins off in `features`)";

/// Refuses to start where nothing could be watched.
///
/// # Errors
/// What is missing, and what to do.
pub fn check() -> Result<()> {
    root("run")?;
    btf()
}

/// Whether we are root; `command` is what to say with sudo.
///
/// # Errors
/// What to do.
pub fn root(command: &str) -> Result<()> {
    // SAFETY: geteuid has no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        bail!("loading eBPF programs needs root: run `sudo raqib {command}`");
    }
    Ok(())
}

/// Whether the kernel tells its types.
///
/// # Errors
/// What to do.
pub fn btf() -> Result<()> {
    if !Path::new(BTF).exists() {
        bail!(
            "Linux {} has no BTF ({BTF}): use 5.10 or newer, built with \
             CONFIG_DEBUG_INFO_BTF=y, as those of current distributions are; in a container, \
             /sys of the host must be there",
            release()
        );
    }
    Ok(())
}

/// Where the cgroup v2 hierarchy is mounted, whole: programs attached there see every socket.
pub fn cgroup2() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot read mountinfo")?;
    find_cgroup2(&mounts).context(NO_CGROUP2)
}

/// Fields of mountinfo: id parent major:minor root mount-point options... - type source options.
fn find_cgroup2(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut fields = left.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        (right.starts_with("cgroup2 ") && root == "/").then(|| PathBuf::from(point))
    })
}

/// Whether a kernel's BTF has this whole name among its strings.
pub fn names(btf: &[u8], name: &str) -> bool {
    let mut whole = vec![0];
    whole.extend_from_slice(name.as_bytes());
    whole.push(0);
    // SAFETY: both are slices with their lengths; memmem reads no further. The standard library
    // has no search in bytes, and one by windows takes 10 ms for these 5 MB.
    let found =
        unsafe { libc::memmem(btf.as_ptr().cast(), btf.len(), whole.as_ptr().cast(), whole.len()) };
    !found.is_null()
}

/// The kernel's release, as `uname -r` says it.
pub fn release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_whole_or_not_there() {
        let btf = b"\0BPF_FUNC_a\0BPF_FUNC_ab\0";
        assert!(names(btf, "BPF_FUNC_a") && names(btf, "BPF_FUNC_ab"));
        assert!(!names(btf, "BPF_FUNC") && !names(btf, "FUNC_ab"));
    }

    #[test]
    fn the_whole_hierarchy_is_found_wherever_it_is() {
        let text = "30 1 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                    41 30 0:37 /user /mnt rw - cgroup2 cgroup2 rw\n\
                    40 30 0:36 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        assert_eq!(find_cgroup2(text), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(find_cgroup2("30 1 0:26 / /sys rw - sysfs sysfs rw\n"), None);
    }
}
