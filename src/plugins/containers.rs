//! Cgroups made and removed, and images that enter them: feeds what is known of containers, and
//! tells of their lives.

use std::sync::Arc;

use ahash::AHashMap;
use anyhow::Result;

use super::{Plugin, Prepared, Spec, entries};
use crate::config::Config;
use crate::event::{Actions, Body, Event, Life, Mechanism, TaskKey};
use crate::journal::{Read, Sealed, Table};
use crate::kernel::load::{Kernel, handle};
use crate::kernel::types::{
    cgroup_event, cgroup_key, cgroup_row, cgroup_text_key, entry_row, journal_id, task_key,
    text_row,
};
use crate::state::World;
use crate::state::containers::{Container, Made, made_by, start_lookups};
use crate::state::process::bounded_text;
use crate::state::recent::Recent;
use crate::text::Text;

pub const SPEC: Spec = Spec {
    mechanism: Mechanism::Containers,
    journal: journal_id::J_CONTAINERS.0,
    cadence: |cadences| cadences.containers,
    always: true,
    reads_after: None,
    prepare,
};

/// Processes remembered as having entered a container: their later images are no further entry.
const ENTERED: usize = 8192;

/// Bits of `CONTAINER_ACTIONS`.
const CREATE: u32 = 1;
const START: u32 = 1 << 1;
const EXEC: u32 = 1 << 2;
const STOP: u32 = 1 << 3;

#[derive(Debug)]
struct Tables {
    rows: Table<cgroup_key, cgroup_row>,
    texts: Table<cgroup_text_key, text_row>,
    entries: Table<task_key, entry_row>,
}

fn prepare(kernel: &Kernel, config: &Config, world: &Arc<World>) -> Result<Prepared> {
    let maps = &kernel.skel.maps;
    let rows = entries(config.caches.containers) / 4;
    // Most paths fit into one chunk.
    let texts = rows * 2;
    let tables = Arc::new(Tables {
        rows: Table::create(&handle(&maps.cgroup_rows)?, 0, "rq_cgroup", rows)?,
        texts: Table::create(&handle(&maps.cgroup_texts)?, 0, "rq_cgroup_txt", texts)?,
        entries: Table::create(&handle(&maps.entry_rows)?, 0, "rq_entry", rows)?,
    });
    start_lookups(world)?;
    let world = Arc::clone(world);
    Ok(Prepared {
        store: kernel.store(&maps.cgroup_rows)?,
        rows,
        texts,
        build: Box::new(move || {
            let (tables, world) = (Arc::clone(&tables), Arc::clone(&world));
            Ok(Box::new(Containers { tables, world, entered: Recent::new(ENTERED) }))
        }),
    })
}

struct Containers {
    tables: Arc<Tables>,
    world: Arc<World>,
    entered: Recent<(u64, u32), ()>,
}

type Chunks = AHashMap<u64, Vec<(u32, text_row)>>;

impl Plugin for Containers {
    fn read(&mut self, sealed: &Sealed, out: &mut dyn FnMut(Event)) -> Result<Read> {
        let mut read = Read::default();
        let mut chunks = Chunks::new();
        self.tables.texts.drain(sealed, |key, row| {
            chunks.entry(key.id).or_default().push((key.chunk, *row));
        })?;
        let mut rows = Vec::with_capacity(sealed.rows as usize);
        read.rows = self.tables.rows.drain(sealed, |key, row| {
            read.events += row.counts.iter().map(|count| u64::from(*count)).sum::<u64>();
            rows.push((key.id, *row));
        })?;
        let mut entries: Vec<(TaskKey, entry_row)> = Vec::new();
        read.rows += self.tables.entries.drain(sealed, |key, row| {
            read.events += u64::from(row.count);
            entries.push(((*key).into(), *row));
        })?;
        // What is made above is known before what is made below it, and before who enters it.
        rows.sort_unstable_by_key(|(_, row)| row.made_ns);
        entries.sort_unstable_by_key(|(_, row)| row.first_ns);
        self.made(&rows, &mut chunks, sealed, out);
        for (task, row) in &entries {
            self.entry(*task, row, sealed, out);
        }
        self.removed(&rows, sealed, out);
        Ok(read)
    }
}

impl Containers {
    fn made(
        &self,
        rows: &[(u64, cgroup_row)],
        chunks: &mut Chunks,
        sealed: &Sealed,
        out: &mut dyn FnMut(Event),
    ) {
        for (id, row) in rows {
            if row.counts[cgroup_event::CG_MADE.0 as usize] == 0 {
                continue;
            }
            let path = joined(chunks.remove(id).unwrap_or_default());
            let maker = row.task.into();
            let comm = bounded_text(&row.comm);
            let by_maker = made_by(&self.world, maker, comm.as_str(), path.as_str());
            let (by_maker, bundle) = by_maker.unzip();
            let made = Made {
                id: *id,
                parent: row.parent,
                path: path.as_str(),
                by_maker,
                bundle: bundle.flatten(),
            };
            if let Some(container) = self.world.containers.made(made) {
                out(event(container, CREATE, maker, row.made_ns, sealed));
            }
        }
    }

    fn removed(&self, rows: &[(u64, cgroup_row)], sealed: &Sealed, out: &mut dyn FnMut(Event)) {
        for (id, row) in rows {
            if row.counts[cgroup_event::CG_REMOVED.0 as usize] > 0
                && let Some(container) = self.world.containers.removed(*id)
            {
                out(event(container, STOP, row.task.into(), row.removed_ns, sealed));
            }
        }
    }

    /// An image run in a container by a process whose parent is outside.
    fn entry(
        &mut self,
        task: TaskKey,
        row: &entry_row,
        sealed: &Sealed,
        out: &mut dyn FnMut(Event),
    ) {
        let containers = &self.world.containers;
        // A runtime's own first image is in the cgroup, but not yet in the container.
        if !containers.is_own_namespace(row.ns_mnt) {
            return;
        }
        let Some(container) = containers.of(row.cgroup, row.cgroup1, row.ns_mnt) else { return };
        let parent = containers.of(row.parent_cgroup, row.parent_cgroup1, row.parent_ns_mnt);
        let process = (task.start_ns, task.tgid);
        if parent.is_some_and(|parent| Arc::ptr_eq(&parent, &container))
            || self.entered.contains(&process)
        {
            return;
        }
        self.entered.insert(process, ());
        let action = if container.starts() { START } else { EXEC };
        out(event(container, action, task, row.first_ns, sealed));
    }
}

fn event(container: Arc<Container>, action: u32, task: TaskKey, at: u64, sealed: &Sealed) -> Event {
    let at = sealed.clock.at(at);
    let body = Body::Container(Life { container, actions: Actions(action) });
    Event { mechanism: Mechanism::Containers, task, count: 1, first: at, last: at, body }
}

fn joined(mut chunks: Vec<(u32, text_row)>) -> Text {
    chunks.sort_unstable_by_key(|(chunk, _)| *chunk);
    let kept = |text: &text_row| (text.length as usize).min(text.bytes.len());
    let bytes: Vec<u8> =
        chunks.iter().flat_map(|(_, text)| text.bytes[..kept(text)].to_vec()).collect();
    Text::new(&bytes)
}
