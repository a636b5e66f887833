//! What watching costs on this machine, as Markdown tables.
//!
//! `cargo bench --bench cost -- [--quick] [--only cpu|kept|agent] [--config FILE] [--force]`; as
//! root. The daemon is `$RAQIB_BIN`, else `target/release/raqib`; without one its columns are
//! missing.
//!
//! Absolute times drift, on shared machines by half. So what is compared is measured in turns
//! within one run, each round gives one ratio (or difference), and the median of the rounds is
//! printed with the lowest and the highest.

mod agent;
mod load;
mod quiet;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use libbpf_rs::{Link, Object, ObjectBuilder};

use agent::Agent;
use load::{Files, Load};

/// What an observer costs that does nothing but be called: the floor of this hook.
const EMPTY: &str = r#"
__attribute__((section("tp_btf/sys_exit"), used)) int empty(unsigned long long *ctx) { return 0; }
char LICENSE[] __attribute__((section("license"), used)) = "GPL";
"#;

#[derive(Parser)]
struct Args {
    /// Shorter rounds: for trying out, not for publishing.
    #[arg(long)]
    quick: bool,
    /// One table only.
    #[arg(long)]
    only: Option<Part>,
    /// Configuration of the daemon.
    #[arg(long, default_value = "config/raqib.yaml")]
    config: PathBuf,
    /// Measure although the machine is not quiet (the result says so).
    #[arg(long)]
    force: bool,
    /// Rounds: each measures every arm once.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(5..))]
    rounds: u32,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// CPU time added to one open+close.
    Cpu,
    /// Speed kept by unpaced loops.
    Kept,
    /// The agent's own CPU time and memory.
    Agent,
}

/// Who watches while an arm is measured.
enum Watcher {
    Nobody,
    Empty(Object),
    Raqib(Agent),
}

/// Keeps a watcher in place.
enum Watching {
    Nothing,
    Links(#[allow(dead_code, reason = "held, not read")] Vec<Link>),
    Daemon(agent::Running),
}

impl Watcher {
    fn name(&self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Empty(_) => "empty tp_btf/sys_exit",
            Self::Raqib(_) => "raqib",
        }
    }

    fn start(&mut self) -> Result<Watching> {
        Ok(match self {
            Self::Nobody => Watching::Nothing,
            Self::Empty(object) => {
                let links = object.progs_mut().map(|program| program.attach());
                Watching::Links(links.collect::<Result<_, _>>().context("attaching")?)
            }
            Self::Raqib(agent) => Watching::Daemon(agent.start()?),
        })
    }
}

impl Watching {
    /// Seconds from the start of the daemon to its word that it watches.
    fn stop(self) -> Result<Option<f64>> {
        match self {
            Self::Nothing | Self::Links(_) => Ok(None),
            Self::Daemon(daemon) => {
                let start = daemon.started.as_secs_f64();
                daemon.stop()?;
                Ok(Some(start))
            }
        }
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    let wanted = |part| args.only.is_none_or(|only| only == part);
    let notes = quiet::check(args.force)?;
    let others = quiet::Others::since_now()?;
    // A trial, so that a daemon that does not start costs its columns and not the others.
    let trial = |agent: Agent| agent.start()?.stop().map(|()| agent);
    let agent = match Agent::find(&args.config).and_then(trial) {
        Ok(agent) => Some(agent),
        Err(why) => {
            println!("Without the daemon: {why:#}\n");
            None
        }
    };
    println!("{} on {} CPUs\n", quiet::kernel(), std::thread::available_parallelism()?);
    let mut watchers = vec![Watcher::Nobody];
    match empty_program() {
        Ok(object) => watchers.push(Watcher::Empty(object)),
        Err(why) => println!("Without the empty program: {why:#}\n"),
    }
    watchers.extend(agent.clone().map(Watcher::Raqib));
    if wanted(Part::Cpu) {
        cpu(&mut watchers, &args)?;
    }
    if wanted(Part::Kept) {
        kept(&mut watchers, &args)?;
    }
    if wanted(Part::Agent) {
        match agent {
            Some(agent) => agent::table(&agent, &args)?,
            None => println!("The agent's own cost: not measured without the daemon.\n"),
        }
    }
    for note in notes.into_iter().chain(others.note()?) {
        println!("NOT QUIET: {note}");
    }
    Ok(())
}

/// Compiled here rather than by build.rs: the daemon has no use for it.
fn empty_program() -> Result<Object> {
    let folder = tempfile::tempdir()?;
    let (source, object) = (folder.path().join("empty.bpf.c"), folder.path().join("empty.bpf.o"));
    std::fs::write(&source, EMPTY)?;
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".into());
    let status = std::process::Command::new(&clang)
        .args(["-target", "bpf", "-O2", "-g", "-c"])
        .arg(&source)
        .arg("-o")
        .arg(&object)
        .status()
        .with_context(|| format!("running {clang}"))?;
    anyhow::ensure!(status.success(), "{clang}: {status}");
    ObjectBuilder::default().open_file(&object)?.load().context("loading")
}

fn cpu(watchers: &mut [Watcher], args: &Args) -> Result<()> {
    let files = Files::make(1000)?;
    // Short rounds and three times as many: what drifts, drifts within seconds.
    let batches = if args.quick { 100 } else { 400 };
    let count = args.rounds * 3;
    let mut rounds = Vec::new();
    let mut starts = Vec::new();
    for _ in 0..count {
        let mut round = Vec::new();
        for watcher in watchers.iter_mut() {
            let watching = watcher.start()?;
            round.push(files.cpu_ns(batches)?);
            starts.extend(watching.stop()?);
        }
        rounds.push(round);
    }
    println!(
        "CPU time of one open+close (tenth percentile of {batches} batches of 1,000; {count} rounds)\n"
    );
    println!("| watched by | us | added us (lowest to highest) | ratio |\n|---|---|---|---|");
    for (arm, watcher) in watchers.iter().enumerate() {
        let us = |round: &Vec<f64>| round[arm] / 1000.0;
        let added = Spread::of(rounds.iter().map(|round| us(round) - round[0] / 1000.0));
        let ratio = Spread::of(rounds.iter().map(|round| round[arm] / round[0]));
        let whole = Spread::of(rounds.iter().map(us));
        println!("| {} | {:.2} | {added:.2} | {:.2} |", watcher.name(), whole.median, ratio.median);
    }
    if !starts.is_empty() {
        println!("\nStart to watching: {:.2} s", Spread::of(starts));
    }
    println!();
    Ok(())
}

fn kept(watchers: &mut [Watcher], args: &Args) -> Result<()> {
    let time = Duration::from_millis(if args.quick { 300 } else { 2000 });
    let files = Files::make(1000)?;
    // rounds[round][watcher][load] in operations a second
    let mut rounds = Vec::new();
    for _ in 0..args.rounds {
        let mut round = Vec::new();
        for watcher in watchers.iter_mut() {
            let watching = watcher.start()?;
            let speeds: Result<Vec<f64>> =
                Load::ALL.iter().map(|load| load.speed(&files, time)).collect();
            round.push(speeds?);
            watching.stop()?;
        }
        rounds.push(round);
    }
    println!("Loops kept, unpaced, {:.1} s each ({} rounds)\n", time.as_secs_f64(), args.rounds);
    print!("| loop | alone, 1/s |");
    watchers
        .iter()
        .skip(1)
        .for_each(|watcher| print!(" {}: kept (lowest to highest) |", watcher.name()));
    println!("\n|---|---|{}", "---|".repeat(watchers.len() - 1));
    for (at, load) in Load::ALL.iter().enumerate() {
        let alone = Spread::of(rounds.iter().map(|round| round[0][at]));
        print!("| {} | {:.0} |", load.name(), alone.median);
        for arm in 1..watchers.len() {
            let kept = Spread::of(rounds.iter().map(|round| round[arm][at] / round[0][at]));
            print!(" {kept:.2} |");
        }
        println!();
    }
    println!();
    Ok(())
}

/// The middle of some rounds, and how far they lie apart.
struct Spread {
    median: f64,
    lowest: f64,
    highest: f64,
}

impl Spread {
    fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let half = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[half]
        } else {
            f64::midpoint(values[half - 1], values[half])
        };
        Self { median, lowest: values[0], highest: values[values.len() - 1] }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = f.precision().unwrap_or(2);
        write!(
            f,
            "{:.digits$} ({:.digits$} to {:.digits$})",
            self.median, self.lowest, self.highest
        )
    }
}
