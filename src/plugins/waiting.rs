//! What waits for the content of an executable, without anybody waiting with it.
//!
//! A recipe that asks for the content is decided when it is known; an alert is told with it. Both
//! have a deadline, after which they go on with what is known.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::content::Contents;
use crate::detect::Verdict;
use crate::event::Event;
use crate::state::Process;

/// An alert is worth more now than with a hash later.
const ALERT: Duration = Duration::from_millis(200);
/// A recipe that asks for a hash is nothing without it.
const VERDICT: Duration = Duration::from_secs(10);
/// At the end of the daemon nobody waits longer than this.
const LAST: Duration = Duration::from_millis(200);
/// More than these are not kept waiting.
const MOST: usize = 4096;

/// What goes on when the content is known.
pub(super) enum Wants {
    /// A decision among these recipes.
    Decision(Vec<usize>),
    /// To be told.
    Alert(Box<Verdict>),
}

pub(super) struct Waiting {
    pub event: Event,
    pub process: Arc<Process>,
    pub wants: Wants,
    until: Instant,
}

/// The waiting of one plugin.
pub(super) struct Room {
    waiting: Vec<Waiting>,
    bell: Sender<()>,
    pub rung: Receiver<()>,
}

impl Room {
    pub fn new() -> Self {
        let (bell, rung) = bounded(1);
        Self { waiting: Vec::new(), bell, rung }
    }

    /// True when it waits; false when it can go on at once.
    pub fn keeps(
        &mut self,
        contents: &Contents,
        event: &Event,
        process: &Arc<Process>,
        wants: impl FnOnce() -> Wants,
    ) -> bool {
        if contents.ask(process, &self.bell) || self.waiting.len() >= MOST {
            return false;
        }
        let wants = wants();
        let patience = match wants {
            Wants::Decision(_) => VERDICT,
            Wants::Alert(_) => ALERT,
        };
        let (event, process) = (event.clone(), Arc::clone(process));
        self.waiting.push(Waiting { event, process, wants, until: Instant::now() + patience });
        true
    }

    /// When the first of them loses its patience.
    pub fn until(&self) -> Option<Instant> {
        self.waiting.iter().map(|one| one.until).min()
    }

    /// Those whose content is known, or who have waited long enough; `all`: whatever waits.
    pub fn leaving(&mut self, all: bool) -> Vec<Waiting> {
        let now = Instant::now();
        let leaves =
            |one: &mut Waiting| all || one.process.image.sha256().is_some() || one.until <= now;
        self.waiting.extract_if(.., leaves).collect()
    }

    /// Waits for what is being read, within what the end of a daemon allows.
    pub fn last(&self) {
        let until = Instant::now() + LAST;
        while self.waiting.iter().any(|one| one.process.image.sha256().is_none())
            && self.rung.recv_deadline(until).is_ok()
        {}
    }
}
