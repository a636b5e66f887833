//! What the daemon counts of itself; `raqib status` prints it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::journal::Read;
use crate::kernel::types;

/// Length and number of one repeated piece of work.
#[derive(Debug, Default)]
pub struct Timing {
    count: AtomicU64,
    total_ns: AtomicU64,
    last_ns: AtomicU64,
    max_ns: AtomicU64,
}

impl Timing {
    pub fn add(&self, took: Duration) {
        let ns = took.as_nanos() as u64;
        self.count.fetch_add(1, Relaxed);
        self.total_ns.fetch_add(ns, Relaxed);
        self.last_ns.store(ns, Relaxed);
        self.max_ns.fetch_max(ns, Relaxed);
    }

    fn json(&self) -> Value {
        let count = self.count.load(Relaxed);
        json!({
            "count": count,
            "last_us": self.last_ns.load(Relaxed) / 1000,
            "mean_us": self.total_ns.load(Relaxed) / 1000 / count.max(1),
            "max_us": self.max_ns.load(Relaxed) / 1000,
        })
    }
}

/// Sums over all sealed epochs. Together under one lock, taken once an epoch: a status that was
/// read in the middle of an addition would not balance.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    events: u64,
    read: u64,
    refused: u64,
    text_refused: u64,
    unowned: u64,
    rows: u64,
    unbalanced: u64,
}

/// One journal, from its first epoch on. `events = read + refused` over all sealed epochs.
#[derive(Debug, Default)]
pub struct JournalStats {
    pub name: &'static str,
    pub cadence_ms: AtomicU64,
    epoch: AtomicU64,
    totals: Mutex<Totals>,
    pub doorbells: AtomicU64,
    pub catch_ups: AtomicU64,
    pub candidates: AtomicU64,
    pub alerts: AtomicU64,
    pub errors: AtomicU64,
    pub panics: AtomicU64,
    pub restarts: AtomicU64,
    last_error: Mutex<Option<String>>,
    seal: Timing,
    read_time: Timing,
    pub judge_time: Timing,
}

impl JournalStats {
    pub fn new(name: &'static str) -> Self {
        Self { name, ..Self::default() }
    }

    pub fn sealed(&self, epoch: u64, took: Duration) {
        self.epoch.store(epoch, Relaxed);
        self.seal.add(took);
    }

    pub fn settled(&self, ledger: &types::ledger, read: Read, balanced: bool, took: Duration) {
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        totals.events += ledger.events;
        totals.refused += ledger.refused;
        totals.text_refused += ledger.text_refused;
        totals.unowned += ledger.unowned;
        totals.read += read.events;
        totals.rows += read.rows;
        totals.unbalanced += u64::from(!balanced);
        drop(totals);
        self.read_time.add(took);
    }

    /// An error that the plugin's thread lives with: counted, logged, shown.
    pub fn failed(&self, error: &anyhow::Error) {
        self.errors.fetch_add(1, Relaxed);
        log::error!("{}: {error:#}", self.name);
        if let Ok(mut last) = self.last_error.lock() {
            *last = Some(format!("{error:#}"));
        }
    }

    pub fn json(&self) -> Value {
        let totals = *self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        json!({
            "name": self.name,
            "cadence_ms": self.cadence_ms.load(Relaxed),
            "epoch": self.epoch.load(Relaxed),
            "events": totals.events,
            "read": totals.read,
            "refused": totals.refused,
            "rows": totals.rows,
            "balanced": totals.unbalanced == 0,
            "unbalanced_epochs": totals.unbalanced,
            "text_refused": totals.text_refused,
            "unowned": totals.unowned,
            "doorbells": self.doorbells.load(Relaxed),
            "catch_ups": self.catch_ups.load(Relaxed),
            "candidates": self.candidates.load(Relaxed),
            "alerts": self.alerts.load(Relaxed),
            "errors": self.errors.load(Relaxed),
            "last_error": self.last_error.lock().map(|last| last.clone()).unwrap_or_default(),
            "panics": self.panics.load(Relaxed),
            "restarts": self.restarts.load(Relaxed),
            "seal": self.seal.json(),
            "read_time": self.read_time.json(),
            "judge_time": self.judge_time.json(),
        })
    }
}
