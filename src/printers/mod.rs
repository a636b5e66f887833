//! Where alerts go. A printer is one file here and one row in [`PRINTERS`].

pub(crate) mod lane;
mod pretty;
pub mod stdout;
#[path = "../terminal.rs"]
pub mod terminal;
mod users;
mod varlog;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Result;

use crate::alert::Alert;

/// One place that alerts are written to.
///
/// It is built, used and dropped in a thread of its own, so it need not be `Send` and may block
/// as long as it must: a printer that is slow loses its own alerts (counted), nobody else's.
pub trait Printer {
    /// Writes one alert, whole: what is not written when this returns is lost with the process.
    ///
    /// An error is final for this alert, unless it has [`TryAgain`] as context: then the printer
    /// is given the same alert again after a pause.
    fn print(&mut self, alert: &Alert) -> Result<()>;

    /// Makes what was printed lasting; called once, after the last alert.
    fn flush(&mut self) -> Result<()>;

    /// Opens files by their name again (SIGHUP, for log rotation by others).
    fn reopen(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Context of an error that may pass, such as a full disk.
#[derive(Clone, Copy, Debug)]
pub struct TryAgain;

impl fmt::Display for TryAgain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("kept, to be tried again")
    }
}

/// A kind of printer.
#[derive(Clone, Copy)]
pub struct PrinterSpec {
    /// The name in the configuration, in counters and (with `raqib-`) of its thread.
    pub name: &'static str,
    pub summary: &'static str,
    pub build: fn(&Settings) -> Result<Box<dyn Printer>>,
}

/// All printers.
pub const PRINTERS: &[PrinterSpec] = &[
    PrinterSpec {
        name: "stdout",
        summary: "JSON lines, or a readable line per alert on a terminal",
        build: stdout::build,
    },
    PrinterSpec {
        name: "varlog",
        summary: "JSON lines in a file that is rotated by size",
        build: varlog::build,
    },
];

/// The form of what `stdout` writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// Pretty on a terminal, JSON elsewhere.
    #[default]
    Auto,
    Json,
    Pretty,
}

impl FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "json" => Ok(Self::Json),
            "pretty" => Ok(Self::Pretty),
            _ => Err(format!("{text:?} is no output form: it is one of auto, json, pretty")),
        }
    }
}

/// What the printers are told, from configuration and command line.
#[derive(Clone, Debug)]
pub struct Settings {
    pub output: Output,
    /// `stdout`, or the path of a file to append to.
    pub stdout: String,
    /// JSON lines on a terminal too, unless `output` says otherwise.
    pub stdout_raw: bool,
    pub varlog_file: PathBuf,
    /// Size at which the file is renamed to `FILE.1`; 0 for never.
    pub varlog_max_bytes: u64,
    /// Renamed files that are kept: `FILE.1` (newest) to `FILE.N`.
    pub varlog_keep: u32,
    /// One alert a line; indented over several when false.
    pub varlog_raw: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            output: Output::Auto,
            stdout: "stdout".to_owned(),
            stdout_raw: false,
            varlog_file: "/var/log/raqib.out".into(),
            varlog_max_bytes: 100 << 20,
            varlog_keep: 5,
            varlog_raw: true,
        }
    }
}

/// The buffer that a printer makes its lines in is kept between alerts, up to this many bytes.
const BUFFER_KEPT: usize = 1 << 20;

/// Empties a line buffer; gives memory back after an unusually long line.
fn recycle(line: &mut Vec<u8>) {
    line.clear();
    line.shrink_to(BUFFER_KEPT);
}
