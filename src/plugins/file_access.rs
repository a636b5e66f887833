//! Files as tasks reached them.

use std::sync::Arc;

use ahash::RandomState;
use anyhow::Result;
use serde_json::{Map, Value, json};

use super::execution::device;
use super::{Plugin, Prepared, Spec, entries};
use crate::config::Config;
use crate::event::{Actions, Body, Event, FILE_ACTIONS, File, Mechanism};
use crate::journal::{Read, Sealed, Table};
use crate::kernel::clock::Clock;
use crate::kernel::load::{Kernel, handle};
use crate::kernel::types::{
    file_action, file_flags, file_key, file_row, journal_id, node_key, path_node,
};
use crate::state::files::FileId;
use crate::state::paths::Path;
use crate::state::recent::Recent;
use crate::state::{Paths, World};
use crate::text::Text;

pub const SPEC: Spec = Spec {
    mechanism: Mechanism::FileAccess,
    journal: journal_id::J_FILE_ACCESS.0,
    cadence: |cadences| cadences.file_access,
    always: false,
    reads_after: None,
    prepare,
};

#[derive(Debug)]
struct Tables {
    rows: Table<file_key, file_row>,
    nodes: Table<node_key, path_node>,
}

fn prepare(kernel: &Kernel, config: &Config, world: &Arc<World>) -> Result<Prepared> {
    let maps = &kernel.skel.maps;
    let caches = &config.caches;
    let (rows, nodes) = (entries(caches.task_file), entries(caches.dirs + caches.bases));
    let tables = Arc::new(Tables {
        rows: Table::create(&handle(&maps.file_rows)?, 0, "rq_files", rows)?,
        nodes: Table::create(&handle(&maps.nodes)?, SPEC.journal * 2, "rq_file_path", nodes)?,
    });
    let world = Arc::clone(world);
    let (files, tasks) = (entries(caches.files) as usize, entries(caches.rec_tasks) as usize);
    Ok(Prepared {
        store: kernel.store(&maps.file_rows)?,
        rows,
        texts: nodes,
        build: Box::new(move || {
            Ok(Box::new(FileAccess {
                tables: Arc::clone(&tables),
                world: Arc::clone(&world),
                paths: Paths::new(files),
                history: Recent::new(files),
                hasher: RandomState::new(),
                totals: Recent::new(tasks),
            }))
        }),
    })
}

/// A process over all of its images.
type Pid = (u64, u32);

struct FileAccess {
    tables: Arc<Tables>,
    world: Arc<World>,
    paths: Paths,
    /// What each process has done to each path so far.
    history: Recent<(Pid, u64), u32>,
    hasher: RandomState,
    /// Events of each process, by action.
    totals: Recent<Pid, [u64; FILE_ACTIONS.len()]>,
}

impl Plugin for FileAccess {
    fn read(&mut self, sealed: &Sealed, out: &mut dyn FnMut(Event)) -> Result<Read> {
        let mut read = Read::default();
        let Self { tables, world, paths, history, hasher, totals } = self;
        let mut fresh = Vec::new();
        tables.nodes.drain(sealed, |key, node| paths.add(key, node))?;
        read.rows = tables.rows.drain(sealed, |key, row| {
            let pid = (key.task.start_ns, key.task.tgid);
            let (mut count, mut actions) = (0, 0);
            let total = totals.entry(pid);
            for (bit, happened) in row.counts.iter().enumerate() {
                count += u64::from(*happened);
                total[bit] += u64::from(*happened);
                actions |= u32::from(*happened > 0) << bit;
            }
            read.events += count;
            let path = paths.get(row.path);
            let created = actions & 1 << file_action::FA_CREATE.0 != 0;
            if path.fresh && key.inode != 0 && !path.truncated {
                fresh.push(((device(key.dev), key.inode), path.text.clone(), created));
            }
            // By its text: what is known by name only has another id than by its inode.
            let past = history.entry((pid, hasher.hash_one(path.text.as_str())));
            *past |= actions;
            let (actions, history) = (Actions(actions), Actions(*past));
            let body = Body::File(file(key, row, path, actions, history));
            out(event(key, row, &sealed.clock, count, body));
        })?;
        paths.end_epoch();
        note_names(world, fresh);
        Ok(read)
    }

    fn query(&self, pid: u32) -> Value {
        let mut found = Vec::new();
        for ((start, _), totals) in self.totals.iter().filter(|((_, tgid), _)| *tgid == pid) {
            let mut actions = Map::new();
            for (name, total) in FILE_ACTIONS.iter().zip(totals).filter(|(_, total)| **total > 0) {
                actions.insert((*name).to_owned(), json!(total));
            }
            found.push(json!({ "start_ns": start, "actions": actions }));
        }
        Value::Array(found)
    }
}

/// New names of files; where a file was created in this epoch, that name comes first.
fn note_names(world: &World, mut fresh: Vec<(FileId, Text, bool)>) {
    if fresh.is_empty() {
        return;
    }
    fresh.sort_by_key(|(_, _, created)| !created);
    let mut files = world.files_mut();
    for (file, name, created) in fresh {
        files.saw(file, &name, created);
    }
}

fn event(key: &file_key, row: &file_row, clock: &Clock, count: u64, body: Body) -> Event {
    Event {
        mechanism: Mechanism::FileAccess,
        task: key.task.into(),
        count,
        first: clock.at(row.first_ns),
        last: clock.last(row.first_ns, row.first_tick, row.last_tick),
        body,
    }
}

fn file(key: &file_key, row: &file_row, path: Path, actions: Actions, history: Actions) -> File {
    File {
        path: path.text,
        actions,
        history,
        counts: row.counts,
        dev: device(key.dev),
        inode: key.inode,
        mode: row.mode,
        uid: row.uid,
        gid: row.gid,
        size: row.size,
        deleted: row.flags & file_flags::FILE_DELETED.0 != 0,
        anonymous: path.detached,
        overlay: row.flags & file_flags::FILE_OVERLAY.0 != 0,
        by_name: row.flags & file_flags::FILE_BY_NAME.0 != 0,
        truncated: path.truncated,
        names: Vec::new(),
    }
}
