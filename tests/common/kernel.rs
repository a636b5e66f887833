//! What the kernel holds of a daemon.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use libbpf_rs::query::ProgInfoIter;

use super::slow;

/// Ids of all BPF programs of the host.
pub fn programs() -> BTreeSet<u32> {
    ProgInfoIter::default().map(|program| program.id).collect()
}

/// Ids of the BPF programs that a process holds, themselves or through a link.
pub fn programs_of(pid: u32) -> BTreeSet<u32> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
    let texts = descriptors.filter_map(|entry| fs::read_to_string(entry.path()).ok());
    let ids = texts.flat_map(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("prog_id:").map(str::to_owned));
        line.and_then(|id| id.trim().parse().ok())
    });
    ids.collect()
}

/// Waits until none of the programs is there. The kernel frees them a little after their owner.
pub fn expect_gone(programs_before: &BTreeSet<u32>) {
    let until = Instant::now() + slow(Duration::from_secs(3));
    loop {
        let left: Vec<u32> = programs().intersection(programs_before).copied().collect();
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < until, "still there: {left:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until there is no program that was not there before and that no living process holds.
pub fn expect_nothing_left(programs_before: &BTreeSet<u32>) {
    let until = Instant::now() + slow(Duration::from_secs(3));
    loop {
        let mut left: BTreeSet<u32> = programs().difference(programs_before).copied().collect();
        if !left.is_empty() {
            let entries = fs::read_dir("/proc").unwrap().flatten();
            let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
            for pid in pids {
                left = left.difference(&programs_of(pid)).copied().collect();
            }
        }
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < until, "left behind: {left:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
