//! From the plugins to the printers.
//!
//! Plugins send into one bounded channel. The thread `raqib-dispatch` numbers the alerts and
//! offers each to one bounded channel per printer, without ever waiting: a printer that is slow,
//! stuck or dead costs the others nothing, and detection neither. What a printer had no room for
//! is counted as dropped, and shows as a gap in `seq`.
//!
//! Nothing here watches a stop signal. When the last plugin has dropped its sender, the dispatch
//! ends, which disconnects the printers' channels; they print what is queued, flush and end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use crossbeam_channel::{Receiver, Sender, bounded};

use crate::alert::Alert;
use crate::printers::lane::{self, Counts, Inlet, Lane, Running};
use crate::printers::{PRINTERS, PrinterSpec, Settings};

pub use crate::printers::lane::PrinterCounters;

/// Alerts between plugins and dispatch, which only moves pointers: this is full only when the
/// thread does not get to run.
const INBOUND: usize = 1024;

/// Alerts in one printer's queue. They share their texts with the process tree, so that this
/// many take a few megabytes; at ten alerts a second it bridges a pause of minutes.
pub const QUEUE: usize = 4096;

/// Printers at work.
pub struct Dispatch {
    thread: Running,
    lanes: Vec<Lane>,
}

/// The counters of all printers, to be read from any thread at any time.
#[derive(Clone, Debug)]
pub struct Counters(Arc<[(&'static str, Arc<Counts>)]>);

impl Counters {
    pub fn read(&self) -> Vec<PrinterCounters> {
        self.0.iter().map(|(name, counts)| counts.read(name)).collect()
    }
}

impl Dispatch {
    /// Builds the named printers, each in its thread, and gives the sender for the plugins.
    ///
    /// # Errors
    ///
    /// When a name is unknown or given twice, or a printer cannot be built (its file cannot be
    /// opened); no thread is left behind then.
    pub fn start(names: &[String], settings: Settings) -> Result<(Self, Sender<Alert>)> {
        let specs: Result<Vec<PrinterSpec>> = names.iter().map(|name| spec(name)).collect();
        Self::start_with(&specs?, &settings, QUEUE)
    }

    /// The same with printers that are in no table, and another length of their queues.
    ///
    /// # Errors
    ///
    /// As [`Dispatch::start`].
    pub fn start_with(
        specs: &[PrinterSpec],
        settings: &Settings,
        queue: usize,
    ) -> Result<(Self, Sender<Alert>)> {
        for (at, spec) in specs.iter().enumerate() {
            if specs[..at].iter().any(|other| other.name == spec.name) {
                bail!("printer {} is named twice", spec.name);
            }
        }
        let (mut lanes, mut inlets) = (Vec::new(), Vec::new());
        let started = open(specs, settings, queue, &mut lanes, &mut inlets).and_then(|()| {
            let (alerts, inbound) = bounded(INBOUND);
            // On failure the inlets are dropped with the closure, which ends the lanes.
            let inlets = std::mem::take(&mut inlets);
            let body = move || {
                fan_out(&inbound, &inlets);
                Ok(())
            };
            Ok((Running::spawn("raqib-dispatch".to_owned(), body)?, alerts))
        });
        match started {
            Ok((thread, alerts)) => Ok((Self { thread, lanes }, alerts)),
            Err(error) => {
                drop(inlets);
                abandon(lanes);
                Err(error)
            }
        }
    }

    /// Has all printers open their files again; returns at once.
    pub fn reopen(&self) {
        for lane in &self.lanes {
            // Full means that the same wish already waits.
            let _ = lane.reopen.try_send(());
        }
    }

    pub fn counters(&self) -> Vec<PrinterCounters> {
        self.counters_shared().read()
    }

    /// For a thread that outlives a borrow, such as a metrics server.
    pub fn counters_shared(&self) -> Counters {
        Counters(self.lanes.iter().map(|lane| (lane.name, Arc::clone(&lane.counts))).collect())
    }

    /// Waits until the plugins have dropped their senders and the printers have printed what is
    /// queued and flushed.
    ///
    /// # Errors
    ///
    /// Says what was left undone at the deadline (the threads are left to themselves then) and
    /// what could not be flushed. Alerts that a printer gave up are in the counters.
    pub fn finish(self, within: Duration) -> Result<()> {
        let now = Instant::now();
        // A deadline that does not fit is none; a day is as good.
        let deadline = now.checked_add(within).unwrap_or(now + Duration::from_secs(86_400));
        let counters = self.counters_shared();
        let mut undone = Vec::new();
        if let Err(error) = self.thread.join(deadline) {
            undone.push(format!("dispatch {error:#}: a plugin still holds its sender"));
        }
        // Without their sender of `reopen` printers no longer pause between attempts: all of
        // them hear of it before the first is waited for.
        let lanes = self.lanes.into_iter().map(|lane| (lane.name, lane.running));
        let running: Vec<(&str, Running)> = lanes.collect();
        for (name, running) in running {
            if let Err(error) = running.join(deadline) {
                let queued = counters.read().into_iter().find(|one| one.name == name);
                let queued = queued.map_or(0, |one| one.queued);
                undone.push(format!("printer {name}: {error:#} ({queued} alerts not printed)"));
            }
        }
        if undone.is_empty() { Ok(()) } else { Err(anyhow!(undone.join("; "))) }
    }
}

/// The row of a name.
fn spec(name: &str) -> Result<PrinterSpec> {
    PRINTERS.iter().find(|spec| spec.name == name).copied().with_context(|| {
        let known: Vec<&str> = PRINTERS.iter().map(|spec| spec.name).collect();
        format!("there is no printer {name:?}: there are {}", known.join(", "))
    })
}

/// All printers are built at the same time, and waited for in order.
fn open(
    specs: &[PrinterSpec],
    settings: &Settings,
    queue: usize,
    lanes: &mut Vec<Lane>,
    inlets: &mut Vec<Inlet>,
) -> Result<()> {
    for &spec in specs {
        let (lane, inlet) = lane::start(spec, settings.clone(), queue)?;
        lanes.push(lane);
        inlets.push(inlet);
    }
    for lane in lanes {
        let built = lane.ready.recv().unwrap_or_else(|_| Err(anyhow!("its thread ended")));
        built.with_context(|| format!("printer {}", lane.name))?;
    }
    Ok(())
}

/// Ends printers that have been given no alert, so that there is nothing to wait long for.
fn abandon(lanes: Vec<Lane>) {
    let deadline = Instant::now() + Duration::from_secs(10);
    for Lane { name, running, reopen, .. } in lanes {
        drop(reopen);
        if let Err(error) = running.join(deadline) {
            log::error!("printer {name}: {error:#}");
        }
    }
}

fn fan_out(inbound: &Receiver<Alert>, printers: &[Inlet]) {
    for (seq, mut alert) in (1..).zip(inbound) {
        alert.seq = seq;
        let alert = Arc::new(alert);
        for printer in printers {
            printer.offer(&alert);
        }
    }
}
