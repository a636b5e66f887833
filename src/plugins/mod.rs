//! Plugins: each turns the rows of one journal into events, on a thread of its own.
//!
//! A plugin knows its tables and the state it feeds. It does not know recipes, alerts or
//! printers; the thread that drives it (see [`driver`]) does.

pub mod activity;
pub mod containers;
pub mod driver;
pub mod env_vars;
pub mod execution;
pub mod file_access;
pub mod network_flows;
pub mod network_peers;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;

use crate::config::{Cadences, Config};
use crate::event::{Event, Mechanism};
use crate::journal::{Read, Sealed, StoreMaps};
use crate::kernel::load::Kernel;
use crate::state::World;

/// Rows of one sealed epoch to events.
pub trait Plugin {
    /// Takes every row out of the sealed epoch and hands its event on. Returns what it read:
    /// the sum of the rows' counts goes into the ledger.
    fn read(&mut self, sealed: &Sealed, out: &mut dyn FnMut(Event)) -> Result<Read>;

    /// What the plugin's state knows of a process, for `raqib query`.
    fn query(&self, _pid: u32) -> Value {
        Value::Null
    }

    /// The names of environment variables that recipes ask for have changed.
    fn watch_env(&mut self, _names: &std::collections::BTreeSet<String>) -> Result<()> {
        Ok(())
    }
}

/// A plugin ready to be built in its thread, with the tables that outlive it.
pub struct Prepared {
    pub store: StoreMaps,
    /// Sizes of the tables: rows, and texts that hang on them.
    pub rows: u32,
    pub texts: u32,
    pub build: Build,
}

/// Builds a plugin, in the thread where it will live: at start, and again after a panic.
pub type Build = Box<dyn Fn() -> Result<Box<dyn Plugin>> + Send>;

/// One row of the table of plugins.
pub struct Spec {
    pub mechanism: Mechanism,
    /// `enum journal_id` of bpf/types.h.
    pub journal: u32,
    pub cadence: fn(&Cadences) -> Duration,
    /// Fed even where no recipe is judged: all events are told with its state.
    pub always: bool,
    /// Whose state its events are told with: that plugin seals and reads before this one reads.
    pub reads_after: Option<Mechanism>,
    pub prepare: fn(&Kernel, &Config, &Arc<World>) -> Result<Prepared>,
}

/// In the order of their start; they finish in the reverse order, so that the process tree is
/// still fed while others ask it, and names while flows ask for them.
pub const PLUGINS: &[Spec] = &[
    execution::SPEC,
    containers::SPEC,
    file_access::SPEC,
    network_peers::SPEC,
    network_flows::SPEC,
    env_vars::SPEC,
    activity::SPEC,
];

/// Entries that a `caches:` value stands for.
pub(crate) fn entries(thousands: u32) -> u32 {
    thousands.saturating_mul(1024)
}
