//! Files, as the running kernel tells of them.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod common;

use std::fs;

use common::{Daemon, ancestry, cannot_run, file_recipe};

#[test]
fn a_read_is_told_with_its_process_and_lineage() {
    if let Some(reason) = cannot_run() {
        skip!("a_read_is_told_with_its_process_and_lineage", reason);
    }
    let place = tempfile::tempdir().unwrap();
    let needle = place.path().join("needle");
    fs::write(&needle, "hay").unwrap();
    let mut daemon = Daemon::with_recipes(&file_recipe("needle", &format!("^{}$", needle.display()), "[read]"));
    let cat = std::process::Command::new("cat").arg(&needle).output().unwrap();
    assert_eq!(cat.stdout, b"hay");
    let alert = daemon.expect("needle", |_| true);
    assert_eq!(alert["process"]["cmd"], "cat");
    assert_eq!(alert["file"]["actions"]["counts"]["read"], 2);
    let lineage = ancestry(&alert);
    assert_eq!(lineage.first(), Some(&1), "{lineage:?}");
    assert!(lineage.contains(&u64::from(std::process::id())), "{lineage:?}");
}

#[test]
fn another_file_stays_silent() {
    if let Some(reason) = cannot_run() {
        skip!("another_file_stays_silent", reason);
    }
    let place = tempfile::tempdir().unwrap();
    let needle = place.path().join("needle");
    fs::write(place.path().join("needles"), "hay").unwrap();
    let mut daemon = Daemon::with_recipes(&file_recipe("needle", &format!("^{}$", needle.display()), "[read]"));
    fs::read(place.path().join("needles")).unwrap();
    daemon.expect_none("needle", |_| true);
}
