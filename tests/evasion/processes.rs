//! Processes that are gone, or whose parents are, when anybody looks.

use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::acts::{child, exec, fork, of, ok, tiny_program, touch, wait};
use crate::common::{Daemon, PATIENCE, ancestry, cannot_run};
use crate::place::{Place, acts};
use crate::{Findings, skip};

const CLONE_ARGS: usize = 88;

/// `clone3` with the flags, and the pid that the child shall have (0: any).
fn clone3(flags: i32, pid: u32, act: impl FnOnce()) -> u32 {
    let wanted = [pid];
    let mut args = [0u64; CLONE_ARGS / 8];
    args[0] = flags as u64;
    args[4] = libc::SIGCHLD as u64;
    if pid > 0 {
        args[8] = wanted.as_ptr() as u64;
        args[9] = 1;
    }
    match unsafe { libc::syscall(libc::SYS_clone3, args.as_ptr(), CLONE_ARGS) } {
        0 => child(act),
        pid => ok(pid) as u32,
    }
}

fn alert_of<'a>(alerts: &'a [Value], recipe: &'a str, pid: u32) -> &'a Value {
    of(alerts, recipe, pid).next().unwrap_or_else(|| panic!("nothing of {recipe} on {pid}"))
}

#[test]
fn processes_that_nobody_can_ask() {
    if let Some(reason) = cannot_run() {
        skip!("processes_that_nobody_can_ask", reason);
    }
    let place = Place::new();
    let tiny = place.at("tiny");
    if tiny_program(&tiny).is_none() {
        skip!("processes_that_nobody_can_ask", "gcc cannot build a static program here");
    }
    for name in ["orphans", "adopted", "second", "inside"] {
        place.file(name);
    }
    let mut daemon = Daemon::with_recipes(&place.recipes());
    let short: Vec<u32> = (0..300)
        .map(|number| {
            let mut child = Command::new(&tiny).arg(format!("{number}")).spawn().unwrap();
            child.wait().unwrap();
            child.id()
        })
        .collect();
    // The launcher and the middle have ended when the orphan acts.
    let orphan = |file: &str, reaped_here: bool| {
        let (told, at) = (place.told("pids"), place.at(file));
        let launcher = fork(|| unsafe {
            if reaped_here {
                ok(libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1));
            }
            let middle = fork(|| {
                ok(libc::setsid());
                fork(|| {
                    std::thread::sleep(Duration::from_millis(150));
                    touch(at);
                    fs::write(&told, format!("{} {}", libc::getpid(), libc::getppid())).unwrap();
                });
            });
            assert_eq!(wait(middle), 0);
            if reaped_here {
                libc::wait(std::ptr::null_mut());
            }
        });
        assert_eq!(wait(launcher), 0);
        std::thread::sleep(Duration::from_millis(400));
        let text = fs::read_to_string(&told).unwrap();
        fs::remove_file(&told).unwrap();
        let (pid, parent) = text.split_once(' ').unwrap();
        (launcher, pid.parse::<u32>().unwrap(), parent.parse::<u32>().unwrap())
    };
    let orphaned = orphan("orphans", false);
    let adopted = orphan("adopted", true);
    assert_eq!(adopted.2, adopted.0, "the launcher is its parent now");
    let first = fork(|| exec(&tiny, &[b"first"]));
    assert_eq!(wait(first), 7 << 8);
    let second = clone3(0, first, || touch(place.at("second")));
    assert_eq!((wait(second), second), (0, first));
    let new = libc::CLONE_NEWUSER | libc::CLONE_NEWPID | libc::CLONE_NEWNS;
    let inside = clone3(new | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC, 0, || {
        assert_eq!(unsafe { libc::getpid() }, 1);
        exec(&tiny, &[b"inside"]);
    });
    assert_eq!(wait(inside), 7 << 8);

    let alerts = daemon.all(PATIENCE);
    let mut findings = Findings::default();
    for (number, pid) in short.iter().enumerate() {
        let told = &alert_of(&alerts, "run", *pid)["process"]["args_list"];
        let truth = json!([place.told("tiny"), number.to_string()]);
        findings.seen("short processes", truth, told.clone());
    }
    let me = u64::from(std::process::id());
    let mut lineage = |family, (launcher, pid, _): (u32, u32, u32)| {
        let told = ancestry(alert_of(&alerts, "file", pid));
        let from = told.iter().position(|pid| *pid == me).unwrap_or(0);
        // Ourselves, the launcher, the middle, the orphan.
        findings.seen(family, 4, told[from..].len());
        findings.seen(family, u64::from(launcher), told[from + 1]);
        findings.seen(family, u64::from(pid), told[from + 3]);
    };
    lineage("double fork, setsid", orphaned);
    lineage("subreaper", adopted);
    let family = "PID reuse";
    let (one, other) = (
        &alert_of(&alerts, "run", first)["process"],
        &alert_of(&alerts, "file", second)["process"],
    );
    findings.seen(family, json!(place.told("tiny")), one["exe"].clone());
    let mine = fs::read_link("/proc/self/exe").unwrap();
    findings.seen(family, json!(mine.to_str().unwrap()), other["exe"].clone());
    findings.seen(family, true, one["uuid"] != other["uuid"] && one["start"] != other["start"]);
    findings.seen(family, acts("open=1"), place.counts(&alerts, second, "second"));
    let family = "clone3 into namespaces";
    let told = &alert_of(&alerts, "run", inside)["process"];
    findings.seen(family, json!(inside), told["pid"].clone());
    for name in ["pid_ns", "user_ns", "mnt_ns", "uts_ns", "ipc_ns"] {
        let apart = told["namespaces"][name] != one["namespaces"][name];
        findings.seen(family, true, apart);
    }
    findings.report();
}
