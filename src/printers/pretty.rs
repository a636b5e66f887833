//! One readable line for an alert.
//!
//! `time IMPORTANCE kind/name  who did what (xN)  lineage  user`. All that comes from a process
//! passes through [`terminal`]: a line is one line, and its colours are ours.

use std::borrow::Cow;
use std::fmt::{self, Display, Write};
use std::sync::Arc;

use crate::alert::{Alert, Importance, Known, in_range, protocol, shows_value};
use crate::event::{
    Actions, Activity, Body, Env, FILE_ACTIONS, File, Flow, Mechanism, Peer, Source, errno_name,
};
use crate::printers::terminal::{escape, quote, shorten};
use crate::printers::users::Users;
use crate::state::Process;

/// Characters of one path, command or name; longer ones lose their middle.
const ITEM: usize = 80;
/// Characters of a command line.
const COMMAND: usize = 120;
/// Processes of a lineage; the middle of a longer one is left out.
const LINEAGE: usize = 8;
/// Names and addresses of one DNS answer.
const ANSWERS: usize = 4;

pub struct Pretty {
    colour: bool,
    users: Users,
    line: String,
}

/// SGR parameters.
#[derive(Clone, Copy)]
struct Colour(&'static str);

const DIM: Colour = Colour("2");
const BOLD: Colour = Colour("1");

/// What a person would say was done, by bit of the action set. The most telling first: a write
/// also opens and closes.
const DEEDS: [(u32, &str); FILE_ACTIONS.len()] = [
    (14, "executed"),
    (22, "made set-id"),
    (20, "gave capabilities to"),
    (21, "changed the flags of"),
    (15, "changed the mode of"),
    (16, "changed the owner of"),
    (19, "changed the ACL of"),
    (18, "changed attributes of"),
    (31, "exchanged"),
    (27, "cloned into"),
    (26, "made the node"),
    (24, "made the directory"),
    (25, "removed the directory"),
    (23, "made the link"),
    (30, "received"),
    (17, "changed the times of"),
    (10, "removed"),
    (8, "renamed"),
    (13, "linked"),
    (11, "created"),
    (9, "truncated"),
    (7, "wrote"),
    (6, "read"),
    (28, "mapped to execute"),
    (29, "mapped to write"),
    (4, "mapped"),
    (2, "synced"),
    (1, "locked"),
    (0, "watched"),
    (5, "opened"),
    (3, "sought in"),
    (12, "closed"),
];

/// Deeds after this many in [`DEEDS`] are told only when there is no other.
const TELLING: usize = 26;

/// The deeds of `CONTAINER_ACTIONS`, by bit.
const LIVES: [&str; 4] = ["made", "started", "was run from outside in", "removed"];

impl Pretty {
    pub fn new(colour: bool) -> Self {
        Self { colour, users: Users::read(), line: String::new() }
    }

    /// Users may have been added since.
    pub fn refresh(&mut self) {
        self.users = Users::read();
    }

    pub fn write_line(&mut self, alert: &Alert, out: &mut Vec<u8>) {
        let mut line = std::mem::take(&mut self.line);
        line.clear();
        // Formatting into a String fails only where a Display of ours does; none does.
        let _ = self.format(alert, &mut line);
        out.extend_from_slice(line.as_bytes());
        out.push(b'\n');
        self.line = line;
    }

    fn format(&self, alert: &Alert, line: &mut String) -> fmt::Result {
        let (facts, event) = (&alert.facts, &alert.event);
        let time = humantime::format_rfc3339_millis(in_range(event.last));
        write!(line, "{} ", self.paint(DIM, &time))?;
        let level = format_args!("{:<8}", facts.importance).to_string();
        write!(line, "{} ", self.paint(of(facts.importance), &level))?;
        // Recipes are files too, and may come from others.
        let name = format!("{}/{}", short(&facts.kind), short(&facts.name));
        write!(line, "{}  ", self.paint(BOLD, &name))?;
        line.push_str(&told(alert));
        if event.count > 1 {
            write!(line, " (x{})", event.count)?;
        }
        write!(line, "  {}", self.paint(DIM, &lineage(&alert.process)))?;
        write!(line, "  {}", self.user(&alert.process))?;
        if let (Some(known), false) = (&alert.container, matches!(event.body, Body::Container(_))) {
            let within = format!("in {}:{}", known.runtime(), short(known.called()));
            write!(line, "  {}", self.paint(DIM, &within))?;
        }
        if let Some(note) = &alert.note {
            write!(line, "  {}", self.paint(DIM, &escape(&shorten(note, COMMAND))))?;
        }
        Ok(())
    }

    fn user(&self, process: &Process) -> String {
        let name = |uid: u32| match self.users.name(uid) {
            Some(name) => format!("{}({uid})", quote(name, ITEM)),
            None => format!("uid({uid})"),
        };
        let creds = process.creds;
        match creds.uid == creds.euid {
            true => name(creds.uid),
            false => format!("{} as {}", name(creds.uid), name(creds.euid)),
        }
    }

    fn paint<'a, T: Display>(&self, colour: Colour, text: &'a T) -> Painted<'a, T> {
        Painted { colour: self.colour.then_some(colour), text }
    }
}

struct Painted<'a, T> {
    colour: Option<Colour>,
    text: &'a T,
}

impl<T: Display> Display for Painted<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.colour {
            Some(Colour(code)) => write!(f, "\x1b[{code}m{}\x1b[0m", self.text),
            None => self.text.fmt(f),
        }
    }
}

fn of(importance: Importance) -> Colour {
    Colour(match importance {
        Importance::Low => "36",
        Importance::Medium => "33",
        Importance::High => "31",
        Importance::Critical => "1;97;41",
    })
}

fn short(text: &str) -> String {
    quote(text, ITEM)
}

/// The name that a process goes by: its program, or what it calls itself.
fn called(process: &Process) -> String {
    let name = if process.cmd().is_empty() { process.comm.as_str() } else { process.cmd() };
    quote(name, ITEM / 2)
}

/// `cat[1234] read /etc/shadow`.
fn told(alert: &Alert) -> String {
    let process = &*alert.process;
    let who = format!("{}[{}]", called(process), process.pid());
    match &alert.event.body {
        Body::File(_) if alert.event.mechanism == Mechanism::Execution => {
            format!("{who} executed {}", command(process))
        }
        Body::File(file) => format!("{who} {} {}", deeds(file.actions), path(file)),
        Body::Flow(flow) => format!("{who} {}", conversation(flow)),
        Body::Peer(peer) => format!("{who} {}", answer(peer)),
        Body::Env(env) => format!("{who} has {}", variable(env)),
        Body::Activity(activity) => format!("{who} {}", activity_told(activity)),
        Body::Container(life) => {
            let done = (0..).zip(LIVES).find(|(bit, _)| life.actions.has(*bit));
            let done = done.map_or("touched", |(_, deed)| deed);
            let image = alert.container.as_ref().and_then(Known::image).unwrap_or("unknown image");
            let name = alert.container.as_ref().map(Known::called).unwrap_or_default();
            format!("{who} {done} container {} ({})", short(name), short(image))
        }
    }
}

/// The program and its arguments; the first argument is any name the caller liked.
fn command(process: &Process) -> String {
    let mut text = short(process.exe());
    // Only as much is joined as can be shown: argument lists may be megabytes long.
    let args = process.image.args.iter().skip(1);
    let mut shown = String::new();
    for arg in args {
        if shown.len() > 8 * COMMAND {
            break;
        }
        shown.push(' ');
        shown.push_str(&quote(arg.as_str(), ITEM));
    }
    // Already escaped; cutting an escape in two leaves letters.
    text.push_str(&shorten(&shown, COMMAND));
    text
}

fn deeds(actions: Actions) -> String {
    let done = |deeds: &[(u32, &'static str)]| -> Vec<&str> {
        deeds.iter().filter(|(bit, _)| actions.has(*bit)).map(|&(_, deed)| deed).collect()
    };
    let (telling, slight) = DEEDS.split_at(TELLING);
    let told = Some(done(telling)).filter(|deeds| !deeds.is_empty());
    let told = told.unwrap_or_else(|| done(slight));
    if told.is_empty() { "touched".to_owned() } else { told.join(", ") }
}

fn path(file: &File) -> String {
    let mut text = short(file.path.as_str());
    for (holds, note) in
        [(file.deleted, " (deleted)"), (file.anonymous, " (anonymous)"), (file.truncated, " (cut)")]
    {
        text.push_str(if holds { note } else { "" });
    }
    text
}

fn node(address: &impl Display, names: &[Arc<str>], port: u16) -> String {
    let named = names.first().map(|name| format!("{}/", short(name))).unwrap_or_default();
    let port = if port == 0 { String::new() } else { format!(":{port}") };
    format!("{named}{address}{port}")
}

/// `sent TCP to example.org/192.0.2.1:443 from 10.0.0.1:40000 (1200 bytes out, 300 in)`.
fn conversation(flow: &Flow) -> String {
    // "incoming" is bit 3: the other side began.
    let verb = if flow.actions.has(3) { "was reached over" } else { "talked over" };
    let local = node(&flow.local, &flow.local_names, flow.local_port);
    let remote = node(&flow.remote, &flow.remote_names, flow.remote_port);
    let (proto, to) = (protocol(flow.protocol), if flow.actions.has(3) { "by" } else { "to" });
    let (out, back) = (flow.bytes_out, flow.bytes_in);
    format!("{verb} {proto} {to} {remote} at {local} ({out} bytes out, {back} in)")
}

fn answer(peer: &Peer) -> String {
    let Source::Dns { rcode } = peer.source else { return asked(peer) };
    let names = peer.names.iter().take(ANSWERS).map(|name| short(name)).collect::<Vec<_>>();
    let mut addresses: Vec<Cow<'_, str>> =
        peer.addresses.iter().take(ANSWERS).map(|(ip, _)| ip.to_string().into()).collect();
    let more = peer.addresses.len().saturating_sub(ANSWERS);
    if more > 0 {
        addresses.push(format!("{more} more").into());
    }
    let names = names.join(" -> ");
    match (rcode, addresses.is_empty()) {
        (0, false) => format!("resolved {names} to {}", addresses.join(", ")),
        (0, true) => format!("resolved {names} to no address"),
        (rcode, _) => format!("resolved {names} in vain (rcode {rcode})"),
    }
}

/// `ptrace (request attach) of sshd[800]`, or how it failed.
fn activity_told(activity: &Activity) -> String {
    let mut text = format!("did {}", activity.kind().name);
    for (label, detail) in activity.details() {
        // Writing into a String does not fail.
        let _ = write!(text, " {label}={}", quote(&detail.to_string(), ITEM));
    }
    if let Some(target) = &activity.target {
        let _ = write!(text, " to {}[{}]", called(target), target.pid());
    }
    if activity.error != 0 {
        let _ = write!(text, " in vain ({})", errno_name(activity.error));
    }
    text
}

/// `asked 192.0.2.1:443 for example.org (tls)`.
fn asked(peer: &Peer) -> String {
    let mut hosts: Vec<String> = peer.names.iter().map(|name| short(name)).collect();
    hosts.extend(peer.addresses.iter().map(|(address, _)| address.to_string()));
    let hosts = if hosts.is_empty() { "no name".to_owned() } else { hosts.join(", ") };
    let remote = node(&peer.flow.remote, &peer.resolved, peer.flow.remote_port);
    format!("asked {remote} for {hosts} ({})", peer.source.name())
}

fn variable(env: &Env) -> String {
    match shows_value(&env.name) {
        true => format!("{}={}", short(&env.name), short(env.value.as_str())),
        false => format!("{} (value of {} bytes not shown)", short(&env.name), env.length),
    }
}

/// `systemd(1) > sshd(800) > bash(900) > cat(1234)`, oldest first.
fn lineage(process: &Process) -> String {
    let chain: Vec<&Process> = process.lineage().collect();
    let names = chain.iter().rev().map(|one| format!("{}({})", called(one), one.pid()));
    let mut names: Vec<String> = names.collect();
    if names.len() > LINEAGE {
        let end = names.len() - LINEAGE / 2;
        names.splice(LINEAGE / 2..end, ["…".to_owned()]);
    }
    names.join(" > ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_action_has_one_deed() {
        let bits = DEEDS.iter().fold(0u32, |bits, (bit, _)| bits | 1 << bit);
        assert_eq!(bits.count_ones() as usize, FILE_ACTIONS.len());
    }

    #[test]
    fn the_telling_deeds_hide_the_slight_ones() {
        assert_eq!(deeds(Actions(1 << 5 | 1 << 6 | 1 << 12)), "read");
        assert_eq!(deeds(Actions(1 << 5 | 1 << 12)), "opened, closed");
        assert_eq!(deeds(Actions(0)), "touched");
    }

    #[test]
    fn colours_are_the_only_control_characters() {
        let task = crate::event::TaskKey::default();
        let env =
            Env { name: "LD_\x1b[8m".into(), value: "\n".into(), length: 1, truncated: false };
        let (first, body) = (std::time::UNIX_EPOCH, Body::Env(env));
        let mechanism = Mechanism::EnvVars;
        let event = crate::event::Event { mechanism, task, count: 1, first, last: first, body };
        let alert = Alert::new(
            &Arc::default(),
            Some("\u{9b}31m".into()),
            &event,
            &Arc::default(),
            &Arc::default(),
        );
        let line = |colour| {
            let mut line = Vec::new();
            Pretty::new(colour).write_line(&alert, &mut line);
            String::from_utf8(line).unwrap()
        };
        let ours = regex::Regex::new("\x1b\\[[0-9;]*m").unwrap();
        assert!(line(true).contains("\x1b[36mlow"));
        assert_eq!(ours.replace_all(&line(true), ""), line(false));
        assert!(!line(false).trim_end().contains(char::is_control));
    }
}
