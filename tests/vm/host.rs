//! The host's side: from the mirror to the verdict.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::archive::Archive;
use crate::lines::{self, End, Run};
use crate::{SERIES, Series, TESTS, Test, acts, apt, budget, build, machine, page, tests};

/// A failed boot is repeated: QEMU breaks one in eight of the newer kernels, before their process 1.
/// A machine that goes away in the middle of the tests is as bad as two of these; a failed test is not
/// repeated.
const BOOTS: u32 = 4;
const TIME_OVER: &str = "its turn did not come within the time that was given. ";

/// A column of the table.
pub struct Column {
    pub series: &'static str,
    /// Or why there is none.
    pub run: Result<Run, String>,
    /// What there is to say on the way to it.
    said: String,
}

/// What was asked for: names of series and of test files, all if none is named.
struct Asked {
    series: Vec<&'static Series>,
    tests: Vec<&'static Test>,
    record: bool,
    until: Instant,
}

/// For who names no limit: longer than anything takes.
const LONG: Duration = Duration::from_secs(24 * 3600);

impl Asked {
    fn of(args: &[String]) -> Result<Self> {
        let began = Instant::now();
        let (series, tests) = (Vec::new(), Vec::new());
        let mut asked = Self { series, tests, record: false, until: began + LONG };
        for arg in args {
            if let Some(series) = SERIES.iter().find(|series| series.name == arg) {
                asked.series.push(series);
            } else if let Some(test) = TESTS.iter().find(|test| test.name == arg) {
                asked.tests.push(test);
            } else if let Some(seconds) = arg.strip_prefix("--within=") {
                let seconds = seconds.parse().context("--within=SECONDS")?;
                asked.until = began + Duration::from_secs(seconds);
            } else if arg == "--short" {
                asked.tests.extend(TESTS.iter().filter(|test| test.short));
            } else if arg == "--record" {
                asked.record = true;
            } else {
                let series: Vec<&str> = SERIES.iter().map(|series| series.name).collect();
                let tests: Vec<&str> = TESTS.iter().map(|test| test.name).collect();
                bail!(
                    "`{arg}` is none of --record, --short, --within=SECONDS, {}, {}",
                    series.join(", "),
                    tests.join(", ")
                );
            }
        }
        if asked.series.is_empty() {
            asked.series = SERIES.iter().collect();
        }
        if asked.tests.is_empty() {
            asked.tests = TESTS.iter().collect();
        }
        Ok(asked)
    }

    /// Only the whole matrix is written down.
    fn is_all(&self) -> bool {
        self.series.len() == SERIES.len() && self.tests.len() == TESTS.len()
    }
}

/// Whether all is well; what is not was printed.
///
/// # Errors
/// The matrix could not be run, though nothing that it needs is missing on this machine.
pub fn run(args: &[String]) -> Result<bool> {
    let asked = Asked::of(args)?;
    if let Some(reason) = cannot_run() {
        println!("SKIPPED: test-vm: {reason}");
        return Ok(true);
    }
    let cache = apt::cache()?;
    std::fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let cache = cache.canonicalize()?;
    let (kernels, busybox) = fetch(&asked, &cache);
    let missing = kernels.iter().all(|(_, kernel)| kernel.is_err());
    let reason = kernels.iter().filter_map(|(_, kernel)| kernel.as_ref().err()).next();
    if let Some(error) = busybox.as_ref().err().or(reason.filter(|_| missing)) {
        println!("SKIPPED: test-vm: nothing to boot: {error:#}");
        return Ok(true);
    }

    let names: Vec<&str> = asked.tests.iter().map(|test| test.name).collect();
    let binaries = build::tests(&names)?;
    let folder = tempfile::tempdir()?;
    let tiny = folder.path().join("tiny");
    acts::tiny_program(&tiny).context("gcc cannot build a static program here")?;
    let archive = Archive::of(&busybox?, &build::daemon(), &tiny, &binaries)?;
    let attempt = |series: &Series, kernel: &Result<PathBuf>, said: &mut String| match kernel {
        Ok(kernel) => {
            let folder = folder.path().join(series.name);
            attempt(series, kernel, &archive, &folder, asked.until, said)
        }
        Err(error) => {
            let _ = writeln!(said, "SKIPPED: test-vm: {}: {error:#}", series.name);
            Err(format!("{}: {error:#}", page::NO_PACKAGE))
        }
    };
    let mut jobs: Vec<(&'static str, Job)> = Vec::new();
    for (series, kernel) in &kernels {
        jobs.push((series.name, Box::new(|said| attempt(series, kernel, said))));
    }
    jobs.push((page::HERE, Box::new(|said| here(&asked, &binaries, said))));
    let mut good = true;
    let columns = at_once(&jobs, |column| good &= page::tell(column))?;
    page::print(&columns);
    good &= budget::check(&columns, asked.record)?;
    if asked.is_all() {
        page::write(&columns)?;
    }
    println!("\ntest-vm: {}", if good { "passed" } else { "FAILED" });
    Ok(good)
}

/// Kernels, each or why not, and busybox: from the mirror all at once, as most of it is waiting.
fn fetch(
    asked: &Asked,
    cache: &Path,
) -> (Vec<(&'static Series, Result<PathBuf>)>, Result<PathBuf>) {
    std::thread::scope(|scope| {
        let kernels: Vec<_> = asked
            .series
            .iter()
            .map(|series| (*series, scope.spawn(|| apt::kernel(cache, series))))
            .collect();
        let busybox = apt::busybox(cache);
        let ended = |thread: std::thread::ScopedJoinHandle<'_, Result<PathBuf>>| {
            thread.join().unwrap_or_else(|_| bail!("the thread that fetches it panicked"))
        };
        (kernels.into_iter().map(|(series, thread)| (series, ended(thread))).collect(), busybox)
    })
}

/// What makes a column.
type Job<'a> = Box<dyn Fn(&mut String) -> Result<Run, String> + Sync + 'a>;

/// Runs as many jobs at once as there are CPUs, as an emulated machine keeps one busy. The last
/// ones first: newer kernels take longer. Tells of each in their own order, as soon as those before
/// it are through.
fn at_once(jobs: &[(&'static str, Job)], mut tell: impl FnMut(&Column)) -> Result<Vec<Column>> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(jobs.len());
    let left = AtomicUsize::new(jobs.len());
    let (done, results) = channel();
    std::thread::scope(|scope| {
        for _ in 0..workers {
            let (done, left) = (done.clone(), &left);
            scope.spawn(move || {
                let next = || {
                    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                };
                while let Ok(before) = next() {
                    let (series, job) = &jobs[before - 1];
                    let mut said = String::new();
                    let run = job(&mut said);
                    // Nobody listens any more: somebody else panicked.
                    let _ = done.send((before - 1, Column { series, run, said }));
                }
            });
        }
        drop(done);
        let mut waiting: BTreeMap<usize, Column> = BTreeMap::new();
        let mut columns = Vec::new();
        for (at, column) in results {
            waiting.insert(at, column);
            while let Some(column) = waiting.remove(&columns.len()) {
                print!("{}", column.said);
                tell(&column);
                columns.push(column);
            }
        }
        ensure!(columns.len() == jobs.len(), "a thread of the matrix panicked");
        Ok(columns)
    })
}

fn cannot_run() -> Option<String> {
    if std::env::consts::ARCH != "x86_64" {
        return Some(format!("no kernels for {}", std::env::consts::ARCH));
    }
    if Command::new(machine::QEMU).arg("--version").output().is_err() {
        return Some(format!("no {}", machine::QEMU));
    }
    apt::cannot_fetch()
}

/// Boots until a machine ends as it should, as often as that is tried.
fn attempt(
    series: &Series,
    kernel: &Path,
    archive: &Archive,
    folder: &Path,
    until: Instant,
    said: &mut String,
) -> Result<Run, String> {
    let shown = |error: anyhow::Error| format!("{error:#}");
    std::fs::create_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let initramfs = archive.clone().with_modules(kernel).map_err(shown)?;
    let mut reason = String::new();
    let mut left = BOOTS;
    while left > 0 {
        if Instant::now() > until {
            return Err(format!("{TIME_OVER}{reason}"));
        }
        let boot = machine::boot(kernel, &initramfs, folder, until).map_err(shown)?;
        let run = lines::read(&boot.told);
        let took = boot.took.as_secs_f64();
        if boot.code.is_some() && run.complete {
            let (release, counts) = (&run.release, counts(&run));
            let _ = writeln!(said, "{} ({release}): {counts} in {took:.0} s", series.name);
            return Ok(run);
        }
        let began = run.unfinished.is_some() || !run.outcomes.is_empty();
        left = left.saturating_sub(if began { 2 } else { 1 });
        let at = run.unfinished.as_deref().unwrap_or("no test");
        let ended = match boot.code {
            Some(code) => format!("the guest ended with {code}"),
            None => "the machine failed or hung".to_owned(),
        };
        reason = format!("{ended} after {took:.0} s, at {at}");
        let _ = writeln!(said, "{}: {reason}; the end of its console:", series.name);
        let lines: Vec<&str> = boot.console.lines().collect();
        for line in &lines[lines.len().saturating_sub(30)..] {
            let _ = writeln!(said, "    {line}");
        }
    }
    Err(reason)
}

fn counts(run: &Run) -> String {
    let bad = run.count(End::Failed) + run.count(End::Hung);
    format!("{} passed, {bad} failed, {} skipped", run.count(End::Passed), run.count(End::Skipped))
}

/// The tests that make a column, on this machine, from the same binaries.
fn here(asked: &Asked, binaries: &[(String, PathBuf)], said: &mut String) -> Result<Run, String> {
    if unsafe { libc::geteuid() } != 0 {
        return Err("needs root".to_owned());
    }
    let began = Instant::now();
    let told = told_here(asked, binaries).map_err(|error| format!("{error:#}"))?;
    let run = lines::read(&told);
    let took = began.elapsed().as_secs_f64();
    let _ = writeln!(said, "here ({}): {} in {took:.0} s", run.release, counts(&run));
    Ok(run)
}

fn told_here(asked: &Asked, binaries: &[(String, PathBuf)]) -> Result<String> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut told = format!("kernel {release}").into_bytes();
    let daemon = build::daemon().into_os_string().into_string();
    let environment = [("RAQIB_BIN", daemon.ok().context("a path that is no text")?)];
    // The test's process group: a daemon that it left behind is in it.
    let after = |pid: u32| {
        unsafe { libc::kill(-pid.cast_signed(), libc::SIGKILL) };
    };
    for test in asked.tests.iter().filter(|test| test.here_too) {
        let binary = binaries.iter().find(|(name, _)| name == test.name);
        let (_, binary) = binary.context("a test that was not built")?;
        tests::run(binary, test, &environment, &mut told, &after)?;
    }
    told.extend(b"over\n");
    let told = String::from_utf8(told)?;
    ensure!(lines::read(&told).complete, "a test's output broke the report");
    Ok(told)
}
