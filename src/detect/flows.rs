//! Conditions on flows and on what DNS answers say.

use std::net::IpAddr;
use std::sync::Arc;

use crate::event::{Flow, Peer};

use super::actions::{self, ActionRule};
use super::cidrs::{CidrSet, read_net};
use super::fields::Fields;
use super::names::{NAME_MATCHES, NameMatch, NameSet};
use super::sheet::Sheet;

/// What a flow or peer must be: each condition that is given must hold, any of its values will do.
#[derive(Debug)]
pub struct FlowRule {
    pub actions: ActionRule,
    /// IANA numbers; none means any.
    pub protocols: Vec<u8>,
    pub local_ports: Vec<u16>,
    pub remote_ports: Vec<u16>,
    pub local: Option<CidrSet>,
    pub remote: Option<CidrSet>,
    pub local_names: Option<NameSet>,
    pub remote_names: Option<NameSet>,
}

const PROTOCOLS: &[(&str, &[u8])] = &[
    ("any", &[]),
    ("tcp", &[6]),
    ("udp", &[17]),
    ("icmp", &[1, 58]),
    ("icmpv4", &[1]),
    ("icmpv6", &[58]),
];

/// The name that filters see.
pub(super) const fn protocol_name(number: u8) -> &'static str {
    match number {
        6 => "tcp",
        17 => "udp",
        1 => "icmp",
        58 => "icmpv6",
        _ => "other",
    }
}

impl FlowRule {
    pub fn matches_flow(&self, flow: &Flow) -> bool {
        self.matches_conversation(flow)
            && self.remote.as_ref().is_none_or(|set| set.contains(flow.remote))
            && self.remote_names.as_ref().is_none_or(|set| any_in(set, &flow.remote_names))
    }

    /// A peer is what an answer says: its names and addresses count as remote. The conversation
    /// with the resolver counts too, so that a recipe can name a resolver.
    pub fn matches_peer(&self, peer: &Peer) -> bool {
        let addresses = || peer.addresses.iter().map(|(address, _)| *address);
        let remote = |set: &CidrSet| {
            addresses().chain([peer.flow.remote]).any(|address: IpAddr| set.contains(address))
        };
        let named =
            |set: &NameSet| any_in(set, &peer.names) || any_in(set, &peer.flow.remote_names);
        self.matches_conversation(&peer.flow)
            && self.remote.as_ref().is_none_or(remote)
            && self.remote_names.as_ref().is_none_or(named)
    }

    fn matches_conversation(&self, flow: &Flow) -> bool {
        self.actions.matches(flow.actions)
            && (self.protocols.is_empty() || self.protocols.contains(&flow.protocol))
            && (self.local_ports.is_empty() || self.local_ports.contains(&flow.local_port))
            && (self.remote_ports.is_empty() || self.remote_ports.contains(&flow.remote_port))
            && self.local.as_ref().is_none_or(|set| set.contains(flow.local))
            && self.local_names.as_ref().is_none_or(|set| any_in(set, &flow.local_names))
    }

    pub(super) fn read(sheet: &mut Sheet, fields: &mut Fields<'_>) -> Self {
        let names = ["flow_actions", "flow_actions_how", "flow_actions_excl"];
        let protocols = fields.words(sheet, "protocol", PROTOCOLS).unwrap_or_default();
        Self {
            actions: actions::read(sheet, fields, names, &actions::flow_words()),
            protocols: protocols.into_iter().flatten().copied().collect(),
            local_ports: read_ports(sheet, fields, &["local_port", "local_ports"]),
            remote_ports: read_ports(sheet, fields, &["remote_port", "remote_ports"]),
            local: read_nets(sheet, fields, ["local_cidrs", "local_ips"]),
            remote: read_nets(sheet, fields, ["remote_cidrs", "remote_ips"]),
            local_names: read_names(
                sheet,
                fields,
                "local_domains",
                &["local_domains_type", "local_domains_trie_type"],
            ),
            remote_names: read_names(
                sheet,
                fields,
                "remote_domains",
                &["remote_domains_type", "remote_domains_trie_type"],
            ),
        }
    }
}

fn any_in(set: &NameSet, names: &[Arc<str>]) -> bool {
    names.iter().any(|name| set.contains(name))
}

/// One number or a list; 0 is "any".
fn read_ports(sheet: &mut Sheet, fields: &mut Fields<'_>, names: &[&'static str]) -> Vec<u16> {
    let Some((name, node)) = fields.take_any(names) else { return Vec::new() };
    let key = fields.key(name);
    let mut ports = Vec::new();
    for (line, text) in sheet.texts(node, &key) {
        match text.trim().parse() {
            Ok(port) => ports.push(port),
            Err(_) => {
                let text = super::words::clip(text);
                let message = format!("expected a port from 0 (any) to 65535, found `{text}`");
                sheet.wrong(line, &key, message);
            }
        }
    }
    if ports.contains(&0) { Vec::new() } else { ports }
}

fn read_nets(
    sheet: &mut Sheet,
    fields: &mut Fields<'_>,
    names: [&'static str; 2],
) -> Option<CidrSet> {
    let mut set = CidrSet::default();
    let mut given = false;
    for name in names {
        let Some(node) = fields.take(name) else { continue };
        given = true;
        let key = fields.key(name);
        for (line, text) in sheet.texts(node, &key) {
            match read_net(text) {
                Ok(net) => set.insert(net),
                Err(message) => sheet.wrong(line, &key, message),
            }
        }
    }
    // An empty list matches nothing: a block list that lost its lines must not match everything.
    given.then_some(set)
}

fn read_names(
    sheet: &mut Sheet,
    fields: &mut Fields<'_>,
    list: &'static str,
    types: &[&'static str],
) -> Option<NameSet> {
    let how = match fields.take_any(types) {
        Some((name, node)) => sheet.word(node, &fields.key(name), NAME_MATCHES),
        None => None,
    };
    let node = fields.take(list)?;
    let mut set = NameSet::new(how.unwrap_or(NameMatch::Exact));
    let key = fields.key(list);
    for (line, text) in sheet.texts(node, &key) {
        if let Err(message) = set.insert(text) {
            sheet.wrong(line, &key, message);
        }
    }
    Some(set)
}
