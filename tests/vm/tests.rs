//! Runs the tests of libtest binaries, each in a process and with a time of its own.

use std::io::{Read, Write, pipe};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::Test;
use crate::lines::{self, End, Outcome};

/// For one test: several loads of the programs on an emulated CPU, and as many patiences, beside
/// other machines.
const LIMIT: Duration = Duration::from_secs(240);
/// Of a failed test's output: the end, where the reason stands.
const SAID: usize = 200;

/// Runs the tests of the binary that are asked for and writes what becomes of them.
///
/// `after` ends what a test left behind.
///
/// # Errors
/// The binary cannot be run, or `out` not be written.
pub fn run(
    binary: &Path,
    asked: &Test,
    environment: &[(&str, String)],
    out: &mut dyn Write,
    after: &dyn Fn(u32),
) -> Result<()> {
    let listed = list(binary)?;
    // A test that was renamed must not go unnoticed.
    let gone = asked.only.iter().find(|name| !listed.iter().any(|test| test == *name));
    ensure!(gone.is_none(), "tests/{}.rs has no test {}", asked.name, gone.unwrap_or(&""));
    for test in listed {
        if !asked.only.is_empty() && !asked.only.contains(&test.as_str()) {
            continue;
        }
        writeln!(out, "begin {}::{test}", asked.name)?;
        let outcome = one(binary, &test, environment, after)?;
        out.write_all(lines::write(&outcome).as_bytes())?;
    }
    Ok(())
}

fn list(binary: &Path) -> Result<Vec<String>> {
    let output = Command::new(binary)
        .args(["--list", "--format", "terse"])
        .output()
        .with_context(|| format!("cannot run {}", binary.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.lines().filter_map(|line| line.strip_suffix(": test").map(str::to_owned)).collect())
}

fn one(
    binary: &Path,
    test: &str,
    environment: &[(&str, String)],
    after: &dyn Fn(u32),
) -> Result<Outcome> {
    let (mut reader, writer) = pipe()?;
    let began = Instant::now();
    let mut child = Command::new(binary)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot run {}", binary.display()))?;
    let pid = child.id();
    let (ended, end) = channel();
    std::thread::Builder::new().name("wait".into()).spawn(move || ended.send(child.wait()))?;
    let output = std::thread::Builder::new().name("output".into()).spawn(move || {
        let mut bytes = Vec::new();
        // What was read until an error is what there is to show.
        let _ = reader.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })?;
    let status = match end.recv_timeout(LIMIT) {
        Ok(status) => Some(status?),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
    };
    let took = began.elapsed();
    // Also closes the last writers of the pipe.
    after(pid);
    let output = output.join().unwrap_or_default();
    let said = lines::lines_of(&output, test);
    Ok(outcome(test, status, took, said))
}

fn outcome(
    test: &str,
    status: Option<ExitStatus>,
    took: Duration,
    mut said: Vec<String>,
) -> Outcome {
    let end = match status {
        None => End::Hung,
        Some(status) if !status.success() => End::Failed,
        Some(_) if said.iter().any(|line| line.starts_with("SKIPPED: ")) => End::Skipped,
        Some(_) => End::Passed,
    };
    if end.is_good() {
        said.retain(|line| lines::is_kept(line));
    } else {
        if let Some(signal) = status.and_then(|status| status.signal()) {
            said.push(format!("ended by signal {signal}"));
        }
        // What the report is made of, and the end of the rest.
        let first = said.len().saturating_sub(SAID);
        let mut at = 0;
        said.retain(|line| {
            at += 1;
            at > first || lines::is_kept(line)
        });
    }
    Outcome { name: test.to_owned(), end, took, said }
}
