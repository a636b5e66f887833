//! Opens, prepares and loads the object.

use std::mem::MaybeUninit;

use anyhow::{Context, Result};
use libbpf_rs::skel::{OpenSkel as _, SkelBuilder as _};
use libbpf_rs::{Map, MapHandle, OpenObject};

use super::{RaqibSkel, RaqibSkelBuilder};
use crate::journal::StoreMaps;

/// The loaded object: programs that are not attached yet, maps that are empty.
pub struct Kernel {
    pub skel: RaqibSkel<'static>,
}

impl Kernel {
    /// Loads every program: one that is not attached costs nothing, and a reload may want it.
    ///
    /// # Errors
    /// What the verifier or the kernel refused; libbpf's own words are in the debug log.
    pub fn load() -> Result<Self> {
        libbpf_rs::set_print(Some((libbpf_rs::PrintLevel::Debug, |level, text| {
            match level {
                libbpf_rs::PrintLevel::Warn => log::debug!("libbpf: {}", text.trim_end()),
                _ => log::trace!("libbpf: {}", text.trim_end()),
            };
        })));
        // The skeleton borrows its object for as long as it lives, which is as long as we do.
        let object: &'static mut MaybeUninit<OpenObject> =
            Box::leak(Box::new(MaybeUninit::uninit()));
        let mut open =
            RaqibSkelBuilder::default().open(object).context("cannot open the BPF object")?;
        if let Some(rodata) = open.maps.rodata_data.as_deref_mut() {
            rodata.self_tgid = std::process::id();
        }
        let skel = open.load().context(
            "the kernel refuses the BPF programs: run with --log-level debug for its reasons \
             (Linux 6.2 or newer is needed where fentry is not available)",
        )?;
        Ok(Self { skel })
    }

    /// The maps of the epoch store, with `outer` as the journal's own.
    pub fn store(&self, outer: &impl AsMap) -> Result<StoreMaps> {
        let maps = &self.skel.maps;
        Ok(StoreMaps {
            epochs: handle(&maps.epochs)?,
            ledgers: handle(&maps.ledgers)?,
            fills: handle(&maps.fills)?,
            limits: handle(&maps.bell_limits)?,
            outer: outer.handle()?,
        })
    }
}

/// A map of the skeleton, of which a thread can hold a handle of its own.
pub trait AsMap {
    fn handle(&self) -> Result<MapHandle>;
}

impl AsMap for libbpf_rs::MapMut<'_> {
    fn handle(&self) -> Result<MapHandle> {
        MapHandle::try_from(self).context("cannot duplicate a map's descriptor")
    }
}

impl AsMap for Map<'_> {
    fn handle(&self) -> Result<MapHandle> {
        MapHandle::try_from(self).context("cannot duplicate a map's descriptor")
    }
}

pub fn handle(map: &impl AsMap) -> Result<MapHandle> {
    map.handle()
}
