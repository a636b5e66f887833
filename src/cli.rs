//! The command line.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::config::{self, Config, LogLevel, RunTime};
use crate::daemon::{self, Options};
use crate::printers::Output;
use crate::printers::stdout::colour_is_wanted;
use crate::{control, doctor, rules, status};

/// Where the configuration is looked for when none is named.
const CONFIG: &str = "/etc/raqib/raqib.yaml";

#[derive(Debug, Parser)]
#[command(
    name = "raqib",
    version,
    about = "The watcher: runtime security that counts what it sees"
)]
pub struct Cli {
    #[command(subcommand)]
    command: Cmd,
    /// quiet, fatal, error, warn, info, debug or simple; overrides run-time.log-level
    #[arg(long, global = true, value_name = "LEVEL", value_parser = log_level)]
    log_level: Option<LogLevel>,
}

#[derive(Debug, Subcommand)]
enum Cmd {
    /// Watch this host until a signal ends it
    Run {
        /// Configuration file [default: /etc/raqib/raqib.yaml if it is there]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// How stdout looks: auto, json or pretty
        #[arg(long, default_value = "auto")]
        output: Output,
    },
    /// Check configuration and recipes; needs no root
    Check {
        /// Print the configuration as it takes effect, older layouts translated
        #[arg(long)]
        effective: bool,
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Say what can be watched on this host, what cannot, and why
    ///
    /// Loads and attaches the programs for a moment, also beside a running daemon, and leaves
    /// nothing behind. Exit code: 0 all is well, 1 something wanted is off or degraded,
    /// 2 nothing can be watched.
    Doctor {
        #[arg(long)]
        json: bool,
        /// Configuration file [default: /etc/raqib/raqib.yaml if it is there]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Ask the running daemon how it is
    Status {
        #[arg(long)]
        json: bool,
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Ask the running daemon what it knows of a process
    Query {
        pid: u32,
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Print a JSON Schema
    Schema { what: Schema },
}

#[derive(Clone, Debug, clap::ValueEnum)]
enum Schema {
    Config,
}

fn log_level(name: &str) -> Result<LogLevel, String> {
    let known = LogLevel::ALL.iter().find(|level| level.name() == name);
    known.copied().ok_or_else(|| format!("{name} is no log level"))
}

/// Runs the command; errors go to stderr in full.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(code) => code,
        Err(error) => {
            // One place decides what a failed command looks like.
            let _ = writeln!(std::io::stderr(), "raqib: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The configuration named, else the default file, else built-in defaults.
fn configuration(file: Option<&Path>) -> Result<(Config, Option<PathBuf>)> {
    let file = match file {
        Some(file) => Some(file.to_owned()),
        None => Some(PathBuf::from(CONFIG)).filter(|file| file.exists()),
    };
    let config = file.as_deref().map(rules::config).transpose()?.unwrap_or_default();
    Ok((config, file))
}

fn run(cli: &Cli) -> Result<ExitCode> {
    match &cli.command {
        Cmd::Run { config, output } => {
            let (mut config, config_file) = configuration(config.as_deref())?;
            if let Some(level) = &cli.log_level {
                config.run_time.log_level = *level;
            }
            crate::logging::start(&config.run_time)?;
            daemon::run(config, Options { config_file, output: *output })?;
        }
        Cmd::Check { effective, config } => return check(config.as_deref(), *effective),
        Cmd::Doctor { json, config } => {
            // libbpf's own words, for those who ask for them; else the report is all there is.
            if let Some(level) = cli.log_level {
                crate::logging::start(&RunTime { log_level: level, ..RunTime::default() })?;
            }
            let colour = std::io::stdout().is_terminal() && colour_is_wanted();
            let mut printed = Ok(());
            let report = doctor::examine(configuration(config.as_deref()), |name, answer| {
                if !*json && printed.is_ok() {
                    printed = print(&doctor::host_text(name, answer, colour));
                }
            });
            printed?;
            let shown = if *json {
                serde_json::to_string_pretty(&report.json())? + "\n"
            } else {
                report.facts_text(colour)
            };
            print(&shown)?;
            return Ok(ExitCode::from(report.exit_code()));
        }
        Cmd::Status { json, config } => {
            let (config, _) = configuration(config.as_deref())?;
            let answer = control::ask(&config.run_time.socket, "status")?;
            let shown =
                if *json { serde_json::to_string(&answer)? + "\n" } else { status::text(&answer) };
            print(&shown)?;
        }
        Cmd::Query { pid, config } => {
            let (config, _) = configuration(config.as_deref())?;
            let answer = control::ask(&config.run_time.socket, &format!("query {pid}"))?;
            print(&(serde_json::to_string_pretty(&answer)? + "\n"))?;
        }
        Cmd::Schema { what: Schema::Config } => {
            print(&(serde_json::to_string_pretty(&config::schema())? + "\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print(text: &str) -> Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to stdout")
}

/// All mistakes of configuration and recipes.
fn check(file: Option<&Path>, effective: bool) -> Result<ExitCode> {
    let (config, _) = configuration(file)?;
    if effective {
        print(&serde_yaml::to_string(&config).context("cannot write the configuration")?)?;
        return Ok(ExitCode::SUCCESS);
    }
    for notice in config.notices() {
        print(&format!("notice: {notice}\n"))?;
    }
    let (rules, problems) = rules::read(&config);
    for problem in &problems {
        print(&format!("{problem}\n"))?;
    }
    print(&format!("{} recipes, {} mistakes\n", rules.recipes().len(), problems.len()))?;
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
