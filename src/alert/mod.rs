//! An alert: one event that a recipe matched, joined with its process, lineage and host.
//!
//! An [`Alert`] shares what it is made of and becomes JSON only when it is written: making one
//! costs the plugin a few reference counts, and a queue of them holds no copies. What may still
//! change (how processes ended) is noted when the alert is made, so that each printer writes the
//! same. `docs/alerts.md` explains the JSON field by field.

mod activity;
mod container;
mod facts;
mod file;
mod flow;
mod host;
mod ids;
mod json;
mod ports;
mod process;

use std::sync::Arc;

use serde::{Serialize, Serializer};
use uuid::Uuid;

pub use container::Known;
pub use facts::{Importance, Named, RecipeFacts, Score};
pub use flow::{protocol, shows_value};
pub use host::Host;
pub use ids::Hash64;
pub use json::{Hex, in_range};

use crate::content::Untold;
use crate::event::{Actions, Body, Event};
use crate::state::Process;
use crate::state::process::Content;
use activity::ActivityJson;
use container::ContainerJson;
use file::FileJson;
use flow::{DnsJson, EnvJson, FlowJson, PeerJson};
use json::Stamp;
use process::{End, ProcessJson};

/// What printers and reactions are given.
#[derive(Clone, Debug)]
pub struct Alert {
    /// Of this alert alone (version 4).
    pub uuid: Uuid,
    /// Given by the dispatch, from 1, without gaps: a missing number was dropped by a printer.
    /// 0 before.
    pub seq: u64,
    pub facts: Arc<RecipeFacts>,
    pub note: Option<String>,
    pub event: Event,
    pub process: Arc<Process>,
    pub host: Arc<Host>,
    /// How the process and its lineage had ended, youngest first.
    ends: Box<[End]>,
    /// What was known of the contents of their executables, in the same order.
    contents: Box<[Option<Content>]>,
    /// What was known of their containers, in the same order.
    containers: Box<[Option<Known>]>,
    /// The container that this is about, or that the process is in.
    pub container: Option<Known>,
}

impl Alert {
    pub fn new(
        facts: &Arc<RecipeFacts>,
        note: Option<String>,
        event: &Event,
        process: &Arc<Process>,
        host: &Arc<Host>,
    ) -> Self {
        Self {
            uuid: Uuid::new_v4(),
            seq: 0,
            facts: Arc::clone(facts),
            note,
            event: event.clone(),
            process: Arc::clone(process),
            host: Arc::clone(host),
            ends: process.lineage().map(Process::end).collect(),
            contents: process.lineage().map(|one| one.image.sha256()).collect(),
            containers: process.lineage().map(Known::of).collect(),
            container: match &event.body {
                Body::Container(life) => Some(Known::new(&life.container)),
                _ => Known::of(process),
            },
        }
    }

    /// `asked`: the content of the executable was to be in it; where it is not yet known, it is
    /// said to be late.
    #[must_use]
    pub fn with_content(mut self, asked: bool) -> Self {
        if let Some(own) = self.contents.first_mut()
            && asked
            && own.is_none()
            && self.process.image.inode != 0
        {
            *own = Some(Err(Untold::Late));
        }
        self
    }

    /// Appends the JSON form in one line, its newline included.
    pub fn write_line(&self, line: &mut Vec<u8>) -> serde_json::Result<()> {
        serde_json::to_writer(&mut *line, self)?;
        line.push(b'\n');
        Ok(())
    }

    /// Appends the JSON form with indentation, for people.
    pub fn write_indented(&self, text: &mut Vec<u8>) -> serde_json::Result<()> {
        serde_json::to_writer_pretty(&mut *text, self)?;
        text.push(b'\n');
        Ok(())
    }

    fn ancestry(&self) -> Vec<ProcessJson<'_>> {
        let ended = self.ends.iter().zip(&self.contents).zip(&self.containers);
        let known = self.process.lineage().zip(ended);
        let mut youngest_first: Vec<_> = known
            .map(|(process, ((&end, &content), container))| {
                ProcessJson::new(process, end, content, container.as_ref(), &self.host)
            })
            .collect();
        youngest_first.reverse();
        youngest_first
    }
}

#[derive(Serialize)]
struct Envelope<'a> {
    uuid: Uuid,
    seq: u64,
    timestamp: Stamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'a str>,
    metadata: Metadata<'a>,
    score: Score,
    count: u64,
    first_seen: Stamp,
    last_seen: Stamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<FileJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flow: Option<FlowJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dns: Option<DnsJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<PeerJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    env: Option<EnvJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    activity: Option<ActivityJson<'a>>,
    container: Option<ContainerJson<'a>>,
    process: ProcessJson<'a>,
    background: Background<'a>,
    scenarios: Scenarios<'a>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    kind: &'a str,
    name: &'a str,
    format: &'static str,
    version: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tactic: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    technique: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subtechnique: Option<&'a str>,
    importance: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    documentation: Option<&'a str>,
    #[serde(skip_serializing_if = "Attack::is_empty")]
    attack: Attack<'a>,
}

/// Ids of MITRE ATT&CK, for those who join on them.
#[derive(Serialize)]
struct Attack<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    tactic_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    technique_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subtechnique_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Background<'a> {
    ancestry: Vec<ProcessJson<'a>>,
}

#[derive(Serialize)]
struct Scenarios<'a> {
    hostos: HostOs<'a>,
}

#[derive(Serialize)]
struct HostOs<'a> {
    scenario_type: &'static str,
    machine_id: &'a str,
    hostname: &'a str,
    ip: &'a str,
    os: &'a str,
    arch: &'a str,
}

impl Attack<'_> {
    fn is_empty(&self) -> bool {
        self.tactic_id.is_none() && self.technique_id.is_none() && self.subtechnique_id.is_none()
    }
}

fn name(named: &Option<Named>) -> Option<&str> {
    named.as_ref().map(|named| &*named.name)
}

fn id(named: &Option<Named>) -> Option<&str> {
    named.as_ref().map(|named| &*named.id).filter(|id| !id.is_empty())
}

impl<'a> Metadata<'a> {
    fn new(facts: &'a RecipeFacts, format: &'static str) -> Self {
        Self {
            kind: &facts.kind,
            name: &facts.name,
            format,
            version: &facts.version,
            description: &facts.description,
            tactic: name(&facts.tactic),
            technique: name(&facts.technique),
            subtechnique: name(&facts.subtechnique),
            importance: facts.importance.name(),
            documentation: facts.documentation.as_deref(),
            attack: Attack {
                tactic_id: id(&facts.tactic),
                technique_id: id(&facts.technique),
                subtechnique_id: id(&facts.subtechnique),
            },
        }
    }
}

impl<'a> HostOs<'a> {
    fn new(host: &'a Host) -> Self {
        Self {
            scenario_type: "hostos",
            machine_id: &host.machine_id,
            hostname: &host.hostname,
            ip: &host.ip,
            os: &host.os,
            arch: &host.arch,
        }
    }
}

impl Serialize for Alert {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (event, host) = (&self.event, &*self.host);
        let (mut file, mut flow, mut env, mut activity) = (None, None, None, None);
        let (mut dns, mut peer) = (None, None);
        match &event.body {
            Body::File(body) => file = Some(FileJson::new(body, host)),
            Body::Flow(body) => flow = Some(FlowJson::new(event, body, host)),
            Body::Peer(body) => {
                flow = Some(FlowJson::new(event, &body.flow, host));
                (dns, peer) = flow::peer_objects(body);
            }
            Body::Env(body) => env = Some(EnvJson::new(body)),
            Body::Activity(body) => activity = Some(ActivityJson::new(body, host)),
            Body::Container(_) => {}
        }
        let end = self.ends.first().copied().flatten();
        let content = self.contents.first().copied().flatten();
        let inside = self.containers.first().and_then(Option::as_ref);
        let actions = match &event.body {
            Body::Container(life) => life.actions,
            _ => Actions::default(),
        };
        let envelope = Envelope {
            uuid: self.uuid,
            seq: self.seq,
            timestamp: Stamp(Some(event.last)),
            note: self.note.as_deref(),
            metadata: Metadata::new(&self.facts, event.mechanism.name()),
            score: self.facts.score(),
            count: event.count,
            first_seen: Stamp(Some(event.first)),
            last_seen: Stamp(Some(event.last)),
            file,
            flow,
            dns,
            peer,
            env,
            activity,
            container: self
                .container
                .as_ref()
                .map(|known| ContainerJson::with_actions(known, actions)),
            process: ProcessJson::new(&self.process, end, content, inside, host),
            background: Background { ancestry: self.ancestry() },
            scenarios: Scenarios { hostos: HostOs::new(host) },
        };
        envelope.serialize(serializer)
    }
}
