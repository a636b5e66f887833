//! Every fact that the mission names: for each, an act that must be seen and one beside it that
//! must stay silent, on the running kernel.
//!
//! A fact is one row of an area's table: a recipe's conditions, the act, the silent act. One daemon
//! serves them all; each act is done by a child of its own, so that a pid tells whose alert it is.
//! Prints `FACT <area>/<name> <verdict>`: `seen`, `missed`, `silent-violated`, or `not-offered`
//! with the error by which this kernel refused the act.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
#![allow(clippy::undocumented_unsafe_blocks, reason = "system calls with arguments in sight")]

#[path = "../common/mod.rs"]
mod common;

#[macro_use]
mod calls;
mod attributes;
#[cfg(target_arch = "x86_64")]
mod compat;
mod containers;
mod files;
mod identity;
mod kernel;
mod lifecycle;
mod memory;
mod network;
mod storage;

use std::fs;
use std::io::Error;
use std::path::{Path, PathBuf};

use common::acts::wait;
use common::{Daemon, cannot_run};
use serde_json::Value;

/// One fact.
pub struct Fact {
    area: &'static str,
    name: &'static str,
    /// Conditions of its recipe, in YAML's flow form; `HERE` is a pattern for the act's directory.
    recipe: &'static str,
    /// Returns what the system call did: an errno, negated, where it failed.
    act: Act,
    quiet: Act,
}

/// In a child of its own, with a directory of its own.
pub type Act = fn(&Path) -> i64;

pub const fn fact(
    area: &'static str,
    name: &'static str,
    recipe: &'static str,
    act: Act,
    quiet: Act,
) -> Fact {
    Fact { area, name, recipe, act, quiet }
}

const AREAS: &[&[Fact]] = &[
    lifecycle::FACTS,
    files::FACTS,
    attributes::FACTS,
    storage::FACTS,
    identity::FACTS,
    kernel::FACTS,
    network::FACTS,
    memory::FACTS,
    containers::FACTS,
    #[cfg(target_arch = "x86_64")]
    compat::FACTS,
];

fn facts() -> impl Iterator<Item = &'static Fact> {
    AREAS.iter().copied().flatten()
}

impl Fact {
    fn recipe_name(&self) -> String {
        format!("{}_{}", self.area, self.name)
    }

    fn recipe(&self) -> String {
        format!(
            "- {{kind: fact, name: {}, version: 1.0, description: test, tactic: none, \
             technique: none, importance: low, {}}}\n",
            self.recipe_name(),
            self.recipe.replace("HERE", &format!("/{}-(act|quiet)/", self.recipe_name()))
        )
    }
}

/// How an act ended.
#[derive(Clone, Copy)]
enum End {
    Done,
    /// With this errno: it is not to be had here.
    Refused(i32),
    /// By a signal: no such entry into the kernel.
    Killed(i32),
    /// The test itself got it wrong, which proves nothing.
    Panicked,
}

impl End {
    fn reason(self) -> Option<String> {
        match self {
            Self::Done => None,
            // Not of a system call: see `calls::NO_PROGRAM`.
            Self::Refused(libc::ENOPKG) => Some("a program is not installed".into()),
            Self::Refused(errno) => {
                let text = Error::from_raw_os_error(errno).to_string();
                let words = text.split(" (os error").next().unwrap_or_default();
                Some(format!("errno {errno}, {}", words.to_lowercase()))
            }
            Self::Killed(signal) => Some(format!("signal {signal}")),
            Self::Panicked => Some("the act panicked".into()),
        }
    }
}

const PANICKED: i32 = 200;

/// The directory of one act, with two files that it need not make itself.
fn place(folder: &Path) -> PathBuf {
    fs::create_dir(folder).unwrap();
    for name in ["a", "b"] {
        fs::write(folder.join(name), "hay").unwrap();
    }
    folder.to_owned()
}

/// Does it in a child; its pid, and how it ended.
fn perform(act: Act, folder: &Path) -> (u32, End) {
    let pid = match unsafe { libc::fork() } {
        0 => {
            let returned = std::panic::catch_unwind(|| act(folder)).unwrap_or(-i64::from(PANICKED));
            unsafe { libc::_exit(if returned < 0 { -returned as i32 } else { 0 }) }
        }
        pid => pid as u32,
    };
    let status = wait(pid);
    let end = match libc::WEXITSTATUS(status) {
        _ if libc::WIFSIGNALED(status) => End::Killed(libc::WTERMSIG(status)),
        0 => End::Done,
        PANICKED => End::Panicked,
        errno => End::Refused(errno),
    };
    (pid, end)
}

fn told(alerts: &[Value], recipe: &str, pid: u32) -> bool {
    common::acts::of(alerts, recipe, pid).next().is_some()
}

/// What was told of them at all, for who has to find out why.
fn about(alerts: &[Value], pids: &[u32]) -> Vec<String> {
    let theirs =
        alerts.iter().filter(|alert| pids.iter().any(|pid| alert["process"]["pid"] == *pid));
    theirs
        .map(|alert| {
            let parts = ["process", "file", "activity"].map(|part| match part {
                "process" => alert[part]["pid"].to_string(),
                _ => alert[part].to_string(),
            });
            format!("{} {}", alert["metadata"]["name"], parts.join(" "))
        })
        .collect()
}

#[test]
fn each_fact_is_seen_and_what_is_beside_it_is_not() {
    if let Some(reason) = cannot_run() {
        skip!("each_fact_is_seen_and_what_is_beside_it_is_not", reason);
    }
    // Made before anybody watches: an act is told of nothing but itself.
    let folder = tempfile::Builder::new().prefix("raqib-facts-").tempdir().unwrap();
    let places: Vec<_> = facts()
        .map(|fact| {
            let at = |kind| place(&folder.path().join(format!("{}-{kind}", fact.recipe_name())));
            (fact, at("act"), at("quiet"))
        })
        .collect();
    let recipes: String = facts().map(Fact::recipe).collect();
    let mut daemon = Daemon::with_recipes(&(recipes + lifecycle::RECIPE));
    let done: Vec<_> = places
        .iter()
        .map(|(fact, act, quiet)| (fact, perform(fact.act, act), perform(fact.quiet, quiet)))
        .collect();
    let family = lifecycle::parent_of_every_kind();
    let login = identity::program_of_another_login();

    // Each plugin has judged all of it when the question is answered.
    lifecycle::check(&daemon, family);
    let alerts = daemon.all(common::PATIENCE);
    let mut wrong = Vec::new();
    for (fact, (actor, end), (quiet, quiet_end)) in done {
        let recipe = fact.recipe_name();
        let verdict = match (told(&alerts, &recipe, actor), told(&alerts, &recipe, quiet)) {
            (_, true) => "silent-violated".to_owned(),
            (true, false) => "seen".to_owned(),
            (false, false) => match end.reason() {
                Some(reason) => format!("not-offered: {reason}"),
                None => "missed".to_owned(),
            },
        };
        println!("FACT {}/{} {verdict}", fact.area, fact.name);
        if verdict == "missed" || verdict == "silent-violated" || matches!(end, End::Panicked) {
            let said = about(&alerts, &[actor, quiet]);
            wrong.push(format!("{recipe}: {verdict}; of {actor} and {quiet}: {said:?}"));
        }
        // Silence on what was not done proves nothing.
        if verdict == "seen"
            && let Some(reason) = quiet_end.reason()
        {
            wrong.push(format!("{recipe}: what is beside it failed: {reason}"));
        }
    }
    wrong.extend(identity::check(&alerts, login));
    let journal = daemon.journal("activity");
    assert_eq!(journal["refused"], 0, "{journal}");
    let programs = &daemon.status()["programs"];
    assert!(wrong.is_empty(), "{wrong:#?}\n{}\n{programs}", daemon.stderr());
}

/// What the kernel's side names has a fact: the day one is added without, this says so.
#[test]
fn each_activity_has_a_fact() {
    // Told of nobody but the task itself, in a way that no child can do alone.
    let elsewhere = ["io_uring_request"];
    for kind in raqib::event::ACTIVITIES {
        let named = |fact: &Fact| {
            fact.recipe.split_once("activities: ").is_some_and(|(_, rest)| {
                rest.split(',').next().is_some_and(|name| name.trim() == kind.name)
            })
        };
        assert!(elsewhere.contains(&kind.name) || facts().any(named), "no fact of {}", kind.name);
    }
}
