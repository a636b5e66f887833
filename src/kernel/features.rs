//! What the kernel has and how it is set: one table of questions for `raqib doctor`.
//!
//! Each answer is a value, whether it is good, and what to do if not. Nothing here is decided
//! from the kernel's version.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::objects::{self, Objects, built_preemption, chosen};
use super::{detached, host, privileges, trampoline};

/// How good an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// As it should be.
    Ok,
    /// Neither good nor bad for watching: to know when something else is odd.
    Note,
    /// Works, and tells less or costs more than it could.
    Degraded,
    /// Does not work.
    Off,
}

impl State {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Degraded => "degraded",
            Self::Off => "off",
        }
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub state: State,
    pub value: String,
    /// What it means or what to do; empty if there is nothing to say.
    pub advice: String,
}

impl Answer {
    pub fn new(state: State, value: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { state, value: value.into(), advice: advice.into() }
    }

    fn unknown(why: impl Into<String>) -> Self {
        Self::new(State::Note, "not known", why)
    }
}

/// A stable name and how to ask.
pub struct Question {
    pub name: &'static str,
    pub ask: fn() -> Answer,
}

/// In the order of printing. A name here is a key of the JSON: docs/doctor.md lists them.
pub const QUESTIONS: &[Question] = &[
    Question { name: "kernel", ask: kernel },
    Question { name: "btf", ask: btf },
    Question { name: "privileges", ask: privileges },
    Question { name: "namespaces", ask: namespaces },
    Question { name: "lsm", ask: lsm },
    Question { name: "lockdown", ask: lockdown },
    Question { name: "unprivileged_bpf", ask: unprivileged_bpf },
    Question { name: "bpf_jit", ask: bpf_jit },
    Question { name: "bpf_stats", ask: bpf_stats },
    Question { name: "memory_lock", ask: memory_lock },
    Question { name: "cgroup", ask: cgroup },
    Question { name: "bpffs", ask: bpffs },
    Question { name: "preemption", ask: preemption },
    Question { name: "fentry", ask: fentry },
];

fn kernel() -> Answer {
    Answer::new(State::Ok, host::release(), "")
}

fn btf() -> Answer {
    match host::btf() {
        Ok(()) => Answer::new(State::Ok, host::BTF, ""),
        Err(error) => Answer::new(State::Off, "none", error.to_string()),
    }
}

fn privileges() -> Answer {
    if let Err(error) = host::root("doctor") {
        return Answer::new(State::Off, "not root", error.to_string());
    }
    let Some(missing) = privileges::missing() else {
        return Answer::unknown("/proc/self/status does not tell the capabilities");
    };
    if missing.is_empty() {
        return Answer::new(State::Ok, "root, nothing is missing", "");
    }
    let mut advice = String::from("give them to the service or container:");
    for (at, one) in missing.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ =
            write!(advice, "{} {} ({})", if at > 0 { "," } else { "" }, one.name, one.needed_for);
    }
    Answer::new(State::Degraded, format!("root, {} capabilities missing", missing.len()), advice)
}

/// Inode numbers of the initial namespaces: fixed in the kernel (linux/proc_ns.h).
const INITIAL: [(&str, &str); 2] = [("pid", "pid:[4026531836]"), ("user", "user:[4026531837]")];

fn namespaces() -> Answer {
    let mut other = Vec::new();
    for (kind, initial) in INITIAL {
        match fs::read_link(format!("/proc/self/ns/{kind}")) {
            Ok(link) if link == Path::new(initial) => {}
            Ok(_) => other.push(kind),
            Err(error) => return Answer::unknown(format!("/proc/self/ns/{kind}: {error}")),
        }
    }
    if other.is_empty() {
        return Answer::new(State::Ok, "the host's pid and user namespaces", "");
    }
    let advice = "processes that were there before cannot be told apart from here: start the \
                  container in the host's namespaces (docker: --pid=host, Kubernetes: hostPID)";
    Answer::new(State::Degraded, format!("own {} namespace", other.join(" and ")), advice)
}

/// A file of securityfs, mounted or not.
fn security(file: &std::ffi::CStr) -> std::io::Result<String> {
    detached::read(c"securityfs", "/sys/kernel/security", file)
}

fn lsm() -> Answer {
    let Ok(text) = objects::security_modules() else {
        return Answer::unknown(
            "securityfs cannot be read, root may: mount -t securityfs none \
                                /sys/kernel/security",
        );
    };
    let list = text.trim();
    let advice = if list.split(',').any(|name| name == "bpf") {
        ""
    } else {
        "`bpf` is not in the list: only enforcement would need it (boot with lsm=...,bpf)"
    };
    Answer::new(State::Note, list, advice)
}

fn lockdown() -> Answer {
    let text = match security(c"lockdown") {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Answer::new(
                State::Ok,
                "none",
                "not built into this kernel, or not among its LSMs",
            );
        }
        Err(_) => {
            return Answer::unknown(
                "securityfs cannot be read, root may: mount -t securityfs none \
                                    /sys/kernel/security",
            );
        }
    };
    match chosen(&text, ['[', ']']) {
        Some("confidentiality") => Answer::new(
            State::Degraded,
            "confidentiality",
            "programs may not read kernel memory: boot with lockdown=integrity or without",
        ),
        Some(level) => Answer::new(State::Ok, level, ""),
        None => Answer::unknown(format!("lockdown says `{}`", text.trim())),
    }
}

/// A number that is set by sysctl: its text, or why it is not to be had.
fn sysctl(path: &str) -> Result<String, Answer> {
    match fs::read_to_string(Path::new("/proc/sys").join(path)) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) => Err(Answer::unknown(format!("/proc/sys/{path}: {error}"))),
    }
}

fn unprivileged_bpf() -> Answer {
    match sysctl("kernel/unprivileged_bpf_disabled").as_deref() {
        Ok("0") => Answer::new(
            State::Note,
            "0",
            "every user may load programs: raqib does not need that \
             (sysctl -w kernel.unprivileged_bpf_disabled=2)",
        ),
        Ok("1") => Answer::new(State::Ok, "1", "only privileged users load programs, until reboot"),
        Ok(other) => Answer::new(State::Ok, other, "only privileged users load programs"),
        Err(unknown) => unknown.clone(),
    }
}

fn bpf_jit() -> Answer {
    match sysctl("net/core/bpf_jit_enable").as_deref() {
        Ok("0") => Answer::new(
            State::Degraded,
            "off",
            "programs are interpreted, which costs much: sysctl -w net.core.bpf_jit_enable=1",
        ),
        Ok("1") => Answer::new(State::Ok, "on", ""),
        Ok(other) => Answer::new(
            State::Degraded,
            format!("on, {other}"),
            "the code of programs is written to the kernel's log: \
             sysctl -w net.core.bpf_jit_enable=1",
        ),
        Err(unknown) => unknown.clone(),
    }
}

fn bpf_stats() -> Answer {
    match sysctl("kernel/bpf_stats_enabled").as_deref() {
        Ok("0") => Answer::new(State::Ok, "off", ""),
        Ok(_) => Answer::new(
            State::Note,
            "on",
            "each run of a program is timed, which costs some; `raqib status --json` shows run_ns \
             (sysctl -w kernel.bpf_stats_enabled=0)",
        ),
        Err(unknown) => unknown.clone(),
    }
}

fn memory_lock() -> Answer {
    let Some(found) = privileges::memory_lock() else {
        return Answer::unknown("no BPF map can be made");
    };
    let limit = found.limit.map_or("unlimited".to_owned(), |bytes| format!("{} KiB", bytes >> 10));
    let advice = match found.counted {
        false => "does not bound BPF maps: this kernel counts them to the memory control group",
        true => {
            "bounds BPF maps on this kernel; raised at load, for which a low hard limit needs \
                 CAP_SYS_RESOURCE (systemd: LimitMEMLOCK=infinity)"
        }
    };
    Answer::new(State::Ok, limit, advice)
}

fn cgroup() -> Answer {
    let mounts = match fs::read_to_string("/proc/self/mountinfo") {
        Ok(mounts) => mounts,
        Err(error) => return Answer::unknown(format!("/proc/self/mountinfo: {error}")),
    };
    let version = hierarchies(&mounts);
    match host::cgroup2() {
        // The daemon attaches to the root of what it sees; only the true root lacks this file.
        Ok(root) if root.join("cgroup.events").exists() => Answer::new(
            State::Degraded,
            format!("{version}, v2 at {}", root.display()),
            "this is a part of the hierarchy: sockets outside of it are not seen; start the \
             container in the host's cgroup namespace (docker: --cgroupns=host)",
        ),
        Ok(root) => Answer::new(State::Ok, format!("{version}, v2 at {}", root.display()), ""),
        Err(error) => Answer::new(State::Degraded, version, error.to_string()),
    }
}

/// Which versions are mounted.
fn hierarchies(mountinfo: &str) -> &'static str {
    let mut kinds = mountinfo.lines().filter_map(|line| {
        line.split_once(" - ")?.1.split(' ').next().filter(|kind| kind.starts_with("cgroup"))
    });
    let one = kinds.clone().any(|kind| kind == "cgroup");
    let two = kinds.any(|kind| kind == "cgroup2");
    match (one, two) {
        (true, true) => "hybrid",
        (true, false) => "v1",
        (false, true) => "v2",
        (false, false) => "none",
    }
}

fn bpffs() -> Answer {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let place = mount_of("bpf", &mounts).unwrap_or("not mounted");
    Answer::new(State::Note, place, "not needed: nothing is pinned")
}

fn mount_of<'a>(filesystem: &str, mountinfo: &'a str) -> Option<&'a str> {
    mountinfo.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        (right.split(' ').next() == Some(filesystem)).then(|| left.split(' ').nth(4)).flatten()
    })
}

fn preemption() -> Answer {
    let build = fs::read_to_string("/proc/sys/kernel/version").unwrap_or_default();
    let running = objects::running_preemption();
    match (running, built_preemption(&build)) {
        (Some(running), built) => Answer::new(State::Note, format!("{running} ({built})"), ""),
        (None, built) => Answer::new(State::Note, built, ""),
    }
}

/// What the object tier stands on.
fn fentry() -> Answer {
    match (trampoline::attempt(), objects::offered()) {
        (Err(refused), _) => Answer::new(
            State::Degraded,
            "no",
            format!("{refused}; facts are taken from tracepoints instead"),
        ),
        (Ok(()), Err(reason)) => Answer::new(State::Degraded, "not used", reason),
        (Ok(()), Ok(Objects::Lsm)) => {
            Answer::new(State::Ok, "works", "facts of the object tier come by BPF LSM programs")
        }
        (Ok(()), Ok(Objects::Functions)) => {
            Answer::new(State::Ok, "works", "facts of the object tier come from functions")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_is_what_is_in_brackets() {
        assert_eq!(chosen("none [integrity] confidentiality\n", ['[', ']']), Some("integrity"));
        assert_eq!(chosen("none voluntary (full)\n", ['(', ')']), Some("full"));
        assert_eq!(chosen("none voluntary\n", ['(', ')']), None);
        assert_eq!(chosen("", ['[', ']']), None);
    }

    const UNIFIED: &str = "29 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n";
    const LEGACY: &str = "30 29 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
    const PINS: &str = "31 23 0:29 / /sys/fs/bpf rw,nosuid shared:9 - bpf none rw,mode=700\n";

    #[test]
    fn both_versions_of_control_groups_together_are_hybrid() {
        assert_eq!(hierarchies(UNIFIED), "v2");
        assert_eq!(hierarchies(LEGACY), "v1");
        assert_eq!(hierarchies(&format!("{LEGACY}{UNIFIED}")), "hybrid");
        assert_eq!(hierarchies(PINS), "none");
        assert_eq!(hierarchies("not a mount\n"), "none");
    }

    #[test]
    fn a_filesystem_is_found_where_it_is_mounted() {
        assert_eq!(mount_of("bpf", &format!("{UNIFIED}{PINS}")), Some("/sys/fs/bpf"));
        assert_eq!(mount_of("bpf", UNIFIED), None);
    }

    #[test]
    fn preemption_is_a_word_of_the_build() {
        assert_eq!(built_preemption("#1 SMP PREEMPT_DYNAMIC Debian 6.1"), "PREEMPT_DYNAMIC");
        assert_eq!(built_preemption("#1 SMP Debian 5.10.2-1"), "voluntary or none");
    }

    #[test]
    fn names_are_keys_and_each_is_there_once() {
        let mut names: Vec<&str> = QUESTIONS.iter().map(|question| question.name).collect();
        assert!(names.iter().all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), QUESTIONS.len());
    }
}
