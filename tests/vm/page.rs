//! The tables: on standard output, and the page docs/kernels.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

use crate::host::Column;
use crate::lines::{End, Run};

/// How the reason begins why a kernel could not be had.
pub const NO_PACKAGE: &str = "no package";
/// The column of the machine that runs this.
pub const HERE: &str = "here";

const PAGE: &str = "docs/kernels.md";

/// One fact on one kernel, from a line `FACT area/fact verdict: reason`.
struct Fact {
    verdict: String,
    reason: String,
}

impl Fact {
    fn is_good(&self) -> bool {
        ["seen", "not-offered"].contains(&self.verdict.as_str())
    }
}

fn facts(run: &Run) -> BTreeMap<String, Fact> {
    let mut found = BTreeMap::new();
    for line in run.said("FACT") {
        let Some((name, rest)) = line.split_once(' ') else { continue };
        let (verdict, reason) = rest.split_once(':').unwrap_or((rest, ""));
        let fact = Fact { verdict: verdict.trim().into(), reason: reason.trim().into() };
        found.insert(name.to_owned(), fact);
    }
    found
}

/// Prints what was run and what it found.
pub fn print(columns: &[Column]) {
    let names = row_names(columns, |run| run.outcomes.iter().map(|one| one.name.clone()).collect());
    let cell = |run: &Run, name: &str| {
        let found = run.outcomes.iter().find(|outcome| outcome.name == name);
        found.map_or_else(
            || "-".to_owned(),
            |outcome| {
                let end = match outcome.end {
                    End::Passed => "ok",
                    End::Skipped => "skipped",
                    End::Failed => "FAILED",
                    End::Hung => "HUNG",
                };
                format!("{end} {:.0} s", outcome.took.as_secs_f64())
            },
        )
    };
    println!();
    table("test", &names, columns, |run, name| cell(run, name));
    let names = row_names(columns, |run| facts(run).into_keys().collect());
    if !names.is_empty() {
        println!();
        table("fact", &names, columns, |run, name| {
            facts(run).remove(name).map_or_else(|| "-".to_owned(), |fact| fact.verdict)
        });
    }
}

/// Prints what was not run or is not good on one kernel; whether the rest is all there is.
pub fn tell(column: &Column) -> bool {
    let series = column.series;
    let run = match &column.run {
        Ok(run) => run,
        Err(reason) => {
            println!("{series}: not run: {reason}");
            // What this machine cannot get is no fault of the program's; a boot that fails may be.
            return reason.starts_with(NO_PACKAGE) || series == HERE;
        }
    };
    let mut good = true;
    for outcome in &run.outcomes {
        let skipped = outcome.said.iter().filter_map(|line| line.strip_prefix("SKIPPED: "));
        for reason in skipped {
            println!("{series}: skipped {reason}");
        }
        if !outcome.end.is_good() {
            good = false;
            let took = outcome.took.as_secs_f64();
            println!("\n{series}: {} {} after {took:.1} s:", outcome.name, outcome.end.name());
            for line in &outcome.said {
                println!("    {line}");
            }
        }
    }
    for loss in run.said("LOSS") {
        println!("{series}: known loss: {loss}");
    }
    for (name, fact) in facts(run).iter().filter(|(_, fact)| !fact.is_good()) {
        good = false;
        println!("{series}: {name} {}: {}", fact.verdict, fact.reason);
    }
    good
}

fn row_names(columns: &[Column], of: impl Fn(&Run) -> Vec<String>) -> Vec<String> {
    let runs = columns.iter().filter_map(|column| column.run.as_ref().ok());
    let names: BTreeSet<String> = runs.flat_map(of).collect();
    names.into_iter().collect()
}

fn table(title: &str, names: &[String], columns: &[Column], cell: impl Fn(&Run, &str) -> String) {
    let width = names.iter().map(String::len).max().unwrap_or(0).max(title.len());
    let mut line = format!("{title:width$}");
    for column in columns {
        let _ = write!(line, "  {:15}", column.series);
    }
    println!("{}", line.trim_end());
    for name in names {
        let mut line = format!("{name:width$}");
        for column in columns {
            let text =
                column.run.as_ref().map_or_else(|_| "not run".to_owned(), |run| cell(run, name));
            let _ = write!(line, "  {text:15}");
        }
        println!("{}", line.trim_end());
    }
}

/// Writes docs/kernels.md anew, if every kernel of the matrix answered.
///
/// # Errors
/// The file cannot be written.
pub fn write(columns: &[Column]) -> Result<()> {
    if let Some(column) = columns.iter().find(|column| column.run.is_err()) {
        println!("\n{PAGE} stays as it is: {} was not run", column.series);
        return Ok(());
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    std::fs::write(&path, text(columns)).with_context(|| format!("cannot write {PAGE}"))
}

fn text(columns: &[Column]) -> String {
    let runs: Vec<&Run> = columns.iter().filter_map(|column| column.run.as_ref().ok()).collect();
    let mut reasons: Vec<String> = Vec::new();
    let mut page = String::from(
        "# Kernels\n\n\
         Written by `make test-vm`; do not edit. Each kernel but the last column's was booted in a virtual\n\
         machine with emulated CPUs (Debian's cloud kernels: 5.10 of bullseye, 6.1 of bookworm, 6.12 of\n\
         trixie, the newest of sid), from an initramfs whose process 1 is the project's own test program.\n\
         There the black-box tests ran against the daemon, with the LSM list that most distributions have\n\
         (`lsm=lockdown,capability,landlock,yama,apparmor,bpf`). The last column is the machine that ran\n\
         `make test-vm`; only the tests that make these tables run there (`make test` runs the others).\n\n",
    );
    heading(&mut page, "black-box tests", &runs);
    for end in [End::Passed, End::Skipped, End::Failed, End::Hung] {
        let row = |run: &&Run| run.count(end).to_string();
        let cells: Vec<String> = runs.iter().map(row).collect();
        if end.is_good() || cells.iter().any(|cell| cell != "0") {
            let _ = writeln!(page, "| {} | {} |", end.name(), cells.join(" | "));
        }
    }
    let names = row_names(columns, |run| facts(run).into_keys().collect());
    if !names.is_empty() {
        page.push_str(
            "\n## Facts\n\n*seen*: the act was done in a child process and told by the daemon, and something\n\
             close to it was not. *not offered*: with the reason below. *missed*, *not silent*: a fault.\n\n",
        );
        heading(&mut page, "fact", &runs);
    }
    let tables: Vec<BTreeMap<String, Fact>> = runs.iter().map(|run| facts(run)).collect();
    for name in &names {
        let cells: Vec<String> =
            tables.iter().map(|one| cell(one.get(name), &mut reasons)).collect();
        let _ = writeln!(page, "| {} | {} |", escaped(name), cells.join(" | "));
    }
    if !reasons.is_empty() {
        page.push('\n');
    }
    for (at, reason) in reasons.iter().enumerate() {
        let _ = writeln!(page, "{}. {}", at + 1, escaped(reason));
    }
    said_table(
        &mut page,
        &runs,
        "HOOK",
        "",
        "\n## Where facts are taken from\n\nThe tiers: object (security hooks and kernel functions), tracepoint; *other* and *off* are\n\
         explained by `raqib doctor` there.\n\n",
        "fact",
    );
    said_table(
        &mut page,
        &runs,
        "COST",
        "loop ",
        "\n## Cost\n\nTime of one turn of a loop with the daemon, as a multiple of that without it. Emulated CPUs\n\
         stretch programs and kernel differently: compare tiers of one column, not columns.\n\n",
        "loop",
    );
    said_table(
        &mut page,
        &runs,
        "COST",
        "program ",
        "\nNanoseconds for one run of a program under these loops, by the kernel's own count.\n\n",
        "program",
    );
    if runs.iter().any(|run| run.said("LOSS").next().is_some()) {
        page.push_str("\n## Known losses\n\n");
    }
    for run in &runs {
        for loss in run.said("LOSS") {
            let _ = writeln!(page, "- {}: {}", run.release, escaped(loss));
        }
    }
    page.push_str(
        "\nWhat each program has of instructions, and how many the verifier went through:\n`bpf/budget.tsv`.\n",
    );
    page
}

/// A table of the lines `WORD kind NAME: value (more)`, if any run said such.
fn said_table(page: &mut String, runs: &[&Run], word: &str, kind: &str, intro: &str, title: &str) {
    let lines = |run: &Run| -> BTreeMap<String, String> {
        let lines = run.said(word).filter_map(|line| line.strip_prefix(kind)?.split_once(": "));
        let value = |text: &str| text.split(" (").next().unwrap_or_default().to_owned();
        lines.map(|(name, text)| (name.to_owned(), value(text))).collect()
    };
    let tables: Vec<BTreeMap<String, String>> = runs.iter().map(|run| lines(run)).collect();
    let names: BTreeSet<&String> = tables.iter().flat_map(BTreeMap::keys).collect();
    if names.is_empty() {
        return;
    }
    page.push_str(intro);
    heading(page, title, runs);
    for name in names {
        let cell =
            |one: &BTreeMap<String, String>| one.get(name).map_or("-", String::as_str).to_owned();
        let cells: Vec<String> = tables.iter().map(cell).collect();
        let _ = writeln!(page, "| {} | {} |", escaped(name), cells.join(" | "));
    }
}

fn heading(page: &mut String, first: &str, runs: &[&Run]) {
    let releases: Vec<&str> = runs.iter().map(|run| run.release.as_str()).collect();
    let _ = writeln!(page, "| {first} | {} |", releases.join(" | "));
    let _ = writeln!(page, "|---|{}", "---|".repeat(runs.len()));
}

/// The verdict, with the number of its reason.
fn cell(fact: Option<&Fact>, reasons: &mut Vec<String>) -> String {
    let Some(fact) = fact else { return "-".to_owned() };
    let verdict = match fact.verdict.as_str() {
        "not-offered" => "not offered",
        "silent-violated" => "**not silent**",
        "missed" => "**missed**",
        other => other,
    };
    if fact.reason.is_empty() {
        return escaped(verdict);
    }
    let at = reasons.iter().position(|reason| *reason == fact.reason).unwrap_or_else(|| {
        reasons.push(fact.reason.clone());
        reasons.len() - 1
    });
    format!("{} ({})", escaped(verdict), at + 1)
}

fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}
