//! The BPF programs, as the running kernel took them.
//!
//! Prints a line `INSNS program tier verified xlated` for each: `make test-vm` compares them with
//! what is recorded in bpf/budget.tsv.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod common;

use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Mutex;

use common::{cannot_run, lock};
use libbpf_rs::libbpf_sys;
use libbpf_rs::skel::{OpenSkel as _, Skel as _, SkelBuilder as _};
use log::{LevelFilter, Log, Metadata, Record};
use raqib::kernel::RaqibSkelBuilder;
use raqib::kernel::load::Kernel;

/// BPF_LOG_STATS of the kernel's include/linux/bpf_verifier.h: one line when it is done. Since 5.16
/// the number is in the program's own information as well; this is known of all.
const VERIFIER_STATISTICS: u32 = 4;

/// What libbpf says.
struct Said(Mutex<Vec<String>>);

static SAID: Said = Said(Mutex::new(Vec::new()));

impl Log for Said {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        self.0.lock().unwrap().push(record.args().to_string());
    }

    fn flush(&self) {}
}

/// From the verifier's last words on each program, which every kernel says:
/// `prog 'X': -- BEGIN PROG LOAD LOG --`, ..., `processed 1234 insns (limit 1000000) ...`.
fn verified(said: &[String]) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for text in said {
        let name = text.split("prog '").nth(1).and_then(|rest| rest.split('\'').next());
        let count = text.lines().rev().find_map(|line| {
            line.strip_prefix("processed ")?.split_once(" insns")?.0.parse::<u64>().ok()
        });
        if let Some((name, count)) = name.zip(count) {
            found.insert(name.to_owned(), count);
        }
    }
    found
}

/// What hangs on kernel functions is of the object tier, what hangs on tracepoints of the other;
/// the rest is there with both.
fn tier(section: &str) -> &'static str {
    match section.split(['/', '.', '+']).next().unwrap_or_default() {
        "fentry" | "fexit" | "fmod_ret" | "lsm" | "kprobe" | "kretprobe" => "object",
        "tp_btf" | "raw_tp" | "raw_tracepoint" | "tp" | "tracepoint" => "tracepoint",
        _ => "both",
    }
}

/// Those that the daemon would have: it leaves out what this kernel does not take.
fn taken() -> Vec<String> {
    let kernel = Kernel::load().unwrap();
    let programs = kernel.skel.object().progs().filter(libbpf_rs::ProgramImpl::autoload);
    programs.map(|program| program.name().to_string_lossy().into_owned()).collect()
}

/// How many the kernel runs, of 8 bytes each.
fn instructions(program: BorrowedFd<'_>) -> u32 {
    // SAFETY: the kernel's own structure of numbers, for which zeros are no request.
    let mut info: libbpf_sys::bpf_prog_info = unsafe { std::mem::zeroed() };
    let mut size = size_of_val(&info) as u32;
    // SAFETY: both live until it returns.
    let done = unsafe {
        libbpf_sys::bpf_prog_get_info_by_fd(program.as_raw_fd(), &raw mut info, &raw mut size)
    };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    info.xlated_prog_len / 8
}

#[test]
fn each_program_is_within_what_a_verifier_takes() {
    if let Some(reason) = cannot_run() {
        skip!("each_program_is_within_what_a_verifier_takes", reason);
    }
    log::set_logger(&SAID).unwrap();
    let _lock = lock();
    let taken = taken();
    log::set_max_level(LevelFilter::Trace);
    let mut object = MaybeUninit::uninit();
    let mut open = RaqibSkelBuilder::default().open(&mut object).unwrap();
    for mut program in open.open_object_mut().progs_mut() {
        program.set_log_level(VERIFIER_STATISTICS);
        let taken = taken.iter().any(|name| program.name() == name.as_str());
        program.set_autoload(program.autoload() && taken);
    }
    let skel = open.load().unwrap();
    let verified = verified(&SAID.0.lock().unwrap());
    let mut told = 0;
    for program in skel.object().progs() {
        let name = program.name().to_string_lossy().into_owned();
        // Not for this kernel.
        if !program.autoload() {
            continue;
        }
        let xlated = instructions(program.as_fd());
        let count = verified.get(&name).copied();
        let shown = count.map_or_else(|| "-".to_owned(), |count| count.to_string());
        let section = program.section().to_string_lossy();
        println!("INSNS {name} {} {shown} {xlated}", tier(&section));
        // The kernel's limit is a million; half of it leaves room for kernels that merge less.
        assert!(count.is_none_or(|count| count < 500_000), "{name}: {count:?}");
        assert!(xlated > 0 && count.is_none_or(|count| count > 0), "{name}: {count:?} {xlated}");
        told += 1;
    }
    assert!(told >= 7, "{told}");
}
