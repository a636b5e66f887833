//! Environment variables that recipes ask for, as they were at exec.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Result;
use libbpf_rs::{MapCore, MapFlags, MapHandle};

use super::{Plugin, Prepared, Spec, entries};
use crate::config::Config;
use crate::event::{Body, Env, Event, Mechanism};
use crate::journal::{Read, Sealed, Table};
use crate::kernel::load::{Kernel, handle};
use crate::kernel::types::{env_key, env_row, journal_id};
use crate::state::World;
use crate::state::process::bounded_text;

pub const SPEC: Spec = Spec {
    mechanism: Mechanism::EnvVars,
    journal: journal_id::J_ENV_VARS.0,
    cadence: |cadences| cadences.env_vars,
    always: false,
    reads_after: None,
    prepare,
};

/// Bytes of a name in the kernel's table; a longer one cannot be asked for.
const NAME: usize = 32;

#[derive(Debug)]
struct Tables {
    rows: Table<env_key, env_row>,
    names: MapHandle,
    firsts: MapHandle,
}

fn prepare(kernel: &Kernel, config: &Config, _world: &Arc<World>) -> Result<Prepared> {
    let maps = &kernel.skel.maps;
    let rows = entries(config.caches.envs);
    let tables = Arc::new(Tables {
        rows: Table::create(&handle(&maps.env_rows)?, 0, "rq_envs", rows)?,
        names: handle(&maps.env_names)?,
        firsts: handle(&maps.env_firsts)?,
    });
    Ok(Prepared {
        store: kernel.store(&maps.env_rows)?,
        rows,
        texts: u32::MAX,
        build: Box::new(move || {
            Ok(Box::new(EnvVars { tables: Arc::clone(&tables), watched: BTreeSet::new() }))
        }),
    })
}

struct EnvVars {
    tables: Arc<Tables>,
    watched: BTreeSet<String>,
}

impl Plugin for EnvVars {
    fn read(&mut self, sealed: &Sealed, out: &mut dyn FnMut(Event)) -> Result<Read> {
        let mut read = Read::default();
        read.rows = self.tables.rows.drain(sealed, |key, row| {
            read.events += u64::from(row.count);
            let at = sealed.clock.at(row.exec_ns);
            let value = bounded_text(&row.value);
            let body = Body::Env(Env {
                name: bounded_text(&key.name).as_str().into(),
                length: row.length,
                truncated: value.bytes().len() < row.length as usize,
                value,
            });
            let (mechanism, task) = (Mechanism::EnvVars, key.task.into());
            out(Event { mechanism, task, count: u64::from(row.count), first: at, last: at, body });
        })?;
        Ok(read)
    }

    fn watch_env(&mut self, names: &BTreeSet<String>) -> Result<()> {
        let one = 1u32.to_ne_bytes();
        for name in names.difference(&self.watched) {
            let Some(key) = padded(name) else {
                log::warn!("env_vars: {name} is longer than {NAME} bytes and cannot be watched");
                continue;
            };
            self.tables.names.update(&key, &one, MapFlags::ANY)?;
            self.tables.firsts.update(&u32::from(key[0]).to_ne_bytes(), &one, MapFlags::ANY)?;
        }
        for key in self.watched.difference(names).filter_map(|name| padded(name)) {
            self.tables.names.delete(&key)?;
        }
        self.watched.clone_from(names);
        Ok(())
    }
}

fn padded(name: &str) -> Option<[u8; NAME]> {
    let mut key = [0; NAME];
    key.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
    (!name.is_empty() && name.len() < NAME).then_some(key)
}
