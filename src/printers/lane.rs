//! One printer in its thread: its queue, its counters, and what happens when it fails.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded, select};

use crate::alert::Alert;
use crate::printers::{Printer, PrinterSpec, Settings, TryAgain};

/// The pause after a first failure; each further one doubles it.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// What became of the alerts that one printer was offered:
/// `seen by dispatch = printed + failed + dropped + queued`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrinterCounters {
    pub name: &'static str,
    pub printed: u64,
    /// Given up: an error that does not pass, or a panic.
    pub failed: u64,
    /// Not taken, as the queue was full.
    pub dropped: u64,
    /// Waiting, the one in the printer's hands included.
    pub queued: u64,
    /// Attempts that failed and were repeated later with the same alert.
    pub retried: u64,
    pub panics: u64,
}

/// Statistics only, hence relaxed: no other memory is read because of their values.
#[derive(Debug, Default)]
pub struct Counts {
    offered: AtomicU64,
    printed: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
    retried: AtomicU64,
    panics: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counts {
    pub fn read(&self, name: &'static str) -> PrinterCounters {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        // The ends first: an alert that moves on meanwhile is still in `offered`.
        let (printed, failed, dropped) =
            (get(&self.printed), get(&self.failed), get(&self.dropped));
        let queued = get(&self.offered).saturating_sub(printed + failed + dropped);
        let (retried, panics) = (get(&self.retried), get(&self.panics));
        PrinterCounters { name, printed, failed, dropped, queued, retried, panics }
    }
}

/// A thread that can be waited for with a deadline: it holds the sender of `ended`.
pub struct Running {
    thread: JoinHandle<Result<()>>,
    ended: Receiver<()>,
}

impl Running {
    pub fn spawn(name: String, body: impl FnOnce() -> Result<()> + Send + 'static) -> Result<Self> {
        let (ends, ended) = bounded(0);
        let run = move || {
            let _ends: Sender<()> = ends;
            body()
        };
        let failed = format!("starting thread {name}");
        let thread = std::thread::Builder::new().name(name).spawn(run).context(failed)?;
        Ok(Self { thread, ended })
    }

    /// The thread's own result; an error when it still runs at the deadline, which leaves it so.
    pub fn join(self, deadline: Instant) -> Result<()> {
        if self.ended.recv_deadline(deadline) == Err(RecvTimeoutError::Timeout) {
            return Err(anyhow!("did not end in time"));
        }
        self.thread.join().unwrap_or_else(|panic| Err(anyhow!("panicked: {}", words(&*panic))))
    }
}

/// The near end of a printer: where the dispatch puts alerts.
pub struct Inlet {
    alerts: Sender<Arc<Alert>>,
    counts: Arc<Counts>,
}

impl Inlet {
    /// Never waits.
    pub fn offer(&self, alert: &Arc<Alert>) {
        count(&self.counts.offered);
        match self.alerts.try_send(Arc::clone(alert)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                count(&self.counts.dropped);
            }
        }
    }
}

/// A printer's thread and the ways to reach it.
pub struct Lane {
    pub name: &'static str,
    pub running: Running,
    /// Holds at most one wish, as two say no more; its disconnect means that no time is left for
    /// pauses.
    pub reopen: Sender<()>,
    pub counts: Arc<Counts>,
    /// The result of building the printer.
    pub ready: Receiver<Result<()>>,
}

/// Starts a printer's thread; wait for [`Lane::ready`].
pub fn start(spec: PrinterSpec, settings: Settings, queue: usize) -> Result<(Lane, Inlet)> {
    let (alerts, queued) = bounded(queue);
    let (reopen, reopened) = bounded(1);
    let (says_ready, ready) = bounded(1);
    let counts = Arc::new(Counts::default());
    let counted = Arc::clone(&counts);
    let running = Running::spawn(format!("raqib-{}", spec.name), move || {
        let mut outlet = Outlet::new(spec, settings, reopened, counted);
        let built = outlet.build();
        let go_on = built.is_ok();
        // Who started us waits for this, and is gone only when it gave up on all printers.
        let _ = says_ready.send(built);
        if go_on { outlet.run(&queued) } else { Ok(()) }
    })?;
    let lane = Lane { name: spec.name, running, reopen, counts: Arc::clone(&counts), ready };
    Ok((lane, Inlet { alerts, counts }))
}

/// The far end: lives in the printer's thread.
struct Outlet {
    spec: PrinterSpec,
    settings: Settings,
    /// None after a panic, until built again.
    printer: Option<Box<dyn Printer>>,
    reopen: Receiver<()>,
    counts: Arc<Counts>,
    stopping: bool,
    pause: Duration,
    /// Since the last success.
    failures: u64,
}

impl Outlet {
    fn new(
        spec: PrinterSpec,
        settings: Settings,
        reopen: Receiver<()>,
        counts: Arc<Counts>,
    ) -> Self {
        Self {
            spec,
            settings,
            printer: None,
            reopen,
            counts,
            stopping: false,
            pause: PAUSE_MIN,
            failures: 0,
        }
    }

    fn build(&mut self) -> Result<()> {
        let Self { spec, settings, .. } = self;
        let built = catch(|| (spec.build)(settings)).context("building it");
        self.printer = Some(built?);
        Ok(())
    }

    fn run(&mut self, queued: &Receiver<Arc<Alert>>) -> Result<()> {
        while !self.stopping {
            select! {
                recv(queued) -> alert => match alert {
                    Ok(alert) => self.deliver(&alert),
                    Err(_) => break,
                },
                recv(self.reopen) -> wish => match wish {
                    Ok(()) => self.reopen_printer(),
                    Err(_) => self.stopping = true,
                },
            }
        }
        self.stopping = true;
        for alert in queued {
            self.deliver(&alert);
        }
        match &mut self.printer {
            Some(printer) => catch(|| printer.flush()).context("flushing"),
            None => Ok(()),
        }
    }

    /// Until the alert is printed or given up.
    fn deliver(&mut self, alert: &Alert) {
        while self.has_printer() {
            let Some(printer) = &mut self.printer else { break };
            match catch_unwind(AssertUnwindSafe(|| printer.print(alert))) {
                Ok(Ok(())) => return self.succeeded(),
                Ok(Err(error)) if error.is::<TryAgain>() && !self.stopping => {
                    self.tell(&error);
                    count(&self.counts.retried);
                    self.wait();
                }
                Ok(Err(error)) => {
                    self.tell(&error);
                    break;
                }
                Err(panic) => {
                    // Its state is unknown now. This alert is not tried again, as it may be what
                    // the printer cannot bear.
                    self.tell(&anyhow!("panicked: {}", words(&*panic)));
                    count(&self.counts.panics);
                    self.discard();
                    break;
                }
            }
        }
        count(&self.counts.failed);
    }

    /// Builds the printer again where it is gone, after a pause; no only when stopping.
    fn has_printer(&mut self) -> bool {
        while self.printer.is_none() {
            self.wait();
            if let Err(error) = self.build() {
                self.tell(&error);
                if self.stopping {
                    return false;
                }
            }
        }
        true
    }

    /// Longer each time, cut short by a wish to reopen (somebody may have mended the cause) and
    /// by the end. Meanwhile the queue fills, and what it cannot hold is dropped and counted.
    fn wait(&mut self) {
        if self.stopping {
            return;
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSE_MAX);
        match self.reopen.recv_timeout(pause) {
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => self.stopping = true,
            Ok(()) => self.reopen_printer(),
        }
    }

    fn reopen_printer(&mut self) {
        let Some(printer) = &mut self.printer else { return };
        match catch_unwind(AssertUnwindSafe(|| printer.reopen())) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => log::error!("printer {}: reopening: {error:#}", self.spec.name),
            Err(panic) => {
                self.tell(&anyhow!("panicked while reopening: {}", words(&*panic)));
                count(&self.counts.panics);
                self.discard();
            }
        }
    }

    /// A `drop` may panic as well, of a printer whose invariants broke even more so.
    fn discard(&mut self) {
        let printer = self.printer.take();
        if catch_unwind(AssertUnwindSafe(|| drop(printer))).is_err() {
            count(&self.counts.panics);
        }
    }

    /// The first of a row of failures: a closed pipe would otherwise fill the daemon's log with
    /// a line for each alert. The counters tell the rest.
    fn tell(&mut self, error: &anyhow::Error) {
        if self.failures == 0 {
            log::error!("printer {}: {error:#} (further failures are counted)", self.spec.name);
        }
        self.failures += 1;
    }

    fn succeeded(&mut self) {
        if self.failures > 0 {
            log::info!("printer {}: works again after {} failures", self.spec.name, self.failures);
        }
        (self.failures, self.pause) = (0, PAUSE_MIN);
        count(&self.counts.printed);
    }
}

/// A panic as an error.
fn catch<T>(act: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(act))
        .unwrap_or_else(|panic| Err(anyhow!("panicked: {}", words(&*panic))))
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a word")
}
