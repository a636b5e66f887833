//! `raqib doctor`: what can be watched on this host, what cannot, and why.
//!
//! It does what the daemon does at its start, with the same configuration and through the same
//! code, and takes everything back at once. What it says is thus what was tried, not what was
//! concluded. Programs of a running daemon are not touched: these are others, with maps of their
//! own.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use serde_json::{Map, Value, json};

use crate::config::Config;
use crate::daemon::wanted_actions;
use crate::event::{Actions, Mechanism};
use crate::kernel::attach::Attached;
use crate::kernel::features::{Answer, QUESTIONS, State};
use crate::kernel::hooks::{Fact, HOOKS};
use crate::kernel::host;
use crate::kernel::load::Kernel;
use crate::printers::terminal::escape;
use crate::{control, rules};

/// A fact and whether the configuration asks for it.
#[derive(Clone, Debug)]
struct Examined {
    fact: Fact,
    wanted: bool,
}

impl Examined {
    /// The tier is the best that this kernel takes, so it is not a degraded one; a way without
    /// programs is: it costs more, or sees less.
    const fn state(&self) -> &'static str {
        match (self.wanted, &self.fact.off) {
            (false, _) => "unused",
            (true, Some(_)) => "off",
            (true, None) if !self.fact.instead.is_empty() => "degraded",
            (true, None) => "ok",
        }
    }
}

/// Everything that was found.
#[derive(Clone, Debug)]
pub struct Report {
    /// A line that is off here means that the daemon would not start.
    host: Vec<(&'static str, Answer)>,
    facts: Vec<Examined>,
}

/// Asks, loads, attaches and detaches. A configuration that cannot be read is a finding, and
/// the rest is asked with the defaults.
///
/// `tell` is given each answer about the host as soon as it is known: to load the programs can take
/// long on a slow machine, and who waits should see for what.
pub fn examine(
    configuration: Result<(Config, Option<PathBuf>)>,
    mut tell: impl FnMut(&'static str, &Answer),
) -> Report {
    let mut host = Vec::new();
    let mut add = |host: &mut Vec<_>, name, answer| {
        tell(name, &answer);
        host.push((name, answer));
    };
    for question in QUESTIONS {
        add(&mut host, question.name, (question.ask)());
    }
    let (config, actions, read) = settings(configuration);
    add(&mut host, "configuration", read);
    add(&mut host, "daemon", daemon(&config));
    let mechanisms = config.plugins();
    let (kernel, loaded) = load(&host);
    add(&mut host, "programs", loaded);
    let cgroup = host::cgroup2().ok();
    let mut failed = Vec::new();
    let facts = HOOKS
        .iter()
        .map(|hook| {
            let wanted = hook.wanted(&mechanisms, actions);
            let mut fact = hook.fact(kernel.as_ref().map_or(&[], |kernel| &kernel.refused));
            let tried = match &kernel {
                Some(_) if fact.off.is_some() => Ok(()),
                Some(kernel) => try_out(&fact.programs, kernel, cgroup.as_deref()),
                None => Err("the programs could not be loaded".to_owned()),
            };
            if let Err(error) = tried {
                if wanted && kernel.is_some() {
                    failed.push(format!("{}: {error}", hook.fact));
                }
                fact.programs.clear();
                fact.chosen = None;
                fact.instead = "";
                fact.off = Some(error);
            }
            Examined { fact, wanted }
        })
        .collect();
    add(&mut host, "attach", attached(kernel.is_some(), &mechanisms, &failed));
    Report { host, facts }
}

/// The configuration, the file actions that its recipes ask for, and what there is to say of it.
fn settings(configuration: Result<(Config, Option<PathBuf>)>) -> (Config, Actions, Answer) {
    let (config, file) = match configuration {
        Ok(found) => found,
        Err(error) => {
            let advice = format!("raqib run does not start with it: {error:#}");
            return (Config::default(), Actions(0), Answer::new(State::Off, "broken", advice));
        }
    };
    let (rules, problems) = rules::read(&config);
    let file = file.map_or("built-in defaults".to_owned(), |file| file.display().to_string());
    let value = format!("{file}, {} recipes", rules.recipes().len());
    let actions = wanted_actions(&config, &rules);
    let answer = match problems.len() {
        0 => Answer::new(State::Ok, value, ""),
        mistakes => {
            let nothing = rules.recipes().is_empty();
            let state = if nothing { State::Off } else { State::Degraded };
            let advice =
                format!("{mistakes} mistakes, `raqib check` says where: these are left out");
            Answer::new(state, value, advice)
        }
    };
    (config, actions, answer)
}

fn daemon(config: &Config) -> Answer {
    match control::ask(&config.run_time.socket, "status") {
        Ok(status) => {
            let value = format!("running, pid {}, up {} s", status["pid"], status["uptime_s"]);
            Answer::new(State::Note, value, "")
        }
        Err(error) => Answer::new(State::Note, "does not answer", error.to_string()),
    }
}

/// Loads all programs, unless what was found already says that it cannot be.
fn load(host: &[(&'static str, Answer)]) -> (Option<Kernel>, Answer) {
    let blocked = |(name, answer): &&(&str, Answer)| {
        ["privileges", "btf"].contains(name) && answer.state == State::Off
    };
    if let Some((name, _)) = host.iter().find(blocked) {
        return (None, Answer::new(State::Off, "not loaded", format!("see {name}")));
    }
    let began = Instant::now();
    match Kernel::load() {
        Ok(kernel) => {
            let took = began.elapsed().as_millis();
            let refused = kernel.refused.len();
            let value = match refused {
                0 => format!("loaded in {took} ms"),
                _ => format!("loaded in {took} ms, {refused} refused"),
            };
            (Some(kernel), Answer::new(State::Ok, value, ""))
        }
        Err(error) => (None, Answer::new(State::Off, "not loaded", format!("{error:#}"))),
    }
}

/// Attaches a fact's programs and detaches them at once.
fn try_out(
    programs: &[&'static str],
    kernel: &Kernel,
    cgroup: Option<&std::path::Path>,
) -> Result<(), String> {
    let mut attached = Attached::default();
    attached.attach(kernel, programs, cgroup).map_err(|error| format!("{error:#}"))
}

fn attached(loaded: bool, mechanisms: &[Mechanism], failed: &[String]) -> Answer {
    let network = [Mechanism::NetworkFlows, Mechanism::NetworkPeers];
    let network = mechanisms.iter().any(|mechanism| network.contains(mechanism));
    match host::cgroup2() {
        _ if !loaded => Answer::new(State::Off, "not tried", "see programs"),
        Err(error) if network => Answer::new(
            State::Off,
            "no place for programs that see packets",
            format!("raqib run does not start: {error:#}"),
        ),
        _ if failed.is_empty() => {
            Answer::new(State::Ok, "each program attached and detached again", "")
        }
        _ => Answer::new(
            State::Off,
            "failed",
            format!("raqib run does not start: {}", failed.join("; ")),
        ),
    }
}

impl Report {
    /// 0 all is well, 1 something wanted is off or degraded, 2 nothing can be watched.
    pub fn exit_code(&self) -> u8 {
        if self.host.iter().any(|(_, answer)| answer.state == State::Off) {
            return 2;
        }
        let degraded = self.host.iter().any(|(_, answer)| answer.state == State::Degraded);
        let less = |one: &Examined| ["off", "degraded"].contains(&one.state());
        u8::from(degraded || self.facts.iter().any(less))
    }

    fn verdict(&self) -> &'static str {
        match self.exit_code() {
            0 => "all is well",
            1 => "something that is wanted is off or degraded",
            _ => "nothing can be watched",
        }
    }

    /// See docs/doctor.md.
    pub fn json(&self) -> Value {
        let host: Map<String, Value> = self
            .host
            .iter()
            .map(|(name, answer)| {
                let found = json!({
                    "state": answer.state.name(), "value": answer.value, "advice": answer.advice,
                });
                ((*name).to_owned(), found)
            })
            .collect();
        let facts: Vec<Value> = self
            .facts
            .iter()
            .map(|one| {
                json!({
                    "fact": one.fact.fact, "state": one.state(), "tier": one.fact.tier(),
                    "programs": one.fact.programs, "lost": one.fact.lost, "off": one.fact.off,
                    "instead": one.fact.instead,
                })
            })
            .collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "exit_code": self.exit_code(),
            "verdict": self.verdict(),
            "host": host,
            "facts": facts,
        })
    }

    /// What follows the lines about the host: one for each fact, and the verdict.
    pub fn facts_text(&self, colour: bool) -> String {
        let mut out = String::from("\n");
        for one in &self.facts {
            let Fact { fact, programs, lost, off, instead, .. } = &one.fact;
            let by = if instead.is_empty() { programs.join(", ") } else { (*instead).to_owned() };
            let lost = if lost.is_empty() { String::new() } else { format!("not told: {lost}") };
            let words = match (off, one.wanted) {
                (Some(off), _) => off.clone(),
                (None, true) => joined(&by, &lost),
                (None, false) => joined(&by, "works, no plugin or recipe asks for it"),
            };
            let tier = one.fact.tier();
            line(&mut out, colour, one.state(), &format!("{fact:<32}  {tier:<10}  {words}"));
        }
        // Writing to a String cannot fail.
        let _ = writeln!(out, "\n{}", self.verdict());
        out
    }
}

/// One line about the host; what it means after a dash.
pub fn host_text(name: &str, answer: &Answer, colour: bool) -> String {
    let words = joined(&answer.value, &answer.advice);
    let mut out = String::new();
    line(&mut out, colour, answer.state.name(), &format!("{name:<16}  {words}"));
    out
}

fn joined(value: &str, advice: &str) -> String {
    if advice.is_empty() { value.to_owned() } else { format!("{value} - {advice}") }
}

/// Escaped: paths and the kernel's words are not ours.
fn line(out: &mut String, colour: bool, state: &str, words: &str) {
    let code = match state {
        "ok" => 32,
        "degraded" => 33,
        "off" => 31,
        _ => 2,
    };
    let words = escape(words);
    let _ = match colour {
        true => writeln!(out, "\x1b[{code}m{state:<8}\x1b[0m  {words}"),
        false => writeln!(out, "{state:<8}  {words}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::hooks::Tier;

    fn report(host: State, off: Option<&str>, wanted: bool) -> Report {
        told(host, off, wanted, "")
    }

    fn told(host: State, off: Option<&str>, wanted: bool, instead: &'static str) -> Report {
        let programs = if instead.is_empty() { vec!["sys_exit"] } else { Vec::new() };
        let chosen = (off.is_none() && instead.is_empty()).then_some(Tier::Tracepoint);
        let off = off.map(str::to_owned);
        let fact = Fact { fact: "files", programs, lost: "some", off, instead, chosen };
        let answer = Answer::new(host, "value\x1b[2J", "advice");
        Report { host: vec![("btf", answer)], facts: vec![Examined { fact, wanted }] }
    }

    fn text(report: &Report, colour: bool) -> String {
        let host = report.host.iter().map(|(name, answer)| host_text(name, answer, colour));
        host.collect::<String>() + &report.facts_text(colour)
    }

    #[test]
    fn the_exit_code_is_the_worst_of_what_is_wanted() {
        assert_eq!(report(State::Ok, None, true).exit_code(), 0);
        assert_eq!(report(State::Note, Some("why"), false).exit_code(), 0);
        assert_eq!(report(State::Ok, Some("why"), true).exit_code(), 1);
        assert_eq!(report(State::Degraded, None, true).exit_code(), 1);
        assert_eq!(report(State::Off, None, true).exit_code(), 2);
    }

    #[test]
    fn what_is_told_by_another_way_is_neither_well_nor_off() {
        let report = told(State::Ok, None, true, "asked of each process");
        assert_eq!(report.exit_code(), 1);
        let fact = &report.json()["facts"][0];
        assert_eq!((&fact["state"], &fact["tier"]), (&json!("degraded"), &json!("other")));
        let text = text(&report, false);
        assert!(text.contains("\ndegraded  files "), "{text}");
        assert!(text.contains("other       asked of each process - not told: some"), "{text}");
        assert_eq!(told(State::Ok, None, false, "asked of each process").exit_code(), 0);
    }

    #[test]
    fn text_is_one_safe_line_an_item_with_colour_only_when_asked() {
        let plain = text(&report(State::Ok, Some("why"), true), false);
        assert!(!plain.contains('\x1b'), "{plain}");
        assert_eq!(plain.lines().count(), 5);
        assert!(plain.starts_with("ok        btf "), "{plain}");
        assert!(plain.contains("\noff       files "), "{plain}");
        let coloured = text(&report(State::Ok, None, true), true);
        assert!(coloured.starts_with("\x1b[32mok      \x1b[0m  btf"), "{coloured}");
        assert!(!coloured.contains("\x1b[2J"), "{coloured}");
    }
}
