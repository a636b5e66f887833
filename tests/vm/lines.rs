//! What the guest tells the host, line by line, on a serial port of its own.
//!
//! ```text
//! kernel 6.12.117+deb13-cloud-amd64
//! begin execution::ends_are_told_as_they_were
//! | a line that the test printed
//! end passed 8123
//! over
//! ```

use std::fmt::Write as _;
use std::time::Duration;

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Passed,
    Failed,
    /// It said why it cannot run there.
    Skipped,
    /// It was ended after its time.
    Hung,
}

impl End {
    const NAMES: [(Self, &'static str); 4] = [
        (Self::Passed, "passed"),
        (Self::Failed, "failed"),
        (Self::Skipped, "skipped"),
        (Self::Hung, "hung"),
    ];

    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(end, _)| *end == self).map_or("", |(_, name)| name)
    }

    fn of(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(end, _)| *end)
    }

    pub fn is_good(self) -> bool {
        matches!(self, Self::Passed | Self::Skipped)
    }
}

/// One test on one kernel.
#[derive(Debug)]
pub struct Outcome {
    /// `file::test`
    pub name: String,
    pub end: End,
    pub took: Duration,
    /// What it printed: all of it if it failed, else the lines that are kept (see [`is_kept`]).
    pub said: Vec<String>,
}

/// What was run on one kernel.
#[derive(Debug, Default)]
pub struct Run {
    /// As `uname -r` says it.
    pub release: String,
    pub outcomes: Vec<Outcome>,
    /// The test that was running when the machine went away.
    pub unfinished: Option<String>,
    /// All tests had their turn.
    pub complete: bool,
}

impl Run {
    /// The lines of all tests that begin with `word`, without it.
    pub fn said<'a>(&'a self, word: &'a str) -> impl Iterator<Item = &'a str> {
        let lines = self.outcomes.iter().flat_map(|outcome| &outcome.said);
        lines.filter_map(move |line| line.strip_prefix(word)?.strip_prefix(' '))
    }

    pub fn count(&self, end: End) -> usize {
        self.outcomes.iter().filter(|outcome| outcome.end == end).count()
    }
}

/// Lines that are kept of tests that passed: why it did not run, what the report is made of, and what
/// is known to be lost on that kernel.
pub fn is_kept(line: &str) -> bool {
    ["SKIPPED: ", "FACT ", "INSNS ", "LOSS ", "HOOK ", "COST "]
        .iter()
        .any(|word| line.starts_with(word))
}

/// A test's output as lines. libtest writes `test NAME ... ` before what the test prints first.
pub fn lines_of(output: &str, test: &str) -> Vec<String> {
    let begin = format!("test {test} ... ");
    output.lines().map(|line| line.strip_prefix(&begin).unwrap_or(line).to_owned()).collect()
}

/// What a test printed, and how it ended, as the guest writes it.
pub fn write(outcome: &Outcome) -> String {
    let mut text = String::new();
    for line in &outcome.said {
        // A line of the test's must stay one of the test's.
        let printable: String =
            line.chars().map(|c| if c.is_control() && c != '\t' { '?' } else { c }).collect();
        let _ = writeln!(text, "| {printable}");
    }
    let _ = writeln!(text, "end {} {}", outcome.end.name(), outcome.took.as_millis());
    text
}

/// Reads what [`write`] and the lines around it became. A line that is none of them belongs to
/// whoever broke into the port, and is left out.
pub fn read(text: &str) -> Run {
    let mut run = Run::default();
    let mut said = Vec::new();
    for line in text.lines().map(|line| line.trim_end_matches('\r')) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "kernel" => rest.clone_into(&mut run.release),
            "begin" => run.unfinished = Some(rest.to_owned()),
            "|" => said.push(rest.to_owned()),
            "over" => run.complete = true,
            "end" => {
                let (end, took) = rest.split_once(' ').unwrap_or((rest, "0"));
                let Some((name, end)) = run.unfinished.take().zip(End::of(end)) else { continue };
                let took = Duration::from_millis(took.parse().unwrap_or(0));
                run.outcomes.push(Outcome { name, end, took, said: std::mem::take(&mut said) });
            }
            _ => {}
        }
    }
    run
}
