//! Standard output, or a file in its place.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::alert::Alert;
use crate::printers::pretty::Pretty;
use crate::printers::{Output, Printer, Settings, recycle};

pub fn build(settings: &Settings) -> Result<Box<dyn Printer>> {
    Ok(Box::new(Stdout::open(settings)?))
}

struct Stdout {
    /// Unbuffered: std's own `Stdout` keeps what it failed to write and repeats it later.
    file: File,
    /// None for the standard output that we were started with.
    path: Option<PathBuf>,
    /// None writes JSON lines.
    pretty: Option<Pretty>,
    line: Vec<u8>,
}

impl Stdout {
    fn open(settings: &Settings) -> Result<Self> {
        let path = match settings.stdout.as_str() {
            "stdout" | "" | "-" => None,
            path => Some(PathBuf::from(path)),
        };
        let file = match &path {
            Some(path) => append(path)?,
            None => own().context("standard output is not open")?,
        };
        let terminal = file.is_terminal();
        let readable = match settings.output {
            Output::Auto => terminal && !settings.stdout_raw,
            Output::Json => false,
            Output::Pretty => true,
        };
        let pretty = readable.then(|| Pretty::new(terminal && colour_is_wanted()));
        Ok(Self { file, path, pretty, line: Vec::new() })
    }
}

/// <https://no-color.org>: set and not empty, whatever the value. A dumb terminal shows escape
/// sequences as letters.
pub fn colour_is_wanted() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !refused && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

fn own() -> std::io::Result<File> {
    Ok(std::io::stdout().as_fd().try_clone_to_owned()?.into())
}

/// Alerts may hold what only root may read, hence 0600.
fn append(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600);
    options.open(path).with_context(|| format!("opening {} for alerts", path.display()))
}

impl Printer for Stdout {
    /// One write for each line, so that the lines of several writers do not mix.
    fn print(&mut self, alert: &Alert) -> Result<()> {
        recycle(&mut self.line);
        match &mut self.pretty {
            Some(pretty) => pretty.write_line(alert, &mut self.line),
            None => alert.write_line(&mut self.line)?,
        }
        self.file.write_all(&self.line).context("writing an alert to standard output")
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    fn reopen(&mut self) -> Result<()> {
        if let Some(path) = &self.path {
            self.file = append(path)?;
        }
        if let Some(pretty) = &mut self.pretty {
            pretty.refresh();
        }
        Ok(())
    }
}
