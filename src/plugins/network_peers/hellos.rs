//! What clients said first: put together over segments and epochs, read once it is whole.

use std::sync::Arc;
use std::time::SystemTime;

use ahash::{AHashMap, AHashSet};

use crate::event::{Body, Event, Flow, Mechanism, Peer, Source, TaskKey};
use crate::hello::{Hello, Unread, parse};
use crate::segments::Segments;
use crate::state::World;
use crate::state::recent::Recent;

/// First messages that are incomplete at the same time, each of 16 KiB at most.
const STREAMS: usize = 256;

/// A connection of a task: the kernel's mix of its ends and its first sequence number.
type Connection = (TaskKey, u64);

pub(super) struct Hellos {
    begun: Recent<Connection, Option<Begun>>,
    touched: AHashSet<Connection>,
}

struct Begun {
    segments: Segments,
    flow: Flow,
    first: SystemTime,
    last: SystemTime,
}

/// What makes two of them one behaviour: who asked whom for what.
#[derive(PartialEq, Eq, Hash)]
struct Behaviour {
    task: TaskKey,
    remote: (std::net::IpAddr, u16),
    source: Source,
    names: Vec<Arc<str>>,
    addresses: Vec<std::net::IpAddr>,
}

impl Hellos {
    pub(super) fn new() -> Self {
        Self { begun: Recent::new(STREAMS), touched: AHashSet::new() }
    }

    /// Takes the chunks of one packet; its offset is that in what the client sends.
    pub(super) fn push(
        &mut self,
        connection: Connection,
        offset: u32,
        chunks: &[(u32, Vec<u8>)],
        flow: Flow,
        at: SystemTime,
    ) {
        let begun = self.begun.entry(connection).get_or_insert_with(|| Begun {
            segments: Segments::starting_at(0),
            flow,
            first: at,
            last: at,
        });
        begun.last = begun.last.max(at);
        for (within, bytes) in chunks {
            begun.segments.push(offset.saturating_add(*within), bytes);
        }
        self.touched.insert(connection);
    }

    /// Reads what the epoch brought, each connection once however many segments it had.
    pub(super) fn read(&mut self, world: &World, out: &mut dyn FnMut(Event)) {
        let mut events: AHashMap<Behaviour, Event> = AHashMap::new();
        for connection in self.touched.drain() {
            let Some(begun) = self.begun.get(&connection).and_then(Option::as_mut) else {
                continue;
            };
            let hello = match parse(begun.segments.ready()) {
                Err(Unread::Incomplete) if !begun.segments.gave_up() => continue,
                other => other,
            };
            // Looked like it and is not, or never will be whole: anybody may send anything.
            if let (Some(Some(begun)), Ok(hello)) = (self.begun.remove(&connection), hello) {
                tell(world, connection.0, begun, &hello, &mut events);
            }
        }
        events.into_values().for_each(out);
    }
}

fn tell(
    world: &World,
    task: TaskKey,
    begun: Begun,
    hello: &Hello,
    events: &mut AHashMap<Behaviour, Event>,
) {
    let Begun { mut flow, first, last, .. } = begun;
    let names: Vec<Arc<str>> = hello.names.iter().map(|name| Arc::from(name.as_str())).collect();
    let resolved = {
        let mut known = world.names_mut();
        let resolved = known.of(&flow.remote, first);
        known.learn_asked(&flow, &names, last);
        flow.remote_names = known.of_flow(&flow, None, last);
        resolved
    };
    let behaviour = Behaviour {
        task,
        remote: (flow.remote, flow.remote_port),
        source: hello.source.clone(),
        names: names.clone(),
        addresses: hello.addresses.clone(),
    };
    if let Some(event) = events.get_mut(&behaviour) {
        event.count += 1;
        event.first = event.first.min(first);
        event.last = event.last.max(last);
        return;
    }
    let addresses = hello.addresses.iter().map(|address| (*address, 0)).collect();
    let body = Body::Peer(Peer { names, addresses, source: hello.source.clone(), resolved, flow });
    let mechanism = Mechanism::NetworkPeers;
    events.insert(behaviour, Event { mechanism, task, count: 1, first, last, body });
}
