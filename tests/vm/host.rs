//! The host's side: from the mirror to the verdict.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::archive::Archive;
use crate::lines::{self, End, Run};
use crate::{SERIES, Series, TESTS, Test, acts, apt, budget, build, machine, page, tests};

/// A failed boot is repeated: QEMU breaks some. A failed test is not.
const BOOTS: u32 = 2;

/// A column of the table.
pub struct Column {
    pub series: &'static str,
    /// Or why there is none.
    pub run: Result<Run, String>,
}

/// What was asked for: names of series and of test files, all if none is named.
struct Asked {
    series: Vec<&'static Series>,
    tests: Vec<&'static Test>,
    record: bool,
}

impl Asked {
    fn of(args: &[String]) -> Result<Self> {
        let mut asked = Self { series: Vec::new(), tests: Vec::new(), record: false };
        for arg in args {
            if let Some(series) = SERIES.iter().find(|series| series.name == arg) {
                asked.series.push(series);
            } else if let Some(test) = TESTS.iter().find(|test| test.name == arg) {
                asked.tests.push(test);
            } else if arg == "--record" {
                asked.record = true;
            } else {
                let series: Vec<&str> = SERIES.iter().map(|series| series.name).collect();
                let tests: Vec<&str> = TESTS.iter().map(|test| test.name).collect();
                bail!("`{arg}` is none of --record, {}, {}", series.join(", "), tests.join(", "));
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
    let kernels: Vec<(&Series, Result<PathBuf>)> =
        asked.series.iter().map(|series| (*series, apt::kernel(&cache, series))).collect();
    let busybox = apt::busybox(&cache);
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
    let mut columns = Vec::new();
    let mut good = true;
    let mut add = |series, run| {
        let column = Column { series, run };
        good &= page::tell(&column);
        columns.push(column);
    };
    for (series, kernel) in kernels {
        let run = match kernel {
            Ok(kernel) => attempt(series, &kernel, &archive, folder.path()),
            Err(error) => {
                println!("SKIPPED: test-vm: {}: {error:#}", series.name);
                Err(format!("{}: {error:#}", page::NO_PACKAGE))
            }
        };
        add(series.name, run);
    }
    add(page::HERE, here(&asked, &binaries));
    page::print(&columns);
    good &= budget::check(&columns, asked.record)?;
    if asked.is_all() {
        page::write(&columns)?;
    }
    println!("\ntest-vm: {}", if good { "passed" } else { "FAILED" });
    Ok(good)
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
) -> Result<Run, String> {
    let initramfs = archive.clone().with_modules(kernel).map_err(|error| format!("{error:#}"))?;
    let mut reason = String::new();
    for _ in 0..BOOTS {
        let boot =
            machine::boot(kernel, &initramfs, folder).map_err(|error| format!("{error:#}"))?;
        let run = lines::read(&boot.told);
        if boot.code.is_some() && run.complete {
            println!(
                "{} ({}): {} in {:.0} s",
                series.name,
                run.release,
                counts(&run),
                boot.took.as_secs_f64()
            );
            return Ok(run);
        }
        let at = run.unfinished.as_deref().unwrap_or("no test");
        let ended = match boot.code {
            Some(code) => format!("the guest ended with {code}"),
            None => "the machine failed or hung".to_owned(),
        };
        reason = format!("{ended} after {:.0} s, at {at}", boot.took.as_secs_f64());
        println!("{}: {reason}; the end of its console:", series.name);
        let lines: Vec<&str> = boot.console.lines().collect();
        for line in &lines[lines.len().saturating_sub(30)..] {
            println!("    {line}");
        }
    }
    Err(reason)
}

fn counts(run: &Run) -> String {
    let bad = run.count(End::Failed) + run.count(End::Hung);
    format!("{} passed, {bad} failed, {} skipped", run.count(End::Passed), run.count(End::Skipped))
}

/// The tests that make a column, on this machine, from the same binaries.
fn here(asked: &Asked, binaries: &[(String, PathBuf)]) -> Result<Run, String> {
    if unsafe { libc::geteuid() } != 0 {
        return Err("needs root".to_owned());
    }
    let began = Instant::now();
    let told = told_here(asked, binaries).map_err(|error| format!("{error:#}"))?;
    let run = lines::read(&told);
    println!("here ({}): {} in {:.0} s", run.release, counts(&run), began.elapsed().as_secs_f64());
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
