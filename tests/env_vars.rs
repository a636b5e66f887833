//! Environment variables that recipes ask for, as the running kernel tells of them.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
#![allow(clippy::undocumented_unsafe_blocks, reason = "system calls with arguments in sight")]

mod common;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

use common::acts::of;
use common::{Daemon, PATIENCE, cannot_run};
use serde_json::{Value, json};

fn recipe(name: &str, variables: &str, pattern: &str) -> String {
    format!(
        "- {{kind: {name}, name: {name}, version: 1.0, description: test, breed: env_vars, \
         mechanism: env_vars, tactic: none, technique: none, importance: low, \
         env_vars: {variables}{pattern}}}\n"
    )
}

/// Runs a program that does nothing, with these variables and no others; its pid.
fn run(variables: &[(&str, &[u8])]) -> u32 {
    let mut command = Command::new("/bin/true");
    command.env_clear().stderr(Stdio::null());
    for (name, value) in variables {
        command.env(name, OsStr::from_bytes(value));
    }
    let mut child = command.spawn().unwrap();
    assert!(child.wait().unwrap().success());
    child.id()
}

fn one<'a>(alerts: &'a [Value], recipe: &'a str, pid: u32) -> &'a Value {
    let mut found = of(alerts, recipe, pid);
    let alert = found.next().unwrap_or_else(|| panic!("no alert of {recipe} on {pid}"));
    assert!(found.next().is_none(), "told twice");
    alert
}

#[test]
fn wanted_variables_are_told_and_no_others() {
    if let Some(reason) = cannot_run() {
        skip!("wanted_variables_are_told_and_no_others", reason);
    }
    let recipes = recipe("loader", "[LD_PRELOAD, LD_LIBRARY_PATH]", "")
        + &recipe("token", "[RAQIB_TEST_TOKEN]", "")
        + &recipe("matched", "[LD_AUDIT]", ", pattern: '^/tmp/'");
    let mut daemon = Daemon::with_recipes(&recipes);

    let plain = run(&[("LD_PRELOAD", b"/nowhere/evil.so")]);
    let beside = run(&[
        ("RAQIB_TEST_OTHER", b"unasked-5f0c"),
        ("LD_PRELOAD", b"/nowhere/beside.so"),
        // Names that only begin or end like a wanted one.
        ("LD_PRELOADED", b"unasked-longer"),
        ("LD_PRELOA", b"unasked-shorter"),
        ("RAQIB_TEST_TOKEN2", b"unasked-second"),
        // A value that holds what looks like a wanted variable.
        ("RAQIB_TEST_QUOTE", b"LD_PRELOAD=unasked-quoted\nLD_PRELOAD=unasked-line"),
    ]);
    let secret = run(&[("RAQIB_TEST_TOKEN", b"s3cret-d41d8cd9")]);
    let matching = run(&[("LD_AUDIT", b"/tmp/audit.so")]);
    let other = run(&[("LD_AUDIT", b"/usr/lib/audit.so")]);
    let empty = run(&[("LD_PRELOAD", b"")]);
    let without = run(&[("PATH", b"/bin")]);
    // What comes before it ends where a buffer of 4096 bytes does, so that its rest is empty.
    let behind = run(&[("A", &[b'x'; 4093]), ("LD_PRELOAD", b"/nowhere/behind.so")]);

    let alerts = daemon.all(PATIENCE);
    let alert = one(&alerts, "loader", plain);
    let env = json!({"name": "LD_PRELOAD", "value": "/nowhere/evil.so", "length": 16, "truncated": false});
    assert_eq!(alert["env"], env);
    assert_eq!(alert["count"], 1);
    assert_eq!(alert["process"]["cmd"], "true");
    assert_eq!(alert["process"]["args_list"], json!(["/bin/true"]));
    assert_eq!(one(&alerts, "loader", beside)["env"]["value"], "/nowhere/beside.so");
    let redacted = one(&alerts, "token", secret);
    assert_eq!(redacted["env"]["value"], "<redacted 15 bytes>");
    assert_eq!(redacted["env"]["length"], 15);
    assert_eq!(one(&alerts, "matched", matching)["env"]["value"], "/tmp/audit.so");
    assert_eq!(one(&alerts, "loader", empty)["env"]["length"], 0);
    assert_eq!(one(&alerts, "loader", behind)["env"]["value"], "/nowhere/behind.so");
    assert_eq!(of(&alerts, "matched", other).count(), 0);
    for pid in [without, secret] {
        assert_eq!(of(&alerts, "loader", pid).count(), 0);
    }
    // Nowhere in what was printed or logged, nor in what can be asked.
    let mut everything: String = alerts.iter().map(Value::to_string).collect();
    everything += &daemon.stderr();
    for pid in [beside, secret] {
        everything += &daemon.query(pid).to_string();
    }
    assert!(everything.contains("/nowhere/beside.so"));
    for secret in ["unasked", "s3cret"] {
        assert!(!everything.contains(secret), "{secret} was let out");
    }
}

#[test]
fn long_late_and_odd_values_are_told_for_what_they_are() {
    if let Some(reason) = cannot_run() {
        skip!("long_late_and_odd_values_are_told_for_what_they_are", reason);
    }
    let mut daemon = Daemon::with_recipes(&recipe("loader", "[LD_PRELOAD]", ""));
    let long = run(&[("LD_PRELOAD", &[b'l'; 1000])]);
    let larger = run(&[("LD_PRELOAD", &[b'x'; 20_000])]);
    let whole = run(&[("LD_PRELOAD", &[b'w'; 199])]);
    let cut = run(&[("LD_PRELOAD", &[b'c'; 200])]);
    // env_clear and env sort by name: these come first.
    let names: Vec<String> = (0..300).map(|at| format!("A_{at:04}")).collect();
    let mut many: Vec<(&str, &[u8])> =
        names.iter().map(|name| (name.as_str(), &b"x"[..])).collect();
    many.push(("LD_PRELOAD", b"/nowhere/late.so"));
    let late = run(&many);
    // Longer than what is read at a time, right before the wanted one.
    let after = run(&[("B_LONG", &[b'b'; 10_000]), ("LD_PRELOAD", b"/nowhere/after.so")]);
    let wrong = run(&[("LD_PRELOAD", b"/nowhere/\xff\x1b[31m.so")]);

    let alerts = daemon.all(PATIENCE);
    let env = |pid: u32| &one(&alerts, "loader", pid)["env"];
    assert_eq!(env(long)["length"], 1000);
    assert_eq!(env(long)["truncated"], true);
    assert_eq!(env(long)["value"], "l".repeat(199));
    assert_eq!(env(larger)["length"], 20_000);
    assert_eq!(env(larger)["truncated"], true);
    assert_eq!(env(whole)["value"], "w".repeat(199));
    assert_eq!(env(whole)["truncated"], false);
    assert_eq!(env(cut)["length"], 200);
    assert_eq!(env(cut)["truncated"], true);
    assert_eq!(env(late)["value"], "/nowhere/late.so");
    assert_eq!(env(after)["value"], "/nowhere/after.so");
    assert_eq!(env(wrong)["value"], "/nowhere/\\xff\u{1b}[31m.so");
    assert_eq!(env(wrong)["value_raw"], "2f6e6f77686572652fff1b5b33316d2e736f");
    assert_eq!(env(wrong)["length"], 18);
}
