//! What tasks did to neither files nor flows.

use std::sync::Arc;

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::{Plugin, Prepared, Spec, entries};
use crate::config::Config;
use crate::event::{ACTIVITIES, Activity, Body, Event, Mechanism, TaskKey};
use crate::journal::{Read, Sealed, Table};
use crate::kernel::load::{Kernel, handle};
use crate::kernel::types::{activity_key, activity_row, journal_id, node_key, path_node};
use crate::state::process::bounded_text;
use crate::state::recent::Recent;
use crate::state::{Paths, Process, World};

pub const SPEC: Spec = Spec {
    mechanism: Mechanism::Activity,
    journal: journal_id::J_ACTIVITY.0,
    cadence: |cadences| cadences.activity,
    always: false,
    // Who it was done to is in the tree by then.
    reads_after: Some(Mechanism::Execution),
    prepare,
};

#[derive(Debug)]
struct Tables {
    rows: Table<activity_key, activity_row>,
    nodes: Table<node_key, path_node>,
}

fn prepare(kernel: &Kernel, config: &Config, world: &Arc<World>) -> Result<Prepared> {
    let maps = &kernel.skel.maps;
    let caches = &config.caches;
    let rows = entries(caches.activities);
    let tables = Arc::new(Tables {
        rows: Table::create(&handle(&maps.activity_rows)?, 0, "rq_activities", rows)?,
        // Few activities have a path, and it has a few components.
        nodes: Table::create(&handle(&maps.nodes)?, SPEC.journal * 2, "rq_act_path", rows)?,
    });
    let tasks = entries(caches.rec_tasks) as usize;
    let world = Arc::clone(world);
    Ok(Prepared {
        store: kernel.store(&maps.activity_rows)?,
        rows,
        texts: rows,
        build: Box::new(move || {
            Ok(Box::new(Activities {
                tables: Arc::clone(&tables),
                paths: Paths::new(rows as usize),
                world: Arc::clone(&world),
                totals: Recent::new(tasks),
            }))
        }),
    })
}

/// A process over all of its images.
type Pid = (u64, u32);

struct Activities {
    tables: Arc<Tables>,
    paths: Paths,
    world: Arc<World>,
    /// Events of each process, by activity.
    totals: Recent<Pid, Vec<(u32, u64)>>,
}

impl Plugin for Activities {
    fn read(&mut self, sealed: &Sealed, out: &mut dyn FnMut(Event)) -> Result<Read> {
        let mut read = Read::default();
        let Self { tables, paths, world, totals } = self;
        tables.nodes.drain(sealed, |key, node| paths.add(key, node))?;
        read.rows = tables.rows.drain(sealed, |key, row| {
            let count = u64::from(row.count);
            read.events += count;
            let total = totals.entry((key.task.start_ns, key.task.tgid));
            match total.iter_mut().find(|(id, _)| *id == key.activity) {
                Some((_, sum)) => *sum += count,
                None => total.push((key.activity, count)),
            }
            let mut path = |id| match id {
                0 => Default::default(),
                id => paths.get(id).text,
            };
            let activity = Activity {
                id: key.activity,
                a: key.a,
                b: key.b,
                error: key.error,
                code: row.code,
                target: target(world, row.target.into()),
                text: bounded_text(&row.text),
                kind: bounded_text(&row.kind),
                path: path(row.path),
                other: path(row.other),
            };
            out(Event {
                mechanism: Mechanism::Activity,
                task: key.task.into(),
                count,
                first: sealed.clock.at(row.first_ns),
                last: sealed.clock.last(row.first_ns, row.first_tick, row.last_tick),
                body: Body::Activity(activity),
            });
        })?;
        paths.end_epoch();
        Ok(read)
    }

    fn query(&self, pid: u32) -> Value {
        let mut found = Vec::new();
        for ((start, _), totals) in self.totals.iter().filter(|((_, tgid), _)| *tgid == pid) {
            let mut activities = Map::new();
            for (id, total) in totals {
                let name = ACTIVITIES.get(*id as usize).map_or("unknown", |kind| kind.name);
                activities.insert(name.to_owned(), json!(total));
            }
            found.push(json!({ "start_ns": start, "activities": activities }));
        }
        Value::Array(found)
    }
}

/// Who it was done to. A bare pid is what the task said, in the numbers of its own pid namespace:
/// who that is cannot be told from here, so only the number is kept.
fn target(world: &World, key: TaskKey) -> Option<Arc<Process>> {
    if key.tgid == 0 {
        return None;
    }
    let known = if key.start_ns == 0 { None } else { world.processes.get(key) };
    Some(known.unwrap_or_else(|| Arc::new(Process { key, ..Process::default() })))
}
