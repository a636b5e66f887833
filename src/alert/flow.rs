//! A flow, a peer and an environment variable in JSON.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use uuid::Uuid;

use crate::alert::Host;
use crate::alert::ids::{self, Hash64};
use crate::alert::json::{Hex, Stamp};
use crate::alert::ports;
use crate::event::{Actions, Env, Event, FLOW_ACTIONS, Flow, Peer, Source};

#[derive(Serialize)]
pub struct FlowJson<'a> {
    uuid: Uuid,
    ip_version: u8,
    proto: &'static str,
    proto_number: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp: Option<Icmp>,
    local: End<'a>,
    remote: End<'a>,
    service_port: u16,
    flags: Flags,
    phase: Phase,
    packets_in: u64,
    packets_out: u64,
    bytes_in: u64,
    bytes_out: u64,
    first: Stamp,
    last: Stamp,
    netns: u64,
    flow_hash: Hash64,
}

#[derive(Serialize)]
struct Icmp {
    #[serde(rename = "type")]
    kind: u8,
    code: u8,
}

#[derive(Serialize)]
struct End<'a> {
    address: IpAddr,
    /// The newest of the names.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    names: Vec<&'a str>,
    port: u16,
}

struct Flags(Actions);

/// What the flags add up to.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Phase {
    pub direction: &'static str,
    pub initiated_by: &'static str,
    pub status: &'static str,
    pub ended_by: &'static str,
}

/// Bits of [`FLOW_ACTIONS`], by name.
fn has(actions: Actions, name: &str) -> bool {
    (0u32..).zip(FLOW_ACTIONS).any(|(bit, known)| known == name && actions.has(bit))
}

fn either(
    actions: Actions,
    (first, first_says): (&str, &'static str),
    (second, second_says): (&str, &'static str),
) -> &'static str {
    match (has(actions, first), has(actions, second)) {
        (true, true) => "both",
        (true, false) => first_says,
        (false, true) => second_says,
        (false, false) => "unknown",
    }
}

impl Phase {
    pub fn new(actions: Actions) -> Self {
        let status = ["ended", "ongoing", "started"].into_iter().find(|name| has(actions, name));
        Self {
            direction: either(actions, ("ingress", "ingress"), ("egress", "egress")),
            initiated_by: either(actions, ("incoming", "remote"), ("outgoing", "local")),
            status: status.unwrap_or("unknown"),
            ended_by: either(actions, ("terminator", "local"), ("terminated", "remote")),
        }
    }
}

/// IANA's name of a protocol, as far as flows have it.
pub fn protocol(number: u8) -> &'static str {
    match number {
        1 => "ICMP",
        6 => "TCP",
        17 => "UDP",
        58 => "ICMPV6",
        _ => "unknown",
    }
}

impl<'a> FlowJson<'a> {
    pub fn new(event: &Event, flow: &'a Flow, host: &Host) -> Self {
        let stamp = |time: SystemTime| Stamp(Some(time));
        Self {
            uuid: ids::flow_uuid(host, event.task, flow),
            ip_version: if flow.remote.is_ipv4() { 4 } else { 6 },
            proto: protocol(flow.protocol),
            proto_number: flow.protocol,
            icmp: flow.icmp.map(|(kind, code)| Icmp { kind, code }),
            local: End::new(flow.local, &flow.local_names, flow.local_port),
            remote: End::new(flow.remote, &flow.remote_names, flow.remote_port),
            service_port: ports::service(flow.local_port, flow.remote_port),
            flags: Flags(flow.actions),
            phase: Phase::new(flow.actions),
            packets_in: flow.packets_in,
            packets_out: flow.packets_out,
            bytes_in: flow.bytes_in,
            bytes_out: flow.bytes_out,
            first: stamp(event.first),
            last: stamp(event.last),
            netns: flow.netns,
            flow_hash: ids::flow_hash(flow),
        }
    }
}

impl<'a> End<'a> {
    fn new(address: IpAddr, names: &'a [Arc<str>], port: u16) -> Self {
        let names: Vec<&str> = names.iter().map(|name| &**name).collect();
        Self { address, name: names.first().copied(), names, port }
    }
}

impl Serialize for Flags {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(FLOW_ACTIONS.len()))?;
        for (bit, name) in (0u32..).zip(FLOW_ACTIONS) {
            map.serialize_entry(name, &self.0.has(bit))?;
        }
        map.end()
    }
}

#[derive(Serialize)]
pub struct DnsJson<'a> {
    names: Vec<&'a str>,
    addresses: Vec<DnsAddress>,
    rcode: u8,
}

#[derive(Serialize)]
struct DnsAddress {
    address: IpAddr,
    /// Seconds.
    ttl: u32,
}

/// What a client asked for.
#[derive(Serialize)]
pub struct PeerJson<'a> {
    source: &'static str,
    names: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<IpAddr>,
    /// What DNS had said of the remote address.
    resolved: Vec<&'a str>,
    /// DNS is known to have named the address, and not so.
    mismatch: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    alpn: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ech: Option<bool>,
}

fn texts(names: &[Arc<str>]) -> Vec<&str> {
    names.iter().map(|name| &**name).collect()
}

impl<'a> PeerJson<'a> {
    fn new(peer: &'a Peer) -> Self {
        let (alpn, ech) = match &peer.source {
            Source::Tls { alpn, ech } => (Some(texts(alpn)), Some(*ech)),
            Source::Dns { .. } | Source::Http => (None, None),
        };
        Self {
            source: peer.source.name(),
            names: texts(&peer.names),
            addresses: peer.addresses.iter().map(|(address, _)| *address).collect(),
            resolved: texts(&peer.resolved),
            mismatch: peer.mismatch(),
            alpn,
            ech,
        }
    }
}

/// The object of a peer: one of the two.
pub fn peer_objects(peer: &Peer) -> (Option<DnsJson<'_>>, Option<PeerJson<'_>>) {
    match peer.source {
        Source::Dns { rcode } => (Some(DnsJson::new(peer, rcode)), None),
        Source::Tls { .. } | Source::Http => (None, Some(PeerJson::new(peer))),
    }
}

impl<'a> DnsJson<'a> {
    fn new(peer: &'a Peer, rcode: u8) -> Self {
        let addresses = peer.addresses.iter();
        Self {
            names: peer.names.iter().map(|name| &**name).collect(),
            addresses: addresses.map(|&(address, ttl)| DnsAddress { address, ttl }).collect(),
            rcode,
        }
    }
}

#[derive(Serialize)]
pub struct EnvJson<'a> {
    name: &'a str,
    value: EnvValue<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_raw: Option<Hex<'a>>,
    /// Bytes of the whole value.
    length: u32,
    truncated: bool,
}

enum EnvValue<'a> {
    Shown(&'a str),
    Redacted(u32),
}

/// Variables that name code to load: the value is the finding, and no secret.
const LOADER_VARIABLES: [&str; 8] = [
    "GLIBC_TUNABLES",
    "GCONV_PATH",
    "BASH_ENV",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "PERL5LIB",
    "RUBYLIB",
    "NODE_PATH",
];

/// Whether a variable's value may be shown. All others may hold a password or a token.
pub fn shows_value(name: &str) -> bool {
    name.starts_with("LD_") || LOADER_VARIABLES.contains(&name)
}

impl<'a> EnvJson<'a> {
    pub fn new(env: &'a Env) -> Self {
        let shown = shows_value(&env.name);
        let value = if shown {
            EnvValue::Shown(env.value.as_str())
        } else {
            EnvValue::Redacted(env.length)
        };
        let value_raw = if shown { Hex::raw(&env.value) } else { None };
        Self { name: &env.name, value, value_raw, length: env.length, truncated: env.truncated }
    }
}

impl Serialize for EnvValue<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Shown(value) => serializer.serialize_str(value),
            Self::Redacted(bytes) => {
                serializer.collect_str(&format_args!("<redacted {bytes} bytes>"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phase_follows_the_flags() {
        let bits = |names: &[&str]| {
            let on = (0u32..).zip(FLOW_ACTIONS).filter(|(_, name)| names.contains(name));
            Actions(on.fold(0, |bits, (bit, _)| bits | 1 << bit))
        };
        let unknown = Phase::new(Actions(0));
        assert_eq!([unknown.direction, unknown.initiated_by], ["unknown"; 2]);
        assert_eq!([unknown.status, unknown.ended_by], ["unknown"; 2]);
        let phase = Phase::new(bits(&[
            "ingress",
            "egress",
            "outgoing",
            "started",
            "ongoing",
            "ended",
            "terminated",
        ]));
        assert_eq!([phase.direction, phase.initiated_by], ["both", "local"]);
        assert_eq!([phase.status, phase.ended_by], ["ended", "remote"]);
        assert_eq!(Phase::new(bits(&["started", "ongoing"])).status, "ongoing");
    }

    #[test]
    fn only_loader_variables_show_their_value() {
        assert!(shows_value("LD_PRELOAD") && shows_value("BASH_ENV"));
        assert!(!shows_value("AWS_SECRET_ACCESS_KEY") && !shows_value("OLD_PWD"));
    }
}
