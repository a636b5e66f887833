//! Known ways round an agent, each done for real and asked: was the true object told, of the right task?
//!
//! What a tier does not see is asserted as strictly as what it sees: the day it becomes seen, the
//! test fails and `families.rs` must be changed, from which docs/evasions.md is written.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::undocumented_unsafe_blocks,
    reason = "tests fail by panicking, and act by plain system calls"
)]

#[path = "../common/mod.rs"]
mod common;

mod activities;
mod bodies;
mod families;
mod images;
mod names;
mod network;
mod place;
mod processes;
mod ring;
mod rings;
mod watcher;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use families::{FAMILIES, Verdict};

/// Whether this kernel has the object tier.
static OBJECTS: LazyLock<bool> = LazyLock::new(|| raqib::kernel::objects::offered().is_ok());

/// What the alerts of one test said of its families.
#[derive(Default)]
pub struct Findings {
    /// How often a fact was told as it happened, was told in part or wrongly, and not at all.
    told: BTreeMap<&'static str, [u32; 3]>,
}

impl Findings {
    /// `truth` happened, and the alerts say `got`, which must be what is `expected` of the tier.
    /// The default of a type stands for nothing told.
    #[track_caller]
    pub fn are<T: PartialEq + Default + Debug>(
        &mut self,
        family: &'static str,
        truth: T,
        expected: T,
        got: T,
    ) {
        // What a lower tier does not tell, a higher one may: then it must be the truth.
        if !(*OBJECTS && got == truth) {
            assert_eq!(got, expected, "{family}: told (left) and expected (right) of {truth:?}");
        }
        let at = if got == truth { 0 } else { 1 + usize::from(got == T::default()) };
        self.told.entry(family).or_default()[at] += 1;
    }

    /// All of it was told.
    #[track_caller]
    pub fn seen<T: PartialEq + Default + Debug + Clone>(
        &mut self,
        family: &'static str,
        truth: T,
        got: T,
    ) {
        self.are(family, truth.clone(), truth, got);
    }

    /// None of it was told: by this tier it cannot be.
    #[track_caller]
    pub fn unseen<T: PartialEq + Default + Debug>(
        &mut self,
        family: &'static str,
        truth: T,
        got: T,
    ) {
        self.are(family, truth, T::default(), got);
    }

    /// Prints a line for each family, which must say what families.rs says.
    pub fn report(self) {
        for (name, told) in self.told {
            let family = FAMILIES.iter().find(|family| family.name == name);
            let family = family.unwrap_or_else(|| panic!("not in families.rs: {name}"));
            let verdict = match told {
                [_, 0, 0] => Verdict::Seen,
                [0, 0, _] => Verdict::NotSeen,
                _ => Verdict::Partly,
            };
            let (tier, expected) = match *OBJECTS {
                true => ("object", family.object),
                false => ("tracepoint", family.verdict),
            };
            println!("EVASION {name} {tier} {}: {}", verdict.word(), family.why);
            assert_eq!(verdict, expected, "{name}: {told:?}");
        }
    }
}

/// Each family is asked for by exactly the modules that do it, and the page says what they assert.
#[test]
fn the_page_says_what_the_tests_assert() {
    let all = |folder: &str| -> String {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let files = files.filter(|path| !path.ends_with("families.rs"));
        files.map(|path| fs::read_to_string(path).unwrap()).collect()
    };
    let (evasions, facts) = (all("tests/evasion"), all("tests/facts"));
    for family in FAMILIES {
        for fact in family.facts {
            assert!(facts.contains(&format!("\"{fact}\"")), "no fact {fact} of {}", family.name);
        }
        let done = evasions.contains(&format!("\"{}\"", family.name));
        assert!(done || !family.facts.is_empty(), "no test of {}", family.name);
    }
    let page = families::page();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/evasions.md");
    if std::env::var_os("RAQIB_WRITE_DOCS").is_some() {
        fs::write(&path, &page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "docs/evasions.md is stale: run with RAQIB_WRITE_DOCS=1");
}
