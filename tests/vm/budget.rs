//! What the programs cost the verifier, against what was recorded: growth should be a decision.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::SERIES;
use crate::host::Column;

/// Recorded on the oldest and the newest kernel: what lies between has no verifier of its own kind.
const FILE: &str = "bpf/budget.tsv";
const HEADER: &str = "program\ttier\tkernel\tverified\tverified_budget\txlated\txlated_budget";

/// Which program on which kernel.
type Key = (String, String);

#[derive(Clone, Debug)]
struct Row {
    tier: String,
    /// Instructions that the verifier went through, all paths together; none if it did not say.
    verified: Option<u64>,
    /// Instructions of the program, as the kernel rewrote it.
    xlated: Option<u64>,
}

/// A tenth more than was recorded: kernels of one series differ a little.
fn budget(recorded: u64) -> u64 {
    recorded + recorded.div_ceil(10)
}

/// Compares what was told with what is recorded, or records it; whether nothing grew.
///
/// # Errors
/// The record cannot be read or written.
pub fn check(columns: &[Column], record: bool) -> Result<bool> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    let told = told(columns);
    if record {
        return write(&path, columns, &told).map(|()| true);
    }
    let recorded = read(&path)?;
    let mut good = true;
    for ((program, kernel), now) in &told {
        let Some(before) = recorded.get(&(program.clone(), kernel.clone())) else {
            good = false;
            println!("{FILE}: {program} on {kernel} is not in it: make test-vm ARGS=--record");
            continue;
        };
        let pairs =
            [("verified", before.verified, now.verified), ("own", before.xlated, now.xlated)];
        for (what, before, now) in pairs {
            let Some((before, now)) = before.zip(now) else { continue };
            if now > budget(before) {
                good = false;
                println!(
                    "{FILE}: {program} on {kernel}: {now} {what} instructions; {before} are recorded, \
                     {} allowed. If it is worth it: make test-vm ARGS=--record",
                    budget(before)
                );
            }
        }
    }
    Ok(good)
}

/// From the lines `INSNS program tier verified xlated`, `-` for what is not known.
fn told(columns: &[Column]) -> BTreeMap<Key, Row> {
    let ends = [SERIES[0].name, SERIES[SERIES.len() - 1].name];
    let mut rows = BTreeMap::new();
    for column in columns.iter().filter(|column| ends.contains(&column.series)) {
        let Ok(run) = &column.run else { continue };
        for line in run.said("INSNS") {
            let words: Vec<&str> = line.split(' ').collect();
            let [program, tier, verified, xlated] = words[..] else { continue };
            let row = Row {
                tier: tier.to_owned(),
                verified: verified.parse().ok(),
                xlated: xlated.parse().ok(),
            };
            rows.insert((program.to_owned(), column.series.to_owned()), row);
        }
    }
    rows
}

fn read(path: &PathBuf) -> Result<BTreeMap<Key, Row>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {FILE}")),
    };
    let mut rows = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && *line != HEADER) {
        let words: Vec<&str> = line.split('\t').collect();
        let [program, tier, kernel, verified, _, xlated, _] = words[..] else {
            anyhow::bail!("{FILE}: not seven columns: {line}");
        };
        let row = Row {
            tier: tier.to_owned(),
            verified: verified.parse().ok(),
            xlated: xlated.parse().ok(),
        };
        rows.insert((program.to_owned(), kernel.to_owned()), row);
    }
    Ok(rows)
}

/// Kernels that were not run keep what is recorded of them.
fn write(path: &PathBuf, columns: &[Column], told: &BTreeMap<Key, Row>) -> Result<()> {
    let ran = |series: &str| {
        columns.iter().any(|column| {
            column.series == series
                && column.run.as_ref().is_ok_and(|run| run.said("INSNS").next().is_some())
        })
    };
    let mut rows = read(path)?;
    rows.retain(|(_, kernel), _| !ran(kernel));
    rows.extend(told.iter().map(|(key, row)| (key.clone(), row.clone())));
    let mut text = String::from(
        "# Written by `make test-vm ARGS=--record`. Instructions that the verifier went through, and those\n\
         # of the program as the kernel rewrote it; more than the budgets fails `make test-vm`.\n",
    );
    text.push_str(HEADER);
    text.push('\n');
    let shown =
        |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    for ((program, kernel), row) in &rows {
        let numbers = [row.verified, row.verified.map(budget), row.xlated, row.xlated.map(budget)];
        let numbers: Vec<String> = numbers.into_iter().map(shown).collect();
        let _ = writeln!(text, "{program}\t{}\t{kernel}\t{}", row.tier, numbers.join("\t"));
    }
    std::fs::write(path, text).with_context(|| format!("cannot write {FILE}"))?;
    println!("{FILE}: {} rows recorded", told.len());
    Ok(())
}
