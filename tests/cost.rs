//! What watching costs on the kernel that runs, tier by tier: printed, for the pages on kernels.
//!
//! Numbers of an emulated or busy machine mean little by themselves. So each loop is run in turns
//! without and with the daemon, and the least of each is what is compared; the time of a program's
//! run is the kernel's own count (kernel.bpf_stats_enabled), taken apart from those.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
#![allow(clippy::undocumented_unsafe_blocks, reason = "plain system calls")]

mod common;

use std::ffi::CString;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use common::acts::{exec, in_child, tiny_program};
use common::{Daemon, SLOW, cannot_run};
use serde_json::Value;

const STATISTICS: &str = "/proc/sys/kernel/bpf_stats_enabled";
const ROUNDS: usize = 3;
/// A loop that a program slows down more than that is a fault, on whatever machine.
const SLOWEST: f64 = 20.0;

struct Loop {
    name: &'static str,
    times: u32,
    act: fn(&Place, u32),
}

struct Place {
    file: CString,
    names: [CString; 2],
    tiny: CString,
}

impl Place {
    fn new(folder: &Path) -> Self {
        let path = |name: &str| CString::new(folder.join(name).as_os_str().as_bytes()).unwrap();
        fs::write(folder.join("file"), "x").unwrap();
        fs::write(folder.join("old"), "x").unwrap();
        tiny_program(&folder.join("tiny")).unwrap();
        Self { file: path("file"), names: [path("old"), path("new")], tiny: path("tiny") }
    }
}

fn files(place: &Place, times: u32) {
    for _ in 0..times {
        unsafe {
            let fd = libc::open(place.file.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
            assert!(fd >= 0);
            assert_eq!(libc::read(fd, [0u8].as_mut_ptr().cast(), 1), 1);
            libc::close(fd);
        }
    }
}

fn renames(place: &Place, times: u32) {
    let [old, new] = &place.names;
    for _ in 0..times / 2 {
        unsafe {
            assert_eq!(libc::rename(old.as_ptr(), new.as_ptr()), 0);
            assert_eq!(libc::rename(new.as_ptr(), old.as_ptr()), 0);
        }
    }
}

fn programs(place: &Place, times: u32) {
    let tiny = Path::new(std::ffi::OsStr::from_bytes(place.tiny.as_bytes()));
    for _ in 0..times {
        let pid = common::acts::fork(|| exec(tiny, &[b"tiny"]));
        common::acts::wait(pid);
    }
}

fn connections(_: &Place, times: u32) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    for _ in 0..times {
        let client = TcpStream::connect(to).unwrap();
        let (server, _) = listener.accept().unwrap();
        drop((client, server));
    }
}

/// Calls that no program is interested in: what everybody else pays.
fn nothing(_: &Place, times: u32) {
    for _ in 0..times {
        unsafe { libc::syscall(libc::SYS_getppid) };
    }
}

const LOOPS: [Loop; 5] = [
    Loop { name: "getppid", times: 100_000, act: nothing },
    Loop { name: "open, read, close", times: 30_000, act: files },
    Loop { name: "rename", times: 10_000, act: renames },
    Loop { name: "fork, exec, exit", times: 300, act: programs },
    Loop { name: "connect, accept, close", times: 1_000, act: connections },
];

/// The least time of each loop, per turn.
fn measured(place: &Place) -> [Duration; LOOPS.len()] {
    LOOPS.map(|one| {
        let times = one.times / SLOW;
        let turn = |_| {
            let began = Instant::now();
            in_child(|| (one.act)(place, times));
            began.elapsed() / times
        };
        (0..ROUNDS).map(turn).min().unwrap()
    })
}

/// Counting run times costs as well: on while this lives.
struct Statistics {
    before: String,
}

impl Statistics {
    fn on() -> Self {
        let before = fs::read_to_string(STATISTICS).unwrap();
        fs::write(STATISTICS, "1").unwrap();
        Self { before }
    }
}

impl Drop for Statistics {
    fn drop(&mut self) {
        let _ = fs::write(STATISTICS, &self.before);
    }
}

#[test]
fn what_loops_and_programs_cost() {
    if let Some(reason) = cannot_run() {
        skip!("what_loops_and_programs_cost", reason);
    }
    let folder = tempfile::tempdir().unwrap();
    let place = Place::new(folder.path());
    let first = measured(&place);
    let daemon = Daemon::with_recipes("[]");
    let watched = measured(&place);
    let statistics = Statistics::on();
    for one in &LOOPS {
        in_child(|| (one.act)(&place, one.times / SLOW));
    }
    drop(statistics);
    let status = daemon.status();
    drop(daemon);
    // Once more: what the machine itself did meanwhile must not be taken for the daemon's.
    let last = measured(&place);
    for (at, one) in LOOPS.iter().enumerate() {
        let plain = first[at].min(last[at]);
        let ratio = watched[at].as_secs_f64() / plain.as_secs_f64();
        println!("COST loop {}: {ratio:.2} ({plain:.1?} plain)", one.name);
        assert!(ratio < SLOWEST, "{}: {:?} without, {:?} with", one.name, plain, watched[at]);
    }
    let mut ran = 0;
    // Another daemon's programs may be listed as well: the newest of a name are ours.
    let programs = status["programs"].as_array().unwrap();
    let newer = |one: &Value, other: &Value| {
        one["name"] == other["name"] && one["id"].as_u64() > other["id"].as_u64()
    };
    for program in programs.iter().filter(|one| !programs.iter().any(|other| newer(other, one))) {
        let (runs, time) = (&program["runs"], &program["run_ns"]);
        let (runs, time) = (runs.as_u64().unwrap(), time.as_u64().unwrap());
        if let Some(mean) = time.checked_div(runs) {
            let name = program["name"].as_str().unwrap();
            println!("COST program {name}: {mean} ({runs} runs)");
            ran += 1;
        }
    }
    assert!(ran >= 4, "{status}");
}
