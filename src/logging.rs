//! The daemon's own log: stderr, or the file that the configuration names.

use std::fs::OpenOptions;
use std::io::Write as _;

use anyhow::{Context, Result};
use env_logger::{Builder, Target};

use crate::config::{LogLevel, RunTime};

/// Starts the log. `RUST_LOG` has the last word, as people expect of it.
pub fn start(run_time: &RunTime) -> Result<()> {
    let mut builder = Builder::new();
    builder.filter_level(run_time.log_level.filter()).parse_default_env();
    if run_time.stderr != "stderr" {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&run_time.stderr)
            .with_context(|| format!("cannot open the log {}", run_time.stderr))?;
        builder.target(Target::Pipe(Box::new(file)));
    }
    if run_time.log_level == LogLevel::Simple {
        builder.format(|out, record| writeln!(out, "raqib: {}", record.args()));
    }
    builder.format_target(false);
    builder.try_init().context("the log was started twice")
}
