//! Starts the real daemon on the running kernel, acts, and reads what it prints.
//!
//! One daemon at a time on a machine (a lock file sees to it, whatever runs the tests): two of
//! them would see one another's acts, and a loaded machine makes bad witnesses.

#![allow(dead_code, reason = "each test file uses some of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]
#![allow(clippy::undocumented_unsafe_blocks, reason = "plain system calls")]

pub mod actor;
pub mod acts;
pub mod kernel;
pub mod wire;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Says why a test did not run; `make test` lists these. Use: `skip!("name", "reason")`.
#[macro_export]
macro_rules! skip {
    ($name:expr, $reason:expr) => {{
        println!("SKIPPED: {}: {}", $name, $reason);
        return;
    }};
}

/// Why the daemon cannot run here, if so.
pub fn cannot_run() -> Option<&'static str> {
    if unsafe { libc::geteuid() } != 0 {
        return Some("needs root");
    }
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Some("this kernel has no BTF");
    }
    None
}

/// The cadence of the tests' daemons.
pub const CADENCE: Duration = Duration::from_millis(500);
/// How long an alert may take: the cadence, and the promised second.
pub const PATIENCE: Duration = slow(Duration::from_millis(1500));

/// How much slower than a usual machine the one is that these tests are built for: software
/// emulation, by `make test-vm`. Known when they are compiled, because constants derive from it.
pub const SLOW: u32 = match option_env!("RAQIB_TEST_SLOW") {
    Some(text) => match u32::from_str_radix(text, 10) {
        Ok(times) => times,
        Err(_) => panic!("RAQIB_TEST_SLOW is not a whole number"),
    },
    None => 1,
};

/// A limit of time on this machine, from what it is on a usual one.
pub const fn slow(limit: Duration) -> Duration {
    Duration::from_nanos(limit.as_nanos() as u64 * SLOW as u64)
}

/// A running daemon with its own socket, recipes and configuration in a temporary folder.
pub struct Daemon {
    pub folder: tempfile::TempDir,
    pub config: PathBuf,
    child: Option<Child>,
    lines: Receiver<String>,
    seen: Vec<Value>,
    /// None of its own beside another one.
    _lock: Option<Lock>,
}

/// The right to have a daemon. Given back by name: a forked child holds the same open file.
pub struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        unsafe { libc::flock(self.0.as_raw_fd(), libc::LOCK_UN) };
    }
}

/// Waits until no other test has a daemon.
pub fn lock() -> Lock {
    let file = File::options().create(true).append(true).open("/tmp/raqib-tests.lock").unwrap();
    assert_eq!(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) }, 0);
    Lock(file)
}

/// The daemon: the one that cargo built with the tests, unless `RAQIB_BIN` names it (where they run
/// on another machine than the one that built them).
pub fn binary() -> String {
    std::env::var("RAQIB_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_raqib").to_owned())
}

/// A folder with a configuration and its recipes (`recipes/test.yaml`), and the configuration.
pub fn prepare(recipes: &str, more: &str, builtin: bool) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("recipes");
    fs::create_dir(&rules).unwrap();
    fs::write(rules.join("test.yaml"), recipes).unwrap();
    let config = folder.path().join("raqib.yaml");
    fs::write(&config, configuration(folder.path(), CADENCE, more, builtin)).unwrap();
    (folder, config)
}

/// The text of a configuration whose socket and recipes are in the folder.
pub fn configuration(folder: &Path, cadence: Duration, more: &str, builtin: bool) -> String {
    let cadence = cadence.as_secs_f64();
    format!(
        "run-time:\n  socket: {0}/raqib.sock\n\
         cadences:\n  execution: {cadence}\n  file-access: {cadence}\n  network-flows: {cadence}\n  \
         network-peers: {cadence}\n  env-vars: {cadence}\n  containers: {cadence}\n  activity: {cadence}\n\
         feature_options:\n  alchemies:\n    builtin: {{enabled: {builtin}}}\n    \
         public: {{enabled: false, paths: []}}\n    private: {{enabled: true, paths: [{0}/recipes]}}\n{more}",
        folder.display()
    )
}

fn read_lines(from: impl Read, to: &Sender<String>) {
    for line in BufReader::new(from).lines() {
        let Ok(line) = line else { return };
        if to.send(line).is_err() {
            return;
        }
    }
}

impl Daemon {
    /// Starts with these recipes (YAML, a list) and no built-in ones; waits until it watches.
    pub fn with_recipes(recipes: &str) -> Self {
        Self::start(recipes, "", false)
    }

    /// Starts with the built-in recipes alone.
    pub fn with_builtin() -> Self {
        Self::start("[]", "", true)
    }

    /// `more` is appended to the configuration.
    pub fn start(recipes: &str, more: &str, builtin: bool) -> Self {
        let (folder, config) = prepare(recipes, more, builtin);
        Self::launch(folder, config, "json", None)
    }

    /// With this `--output`, and a standard output that is not read as alerts if one is given.
    pub fn launch(
        folder: tempfile::TempDir,
        config: PathBuf,
        output: &str,
        stdout: Option<Stdio>,
    ) -> Self {
        let lock = lock();
        Self::run(folder, config, output, stdout, Some(lock))
    }

    /// A second one, that watches the first; both see what anybody does.
    pub fn beside(_first: &Self, recipes: &str) -> Self {
        let (folder, config) = prepare(recipes, "", false);
        Self::run(folder, config, "json", None, None)
    }

    fn run(
        folder: tempfile::TempDir,
        config: PathBuf,
        output: &str,
        stdout: Option<Stdio>,
        lock: Option<Lock>,
    ) -> Self {
        let mut child = Command::new(binary())
            .args(["run", "--output", output, "--config"])
            .arg(&config)
            .stdout(stdout.unwrap_or_else(Stdio::piped))
            .stderr(File::create(folder.path().join("stderr")).unwrap())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        if let Some(stdout) = child.stdout.take() {
            std::thread::Builder::new().spawn(move || read_lines(stdout, &sender)).unwrap();
        }
        let mut daemon =
            Self { folder, config, child: Some(child), lines, seen: Vec::new(), _lock: lock };
        daemon.wait_until_watching();
        daemon
    }

    fn wait_until_watching(&mut self) {
        let until = Instant::now() + slow(Duration::from_secs(20));
        while !self.stderr().contains(" ready after ") {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the daemon ended: {ended:?}\n{}", self.stderr());
            assert!(Instant::now() < until, "the daemon does not start:\n{}", self.stderr());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().unwrap().try_wait().unwrap()
    }

    /// Until the log has the text `times` times.
    pub fn wait_for_log(&self, text: &str, times: usize) {
        let until = Instant::now() + slow(Duration::from_secs(5));
        while self.stderr().matches(text).count() < times {
            assert!(Instant::now() < until, "`{text}` is not in the log:\n{}", self.stderr());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn stderr(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default()
    }

    /// The next alert that fits, among those not yet taken; none within `patience`.
    pub fn find(&mut self, patience: Duration, fits: impl Fn(&Value) -> bool) -> Option<Value> {
        let until = Instant::now() + patience;
        if let Some(at) = self.seen.iter().position(&fits) {
            return Some(self.seen.remove(at));
        }
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let alert: Value = serde_json::from_str(&line)
                        .unwrap_or_else(|error| panic!("no JSON: {error}: {line}"));
                    if fits(&alert) {
                        return Some(alert);
                    }
                    self.seen.push(alert);
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// An alert of the recipe that fits must come in time; what came instead is shown if not.
    pub fn expect(&mut self, recipe: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let found = self.find(PATIENCE, |alert| alert["metadata"]["name"] == recipe && fits(alert));
        found.unwrap_or_else(|| {
            let seen: Vec<String> = self.seen.iter().map(Value::to_string).collect();
            panic!("no alert of {recipe}; seen:\n{}\nstderr:\n{}", seen.join("\n"), self.stderr())
        })
    }

    /// No alert of the recipe that fits may come within the patience.
    pub fn expect_none(&mut self, recipe: &str, fits: impl Fn(&Value) -> bool) {
        let found = self.find(PATIENCE, |alert| alert["metadata"]["name"] == recipe && fits(alert));
        let shown = found.as_ref().map(Value::to_string);
        assert!(found.is_none(), "unexpected: {shown:?}\n{}", self.stderr());
    }

    /// All alerts until none has come for so long: a burst on a busy machine takes its time.
    pub fn all(&mut self, patience: Duration) -> Vec<Value> {
        loop {
            let before = self.seen.len();
            let _ = self.find(patience, |_| false);
            if self.seen.len() == before {
                return std::mem::take(&mut self.seen);
            }
        }
    }

    fn ask(&self, args: &[&str]) -> Value {
        let output =
            Command::new(binary()).args(args).arg("--config").arg(&self.config).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub fn status(&self) -> Value {
        self.ask(&["status", "--json"])
    }

    /// What the daemon knows of a process; each plugin seals first.
    pub fn query(&self, pid: u32) -> Value {
        self.ask(&["query", &pid.to_string()])
    }

    /// One journal of the status.
    pub fn journal(&self, name: &str) -> Value {
        let status = self.status();
        let found = status["journals"].as_array().unwrap().iter().find(|j| j["name"] == name);
        found.unwrap().clone()
    }

    pub fn signal(&self, signal: i32) {
        assert_eq!(unsafe { libc::kill(self.pid() as i32, signal) }, 0);
    }

    /// SIGTERM; how it ended and how long that took.
    pub fn stop(self) -> (ExitStatus, Duration, Vec<Value>) {
        self.stop_by(libc::SIGTERM)
    }

    /// A signal; how it ended, how long that took, and the alerts that nobody took before.
    pub fn stop_by(mut self, signal: i32) -> (ExitStatus, Duration, Vec<Value>) {
        let began = Instant::now();
        self.signal(signal);
        let status = self.child.take().unwrap().wait().unwrap();
        let took = began.elapsed();
        let rest = self.all(slow(Duration::from_millis(200)));
        (status, took, rest)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
        let until = Instant::now() + slow(Duration::from_secs(3));
        while matches!(child.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// A recipe for one file, or files by regex, with the given actions.
pub fn file_recipe(name: &str, regex: &str, actions: &str) -> String {
    format!(
        "- {{kind: {name}, name: {name}, version: 1.0, description: test, breed: file_access, \
         mechanism: file_access, tactic: none, technique: none, importance: low, \
         file_actions: {actions}, regex: '{regex}'}}\n"
    )
}

/// A recipe for executables by regex.
pub fn exec_recipe(name: &str, regex: &str) -> String {
    format!(
        "- {{kind: {name}, name: {name}, version: 1.0, description: test, breed: file_access, \
         mechanism: execution, tactic: none, technique: none, importance: low, \
         file_actions: execve, regex: '{regex}'}}\n"
    )
}

/// Pids of the lineage that an alert tells, oldest first.
pub fn ancestry(alert: &Value) -> Vec<u64> {
    let list = alert["background"]["ancestry"].as_array().cloned().unwrap_or_default();
    list.iter().map(|process| process["pid"].as_u64().unwrap_or(0)).collect()
}

/// A recipe on flows (`network_flows`) or on DNS answers (`network_peers`); `more`: its conditions.
pub fn network_recipe(name: &str, mechanism: &str, breed: &str, more: &str) -> String {
    format!(
        "- {{kind: {name}, name: {name}, version: 1.0, description: test, breed: {breed}, \
         mechanism: {mechanism}, tactic: none, technique: none, importance: low{more}}}\n"
    )
}
