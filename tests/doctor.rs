//! `raqib doctor` on the running kernel: what it says is what is so.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]
#![allow(clippy::undocumented_unsafe_blocks, reason = "plain system calls")]

mod common;

use std::collections::BTreeSet;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};

use common::kernel::{expect_nothing_left, programs};
use common::{Daemon, binary, cannot_run, exec_recipe, lock, prepare};
use raqib::kernel::hooks::HOOKS;
use serde_json::Value;

fn doctor(args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.arg("doctor").args(args).stdin(Stdio::null());
    command
}

fn json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!("no JSON: {error}: {text}{}", String::from_utf8_lossy(&output.stderr))
    })
}

fn states(report: &Value) -> (Vec<&str>, Vec<&str>) {
    let host = report["host"].as_object().unwrap().values();
    let facts = report["facts"].as_array().unwrap().iter();
    (
        host.map(|answer| answer["state"].as_str().unwrap()).collect(),
        facts.map(|fact| fact["state"].as_str().unwrap()).collect(),
    )
}

/// The code of docs/doctor.md, from what is printed alone.
fn expected_code(report: &Value) -> i32 {
    let (host, facts) = states(report);
    match () {
        () if host.contains(&"off") => 2,
        () if [&host, &facts].iter().any(|states| states.contains(&"degraded")) => 1,
        () if facts.contains(&"off") => 1,
        () => 0,
    }
}

fn expect_consistent(output: &Output) -> Value {
    let report = json(output);
    let code = output.status.code().unwrap();
    assert_eq!(report["exit_code"], code, "{report}");
    assert_eq!(code, expected_code(&report), "{report}");
    let told: Vec<&str> =
        report["facts"].as_array().unwrap().iter().map(|f| f["fact"].as_str().unwrap()).collect();
    let all: Vec<&str> = HOOKS.iter().map(|hook| hook.fact).collect();
    assert_eq!(told, all);
    for fact in report["facts"].as_array().unwrap() {
        let (off, otherwise) = (fact["off"].is_string(), fact["instead"] != "");
        assert_eq!(off, fact["tier"] == "off", "{fact}");
        assert_eq!(otherwise, fact["tier"] == "other", "{fact}");
        let programs = fact["programs"].as_array().unwrap();
        assert_eq!(off || otherwise, programs.is_empty(), "{fact}");
    }
    report
}

#[test]
fn a_host_that_can_be_watched_is_said_to_be_and_nothing_is_left_there() {
    if let Some(reason) = cannot_run() {
        skip!("a_host_that_can_be_watched_is_said_to_be_and_nothing_is_left_there", reason);
    }
    let _lock = lock();
    let before = programs();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let report = expect_consistent(&doctor(&["--json"]).output().unwrap());
    expect_nothing_left(&before);
    assert_eq!(std::fs::read_to_string("/proc/self/mountinfo").unwrap(), mounts);
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(report["host"]["kernel"]["value"], release.trim());
    assert_eq!(report["host"]["btf"]["state"], "ok");
    assert_eq!(report["host"]["programs"]["state"], "ok", "{report}");
    // The other tests run a daemon here, so these are so.
    let processes = &report["facts"][0];
    assert_eq!(processes["state"], "ok", "{processes}");
    // All of one way, whichever this kernel takes.
    let told = Value::from(processes["programs"].as_array().unwrap().clone());
    assert!(HOOKS[0].ways.iter().any(|way| told == Value::from(way.programs)), "{told}");
    // Root reads it whether or not it is mounted.
    let lsm = report["host"]["lsm"]["value"].as_str().unwrap();
    assert!(lsm.split(',').any(|name| name == "capability"), "{lsm}");
    let known: BTreeSet<&str> = ["ok", "note", "degraded", "off"].into();
    assert!(states(&report).0.iter().all(|state| known.contains(state)));
}

#[test]
fn it_works_beside_a_daemon_and_knows_what_recipes_ask_for() {
    if let Some(reason) = cannot_run() {
        skip!("it_works_beside_a_daemon_and_knows_what_recipes_ask_for", reason);
    }
    let mut daemon = Daemon::with_recipes(&exec_recipe("echo", "/echo$"));
    let config = daemon.config.to_str().unwrap().to_owned();
    let own = common::kernel::programs_of(daemon.pid());
    let report = expect_consistent(&doctor(&["--json", "--config", &config]).output().unwrap());
    let value = report["host"]["daemon"]["value"].as_str().unwrap();
    assert!(value.contains(&format!("pid {}", daemon.pid())), "{value}");
    assert_eq!(report["facts"][0]["state"], "ok", "{report}");
    // What was taken back was its own: the daemon goes on.
    assert_eq!(common::kernel::programs_of(daemon.pid()), own);
    Command::new("/bin/echo").stdout(Stdio::null()).status().unwrap();
    daemon.expect("echo", |_| true);
    drop(daemon);

    let close = common::file_recipe("closed", "^/nowhere$", "[close]");
    let (_folder, config) = prepare(&close, "", false);
    let output = doctor(&["--json", "--config", config.to_str().unwrap()]).output().unwrap();
    let report = expect_consistent(&output);
    let closes =
        report["facts"].as_array().unwrap().iter().find(|fact| fact["fact"] == "closes").unwrap();
    assert_ne!(closes["state"], "unused", "{closes}");
}

#[test]
fn who_is_not_root_is_told_what_to_do() {
    if unsafe { libc::geteuid() } != 0 {
        skip!("who_is_not_root_is_told_what_to_do", "needs root to become nobody");
    }
    // The build folder may be closed to nobody: the open file is not.
    let file = std::fs::File::open(binary()).unwrap();
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    let run = |json: bool| {
        let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
        let mut command = Command::new(&path);
        command.arg("doctor").args(json.then_some("--json"));
        unsafe {
            command.pre_exec(move || {
                libc::fcntl(fd, libc::F_SETFD, 0);
                let dropped = libc::setgroups(0, std::ptr::null()) == 0
                    && libc::setgid(65534) == 0
                    && libc::setuid(65534) == 0;
                if dropped { Ok(()) } else { Err(io::Error::last_os_error()) }
            });
        }
        command.output().unwrap()
    };
    let report = expect_consistent(&run(true));
    assert_eq!(report["exit_code"], 2);
    let advice = report["host"]["privileges"]["advice"].as_str().unwrap();
    assert!(advice.contains("sudo raqib doctor"), "{advice}");
    assert!(report["facts"].as_array().unwrap().iter().all(|fact| fact["off"].is_string()));

    let output = run(false);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("sudo raqib doctor") && !text.contains('\x1b'), "{text}");
    assert!(text.ends_with("nothing can be watched\n"), "{text}");
    for hook in HOOKS {
        let lines = text.lines().filter(|line| line.contains(&format!("  {}  ", hook.fact)));
        assert_eq!(lines.count(), 1, "{}: {text}", hook.fact);
    }
}

#[test]
fn a_kernel_without_btf_is_said_to_be_one() {
    if let Some(reason) = cannot_run() {
        skip!("a_kernel_without_btf_is_said_to_be_one", reason);
    }
    let mut command = doctor(&["--json"]);
    unsafe {
        command.pre_exec(|| {
            // In a mount namespace of its own: an empty filesystem over the kernel's types.
            let hidden = libc::unshare(libc::CLONE_NEWNS) == 0
                && libc::mount(
                    c"none".as_ptr(),
                    c"/".as_ptr(),
                    std::ptr::null(),
                    libc::MS_REC | libc::MS_PRIVATE,
                    std::ptr::null(),
                ) == 0
                && libc::mount(
                    c"none".as_ptr(),
                    c"/sys/kernel/btf".as_ptr(),
                    c"tmpfs".as_ptr(),
                    0,
                    std::ptr::null(),
                ) == 0;
            if hidden { Ok(()) } else { Err(io::Error::last_os_error()) }
        });
    }
    let report = expect_consistent(&command.output().unwrap());
    assert_eq!(report["exit_code"], 2);
    assert_eq!(report["host"]["btf"]["state"], "off");
    let advice = report["host"]["btf"]["advice"].as_str().unwrap();
    assert!(advice.contains("CONFIG_DEBUG_INFO_BTF=y"), "{advice}");
    assert_eq!(report["host"]["programs"]["advice"], "see btf");
}
