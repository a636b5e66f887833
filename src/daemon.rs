//! The daemon: its components, wired in the order of the data.
//!
//! Output (printers, dispatch) <- Plugins (kernel, threads) <- Doorbell <- Hooks <- Control.
//! The main thread then waits for signals and does nothing else.

use std::cell::RefCell;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use crossbeam_channel::Sender;
use signal_hook::iterator::Signals;

use crate::alert::{Alert, Host};
use crate::component::{Component, Group, live};
use crate::config::Config;
use crate::content::Contents;
use crate::control::Control;
use crate::detect::Ruleset;
use crate::dispatch::Dispatch;
use crate::doorbell::Doorbell;
use crate::event::{Actions, Mechanism};
use crate::journal::Journal;
use crate::kernel::attach::Attached;
use crate::kernel::hooks::{self, Fact};
use crate::kernel::load::{Kernel, handle};
use crate::kernel::refusal::Refusal;
use crate::kernel::{cgroups, descriptors, host, prime};
use crate::plugins::driver::{Command, Running, Surroundings};
use crate::plugins::{PLUGINS, Prepared, entries};
use crate::printers::{Output, Settings};
use crate::state::{Containers, Files, Names, Processes, World};
use crate::stats::JournalStats;
use crate::status::{Hooked, Status};
use crate::{rules, signals};

/// The second part of a stop: dispatch may take this long to hand out what is queued.
const DRAIN: Duration = Duration::from_millis(1200);

/// What the user asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// As given; the file is read again on SIGHUP. None: built-in defaults.
    pub config_file: Option<PathBuf>,
    pub output: Output,
}

/// What components hand one another while they start. Only the main thread touches it.
struct Wires {
    options: Options,
    config: Config,
    rules: Arc<Ruleset>,
    world: Arc<World>,
    host: Arc<Host>,
    began: Instant,
    kernel: Option<Kernel>,
    dispatch: Option<Dispatch>,
    alerts: Option<Sender<Alert>>,
    contents: Option<Contents>,
    cgroup: Option<PathBuf>,
    attached: Attached,
    plugins: Vec<Running>,
    journals: Vec<Arc<JournalStats>>,
    hooked: Hooked,
}

type Shared = Rc<RefCell<Wires>>;

/// Runs until a signal ends it.
pub fn run(config: Config, options: Options) -> Result<()> {
    host::check()?;
    let signals = signals::listen()?;
    let rules = rules::load(&config)?;
    let caches = &config.caches;
    let processes =
        Processes::new(entries(caches.rec_tasks) as usize, entries(caches.rec_tasks) as usize * 4);
    let names = Names::new(entries(caches.flows) as usize / 2);
    let files = Files::new(entries(caches.files) as usize);
    let containers = Containers::new(entries(caches.containers) as usize);
    let wires = Rc::new(RefCell::new(Wires {
        rules: Arc::new(rules),
        world: Arc::new(World::new(processes, containers, names, files)),
        host: Arc::new(Host::detect()),
        began: Instant::now(),
        kernel: None,
        dispatch: None,
        alerts: None,
        contents: None,
        cgroup: None,
        attached: Attached::default(),
        plugins: Vec::new(),
        journals: Vec::new(),
        hooked: Hooked::default(),
        config,
        options,
    }));
    let share = || Rc::clone(&wires);
    let mut daemon = Group::default()
        .with(Printing { wires: share() })
        .with(Plugging { wires: share(), doorbell: None })
        .with(Hooking { wires: share() })
        .with(Answering { wires: share(), listener: None, control: None })
        .with(Watching { wires: share(), signals: Some(signals) });
    live(&mut daemon)
}

struct Printing {
    wires: Shared,
}

impl Component for Printing {
    fn name(&self) -> &'static str {
        "output"
    }

    fn start(&mut self) -> Result<()> {
        let mut wires = self.wires.borrow_mut();
        let config = &wires.config;
        let options = &config.printer_options;
        let settings = Settings {
            output: wires.options.output,
            stdout: config.run_time.stdout.clone(),
            stdout_raw: options.stdout.raw,
            varlog_file: options.varlog.file.clone(),
            varlog_max_bytes: u64::from(options.varlog.max_size) << 20,
            varlog_keep: options.varlog.keep,
            varlog_raw: options.varlog.raw,
        };
        let names: Vec<String> = config.printers_built().map(str::to_owned).collect();
        let (dispatch, alerts) = Dispatch::start(&names, settings)?;
        wires.dispatch = Some(dispatch);
        wires.alerts = Some(alerts);
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        let mut wires = self.wires.borrow_mut();
        wires.alerts = None;
        wires.dispatch.take().map_or(Ok(()), |dispatch| dispatch.finish(DRAIN))
    }
}

struct Plugging {
    wires: Shared,
    doorbell: Option<Doorbell>,
}

impl Component for Plugging {
    fn name(&self) -> &'static str {
        "the plugins"
    }

    fn init(&mut self) -> Result<()> {
        self.wires.borrow_mut().kernel = Some(Kernel::load()?);
        Ok(())
    }

    fn start(&mut self) -> Result<()> {
        let mut wires = self.wires.borrow_mut();
        let wires = &mut *wires;
        let kernel = wires.kernel.as_ref().context("the kernel side is not loaded")?;
        let wanted = wires.config.plugins();
        let detect = &wires.config.feature_options.detect;
        // Its thread ends by itself when nobody can ask any more: it may be reading a large file.
        let (contents, _thread) = Contents::start(detect.hash, detect.hash_max_size)?;
        wires.contents = Some(contents.clone());
        let mut doors = Vec::new();
        for spec in PLUGINS {
            let judges = wanted.contains(&spec.mechanism);
            if !judges && !spec.always {
                continue;
            }
            let Prepared { store, rows, texts, build } =
                (spec.prepare)(kernel, &wires.config, &wires.world)?;
            let stats = Arc::new(JournalStats::new(spec.mechanism.name()));
            wires.journals.push(Arc::clone(&stats));
            let started = |mechanism| {
                let found = wires.plugins.iter().find(|plugin| plugin.mechanism == mechanism);
                found.map(|plugin| plugin.commands.clone())
            };
            let surroundings = Surroundings {
                world: Arc::clone(&wires.world),
                host: Arc::clone(&wires.host),
                rules: Arc::clone(&wires.rules),
                alerts: wires.alerts.clone().context("output has not started")?,
                execution: started(Mechanism::Execution),
                names: spec.reads_after.and_then(started),
                contents: contents.clone(),
                judges,
            };
            let cadence = (spec.cadence)(&wires.config.cadences);
            let journal = Journal::new(spec.journal, store, rows, texts, stats)?;
            let running = Running::start(spec.mechanism, build, journal, cadence, surroundings)?;
            doors.push((spec.journal, running.commands.clone()));
            wires.plugins.push(running);
        }
        self.doorbell = Some(Doorbell::start(handle(&kernel.skel.maps.bells)?, doors)?);
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        let rung = self.doorbell.take().map_or(Ok(()), Doorbell::finish);
        let mut plugins = std::mem::take(&mut self.wires.borrow_mut().plugins);
        let mut ended = Ok(());
        // Execution last: the others still ask it who is who.
        while let Some(plugin) = plugins.pop() {
            ended = ended.and(plugin.finish());
        }
        rung.and(ended)
    }

    fn exit(&mut self) {
        self.wires.borrow_mut().kernel = None;
    }
}

struct Hooking {
    wires: Shared,
}

/// File actions that hooks must provide: what recipes ask for, and what the user asks for.
pub fn wanted_actions(config: &Config, rules: &Ruleset) -> Actions {
    let close = u32::from(config.feature_options.detect.close) << hooks::CLOSE;
    Actions(rules.wanted_actions().0 | close)
}

/// Attaches what is wanted now, detaches what is not; at start and at each reload. What is
/// wanted and not to be had on this kernel is said.
fn attach(wires: &mut Wires) -> Result<Vec<Fact>> {
    let actions = wanted_actions(&wires.config, &wires.rules);
    let kernel = wires.kernel.as_ref().context("the kernel side is not loaded")?;
    let plugins = wires.config.plugins();
    let names = hooks::programs(&plugins, actions, &kernel.refused);
    wires.attached.attach(kernel, &names, wires.cgroup.as_deref())?;
    let facts = hooks::facts(&plugins, actions, &kernel.refused);
    for (fact, off) in facts.iter().filter_map(|fact| Some((fact.fact, fact.off.as_ref()?))) {
        log::warn!("{fact}: off, {off}");
    }
    Ok(facts)
}

impl Component for Hooking {
    fn name(&self) -> &'static str {
        "the hooks"
    }

    fn init(&mut self) -> Result<()> {
        let mut wires = self.wires.borrow_mut();
        let plugins = wires.config.plugins();
        if plugins.contains(&Mechanism::NetworkFlows) || plugins.contains(&Mechanism::NetworkPeers)
        {
            wires.cgroup = Some(host::cgroup2()?);
        }
        Ok(())
    }

    fn start(&mut self) -> Result<()> {
        let mut wires = self.wires.borrow_mut();
        let wires = &mut *wires;
        let facts = attach(wires)?;
        let kernel = wires.kernel.as_ref().context("the kernel side is not loaded")?;
        cgroups::prime(&wires.world);
        let primed = prime::processes(kernel, &wires.world)?;
        if wires.cgroup.is_some() {
            let refused = |refusal: &Refusal| refusal.program == "prime_sockets";
            if kernel.refused.iter().any(refused) {
                descriptors::sockets(kernel, &wires.world)?;
            } else {
                prime::sockets(kernel)?;
            }
        }
        let took = wires.began.elapsed();
        let on = facts.iter().filter(|fact| fact.off.is_none());
        let names: Vec<String> = on.map(Fact::told).collect();
        log::info!("watching {} on Linux {}", names.join("; "), host::release());
        log::info!(
            "{} recipes, {primed} processes known, ready after {} ms",
            wires.rules.recipes().len(),
            took.as_millis()
        );
        wires.hooked = Hooked { facts, start_ms: took.as_millis() as u64 };
        Ok(())
    }

    /// Detached before anybody seals for the last time.
    fn finish(&mut self) -> Result<()> {
        self.wires.borrow_mut().attached = Attached::default();
        Ok(())
    }
}

/// The status socket: the last to begin, when there is something to tell, and the first to end,
/// since it can ask the plugins.
struct Answering {
    wires: Shared,
    listener: Option<UnixListener>,
    control: Option<Control>,
}

impl Component for Answering {
    fn name(&self) -> &'static str {
        "the status socket"
    }

    fn init(&mut self) -> Result<()> {
        self.listener = Some(Control::bind(&self.wires.borrow().config.run_time.socket)?);
        Ok(())
    }

    fn start(&mut self) -> Result<()> {
        let wires = self.wires.borrow();
        let listener = self.listener.take().context("the socket was not bound")?;
        let asked = |plugin: &Running| (plugin.mechanism.name(), plugin.commands.clone());
        let status = Status {
            began: wires.began,
            hooked: wires.hooked.clone(),
            journals: wires.journals.clone(),
            printers: wires.dispatch.as_ref().map(Dispatch::counters_shared),
            world: Arc::clone(&wires.world),
            contents: wires.contents.clone(),
            plugins: wires.plugins.iter().map(asked).collect(),
        };
        let path = &wires.config.run_time.socket;
        self.control =
            Some(Control::start(path, listener, move |question| status.answer(question))?);
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.control.take().map_or(Ok(()), Control::finish)
    }
}

/// The main thread's part: signals.
struct Watching {
    wires: Shared,
    signals: Option<Signals>,
}

impl Component for Watching {
    fn name(&self) -> &'static str {
        "the signals"
    }

    fn execute(&mut self) -> Result<()> {
        let wires = Rc::clone(&self.wires);
        let signals = self.signals.take().context("nobody listens for signals")?;
        signals::until_stop(signals, move || {
            if let Err(error) = reload(&mut wires.borrow_mut()) {
                log::error!("nothing was changed: {error:#}");
            }
        })
    }
}

/// Recipes, cadences, log level and output files can change at run time; sizes cannot.
fn reload(wires: &mut Wires) -> Result<()> {
    let Some(file) = wires.options.config_file.clone() else {
        bail!("there is no configuration file to read")
    };
    let config = rules::config(&file)?;
    let loaded = Arc::new(rules::load(&config)?);
    for plugin in &wires.plugins {
        let spec = PLUGINS.iter().find(|spec| spec.mechanism == plugin.mechanism);
        let cadence = spec.map(|spec| (spec.cadence)(&config.cadences));
        plugin.commands.send(Command::Rules(Arc::clone(&loaded))).context("a plugin has ended")?;
        if let Some(cadence) = cadence {
            plugin.commands.send(Command::Cadence(cadence)).context("a plugin has ended")?;
        }
    }
    wires.rules = loaded;
    // Only what can change while running is taken over; sizes and printers wait for a restart.
    wires.config.cadences = config.cadences;
    wires.config.feature_options = config.feature_options;
    if let Some(contents) = &wires.contents {
        let detect = &wires.config.feature_options.detect;
        contents.configure(detect.hash, detect.hash_max_size);
    }
    wires.config.events = config.events;
    attach(wires)?;
    if let Some(dispatch) = &wires.dispatch {
        dispatch.reopen();
    }
    log::info!("reloaded: {} recipes", wires.rules.recipes().len());
    Ok(())
}
