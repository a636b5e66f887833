//! Opens, prepares and loads the object.

use std::mem::MaybeUninit;

use anyhow::{Context, Result, anyhow};
use libbpf_rs::skel::{OpenSkel as _, SkelBuilder as _};
use libbpf_rs::{Map, MapHandle, OpenObject, ProgramAttachType, ProgramType};

use super::objects::{self, Objects};
use super::refusal::{self, Refusal};
use super::{RaqibSkel, RaqibSkelBuilder, hooks, host, privileges};
use crate::journal::StoreMaps;

/// The loaded object: programs that are not attached yet, maps that are empty.
pub struct Kernel {
    pub skel: RaqibSkel<'static>,
    /// Programs that this kernel does not take; what they record is off.
    pub refused: Vec<Refusal>,
}

impl Kernel {
    /// Loads every program: one that is not attached costs nothing, and a reload may want it.
    ///
    /// A kernel is asked what it can do by letting it try. What it refuses is left out at the
    /// next attempt, so one that has everything is asked once.
    ///
    /// # Errors
    /// When the kernel refuses what nothing else can be told without, or the maps; libbpf's own
    /// words are in the debug log.
    pub fn load() -> Result<Self> {
        refusal::listen();
        privileges::raise_memory_lock();
        let objects = objects::offered();
        let mut refused = hooks::missing(&objects);
        loop {
            let error = match attempt(&refused, objects.as_ref().ok()) {
                Ok(skel) => return Ok(Self { skel, refused }),
                Err(error) => error,
            };
            match refusal::heard() {
                Some(refusal) if hooks::essential(&refusal.program) => {
                    return Err(
                        anyhow!("{refusal}, nothing can be told without it").context(host::MINIMUM)
                    );
                }
                Some(refusal) if !refused.contains(&refusal) => refused.push(refusal),
                _ => return Err(error.context(host::MINIMUM)),
            }
        }
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

fn attempt(refused: &[Refusal], objects: Option<&Objects>) -> Result<RaqibSkel<'static>> {
    // The skeleton borrows its object for as long as it lives, which is as long as we do.
    let object: &'static mut MaybeUninit<OpenObject> = Box::leak(Box::new(MaybeUninit::uninit()));
    let mut open =
        RaqibSkelBuilder::default().open(object).context("cannot open the BPF object")?;
    if let Some(rodata) = open.maps.rodata_data.as_deref_mut() {
        rodata.self_tgid = std::process::id();
        let chosen = |program| hooks::chosen(program, refused);
        rodata.names_noted = chosen("path_unlink");
        rodata.ring_opens_elsewhere = chosen("file_open");
    }
    open.maps.notes.set_max_entries(notes()?).context("cannot size the notes")?;
    for mut program in open.open_object_mut().progs_mut() {
        let name = program.name().to_string_lossy().into_owned();
        if !hooks::chosen(&name, refused) {
            program.set_autoload(false);
        } else if objects == Some(&Objects::Functions)
            && let Some(function) = objects::function(&name)
        {
            program.set_prog_type(ProgramType::Tracing);
            program.set_attach_type(ProgramAttachType::TraceFentry);
            program.set_attach_target(0, Some(function)).context("cannot set a function")?;
        }
    }
    open.load().context("the BPF programs cannot be loaded: --log-level debug tells why")
}

/// Room for the calls that are under way. The kernel hands free places of such a map out to CPUs
/// by 128 at a time, and pushes others out when it has none left to hand out.
fn notes() -> Result<u32> {
    let cpus = libbpf_rs::num_possible_cpus().context("cannot count CPUs")?;
    Ok(512 * u32::try_from(cpus)?)
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
