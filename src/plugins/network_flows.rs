//! Conversations of tasks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use anyhow::Result;
use serde_json::{Value, json};

use super::{Plugin, Prepared, Spec, entries};
use crate::config::Config;
use crate::event::{Actions, Body, Event, Flow, Mechanism, TaskKey};
use crate::journal::{Read, Sealed, Table};
use crate::kernel::clock::Clock;
use crate::kernel::load::{Kernel, handle};
use crate::kernel::types::{flow_key, flow_mark, flow_row, journal_id};
use crate::state::World;
use crate::state::recent::Recent;

pub const SPEC: Spec = Spec {
    mechanism: Mechanism::NetworkFlows,
    journal: journal_id::J_NETWORK_FLOWS.0,
    cadence: |cadences| cadences.network_flows,
    always: false,
    reads_after: Some(Mechanism::NetworkPeers),
    prepare,
};

fn prepare(kernel: &Kernel, config: &Config, world: &Arc<World>) -> Result<Prepared> {
    let maps = &kernel.skel.maps;
    let caches = &config.caches;
    let rows = entries(caches.task_flow);
    let table = Arc::new(Table::create(&handle(&maps.flow_rows)?, 0, "rq_flows", rows)?);
    let (flows, tasks) = (entries(caches.flows) as usize, entries(caches.rec_tasks) as usize);
    let world = Arc::clone(world);
    Ok(Prepared {
        store: kernel.store(&maps.flow_rows)?,
        rows,
        texts: u32::MAX,
        build: Box::new(move || {
            Ok(Box::new(NetworkFlows {
                table: Arc::clone(&table),
                world: Arc::clone(&world),
                known: Recent::new(flows),
                totals: Recent::new(tasks),
            }))
        }),
    })
}

/// A conversation without the image that holds it: it outlives an exec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Conversation {
    pid: (u64, u32),
    ends: (IpAddr, u16, IpAddr, u16),
    protocol: u8,
    netns: u32,
}

/// Events of one process.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    /// Conversations that this process began, and those that came to it.
    outgoing: u64,
    incoming: u64,
    packets: u64,
    bytes: u64,
    accepts: u64,
}

struct NetworkFlows {
    table: Arc<Table<flow_key, flow_row>>,
    world: Arc<World>,
    /// Flow actions seen so far in each conversation. Kept after its end: the other side's end,
    /// or the last acknowledgement, may fall into a later epoch and is no new conversation.
    known: Recent<Conversation, u32>,
    totals: Recent<(u64, u32), Totals>,
}

impl Plugin for NetworkFlows {
    fn read(&mut self, sealed: &Sealed, out: &mut dyn FnMut(Event)) -> Result<Read> {
        let mut read = Read::default();
        let Self { table, world, known, totals } = self;
        let names = world.names();
        read.rows = table.drain(sealed, |key, row| {
            let at = sealed.clock.at(row.first_ns);
            let count = row.packets_in + row.packets_out + row.accepts;
            read.events += count;
            let mut flow = flow(key, row);
            flow.actions = actions(&flow, row, known.entry(conversation(key, &flow)));
            flow.local_names = names.of(&flow.local, at);
            let began = row.marks[flow_mark::FLOW_SYN_OUT.0 as usize] != 0;
            flow.remote_names = names.of_flow(&flow, began.then_some(at), at);
            add(totals.entry((key.task.start_ns, key.task.tgid)), &flow, row, count);
            out(event(key.task.into(), row, &sealed.clock, count, flow));
        })?;
        Ok(read)
    }

    fn query(&self, pid: u32) -> Value {
        let found = self.totals.iter().filter(|((_, tgid), _)| *tgid == pid);
        found
            .map(|((start, _), totals)| {
                json!({
                    "start_ns": start,
                    "outgoing": totals.outgoing,
                    "incoming": totals.incoming,
                    "accepts": totals.accepts,
                    "packets": totals.packets,
                    "bytes": totals.bytes,
                })
            })
            .collect()
    }
}

fn add(totals: &mut Totals, flow: &Flow, row: &flow_row, packets: u64) {
    if flow.actions.has(CREATED) {
        totals.outgoing += u64::from(flow.actions.has(OUTGOING));
        totals.incoming += u64::from(flow.actions.has(INCOMING));
    }
    totals.packets += packets - row.accepts;
    totals.bytes += row.bytes_in + row.bytes_out;
    totals.accepts += row.accepts;
}

fn event(task: TaskKey, row: &flow_row, clock: &Clock, count: u64, flow: Flow) -> Event {
    Event {
        mechanism: Mechanism::NetworkFlows,
        task,
        count,
        first: clock.at(row.first_ns),
        last: clock.last(row.first_ns, row.first_tick, row.last_tick),
        body: Body::Flow(flow),
    }
}

fn conversation(key: &flow_key, flow: &Flow) -> Conversation {
    Conversation {
        pid: (key.task.start_ns, key.task.tgid),
        ends: (flow.local, flow.local_port, flow.remote, flow.remote_port),
        protocol: key.protocol,
        netns: key.netns,
    }
}

fn address(bytes: [u8; 16], family: u8) -> IpAddr {
    if family == 4 {
        let [a, b, c, d, ..] = bytes;
        return Ipv4Addr::new(a, b, c, d).into();
    }
    Ipv6Addr::from(bytes).to_canonical()
}

/// What a key says of a conversation; counts are the row's.
pub(super) fn flow(key: &flow_key, row: &flow_row) -> Flow {
    let icmp = matches!(i32::from(key.protocol), libc::IPPROTO_ICMP | libc::IPPROTO_ICMPV6);
    Flow {
        protocol: key.protocol,
        local: address(key.local, key.family),
        remote: address(key.remote, key.family),
        local_port: key.local_port,
        remote_port: key.remote_port,
        icmp: icmp.then_some((key.icmp_type, key.icmp_code)),
        netns: u64::from(key.netns),
        actions: Actions::default(),
        packets_in: row.packets_in,
        packets_out: row.packets_out,
        bytes_in: row.bytes_in,
        bytes_out: row.bytes_out,
        local_names: Vec::new(),
        remote_names: Vec::new(),
    }
}

// Bit numbers of FLOW_ACTIONS.
const CREATED: u32 = 0;
const INGRESS: u32 = 1;
const EGRESS: u32 = 2;
const INCOMING: u32 = 3;
const OUTGOING: u32 = 4;
const ONGOING: u32 = 5;
const STARTED: u32 = 6;
const ENDED: u32 = 7;
const TERMINATOR: u32 = 8;
const TERMINATED: u32 = 9;

/// The recipe language's ten bits, from an epoch's marks and what was known before.
///
/// Who began a conversation is told by its handshake, or, without one, by its first packet that
/// we saw; it stays true for the conversation's later epochs, as does its end. Who ended it is
/// told once, by the first end. A handshake after the end begins another conversation on the
/// same ports. The other bits are this epoch's.
fn actions(flow: &Flow, row: &flow_row, known: &mut u32) -> Actions {
    let marked = |mark: flow_mark| row.marks[mark.0 as usize] != 0;
    let handshake_in = marked(flow_mark::FLOW_SYN_IN) || marked(flow_mark::FLOW_SYNACK_OUT);
    let handshake_out = marked(flow_mark::FLOW_SYN_OUT) || marked(flow_mark::FLOW_SYNACK_IN);
    let again = marked(flow_mark::FLOW_SYN_IN) || marked(flow_mark::FLOW_SYN_OUT);
    if again && Actions(*known).has(ENDED) {
        *known = 0;
    }
    let before = Actions(*known);
    let fresh = before.0 == 0;
    let mut bits = 0;
    let mut set = |bit: u32, on: bool| bits |= u32::from(on) << bit;
    set(CREATED, fresh);
    set(INGRESS, flow.packets_in > 0);
    set(EGRESS, flow.packets_out > 0);
    if handshake_in || handshake_out || marked(flow_mark::FLOW_ACCEPTED) {
        set(INCOMING, handshake_in || marked(flow_mark::FLOW_ACCEPTED));
        set(OUTGOING, handshake_out);
    } else if fresh {
        let first_in = marked(flow_mark::FLOW_FIRST_IN);
        set(INCOMING, first_in);
        set(OUTGOING, !first_in);
    }
    let ends = marked(flow_mark::FLOW_END_OUT) || marked(flow_mark::FLOW_END_IN);
    let ended = ends || before.has(ENDED);
    set(STARTED, fresh || handshake_in || handshake_out);
    set(ENDED, ended);
    set(ONGOING, !ended);
    if !before.has(ENDED) {
        set(TERMINATOR, marked(flow_mark::FLOW_END_OUT_FIRST));
        set(TERMINATED, marked(flow_mark::FLOW_END_IN_FIRST));
    }
    let began = (1 << INCOMING) | (1 << OUTGOING);
    if bits & began == 0 {
        bits |= *known & began;
    }
    *known |= bits;
    Actions(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(marks: &[flow_mark], packets_in: u64, packets_out: u64) -> flow_row {
        let mut row = flow_row { packets_in, packets_out, ..flow_row::default() };
        for mark in marks {
            row.marks[mark.0 as usize] = 1;
        }
        row
    }

    fn names(actions: Actions) -> Vec<&'static str> {
        crate::event::FLOW_ACTIONS
            .iter()
            .enumerate()
            .filter(|(bit, _)| actions.has(*bit as u32))
            .map(|(_, name)| *name)
            .collect()
    }

    fn judge(row: &flow_row, known: &mut u32) -> Vec<&'static str> {
        names(actions(&flow(&flow_key::default(), row), row, known))
    }

    #[test]
    fn a_connection_over_three_epochs_keeps_who_began_it() {
        let mut known = 0;
        let syn = row(&[flow_mark::FLOW_SYN_OUT, flow_mark::FLOW_SYNACK_IN], 1, 2);
        assert_eq!(
            judge(&syn, &mut known),
            ["created", "ingress", "egress", "outgoing", "ongoing", "started"]
        );
        assert_eq!(judge(&row(&[], 5, 0), &mut known), ["ingress", "outgoing", "ongoing"]);
        let end = row(&[flow_mark::FLOW_END_IN, flow_mark::FLOW_END_IN_FIRST], 1, 1);
        assert_eq!(
            judge(&end, &mut known),
            ["ingress", "egress", "outgoing", "ended", "terminated"]
        );
    }

    #[test]
    fn what_comes_after_the_end_is_no_new_conversation() {
        let mut known = 0;
        judge(&row(&[flow_mark::FLOW_SYN_OUT], 1, 1), &mut known);
        let closing = row(&[flow_mark::FLOW_END_OUT, flow_mark::FLOW_END_OUT_FIRST], 1, 1);
        assert_eq!(
            judge(&closing, &mut known),
            ["ingress", "egress", "outgoing", "ended", "terminator"]
        );
        let other_side = row(&[flow_mark::FLOW_END_IN, flow_mark::FLOW_END_IN_FIRST], 1, 1);
        assert_eq!(judge(&other_side, &mut known), ["ingress", "egress", "outgoing", "ended"]);
        let again = row(&[flow_mark::FLOW_SYN_IN], 1, 0);
        assert_eq!(
            judge(&again, &mut known),
            ["created", "ingress", "incoming", "ongoing", "started"]
        );
    }

    #[test]
    fn without_a_handshake_the_first_packet_tells() {
        let mut known = 0;
        let first = row(&[flow_mark::FLOW_FIRST_IN], 1, 1);
        assert_eq!(
            judge(&first, &mut known),
            ["created", "ingress", "egress", "incoming", "ongoing", "started"]
        );
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        let mapped = "::ffff:127.0.0.1".parse::<Ipv6Addr>().unwrap().octets();
        assert_eq!(address(mapped, 6), "127.0.0.1".parse::<IpAddr>().unwrap());
    }
}
