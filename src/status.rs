//! What the daemon tells of itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};
use serde_json::{Map, Value, json};

use crate::content::Contents;
use crate::dispatch::Counters;
use crate::kernel::hooks::Fact;
use crate::kernel::programs;
use crate::plugins::driver::Command;
use crate::state::World;
use crate::stats::JournalStats;

/// How long a plugin may take to answer a question: one epoch of a full table, and some.
const PATIENCE: Duration = Duration::from_secs(5);

/// Facts with their programs, and what is not told.
#[derive(Clone, Debug, Default)]
pub struct Hooked {
    pub facts: Vec<Fact>,
    /// From the start of the daemon to watching, in milliseconds.
    pub start_ms: u64,
}

/// Everything that questions are answered from; lives in the control thread.
pub struct Status {
    pub began: Instant,
    pub hooked: Hooked,
    pub journals: Vec<Arc<JournalStats>>,
    pub printers: Option<Counters>,
    pub world: Arc<World>,
    pub contents: Option<Contents>,
    pub plugins: Vec<(&'static str, Sender<Command>)>,
}

impl Status {
    /// `status`, or `query PID`.
    pub fn answer(&self, question: &str) -> Value {
        match question.split_once(' ') {
            None if question == "status" => self.status(),
            Some(("query", pid)) => match pid.parse() {
                Ok(pid) => self.query(pid),
                Err(_) => json!({ "error": format!("{pid} is no process id") }),
            },
            _ => json!({ "error": "ask `status` or `query PID`" }),
        }
    }

    fn status(&self) -> Value {
        let hooks: Vec<Value> = self
            .hooked
            .facts
            .iter()
            .map(|fact| {
                json!({
                    "fact": fact.fact, "tier": fact.tier(), "programs": fact.programs,
                    "lost": fact.lost, "off": fact.off, "instead": fact.instead,
                })
            })
            .collect();
        let printers: Vec<Value> = self
            .printers
            .iter()
            .flat_map(Counters::read)
            .map(|printer| {
                json!({
                    "name": printer.name, "printed": printer.printed, "failed": printer.failed,
                    "dropped": printer.dropped, "queued": printer.queued,
                    "retried": printer.retried, "panics": printer.panics,
                })
            })
            .collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "uptime_s": self.began.elapsed().as_secs(),
            "start_ms": self.hooked.start_ms,
            "processes": self.world.processes.len(),
            "containers": self.world.containers.json(),
            "hooks": hooks,
            "programs": programs::own(),
            "journals": self.journals.iter().map(|journal| journal.json()).collect::<Vec<_>>(),
            "printers": printers,
            "contents": self.contents.as_ref().map(Contents::json),
        })
    }

    /// Each plugin seals first: the answer is of now.
    fn query(&self, pid: u32) -> Value {
        let mut answers = Map::new();
        for (name, commands) in &self.plugins {
            let (ask, answer) = bounded(1);
            let said = commands
                .send_timeout(Command::Query(pid, ask), PATIENCE)
                .ok()
                .and_then(|()| answer.recv_timeout(PATIENCE).ok());
            answers.insert((*name).to_owned(), said.unwrap_or(Value::Null));
        }
        Value::Object(answers)
    }
}

/// The status as a person reads it.
pub fn text(status: &Value) -> String {
    let number = |value: &Value, key: &str| value[key].as_u64().unwrap_or(0);
    let word = |value: &Value, key: &str| value[key].as_str().unwrap_or("?").to_owned();
    let list = |key: &str| status[key].as_array().cloned().unwrap_or_default();
    let mut out = format!(
        "raqib {} (pid {}), up {} s, {} processes known, {} containers running\n\n",
        word(status, "version"),
        number(status, "pid"),
        number(status, "uptime_s"),
        number(status, "processes"),
        number(&status["containers"], "running")
    );
    for hook in list("hooks") {
        let programs: Vec<&str> =
            hook["programs"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let why = hook["off"].as_str().or(hook["instead"].as_str().filter(|how| !how.is_empty()));
        let why = why.map_or_else(|| programs.join(", "), str::to_owned);
        out += &format!("{:<32} {:<11} {why}\n", word(&hook, "fact"), word(&hook, "tier"));
    }
    out += &format!(
        "\n{:<14} {:>7} {:>10} {:>12} {:>12} {:>8} {:>6} {:>9} {:>9} balanced\n",
        "journal", "epoch", "rows", "events", "read", "refused", "bells", "seal us", "read us"
    );
    for journal in list("journals") {
        out += &format!(
            "{:<14} {:>7} {:>10} {:>12} {:>12} {:>8} {:>6} {:>9} {:>9} {}\n",
            word(&journal, "name"),
            number(&journal, "epoch"),
            number(&journal, "rows"),
            number(&journal, "events"),
            number(&journal, "read"),
            number(&journal, "refused"),
            number(&journal, "doorbells"),
            number(&journal["seal"], "mean_us"),
            number(&journal["read_time"], "mean_us"),
            if journal["balanced"] == json!(true) { "yes" } else { "NO" },
        );
    }
    out += "\nprinter        printed  failed dropped  queued\n";
    for printer in list("printers") {
        out += &format!(
            "{:<12} {:>9} {:>7} {:>7} {:>7}\n",
            word(&printer, "name"),
            number(&printer, "printed"),
            number(&printer, "failed"),
            number(&printer, "dropped"),
            number(&printer, "queued"),
        );
    }
    out
}
