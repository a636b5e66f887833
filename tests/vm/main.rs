//! The kernel matrix: boots distributions' kernels and runs the black-box tests there.
//!
//! One static program has both sides, so that what they tell one another has one definition. On the
//! host it fetches kernels, builds and packs the tests, boots, and reads what comes back; it is
//! process 1 of the virtual machine as well, and there a child of that runs the tests.
//! `make test-vm` builds and starts it.

#![allow(clippy::undocumented_unsafe_blocks, reason = "plain system calls")]

#[allow(clippy::unwrap_used, clippy::panic, dead_code, reason = "for what the tests need built")]
#[path = "../common/acts.rs"]
mod acts;
mod apt;
mod archive;
mod budget;
mod build;
mod guest;
mod host;
mod lines;
mod machine;
mod page;
mod tests;

use std::process::ExitCode;

/// A kernel of the matrix: the newest that a suite of Debian has for virtual machines.
pub struct Series {
    /// What the table calls it, and the order of the columns.
    pub name: &'static str,
    pub suite: &'static str,
    /// Where the mirror keeps the suite.
    pub archive: &'static str,
}

/// The oldest that is supported, what lies between, and the newest there is.
pub const SERIES: [Series; 4] = [
    Series { name: "5.10", suite: "bullseye-security", archive: "debian-security" },
    Series { name: "6.1", suite: "bookworm", archive: "debian" },
    Series { name: "6.12", suite: "trixie", archive: "debian" },
    Series { name: "sid", suite: "sid", archive: "debian" },
];

/// What depends on the kernel; the rest would find the same there as here. Each daemon takes seconds
/// to start on an emulated CPU, so of tests that differ in what user space makes of the same rows,
/// one will do.
pub const TESTS: [Test; 13] = [
    Test { name: "programs", here_too: true, short: true, only: &[] },
    Test { name: "facts", here_too: true, short: true, only: &[] },
    Test {
        name: "execution",
        here_too: false,
        short: false,
        only: &[
            "arguments_are_told_one_by_one",
            "each_image_of_a_chain_is_told_with_the_one_before",
            "images_without_a_path_and_with_two",
            "what_a_process_is_comes_with_it",
            "who_was_there_before_is_known",
        ],
    },
    Test {
        name: "file_access",
        here_too: false,
        short: false,
        only: &[
            "each_action_is_counted_exactly",
            "paths_are_those_of_the_kernels_objects",
            "reads_and_writes_without_read_and_write",
        ],
    },
    Test { name: "file_names", here_too: true, short: true, only: &[] },
    Test {
        name: "evasion",
        here_too: false,
        short: false,
        // The others need a compiler, or more than an initramfs.
        only: &[
            "bodies::bytes_without_read_and_write",
            "bodies::descriptors_that_others_opened",
            "bodies::files_replaced_emptied_and_rewritten",
            "names::names_that_change_under_way",
            "names::names_that_do_not_name_what_is_opened",
            "processes::processes_that_nobody_can_ask",
            "rings::files_through_a_ring",
        ],
    },
    Test { name: "cost", here_too: true, short: false, only: &[] },
    Test { name: "network_flows", here_too: false, short: false, only: &[] },
    Test { name: "network_peers", here_too: false, short: false, only: &[] },
    Test {
        name: "env_vars",
        here_too: false,
        short: false,
        only: &["wanted_variables_are_told_and_no_others"],
    },
    Test {
        name: "lifecycle",
        here_too: false,
        short: false,
        only: &[
            "a_plugin_that_panics_comes_back_and_loses_nothing",
            "a_signal_ends_it_in_good_order",
        ],
    },
    Test {
        name: "doctor",
        here_too: false,
        short: false,
        only: &["a_host_that_can_be_watched_is_said_to_be_and_nothing_is_left_there"],
    },
    Test { name: "conservation", here_too: false, short: true, only: &[] },
];

pub struct Test {
    /// tests/NAME.rs
    pub name: &'static str,
    /// Run on the machine that builds as well: it prints lines that make a column of the report.
    pub here_too: bool,
    /// Also if only a short run is asked for: that the programs load, that each fact is told, that
    /// nothing is lost. The others differ from kernel to kernel by what these three would show.
    pub short: bool,
    /// These tests of the file; all if none is named.
    pub only: &'static [&'static str],
}

fn main() -> ExitCode {
    if std::process::id() == 1 {
        guest::init();
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == guest::SECOND) {
        return guest::tests();
    }
    match host::run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("test-vm: {error:#}");
            ExitCode::FAILURE
        }
    }
}
