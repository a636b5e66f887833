//! Names of peers: those that tasks resolved, from the DNS answers that reached them, and those that
//! they asked a server for, from what they said first on a connection (TLS, HTTP).

use std::net::IpAddr;
use std::sync::Arc;

use ahash::AHashMap;
use anyhow::Result;

use super::network_flows::flow;
use super::{Plugin, Prepared, Spec, entries};
use crate::config::Config;
use crate::dns::{Reassembler, Response, parse_response};
use crate::event::{Body, Event, Flow, Mechanism, Peer, Source, TaskKey};
use crate::journal::{Read, Sealed, Table};
use crate::kernel::clock::Clock;
use crate::kernel::load::{Kernel, handle};
use crate::kernel::types::{
    flow_mark, flow_row, journal_id, payload_key, payload_kind, payload_row,
};
use crate::state::World;
use crate::state::recent::Recent;
use hellos::Hellos;

mod hellos;

pub const SPEC: Spec = Spec {
    mechanism: Mechanism::NetworkPeers,
    journal: journal_id::J_NETWORK_PEERS.0,
    cadence: |cadences| cadences.network_peers,
    always: false,
    reads_after: None,
    prepare,
};

/// DNS connections over TCP that are put together at the same time.
const STREAMS: usize = 128;

fn prepare(kernel: &Kernel, config: &Config, world: &Arc<World>) -> Result<Prepared> {
    let maps = &kernel.skel.maps;
    let rows = entries(config.caches.peers);
    let table = Arc::new(Table::create(&handle(&maps.payload_rows)?, 0, "rq_payload", rows)?);
    let world = Arc::clone(world);
    Ok(Prepared {
        store: kernel.store(&maps.payload_rows)?,
        rows,
        texts: u32::MAX,
        build: Box::new(move || {
            Ok(Box::new(NetworkPeers {
                table: Arc::clone(&table),
                world: Arc::clone(&world),
                streams: Recent::new(STREAMS),
                hellos: Hellos::new(),
            }))
        }),
    })
}

type Ends = (IpAddr, u16, IpAddr, u16, u64);

struct NetworkPeers {
    table: Arc<Table<payload_key, payload_row>>,
    world: Arc<World>,
    streams: Recent<Ends, Option<Reassembler>>,
    hellos: Hellos,
}

/// The payload of one packet, as its chunks come out of the table.
struct Packet {
    key: payload_key,
    first: Box<payload_row>,
    /// With their offsets in it.
    chunks: Vec<(u32, Vec<u8>)>,
}

impl Plugin for NetworkPeers {
    fn read(&mut self, sealed: &Sealed, out: &mut dyn FnMut(Event)) -> Result<Read> {
        let mut read = Read::default();
        let mut packets: AHashMap<(TaskKey, u64, u32), Packet> = AHashMap::new();
        read.rows = self.table.drain(sealed, |key, row| {
            read.events += u64::from(row.count);
            let bytes = &row.bytes[..(row.length as usize).min(row.bytes.len())];
            packets
                .entry((key.task.into(), key.flow, key.seq))
                .or_insert_with(|| Packet { key: *key, first: Box::new(*row), chunks: Vec::new() })
                .chunks
                .push((key.chunk.saturating_mul(row.bytes.len() as u32), bytes.to_vec()));
        })?;
        let mut packets: Vec<Packet> = packets.into_values().collect();
        packets.sort_unstable_by_key(|packet| packet.first.first_ns);
        for packet in packets {
            self.packet(packet, &sealed.clock, out);
        }
        self.hellos.read(&self.world, out);
        Ok(read)
    }
}

impl NetworkPeers {
    fn packet(&mut self, mut packet: Packet, clock: &Clock, out: &mut dyn FnMut(Event)) {
        packet.chunks.sort_unstable_by_key(|(offset, _)| *offset);
        let task: TaskKey = packet.key.task.into();
        if packet.first.kind == payload_kind::PAYLOAD_HELLO.0 {
            let row = &packet.first;
            let (flow, at) = (flow(&row.flow, &one_sent(row)), clock.at(row.first_ns));
            let connection = (task, packet.key.flow);
            self.hellos.push(connection, packet.key.seq, &packet.chunks, flow, at);
            return;
        }
        let payload: Vec<u8> = packet.chunks.into_iter().flat_map(|(_, bytes)| bytes).collect();
        let row = &packet.first;
        let flow = flow(&row.flow, &one_packet(row));
        let messages = if i32::from(row.flow.protocol) == libc::IPPROTO_TCP {
            self.stream(&flow).push(packet.key.seq, &payload)
        } else {
            vec![payload]
        };
        for message in messages {
            // Anything may come from port 53: what is no DNS answer is nobody's error.
            let Ok(response) = parse_response(&message) else { continue };
            let peer = self.peer(&response, flow.clone(), clock.at(row.first_ns));
            let (first, last) = (clock.at(row.first_ns), clock.at(row.first_ns));
            let mechanism = Mechanism::NetworkPeers;
            let (count, body) = (u64::from(row.count), Body::Peer(peer));
            out(Event { mechanism, task, count, first, last, body });
        }
    }

    fn stream(&mut self, flow: &Flow) -> &mut Reassembler {
        let ends = (flow.local, flow.local_port, flow.remote, flow.remote_port, flow.netns);
        let stream = self.streams.entry(ends);
        // The port is used again, or the stream was hopeless: begin anew.
        if stream.as_ref().is_some_and(Reassembler::gave_up) {
            *stream = None;
        }
        stream.get_or_insert_with(Reassembler::new)
    }

    fn peer(&self, response: &Response, mut flow: Flow, at: std::time::SystemTime) -> Peer {
        let names: Vec<Arc<str>> = response.names().into_iter().map(Arc::from).collect();
        let addresses = response.addresses();
        let mut known = self.world.names_mut();
        known.learn(&names, &addresses, at);
        flow.remote_names = known.of(&flow.remote, at);
        let source = Source::Dns { rcode: response.rcode };
        Peer { names, addresses, source, resolved: Vec::new(), flow }
    }
}

fn one_sent(row: &payload_row) -> flow_row {
    flow_row { packets_out: 1, bytes_out: u64::from(row.payload), ..flow_row::default() }
}

fn one_packet(row: &payload_row) -> flow_row {
    let mut flow =
        flow_row { packets_in: 1, bytes_in: u64::from(row.payload), ..flow_row::default() };
    flow.marks[flow_mark::FLOW_FIRST_IN.0 as usize] = 1;
    flow
}
