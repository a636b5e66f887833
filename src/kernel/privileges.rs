//! What this process may do: capabilities, and memory for maps.

use std::fs;

use libbpf_rs::{MapHandle, MapType, libbpf_sys};

/// A capability that watching needs, and what it is for.
#[derive(Clone, Copy, Debug)]
pub struct Capability {
    pub name: &'static str,
    /// Its number in linux/capability.h.
    bit: u32,
    /// Whether CAP_SYS_ADMIN, from which it was split off, does as well.
    in_admin: bool,
    pub needed_for: &'static str,
}

/// CAP_SYS_ADMIN.
const ADMIN: u32 = 21;

pub const CAPABILITIES: &[Capability] = &[
    Capability { name: "CAP_BPF", bit: 39, in_admin: true, needed_for: "loading programs" },
    Capability {
        name: "CAP_PERFMON",
        bit: 38,
        in_admin: true,
        needed_for: "programs at tracepoints, and reading kernel memory in them",
    },
    Capability {
        name: "CAP_NET_ADMIN",
        bit: 12,
        in_admin: true,
        needed_for: "programs that see packets",
    },
    Capability {
        name: "CAP_SYS_PTRACE",
        bit: 19,
        in_admin: false,
        needed_for: "executables and folders of processes that were there before",
    },
    Capability {
        name: "CAP_SYS_ADMIN",
        bit: ADMIN,
        in_admin: false,
        needed_for: "listing programs, from which `raqib status` knows of skipped runs",
    },
];

impl Capability {
    fn held(&self, effective: u64) -> bool {
        let has = |bit: u32| effective & (1 << bit) != 0;
        has(self.bit) || (self.in_admin && has(ADMIN))
    }
}

/// Those of [`CAPABILITIES`] that are not in effect; None if /proc does not tell.
pub fn missing() -> Option<Vec<Capability>> {
    let effective = effective(&fs::read_to_string("/proc/self/status").ok()?)?;
    Some(CAPABILITIES.iter().filter(|needed| !needed.held(effective)).copied().collect())
}

/// The effective set in the text of /proc/PID/status.
fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// How much memory may be locked, and whether that bounds BPF maps at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLock {
    /// Bytes; None: unlimited.
    pub limit: Option<u64>,
    /// Kernels before 5.11 count maps here; newer ones count them to the memory control group.
    pub counted: bool,
}

/// Asks by making a small map while nothing may be locked. The limit is set back at once.
/// None where maps cannot be made at all.
pub fn memory_lock() -> Option<MemoryLock> {
    let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit fills the struct that it is given.
    if unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut before) } != 0 {
        return None;
    }
    let limit = (before.rlim_cur != libc::RLIM_INFINITY).then_some(before.rlim_cur);
    small_map().ok()?;
    let nothing = libc::rlimit { rlim_cur: 0, ..before };
    // SAFETY: setrlimit reads the struct; lowering the soft limit is always allowed.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const nothing) };
    let counted = small_map().is_err();
    // SAFETY: as above; what was the limit is not above the hard one.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const before) };
    Some(MemoryLock { limit, counted })
}

/// Lets as much memory be locked as may be: kernels before 5.11 count maps and programs there. libbpf
/// does so once in a process, which [`memory_lock`] undoes.
pub fn raise_memory_lock() {
    let all = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: setrlimit reads the struct that it is given, getrlimit fills it.
    unsafe {
        if libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const all) == 0
            || libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) != 0
        {
            return;
        }
        // Not above the hard limit, then. What is too little shows when the programs are loaded.
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit);
    }
}

fn small_map() -> libbpf_rs::Result<MapHandle> {
    let options = libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_sys::bpf_map_create_opts>() as _,
        ..Default::default()
    };
    MapHandle::create(MapType::Array, Some("raqib_doctor"), 4, 4, 1, &options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effective_set_is_read_from_status() {
        let status = "Name:\tx\nCapPrm:\t0000000000000001\nCapEff:\t000001fffeffffff\n";
        assert_eq!(effective(status), Some(0x1ff_feff_ffff));
        assert_eq!(effective("Name:\tx\n"), None);
    }

    #[test]
    fn what_was_split_off_is_in_the_whole() {
        let lacks = |set: u64| -> Vec<&str> {
            CAPABILITIES.iter().filter(|one| !one.held(set)).map(|one| one.name).collect()
        };
        assert_eq!(lacks(1 << ADMIN), ["CAP_SYS_PTRACE"]);
        assert_eq!(lacks(1 << 39 | 1 << 38 | 1 << 12 | 1 << 19), ["CAP_SYS_ADMIN"]);
        assert_eq!(lacks(0).len(), CAPABILITIES.len());
    }
}
