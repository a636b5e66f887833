//! The daemon as a child, and what it uses.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use crossbeam_channel::{RecvTimeoutError, Sender};
use serde_json::Value;

use crate::load::Files;
use crate::{Args, Spread, quiet};

const RATES: [u64; 4] = [0, 1_000, 10_000, 100_000];
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// Lines of its stderr to show when it fails.
const LAST_LINES: usize = 20;

/// How to run the daemon.
#[derive(Clone)]
pub struct Agent {
    binary: PathBuf,
    config: PathBuf,
}

/// A daemon that has said that it watches. Ends with this value.
pub struct Running {
    child: Child,
    stderr: Option<JoinHandle<VecDeque<String>>>,
    /// From its start to that word.
    pub started: Duration,
}

impl Agent {
    pub fn find(config: &Path) -> Result<Self> {
        let binary = std::env::var_os("RAQIB_BIN").map_or_else(
            || {
                let target =
                    std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
                Path::new(&target).join("release/raqib")
            },
            PathBuf::from,
        );
        ensure!(
            binary.exists(),
            "there is no {} (`make release`, or set RAQIB_BIN)",
            binary.display()
        );
        Ok(Self { binary, config: config.into() })
    }

    pub fn start(&self) -> Result<Running> {
        let begin = Instant::now();
        let mut child = Command::new(&self.binary)
            .arg("run")
            .arg("--config")
            .arg(&self.config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", self.binary.display()))?;
        let stderr = child.stderr.take().context("no stderr")?;
        let (sender, watching) = crossbeam_channel::bounded(1);
        let reader = std::thread::Builder::new()
            .name("daemon-stderr".into())
            .spawn(move || last_lines(stderr, sender))?;
        let mut running = Running { child, stderr: Some(reader), started: Duration::ZERO };
        match watching.recv_timeout(START_LIMIT) {
            Ok(()) => running.started = begin.elapsed(),
            Err(RecvTimeoutError::Timeout) => bail!("the daemon did not say `watching` in time"),
            Err(RecvTimeoutError::Disconnected) => {
                let lines = running.stderr.take().and_then(|reader| reader.join().ok());
                bail!(
                    "the daemon ended:\n{}",
                    lines.unwrap_or_default().make_contiguous().join("\n")
                );
            }
        }
        Ok(running)
    }

    fn status(&self) -> Result<Value> {
        let output = Command::new(&self.binary)
            .args(["status", "--json", "--config"])
            .arg(&self.config)
            .stdin(Stdio::null())
            .output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

/// Reads to the end (a full pipe would stop the daemon), telling when it watches.
fn last_lines(stderr: ChildStderr, watching: Sender<()>) -> VecDeque<String> {
    let mut watching = Some(watching);
    let mut lines = VecDeque::with_capacity(LAST_LINES);
    for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).into_owned();
        if line.contains("watching") {
            // Nobody may be waiting any more.
            let _ = watching.take().map(|watching| watching.try_send(()));
        }
        if lines.len() == LAST_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }
    lines
}

impl Running {
    pub fn stop(mut self) -> Result<()> {
        let pid = libc::pid_t::try_from(self.child.id())?;
        // SAFETY: a child that was not waited for, hence still ours.
        unsafe { libc::kill(pid, libc::SIGTERM) };
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "the daemon ended with {status}");
                return Ok(());
            }
            ensure!(begin.elapsed() < STOP_LIMIT, "the daemon did not end after SIGTERM");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn proc(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.child.id());
        std::fs::read_to_string(&path).context(path)
    }

    /// Seconds of CPU, user and system, of all its threads so far.
    fn cpu(&self) -> Result<f64> {
        let stat = self.proc("stat")?;
        // The name in parentheses may hold anything; utime is the 14th field, stime the next.
        let (_, fields) = stat.rsplit_once(')').context("stat")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|n| n.parse::<f64>().ok()).context("stat");
        Ok((ticks(11)? + ticks(12)?) / quiet::ticks_per_second())
    }

    fn rss_mb(&self) -> Result<f64> {
        let status = self.proc("status")?;
        let kb = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kb = kb.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
        Ok(kb.context("VmRSS")? / 1024.0)
    }

    /// Maps that it holds by a file descriptor, and the kernel memory charged for them. Maps that
    /// only another map holds (inner maps) are missing.
    fn maps_mb(&self) -> Result<(usize, f64)> {
        let mut maps = HashMap::new();
        for entry in std::fs::read_dir(format!("/proc/{}/fdinfo", self.child.id()))? {
            // A descriptor may be closed while we look.
            let Ok(info) = std::fs::read_to_string(entry?.path()) else { continue };
            let field = |name: &str| {
                let line = info.lines().find_map(|line| line.strip_prefix(name))?;
                line.trim().parse::<u64>().ok()
            };
            if let (Some(id), Some(bytes)) = (field("map_id:"), field("memlock:")) {
                maps.insert(id, bytes);
            }
        }
        Ok((maps.len(), maps.values().sum::<u64>() as f64 / f64::from(1 << 20)))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After stop() both fail, which is right; otherwise an error is already on its way.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn table(agent: &Agent, args: &Args) -> Result<()> {
    let time = Duration::from_secs(if args.quick { 3 } else { 20 });
    let files = Files::make(2000)?;
    let mut starts = Vec::new();
    for _ in 1..args.rounds {
        let running = agent.start()?;
        starts.push(running.started.as_secs_f64());
        running.stop()?;
    }
    let running = agent.start()?;
    starts.push(running.started.as_secs_f64());
    println!("The agent's own cost ({} s each, 2,000 files)\n", time.as_secs());
    println!("| opens/s | reached | CPU, % of a core | RSS, MB |\n|---|---|---|---|");
    for rate in RATES {
        let (cpu, begin) = (running.cpu()?, Instant::now());
        let reached = files.paced(rate, time)?;
        let used = (running.cpu()? - cpu) / begin.elapsed().as_secs_f64() * 100.0;
        println!("| {rate} | {reached:.0} | {used:.1} | {:.1} |", running.rss_mb()?);
    }
    let (maps, mb) = running.maps_mb()?;
    println!("\nMaps: {maps}, {mb:.1} MB. Start to watching: {:.2} s.", Spread::of(starts));
    match agent.status() {
        Ok(status) => {
            println!("From its status:\n");
            print_times("", &status);
        }
        Err(why) => println!("Sealing and reading times: not told by `status --json`: {why:#}"),
    }
    println!();
    running.stop()
}

/// Prints numbers whose name says that they are about sealing or reading, wherever they stand:
/// this program need not change with the status.
fn print_times(path: &str, value: &Value) {
    let inside = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| print_times(&inside(key), value)),
        Value::Array(list) => {
            list.iter()
                .enumerate()
                .for_each(|(at, value)| print_times(&inside(&at.to_string()), value));
        }
        Value::Number(number) if path.contains("seal") || path.contains("read") => {
            println!("- {path}: {number}");
        }
        _ => {}
    }
}
