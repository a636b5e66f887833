//! `examples`: events that a recipe must fire on, and events that it must stay silent on.
//!
//! A recipe carries its own proof, in the same file, in a few words:
//!
//! ```yaml
//! examples:
//!   fires:
//!     - { file: /etc/shadow, actions: read, exe: /tmp/x, parents: [/usr/bin/bash] }
//!   silent:
//!     - { file: /etc/shadow, actions: read, exe: /usr/sbin/sshd }
//! ```

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::event::{
    Actions, Body, Env, Event, FILE_ACTIONS, File, Flow, Life, Mechanism, Peer, Source, TaskKey,
};
use crate::problem::Problem;
use crate::state::containers::{Container, Details, Found, Runtime};
use crate::state::{Creds, Image, Process, Stdio, TRAITS, Written};
use crate::text::Text;

use super::actions::{EXECVE, container_words, file_words, flow_words};
use super::detector::Detector;
use super::fields::Fields;
use super::recipe::{Recipe, RecipeMechanism};
use super::ruleset::Ruleset;
use super::sheet::Sheet;
use super::yaml::{Node, Value};

/// Some fixed day: an example must not depend on when it runs.
const DAY: Duration = Duration::from_hours(480_000);

/// One event, with its process, and what is expected of it.
#[derive(Debug)]
pub struct Example {
    pub fires: bool,
    pub event: Event,
    pub process: Arc<Process>,
    pub line: usize,
    /// Where in the file (`[0].examples.fires[1]`).
    pub key: String,
}

/// Runs a recipe's examples; a problem for each that does not do what it says.
pub fn check_examples(recipe: &Arc<Recipe>) -> Vec<Problem> {
    let ruleset = Arc::new(Ruleset::only(recipe.clone()));
    let wrong = recipe.examples.iter().filter_map(|example| {
        let mut detector = Detector::new(ruleset.clone(), example.event.mechanism);
        let fired = !detector.judge(&example.event, &example.process).is_empty();
        (fired != example.fires).then(|| Problem {
            file: recipe.place.file.to_string(),
            line: example.line,
            key: example.key.clone(),
            message: match fired {
                true => format!("recipe `{}` fires on this; it must stay silent", recipe.name),
                false => format!("recipe `{}` stays silent on this; it must fire", recipe.name),
            },
        })
    });
    wrong.collect()
}

/// Reads the examples of a recipe.
pub(super) fn read(
    sheet: &mut Sheet,
    fields: &mut Fields<'_>,
    mechanism: Option<RecipeMechanism>,
) -> Vec<Example> {
    let Some(node) = fields.take("examples") else { return Vec::new() };
    let at = fields.key("examples");
    let Some(mut fields) = Fields::new(sheet, node, &at) else { return Vec::new() };
    let mut examples = Vec::new();
    for (name, fires) in [("fires", true), ("silent", false)] {
        let Some(node) = fields.take(name) else { continue };
        let key = fields.key(name);
        for (at, node) in sheet.items(node, &key).iter().enumerate() {
            let key = format!("{key}[{at}]");
            let Some(mut fields) = Fields::new(sheet, node, &key) else { continue };
            let process = Arc::new(read_process(sheet, &mut fields, 1000));
            let event = read_event(sheet, &mut fields, mechanism, &process);
            let line = fields.line;
            fields.finish(sheet);
            if let Some(event) = event {
                examples.push(Example { fires, event, process, line, key });
            }
        }
    }
    fields.finish(sheet);
    examples
}

/// The fields that describe a process, of the task or of one of its parents.
fn read_process(sheet: &mut Sheet, fields: &mut Fields<'_>, pid: u32) -> Process {
    let exe = fields.text(sheet, "exe").unwrap_or("/usr/bin/example");
    let cmd = exe.rsplit('/').next().unwrap_or(exe);
    let args = match fields.take("args") {
        None => vec![cmd.into()],
        Some(node) => {
            let key = fields.key("args");
            let texts = sheet.texts(node, &key).into_iter().map(|(_, text)| text);
            match &node.value {
                Value::Scalar(_) => texts.flat_map(str::split_whitespace).map(Text::from).collect(),
                _ => texts.map(Text::from).collect(),
            }
        }
    };
    let comm =
        fields.text(sheet, "comm").map_or_else(|| cmd.chars().take(15).collect(), str::to_owned);
    let previous = fields.text(sheet, "prev_exe");
    let script = fields.text(sheet, "script").map(Text::from);
    let uid = fields.parsed(sheet, "uid", "a user id").unwrap_or(0);
    let mut process = of_exe(exe, pid);
    let mut own = Image { args, script, ..image(exe) };
    read_image(sheet, fields, &mut own);
    process.image = Arc::new(own);
    process.parent = read_parents(sheet, fields, pid);
    process.ppid = process.parent.as_ref().map_or(1, |parent| parent.pid());
    process.previous = previous.map(|exe| Arc::new(image(exe)));
    process.creds = Creds { uid, gid: uid, euid: uid, egid: uid, ..Creds::default() };
    process.comm = comm.as_str().into();
    if let Some(name) = fields.text(sheet, "container") {
        let _ = process.container.set(read_container(name));
    }
    process
}

/// What can be said of an execution beside its path; traits by the names that `what` has.
fn read_image(sheet: &mut Sheet, fields: &mut Fields<'_>, image: &mut Image) {
    image.inode = 1;
    image.interpreter = fields.text(sheet, "interpreter").map(Text::from);
    if let Some(name) = fields.text(sheet, "pathname") {
        image.pathname = name.into();
    }
    let words: Vec<_> = TRAITS.iter().map(|(name, _, one)| (*name, *one)).collect();
    let traits = fields.words(sheet, "traits", &words).unwrap_or_default();
    image.traits = traits.into_iter().map(|one| (one, true)).collect();
    let written = Written::ALL.map(|written| (written.name(), written));
    image.written = fields.word(sheet, "exe_written", &written).unwrap_or_default();
    if let Some(text) = fields.text(sheet, "exe_changed") {
        match humantime::parse_duration(text) {
            Ok(age) => {
                let at = DAY.saturating_sub(age).as_nanos();
                image.ctime_ns = u64::try_from(at).unwrap_or(0);
                image.mtime_ns = image.ctime_ns;
            }
            Err(_) => fields.wrong(sheet, "exe_changed", "expected an age (10s, 2h)"),
        }
    }
    if let Some(text) = fields.text(sheet, "exe_sha256") {
        match text.parse() {
            Ok(sum) => image.found(Ok(sum)),
            Err(()) => fields.wrong(sheet, "exe_sha256", "expected 64 hexadecimal digits"),
        }
    }
    if let Some(text) = fields.text(sheet, "stdio_socket") {
        match Stdio::parse(text) {
            Some(one) => image.stdio = Box::new([one]),
            None => fields.wrong(sheet, "stdio_socket", "expected `stdin inet stream [REMOTE]`"),
        }
    }
}

/// `NAME`, or `NAME IMAGE`.
fn read_container(text: &str) -> Arc<Container> {
    let (name, image) = text.split_once(' ').unwrap_or((text, "example:1"));
    let id = "0".repeat(64);
    let found = Found { id, runtime: Runtime::Docker, pod_uid: None, user: None };
    let container = Container::new(found, "/docker/example");
    container.set_details(Details {
        name: Some(name.into()),
        image: Some(image.into()),
        ..Details::default()
    });
    Arc::new(container)
}

fn of_exe(exe: &str, pid: u32) -> Process {
    let mut process = Process::default();
    process.key = TaskKey { start_ns: u64::from(pid), tgid: pid, exec_id: 1 };
    process.image = Arc::new(image(exe));
    process.comm = process.cmd().into();
    process
}

fn image(exe: &str) -> Image {
    Image { exe: exe.into(), ..Image::default() }
}

/// Parents, the nearest first: an executable each, or a mapping like the task's.
fn read_parents(sheet: &mut Sheet, fields: &mut Fields<'_>, pid: u32) -> Option<Arc<Process>> {
    let node = fields.take("parents")?;
    let key = fields.key("parents");
    let mut parent: Option<Arc<Process>> = None;
    let nodes: &[Node] = match &node.value {
        Value::List(items) => items,
        _ => std::slice::from_ref(node),
    };
    for (at, node) in nodes.iter().enumerate().rev() {
        let pid = pid.saturating_sub(1 + u32::try_from(at).unwrap_or(0));
        let mut process = match &node.value {
            Value::Scalar(exe) => of_exe(exe, pid),
            _ => {
                let mut fields = Fields::new(sheet, node, &format!("{key}[{at}]"))?;
                let process = read_process(sheet, &mut fields, pid);
                fields.finish(sheet);
                process
            }
        };
        process.parent = parent.or(process.parent);
        parent = Some(Arc::new(process));
    }
    parent
}

/// Where a peer's names stood.
const SOURCES: &[(&str, MakeSource)] = &[
    ("dns", || Source::Dns { rcode: 0 }),
    ("tls", || Source::Tls { alpn: Vec::new(), ech: false }),
    ("http", || Source::Http),
];

/// A source holds what is made at run time.
type MakeSource = fn() -> Source;

fn read_event(
    sheet: &mut Sheet,
    fields: &mut Fields<'_>,
    mechanism: Option<RecipeMechanism>,
    process: &Process,
) -> Option<Event> {
    let mechanism = match mechanism? {
        RecipeMechanism::One(mechanism) => mechanism,
        RecipeMechanism::FileAccessAndExecution if fields.has("file") => Mechanism::FileAccess,
        RecipeMechanism::FileAccessAndExecution => Mechanism::Execution,
    };
    let body = match mechanism {
        Mechanism::FileAccess => {
            let actions = read_actions(sheet, fields, &file_words());
            let path = fields.required(sheet, "file")?;
            let path = sheet.text(path, &fields.key("file"))?;
            Body::File(file(path, actions.unwrap_or_default(), other_names(sheet, fields)))
        }
        Mechanism::Execution => {
            let path = fields.text(sheet, "file").unwrap_or(process.exe());
            let actions = read_actions(sheet, fields, &file_words());
            Body::File(file(path, actions.unwrap_or(EXECVE), other_names(sheet, fields)))
        }
        Mechanism::NetworkFlows => {
            let mut flow = read_flow(sheet, fields, "tcp 10.0.0.2:40000 -> 192.0.2.1:443")?;
            flow.remote_names = read_names(sheet, fields);
            Body::Flow(flow)
        }
        Mechanism::NetworkPeers => {
            let flow = read_flow(sheet, fields, "udp 10.0.0.2:40000 -> 10.0.0.53:53")?;
            let names = read_names(sheet, fields);
            let addresses = read_addresses(sheet, fields);
            let source = fields.words(sheet, "source", SOURCES).unwrap_or_default();
            let source = source.first().map_or(Source::Dns { rcode: 0 }, |make| make());
            Body::Peer(Peer { names, addresses, source, resolved: Vec::new(), flow })
        }
        Mechanism::Activity => Body::Activity(super::activity::read_example(sheet, fields)?),
        Mechanism::Containers => {
            let actions = read_actions(sheet, fields, &container_words());
            let container = process.container().cloned().unwrap_or_else(|| read_container("x"));
            Body::Container(Life { container, actions: actions.unwrap_or_default() })
        }
        Mechanism::EnvVars => {
            let node = fields.required(sheet, "env")?;
            let text = sheet.text(node, &fields.key("env"))?;
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
            Body::Env(Env { name: name.into(), value: value.into(), length, truncated: false })
        }
    };
    let at = SystemTime::UNIX_EPOCH + DAY;
    Some(Event { mechanism, task: process.key, count: 1, first: at, last: at, body })
}

fn read_actions(
    sheet: &mut Sheet,
    fields: &mut Fields<'_>,
    words: &[(&'static str, u32)],
) -> Option<Actions> {
    let found = fields.words(sheet, "actions", words)?;
    Some(Actions(found.into_iter().fold(0, |all, bits| all | bits)))
}

fn other_names(sheet: &mut Sheet, fields: &mut Fields<'_>) -> Vec<Text> {
    fields.texts(sheet, "other_names").into_iter().map(|(_, name)| name.into()).collect()
}

fn file(path: &str, actions: Actions, names: Vec<Text>) -> File {
    File {
        path: path.into(),
        actions,
        history: actions,
        counts: [0; FILE_ACTIONS.len()],
        dev: 0,
        inode: 0,
        mode: 0,
        uid: 0,
        gid: 0,
        size: 0,
        deleted: false,
        anonymous: path.starts_with("memfd:"),
        overlay: false,
        by_name: false,
        truncated: false,
        names,
    }
}

/// `tcp 10.0.0.2:40000 -> 192.0.2.1:443`, from local to remote whoever began.
fn read_flow(sheet: &mut Sheet, fields: &mut Fields<'_>, default: &str) -> Option<Flow> {
    let text = fields.text(sheet, "flow").unwrap_or(default);
    let Some((protocol, local, remote)) = split_flow(text) else {
        let message = "expected `tcp|udp LOCAL:PORT -> REMOTE:PORT`";
        fields.wrong(sheet, "flow", message);
        return None;
    };
    let actions = read_actions(sheet, fields, &flow_words());
    Some(Flow {
        protocol,
        local: local.ip(),
        remote: remote.ip(),
        local_port: local.port(),
        remote_port: remote.port(),
        icmp: None,
        netns: 1,
        // created, egress, outgoing, started: what the first packet of a connect leaves.
        actions: actions.unwrap_or(Actions(1 | 1 << 2 | 1 << 4 | 1 << 6)),
        packets_in: 0,
        packets_out: 1,
        bytes_in: 0,
        bytes_out: 60,
        local_names: Vec::new(),
        remote_names: Vec::new(),
    })
}

fn split_flow(text: &str) -> Option<(u8, SocketAddr, SocketAddr)> {
    let (protocol, ends) = text.split_once(' ')?;
    let protocol = match protocol {
        "tcp" => 6,
        "udp" => 17,
        _ => return None,
    };
    let (local, remote) = ends.split_once("->")?;
    Some((protocol, local.trim().parse().ok()?, remote.trim().parse().ok()?))
}

fn read_names(sheet: &mut Sheet, fields: &mut Fields<'_>) -> Vec<Arc<str>> {
    fields.texts(sheet, "names").into_iter().map(|(_, name)| name.into()).collect()
}

fn read_addresses(sheet: &mut Sheet, fields: &mut Fields<'_>) -> Vec<(IpAddr, u32)> {
    let mut addresses = Vec::new();
    for (line, text) in fields.texts(sheet, "addresses") {
        match text.parse() {
            Ok(address) => addresses.push((address, 60)),
            Err(_) => sheet.wrong(line, &fields.key("addresses"), "expected an address"),
        }
    }
    addresses
}
