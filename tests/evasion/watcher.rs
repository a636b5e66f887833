//! The daemon itself as the target: stopped, frozen, looked into, killed. A second one watches, and
//! the first, where it lives on, has to tell what was done to it and while it could not look.

use std::fs;
use std::path::PathBuf;
use std::ptr::null_mut;
use std::time::{Duration, Instant};

use crate::activities::{list, told};
use crate::common::acts::{in_child, of, ok, touch};
use crate::common::{CADENCE, Daemon, PATIENCE, cannot_run, file_recipe, slow};
use crate::place::{Place, acts};
use crate::{Findings, skip};

/// What anybody does but the two daemons: else each would tell what the other does to tell it, for
/// ever.
const RECIPE: &str = "- {kind: act, name: act, version: 1.0, description: test, breed: activity, \
     mechanism: activity, tactic: none, technique: none, importance: low, \
     activities: [signal, ptrace, bpf], arbitrary: [{how: OR, which: pertinent, items: \
     [{what: exe, which: irrelevant, pattern: '/raqib$'}]}]}\n";

/// A control group of version 2 for one process, which goes back where it was.
struct Group {
    path: PathBuf,
    pid: u32,
    before: PathBuf,
}

impl Group {
    /// None where this machine has no control groups of version 2, or none that can be frozen.
    fn new(pid: u32) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let root = mounts.lines().find_map(|line| {
            let mut words = line.split(' ').skip(1);
            let at = words.next()?;
            (words.next() == Some("cgroup2")).then(|| PathBuf::from(at))
        })?;
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
        let path = root.join(format!("raqib-frozen-{pid}"));
        fs::create_dir(&path).ok()?;
        let group = Self { path, pid, before: root.join(own) };
        group.path.join("cgroup.freeze").exists().then_some(group)
    }

    /// Until the kernel says that all in it is frozen.
    fn freeze(&self) {
        fs::write(self.path.join("cgroup.procs"), self.pid.to_string()).unwrap();
        fs::write(self.path.join("cgroup.freeze"), "1").unwrap();
        let events = self.path.join("cgroup.events");
        until(|| fs::read_to_string(&events).unwrap().contains("frozen 1"));
    }

    fn thaw(&self) {
        fs::write(self.path.join("cgroup.freeze"), "0").unwrap();
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Also when the test fails halfway, or when the process is gone.
        let _ = fs::write(self.path.join("cgroup.freeze"), "0");
        let _ = fs::write(self.before.join("cgroup.procs"), self.pid.to_string());
        let _ = fs::remove_dir(&self.path);
    }
}

fn until(mut is: impl FnMut() -> bool) {
    let end = Instant::now() + slow(Duration::from_secs(5));
    while !is() {
        assert!(Instant::now() < end, "it does not come to that");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// As /proc has it: `T` stopped.
fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next())
}

fn send(pid: u32, signal: i32) -> u32 {
    in_child(|| _ = ok(unsafe { libc::kill(pid as i32, signal) }))
}

/// Asks for a descriptor of each of the host's BPF maps, as who wants to change one has to.
fn reach_for_maps() {
    const MAP_GET_NEXT_ID: i32 = 12;
    const MAP_GET_FD_BY_ID: i32 = 14;
    // An id, and the one after it.
    let ask = |command: i32, id: u32| unsafe {
        let mut attributes = [0u32; 32];
        attributes[0] = id;
        let returned = libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), 128);
        (returned, attributes[1])
    };
    let mut id = 0;
    while let (0, next) = ask(MAP_GET_NEXT_ID, id) {
        let (fd, _) = ask(MAP_GET_FD_BY_ID, next);
        if fd >= 0 {
            ok(unsafe { libc::close(fd as i32) });
        }
        id = next;
    }
}

fn attach_and_detach(pid: u32) {
    let (pid, none) = (pid as i32, null_mut::<u8>());
    unsafe {
        ok(libc::ptrace(libc::PTRACE_ATTACH, pid, none, none));
        libc::waitpid(pid, null_mut(), libc::__WALL);
        ok(libc::ptrace(libc::PTRACE_DETACH, pid, none, none));
    }
}

#[test]
fn what_is_done_to_the_daemon_itself() {
    if let Some(reason) = cannot_run() {
        skip!("what_is_done_to_the_daemon_itself", reason);
    }
    let place = Place::new();
    for name in ["while-stopped", "while-frozen"] {
        place.file(name);
    }
    let recipes = place.recipes()
        + RECIPE
        + &file_recipe("group", "/raqib-frozen-[0-9]+/cgroup[.]freeze$", "[write]");
    let mut first = Daemon::with_recipes(&recipes);
    let mut second = Daemon::beside(&first, &recipes);
    let daemon = first.pid();
    let at = |name: &str| place.at(name);
    // Longer than it takes until it would have looked.
    let pause = || std::thread::sleep(CADENCE + CADENCE / 2);

    let stopper = send(daemon, libc::SIGSTOP);
    until(|| state(daemon) == Some('T'));
    let while_stopped = in_child(|| touch(at("while-stopped")));
    pause();
    let waker = send(daemon, libc::SIGCONT);
    let frozen = Group::new(daemon).map(|group| {
        let freezer = in_child(|| group.freeze());
        let meanwhile = in_child(|| touch(at("while-frozen")));
        pause();
        group.thaw();
        (freezer, meanwhile)
    });
    let tracer = in_child(|| attach_and_detach(daemon));
    let reacher = in_child(reach_for_maps);
    // It has judged all of it when it has answered.
    first.query(1);
    let own = first.all(PATIENCE);
    let killer = send(daemon, libc::SIGKILL);
    until(|| first.ended().is_some());
    second.query(1);
    let alerts = second.all(PATIENCE);

    let mut findings = Findings::default();
    let it = list(&[&daemon.to_string()]);
    let family = "stopping the daemon";
    for alerts in [&own, &alerts] {
        findings.seen(family, list(&["stop"]), told(alerts, stopper, "signal", "signal"));
        findings.seen(family, it.clone(), told(alerts, stopper, "signal", "target"));
        findings.seen(family, list(&["cont"]), told(alerts, waker, "signal", "signal"));
        let meanwhile = place.counts(alerts, while_stopped, "while-stopped");
        findings.seen(family, acts("open=1"), meanwhile);
    }
    let family = "freezing the daemon";
    match frozen {
        Some((freezer, meanwhile)) => {
            for alerts in [&own, &alerts] {
                findings.seen(family, 1, of(alerts, "group", freezer).count());
                let meanwhile = place.counts(alerts, meanwhile, "while-frozen");
                findings.seen(family, acts("open=1"), meanwhile);
            }
        }
        None => println!("SKIPPED: {family}: no control groups of version 2 that can be frozen"),
    }
    let family = "looking into the daemon";
    for alerts in [&own, &alerts] {
        let requests = told(alerts, tracer, "ptrace", "request");
        findings.seen(family, list(&["attach", "detach"]), requests);
        findings.seen(family, it.clone(), told(alerts, tracer, "ptrace", "target"));
        let commands = told(alerts, reacher, "bpf", "command");
        findings.seen(family, true, commands.contains(&"map_get_fd_by_id".to_owned()));
    }
    let family = "killing the daemon";
    findings.seen(family, list(&["kill"]), told(&alerts, killer, "signal", "signal"));
    findings.seen(family, it, told(&alerts, killer, "signal", "target"));
    findings.report();
}
