//! The one table of configuration keys.
//!
//! A row says where a key stands in the file, which field it fills, what it may hold and what it
//! does. Validation ([`super::check`]), sample, schema and reference ([`super::describe`]) are
//! derived from it; defaults come from [`Config::default`]. A key is added by one row here and
//! one field in [`super::sections`]; a test refuses either without the other.

use std::path::PathBuf;
use std::time::Duration;

use super::names::{FEATURES, FUNCTIONALITIES, Known, PRINTERS, names};
use super::{Config, LogLevel};

/// Where a key's value is kept. A function, so that the compiler checks that field and kind fit.
pub(super) type At<T> = fn(&mut Config) -> &mut T;

/// One key of the file.
pub(super) struct Key {
    /// As the sample writes it; hyphen and underscore are the same letter when read.
    pub path: &'static str,
    pub field: Field,
    /// What it does: one or more sentences.
    pub doc: &'static str,
}

/// What a key may hold, and the field that it fills.
pub(super) enum Field {
    Bool(At<bool>),
    Integer {
        at: At<u32>,
        min: u32,
        max: u32,
        unit: &'static str,
    },
    Seconds(At<Duration>),
    Level(At<LogLevel>),
    Text(At<String>),
    Path {
        at: At<PathBuf>,
        longest: usize,
    },
    Paths(At<Vec<PathBuf>>),
    Names {
        at: At<Vec<String>>,
        known: &'static [Known],
    },
    Events(At<Option<Vec<String>>>),
    /// Of another program or a later version: its shape is checked, its value is not kept.
    Accepted(Shape),
}

/// Shape and usual value of an accepted key.
pub(super) enum Shape {
    Bool(bool),
    Number(f64),
    Text(&'static str),
    Map,
}

/// Shortest and longest cadence in seconds. Below a tenth the sealing of one epoch (up to 20 ms)
/// would fill a notable part of it; above an hour a typing mistake is likelier than a wish.
pub(super) const SECONDS: (f64, f64) = (0.1, 3600.0);
/// Bytes of the longest path that Linux opens (`PATH_MAX` less its NUL).
pub(super) const LONGEST_PATH: usize = 4095;
/// Bytes of the longest socket path (`sun_path` less its NUL): a longer one cannot be bound.
const LONGEST_SOCKET: usize = 107;
/// Largest cache, in 1024 entries: 4 Mi entries of the largest row are about 1 GiB.
const LARGEST_CACHE: u32 = 4096;

const fn key(path: &'static str, field: Field, doc: &'static str) -> Key {
    Key { path, field, doc }
}

const fn entries(path: &'static str, at: At<u32>, doc: &'static str) -> Key {
    key(path, Field::Integer { at, min: 1, max: LARGEST_CACHE, unit: "x 1024 entries" }, doc)
}

const fn path(at: At<PathBuf>) -> Field {
    Field::Path { at, longest: LONGEST_PATH }
}

const UNUSED: &str = "Accepted for compatibility; sizes nothing here.";

/// Every key, in the order of the sample. Keys of one section stand together.
pub(super) static KEYS: &[Key] = &[
    key(
        "run-time.log-level",
        Field::Level(|c| &mut c.run_time.log_level),
        "Least important message that is logged. `simple` is `info` in a short form for people.",
    ),
    key(
        "run-time.profiler",
        Field::Bool(|c| &mut c.run_time.profiler),
        "Accepted for compatibility; does nothing in this version.",
    ),
    key(
        "run-time.health",
        Field::Bool(|c| &mut c.run_time.health),
        "Accepted for compatibility; does nothing in this version.",
    ),
    key(
        "run-time.metrics",
        Field::Bool(|c| &mut c.run_time.metrics),
        "Accepted for compatibility; does nothing in this version.",
    ),
    key(
        "run-time.cardinal",
        Field::Bool(|c| &mut c.run_time.cardinal),
        "Accepted for compatibility; no effect.",
    ),
    key(
        "run-time.stdout",
        Field::Text(|c| &mut c.run_time.stdout),
        "Where alerts for standard output go: `stdout`, or the path of a file.",
    ),
    key(
        "run-time.stderr",
        Field::Text(|c| &mut c.run_time.stderr),
        "Where the log goes: `stderr`, or the path of a file.",
    ),
    key(
        "run-time.socket",
        Field::Path { at: |c| &mut c.run_time.socket, longest: LONGEST_SOCKET },
        "Unix socket that answers `raqib status`.",
    ),
    key("cadences.execution", Field::Seconds(|c| &mut c.cadences.execution), "Executions."),
    key("cadences.file-access", Field::Seconds(|c| &mut c.cadences.file_access), "File accesses."),
    key(
        "cadences.network-peers",
        Field::Seconds(|c| &mut c.cadences.network_peers),
        "Peers: names, and the addresses that DNS gave them.",
    ),
    key("cadences.network-flows", Field::Seconds(|c| &mut c.cadences.network_flows), "Flows."),
    key(
        "cadences.env-vars",
        Field::Seconds(|c| &mut c.cadences.env_vars),
        "Environment variables.",
    ),
    key("cadences.activity", Field::Seconds(|c| &mut c.cadences.activity), "Activities."),
    key(
        "cadences.containers",
        Field::Seconds(|c| &mut c.cadences.containers),
        "Containers; a new one is looked at at once whatever this is.",
    ),
    entries("caches.rec-tasks", |c| &mut c.caches.rec_tasks, "Ended processes kept in user space."),
    entries("caches.tasks", |c| &mut c.caches.tasks, "Execution rows of one epoch."),
    entries("caches.cmds", |c| &mut c.caches.cmds, UNUSED),
    entries(
        "caches.args",
        |c| &mut c.caches.args,
        "Argument chunks (256 bytes each) of one epoch.",
    ),
    entries("caches.files", |c| &mut c.caches.files, "Path texts kept in user space."),
    entries(
        "caches.dirs",
        |c| &mut c.caches.dirs,
        "Together with `bases`: path components of one epoch, for files; executions get a quarter of it on top.",
    ),
    entries(
        "caches.bases",
        |c| &mut c.caches.bases,
        "Together with `dirs`: path components of one epoch.",
    ),
    entries("caches.task-file", |c| &mut c.caches.task_file, "(task, file) rows of one epoch."),
    entries("caches.file-task", |c| &mut c.caches.file_task, UNUSED),
    entries("caches.task-ref", |c| &mut c.caches.task_ref, UNUSED),
    entries("caches.flows", |c| &mut c.caches.flows, "Flows kept in user space."),
    entries("caches.task-flow", |c| &mut c.caches.task_flow, "(task, flow) rows of one epoch."),
    entries("caches.flow-task", |c| &mut c.caches.flow_task, UNUSED),
    entries("caches.flow-ref", |c| &mut c.caches.flow_ref, UNUSED),
    entries(
        "caches.peers",
        |c| &mut c.caches.peers,
        "DNS answers and first messages of clients in one epoch, in chunks.",
    ),
    entries("caches.envs", |c| &mut c.caches.envs, "Environment rows of one epoch."),
    entries(
        "caches.activities",
        |c| &mut c.caches.activities,
        "Activity rows of one epoch, and the path components that they need.",
    ),
    entries(
        "caches.containers",
        |c| &mut c.caches.containers,
        "Cgroups kept in user space; a quarter of it are rows of one epoch.",
    ),
    key(
        "functionalities",
        Field::Names { at: |c| &mut c.functionalities, known: FUNCTIONALITIES },
        "Parts of the daemon, for compatibility: all of them are always there.",
    ),
    key(
        "features",
        Field::Names { at: |c| &mut c.features, known: FEATURES },
        "What is on. `detect` is every plugin; naming plugins instead turns on only those.",
    ),
    key(
        "feature_options.netpolicy.file",
        path(|c| &mut c.feature_options.netpolicy.file),
        "The network policy.",
    ),
    key(
        "feature_options.detect.close",
        Field::Bool(|c| &mut c.feature_options.detect.close),
        "Record file closes even if no recipe asks for the action `close`. Costs a program at every system call entry.",
    ),
    key(
        "feature_options.detect.hash",
        Field::Bool(|c| &mut c.feature_options.detect.hash),
        "Tell alerts with the SHA-256 of the executable. An alert waits up to 200 ms for it. Recipes that ask for `exe_sha256` get it in any case.",
    ),
    key(
        "feature_options.detect.hash-max-size",
        Field::Integer {
            at: |c| &mut c.feature_options.detect.hash_max_size,
            min: 1,
            max: 4096,
            unit: "MiB",
        },
        "Size of the largest executable that is read.",
    ),
    key(
        "feature_options.alchemies.builtin.enabled",
        Field::Bool(|c| &mut c.feature_options.alchemies.builtin.enabled),
        "Use the recipes inside the binary.",
    ),
    key(
        "feature_options.alchemies.public.enabled",
        Field::Bool(|c| &mut c.feature_options.alchemies.public.enabled),
        "Use the recipes in these directories.",
    ),
    key(
        "feature_options.alchemies.public.paths",
        Field::Paths(|c| &mut c.feature_options.alchemies.public.paths),
        "Directories of shared recipes, read when `features` has `alchemies`.",
    ),
    key(
        "feature_options.alchemies.private.enabled",
        Field::Bool(|c| &mut c.feature_options.alchemies.private.enabled),
        "Use the recipes in these directories.",
    ),
    key(
        "feature_options.alchemies.private.paths",
        Field::Paths(|c| &mut c.feature_options.alchemies.private.paths),
        "Directories of the site's own recipes, read when `features` has `alchemies`.",
    ),
    key("feature_options.attenuator.enabled", Field::Accepted(Shape::Bool(false)), NOT_YET),
    key("feature_options.attenuator.url", Field::Accepted(Shape::Text("")), NOT_YET),
    key("feature_options.attenuator.model", Field::Accepted(Shape::Text("")), NOT_YET),
    key("feature_options.attenuator.temperature", Field::Accepted(Shape::Number(0.3)), NOT_YET),
    key("feature_options.attenuator.mode", Field::Accepted(Shape::Text("amend")), NOT_YET),
    key(
        "feature_options.attenuator.token",
        Field::Accepted(Shape::Text("")),
        "Accepted; not read, not kept, never printed.",
    ),
    key("printers", Field::Names { at: |c| &mut c.printers, known: PRINTERS }, "Where alerts go."),
    key(
        "printer_options.stdout.raw",
        Field::Bool(|c| &mut c.printer_options.stdout.raw),
        "Always one line of JSON per alert; otherwise a form for people where standard output is a terminal.",
    ),
    key(
        "printer_options.varlog.raw",
        Field::Bool(|c| &mut c.printer_options.varlog.raw),
        "One line of JSON per alert; otherwise indented JSON.",
    ),
    key(
        "printer_options.varlog.file",
        path(|c| &mut c.printer_options.varlog.file),
        "The file that alerts are appended to.",
    ),
    key(
        "printer_options.varlog.max-size",
        Field::Integer {
            at: |c| &mut c.printer_options.varlog.max_size,
            min: 1,
            max: 100_000,
            unit: "MiB",
        },
        "Size at which the file is rotated.",
    ),
    key(
        "printer_options.varlog.keep",
        Field::Integer {
            at: |c| &mut c.printer_options.varlog.keep,
            min: 0,
            max: 1000,
            unit: "files",
        },
        "Rotated files that are kept; the oldest goes first.",
    ),
    key("printer_options.garnet.error_log_rate", Field::Accepted(Shape::Text("2m")), NOT_YET),
    key("printer_options.garnet.warn_log_rate", Field::Accepted(Shape::Text("2m")), NOT_YET),
    key(
        "events",
        Field::Events(|c| &mut c.events),
        "Kinds or names of the recipes that are used. Absent or null is every recipe that is not disabled in its own file.",
    ),
    key("event_options", Field::Accepted(Shape::Map), "Accepted for compatibility; no effect."),
];

const NOT_YET: &str = "Accepted; does nothing in this version.";

/// What each section is for, for those who read a sample or a schema.
pub(super) static SECTIONS: &[(&str, &str)] = &[
    ("run-time", "What the daemon says about itself, and where."),
    (
        "cadences",
        "How often each plugin seals and reads its epoch. Rows merge inside an epoch, so a longer cadence costs less and finds the same, later. A table that is half full is read at once.",
    ),
    (
        "caches",
        "Sizes of the tables. A full table refuses rows and counts them; `raqib status` shows it. Memory grows with these numbers.",
    ),
    ("feature_options", "Options of the features."),
    ("feature_options.netpolicy", "Network policy."),
    ("feature_options.detect", "Detection."),
    ("feature_options.alchemies", "Where recipes come from."),
    ("feature_options.alchemies.builtin", "Recipes inside the binary."),
    ("feature_options.alchemies.public", "Shared recipes."),
    ("feature_options.alchemies.private", "The site's own recipes."),
    ("feature_options.attenuator", "Triage by a language model."),
    ("printer_options", "Options of the printers."),
    ("printer_options.stdout", "Standard output (see `run-time.stdout`)."),
    ("printer_options.varlog", "A file."),
    ("printer_options.garnet", "The Garnet service."),
];

impl Field {
    /// What is expected, to be read after "expected".
    pub(super) fn expectation(&self) -> String {
        match self {
            Self::Bool(_) | Self::Accepted(Shape::Bool(_)) => "true or false".into(),
            Self::Integer { min, max, unit, .. } => {
                format!("a whole number from {min} to {max} ({unit})")
            }
            Self::Seconds(_) => format!("a number from {} to {} (seconds)", SECONDS.0, SECONDS.1),
            Self::Level(_) => {
                format!("one of {}", LogLevel::ALL.map(LogLevel::name).join(", "))
            }
            Self::Text(_) | Self::Accepted(Shape::Text(_)) => "text".into(),
            Self::Path { longest, .. } => format!("a path of at most {longest} bytes"),
            Self::Paths(_) => "a list of paths".into(),
            Self::Names { known, .. } => format!("a list of names: {}", names(known)),
            Self::Events(_) => "a list of names, or null".into(),
            Self::Accepted(Shape::Number(_)) => "a number".into(),
            Self::Accepted(Shape::Map) => "a map".into(),
        }
    }
}
