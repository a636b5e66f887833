//! Drives one plugin in a thread of its own: cadence, doorbell, seal, read, judge.
//!
//! ```text
//! wait (cadence | doorbell | somebody asks) -> seal -> plugin.read -> settle the ledger
//!   -> candidates (no process needed) -> who was it? -> decide -> alerts
//! ```
//!
//! The process tree is fed by the execution journal, which has its own epochs. An event whose
//! task is not in the tree yet makes the driver ask execution to catch up, once for the epoch:
//! what execution seals after us holds every fork and exec that our rows can name. In the same
//! way network_peers seals after network_flows and is read before it: whoever resolves a name
//! connects within the same epoch, and that conversation must have the name.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use crossbeam_channel::{Receiver, Sender, bounded, select};
use serde_json::Value;

use super::waiting::{Room, Waiting, Wants};
use super::{Build, Plugin};
use crate::alert::{Alert, Host, RecipeFacts};
use crate::content::Contents;
use crate::detect::{Detector, Ruleset, Verdict};
use crate::event::{Body, Event, Mechanism, TaskKey};
use crate::journal::{Journal, Read, Sealed};
use crate::state::{Process, World};

/// What a plugin's thread can be asked.
#[derive(Debug)]
pub enum Command {
    /// A table of this slot is half full.
    Bell(u32),
    /// Seal now and answer when the state has it.
    CatchUp(Sender<()>),
    Query(u32, Sender<Value>),
    Rules(Arc<Ruleset>),
    Cadence(Duration),
}

/// Asked faster than answered: a bell may be dropped, since another comes with the next epoch.
const COMMANDS: usize = 16;

/// How long a thread waits for another before it judges with what is known.
const CATCH_UP: Duration = Duration::from_secs(2);

/// How long the alerts of an epoch wait for what is not known yet of their containers.
const CONTAINER: Duration = Duration::from_millis(200);

const BACK_OFF_FIRST: Duration = Duration::from_millis(200);
const BACK_OFF_MAX: Duration = Duration::from_secs(60);

/// What every driver needs beside its own plugin.
#[derive(Clone)]
pub struct Surroundings {
    pub world: Arc<World>,
    pub host: Arc<Host>,
    pub rules: Arc<Ruleset>,
    pub alerts: Sender<Alert>,
    /// Execution's thread; none in execution itself.
    pub execution: Option<Sender<Command>>,
    /// The thread of the plugin that reads before this one (`Spec::reads_after`).
    pub names: Option<Sender<Command>>,
    pub contents: Contents,
    /// Whether recipes are judged: lineage needs execution even where nobody asks for it.
    pub judges: bool,
}

/// A running plugin. Its thread ends when every sender of its commands is gone.
#[derive(Debug)]
pub struct Running {
    pub mechanism: Mechanism,
    pub commands: Sender<Command>,
    thread: JoinHandle<()>,
}

impl Running {
    /// Starts the thread, builds the plugin in it, and returns when that is done.
    pub fn start(
        mechanism: Mechanism,
        build: Build,
        journal: Journal,
        cadence: Duration,
        surroundings: Surroundings,
    ) -> Result<Self> {
        let (commands, inbox) = bounded(COMMANDS);
        let (ready, answer) = bounded(1);
        let thread = std::thread::Builder::new()
            .name(format!("raqib-{}", mechanism.name()))
            .spawn(move || match Driver::new(mechanism, build, journal, cadence, surroundings) {
                Ok(mut driver) => {
                    let _ = ready.send(Ok(()));
                    driver.run(&inbox);
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                }
            })
            .context("cannot start a plugin's thread")?;
        answer
            .recv()
            .map_err(|_| anyhow!("the thread of {} ended at once", mechanism.name()))??;
        Ok(Self { mechanism, commands, thread })
    }

    /// Last seal, last alerts, end. Other senders of its commands must be gone by now.
    pub fn finish(self) -> Result<()> {
        drop(self.commands);
        if self.thread.join().is_err() {
            bail!("the thread of {} panicked outside its plugin", self.mechanism.name());
        }
        Ok(())
    }
}

struct Driver {
    mechanism: Mechanism,
    build: Build,
    /// None while it waits to be built again after a panic.
    plugin: Option<Box<dyn Plugin>>,
    build_again: Option<Instant>,
    back_off: Duration,
    built: Instant,
    journal: Journal,
    cadence: Duration,
    next: Instant,
    detector: Detector,
    around: Surroundings,
    /// What waits for the content of an executable.
    room: Room,
}

impl Driver {
    fn new(
        mechanism: Mechanism,
        build: Build,
        journal: Journal,
        cadence: Duration,
        around: Surroundings,
    ) -> Result<Self> {
        let plugin = build()?;
        let detector = Detector::new(Arc::clone(&around.rules), mechanism);
        let mut driver = Self {
            mechanism,
            build,
            plugin: Some(plugin),
            build_again: None,
            back_off: BACK_OFF_FIRST,
            built: Instant::now(),
            journal,
            cadence,
            next: Instant::now() + cadence,
            detector,
            around,
            room: Room::new(),
        };
        driver.set_cadence(cadence);
        driver.watch_env()?;
        Ok(driver)
    }

    fn run(&mut self, inbox: &Receiver<Command>) {
        let rung = self.room.rung.clone();
        loop {
            let wakes = [Some(self.next), self.build_again, self.room.until()];
            let until = wakes.into_iter().flatten().min().unwrap_or(self.next);
            select! {
                recv(inbox) -> command => match command {
                    Ok(command) => self.obey(command),
                    Err(_) => break,
                },
                recv(rung) -> _ => {}
                default(until.saturating_duration_since(Instant::now())) => self.tick(),
            }
            self.release(false);
        }
        self.last();
    }

    /// Nothing counted may be left: neither what waits for a plugin that panicked, nor what a
    /// failed reading left in the other slot.
    fn last(&mut self) {
        if self.plugin.is_none() {
            self.rebuild();
        }
        self.cycle();
        self.cycle();
        self.room.last();
        self.release(true);
    }

    fn tick(&mut self) {
        let now = Instant::now();
        if self.build_again.is_some_and(|again| again <= now) {
            self.rebuild();
        }
        if self.next <= now {
            self.cycle();
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            // One that rang for an epoch that is sealed by now says nothing.
            Command::Bell(slot) if slot == self.journal.slot() => {
                self.journal.stats.doorbells.fetch_add(1, Relaxed);
                self.cycle();
            }
            Command::Bell(_) => {}
            Command::CatchUp(done) => {
                self.journal.stats.catch_ups.fetch_add(1, Relaxed);
                self.cycle();
                let _ = done.send(());
            }
            Command::Query(pid, answer) => {
                self.cycle();
                let _ = answer
                    .send(self.plugin.as_ref().map_or(Value::Null, |plugin| plugin.query(pid)));
            }
            Command::Rules(rules) => {
                // Their candidates are numbers of the rules that go.
                self.release(true);
                self.around.rules = Arc::clone(&rules);
                self.detector.reload(rules);
                if let Err(error) = self.watch_env() {
                    self.journal.stats.failed(&error);
                }
            }
            Command::Cadence(cadence) => self.set_cadence(cadence),
        }
    }

    fn set_cadence(&mut self, cadence: Duration) {
        self.cadence = cadence;
        self.next = Instant::now() + cadence;
        self.journal.stats.cadence_ms.store(cadence.as_millis() as u64, Relaxed);
    }

    fn watch_env(&mut self) -> Result<()> {
        let names: BTreeSet<String> = self.around.rules.watched_env_names();
        match &mut self.plugin {
            Some(plugin) => plugin.watch_env(&names),
            None => Ok(()),
        }
    }

    /// One epoch from seal to alerts. Errors are counted and shown; the next epoch comes.
    fn cycle(&mut self) {
        self.next = Instant::now() + self.cadence;
        if self.plugin.is_none() {
            return;
        }
        if let Err(error) = self.epoch() {
            self.journal.stats.failed(&error);
        }
    }

    fn epoch(&mut self) -> Result<()> {
        if self.journal.is_empty()? {
            return Ok(());
        }
        let sealed = self.journal.seal()?;
        catch_up(self.around.names.as_ref());
        let began = Instant::now();
        let mut pending = Vec::new();
        let result = self.read(&sealed, &mut pending);
        match &result {
            Ok(read) => self.journal.settle(&sealed, *read, began.elapsed()).map(drop)?,
            Err(_) => self.journal.leave(&sealed)?,
        }
        let judged = Instant::now();
        self.journal.stats.candidates.fetch_add(pending.len() as u64, Relaxed);
        let outcome = catch_unwind(AssertUnwindSafe(|| self.judge(&mut pending)));
        self.journal.stats.judge_time.add(judged.elapsed());
        if outcome.is_err() {
            self.panicked("judging");
        }
        result.map(|_| ())
    }

    /// Reads a sealed epoch; what may match a recipe is left in `pending`.
    fn read(&mut self, sealed: &Sealed, pending: &mut Vec<(Event, Vec<usize>)>) -> Result<Read> {
        let (detector, judges) = (&mut self.detector, self.around.judges);
        let Some(plugin) = &mut self.plugin else { return Ok(Read::default()) };
        let mut candidates = Vec::new();
        let mut take = |event: Event| {
            if judges {
                detector.candidates(&event, &mut candidates);
            }
            // What was executed may be a script, which only the process tells.
            if !candidates.is_empty() || (judges && event.mechanism == Mechanism::Execution) {
                pending.push((event, std::mem::take(&mut candidates)));
            }
        };
        match catch_unwind(AssertUnwindSafe(|| plugin.read(sealed, &mut take))) {
            Ok(read) => read,
            Err(_) => {
                self.panicked("reading");
                bail!("the plugin panicked while it read an epoch: built again, it reads the rest")
            }
        }
    }

    /// Joins events with their processes and lets the recipes decide.
    fn judge(&mut self, pending: &mut [(Event, Vec<usize>)]) {
        self.name_files(pending);
        let unknown =
            |(event, _): &&(Event, Vec<usize>)| !self.around.world.processes.knows(event.task);
        if pending.iter().find(unknown).is_some() {
            catch_up(self.around.execution.as_ref());
        }
        // For all of the epoch together: files that are slow delay its alerts once.
        let until = Instant::now() + CONTAINER;
        for (event, candidates) in pending.iter() {
            let process = self.who(event.task);
            self.know_container(candidates, event, &process, until);
            let wants = || Wants::Decision(candidates.clone());
            if self.asks_content(candidates, &process)
                && self.room.keeps(&self.around.contents, event, &process, wants)
            {
                continue;
            }
            self.decide(candidates, event, &process);
        }
    }

    /// What is under way of the container that alerts will tell.
    fn know_container(
        &self,
        candidates: &[usize],
        event: &Event,
        process: &Process,
        until: Instant,
    ) {
        let containers = &self.around.world.containers;
        // A script's own recipes are found when they are decided.
        if !candidates.is_empty() || process.image.script.is_some() {
            containers.settle(process, until);
        }
        if let Body::Container(life) = &event.body {
            containers.settle_details(&life.container, until);
        }
    }

    /// The other names of the files of candidates.
    fn name_files(&self, pending: &mut [(Event, Vec<usize>)]) {
        for (event, _) in pending.iter_mut().filter(|(_, candidates)| !candidates.is_empty()) {
            if let Body::File(file) = &mut event.body
                && file.inode != 0
            {
                file.names = self.around.world.files().names((file.dev, file.inode));
            }
        }
    }

    /// Whether a recipe that may fire needs the content of the executable. Which ones a script
    /// brings is known only when they are decided.
    fn asks_content(&self, candidates: &[usize], process: &Process) -> bool {
        let recipes = self.detector.ruleset().recipes();
        let asks = |number: &usize| recipes.get(*number).is_some_and(|one| one.asks_content());
        candidates.iter().any(asks)
            || (process.image.script.is_some() && recipes.iter().any(|one| one.asks_content()))
    }

    fn decide(&mut self, candidates: &[usize], event: &Event, process: &Arc<Process>) {
        for verdict in self.detector.decide(candidates, event, process) {
            let contents = &self.around.contents;
            let wants = || Wants::Alert(Box::new(verdict.clone()));
            if contents.for_alerts() && self.room.keeps(contents, event, process, wants) {
                continue;
            }
            self.tell(verdict, event, process);
        }
    }

    fn tell(&self, verdict: Verdict, event: &Event, process: &Arc<Process>) {
        let facts = Arc::new(RecipeFacts::from(&*verdict.recipe));
        let late = self.around.contents.for_alerts();
        let mut alert = Alert::new(&facts, verdict.note, event, process, &self.around.host);
        if let Body::File(file) = &mut alert.event.body
            && file.names.is_empty()
            && file.inode != 0
        {
            file.names = self.around.world.files().names((file.dev, file.inode));
        }
        self.journal.stats.alerts.fetch_add(1, Relaxed);
        if self.around.alerts.send(alert.with_content(late)).is_err() {
            self.journal.stats.failed(&anyhow!("alerts have nowhere to go: dispatch ended"));
        }
    }

    /// Goes on with what has waited for a content.
    fn release(&mut self, all: bool) {
        for Waiting { event, process, wants, .. } in self.room.leaving(all) {
            match wants {
                Wants::Decision(candidates) => {
                    let decide = || self.decide(&candidates, &event, &process);
                    if catch_unwind(AssertUnwindSafe(decide)).is_err() {
                        self.panicked("judging");
                    }
                }
                Wants::Alert(verdict) => self.tell(*verdict, &event, &process),
            }
        }
    }

    /// A task that nobody knows is still somebody: its pid and times are facts.
    fn who(&self, task: TaskKey) -> Arc<Process> {
        self.around
            .world
            .processes
            .get(task)
            .unwrap_or_else(|| Arc::new(Process { key: task, ..Process::default() }))
    }

    fn panicked(&mut self, doing: &str) {
        self.journal.stats.panics.fetch_add(1, Relaxed);
        // One panic a day is not the fifth in a row.
        if self.built.elapsed() > BACK_OFF_MAX {
            self.back_off = BACK_OFF_FIRST;
        }
        log::error!(
            "{}: panicked while {doing}; built again in {:?}, the others go on",
            self.mechanism.name(),
            self.back_off
        );
        self.plugin = None;
        self.build_again = Some(Instant::now() + self.back_off);
        self.back_off = (self.back_off * 2).min(BACK_OFF_MAX);
    }

    fn rebuild(&mut self) {
        self.build_again = None;
        self.detector = Detector::new(Arc::clone(&self.around.rules), self.mechanism);
        match (self.build)() {
            Ok(plugin) => {
                self.plugin = Some(plugin);
                self.built = Instant::now();
                self.journal.stats.restarts.fetch_add(1, Relaxed);
                if let Err(error) = self.watch_env() {
                    self.journal.stats.failed(&error);
                }
            }
            Err(error) => {
                self.journal.stats.failed(&error);
                self.build_again = Some(Instant::now() + self.back_off);
            }
        }
    }
}

/// Waits until another plugin has sealed and read what happened until now.
fn catch_up(other: Option<&Sender<Command>>) {
    let Some(other) = other else { return };
    let (done, answer) = bounded(1);
    if other.send_timeout(Command::CatchUp(done), CATCH_UP).is_ok() {
        let _ = answer.recv_timeout(CATCH_UP);
    }
}
