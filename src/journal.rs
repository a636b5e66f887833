//! The epoch store, as user space sees it: seal, read once, check the ledger, recycle.
//!
//! A journal is a pair of epochs. Programs write the one that the epoch's lowest bit names;
//! sealing flips the epoch and waits until no program can still be running that read the old
//! one. What was sealed is immutable: it is drained by batch, each row exactly once, its counts
//! are compared with what the programs counted themselves, and it becomes the next spare.
//!
//! This is the only place with batch system calls. The iterators of `libbpf_rs` take the first
//! short batch for the last and lose rows; the kernel returns short batches whenever a bucket
//! does not fit.

use std::marker::PhantomData;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType, libbpf_sys};
use plain::Plain;

use crate::kernel::clock::Clock;
use crate::kernel::types;
use crate::stats::JournalStats;

/// Rows read by one system call. Larger batches are not faster (measured from 64 to 65,536).
const BATCH: usize = 2048;

/// Fixed-size keys and values of a table: types of `bpf/types.h`.
pub trait Row: Plain + Copy + Default {}
impl<T: Plain + Copy + Default> Row for T {}

/// One table of a journal: two hash maps of the same shape, one for each slot.
#[derive(Debug)]
pub struct Table<K, V> {
    slots: [MapHandle; 2],
    rows: PhantomData<fn() -> (K, V)>,
}

impl<K: Row, V: Row> Table<K, V> {
    /// Makes both maps with `entries` rows each and puts them where programs look, from
    /// `first` on in `outer`. `name` is what `bpftool map` shows (at most 13 characters).
    pub fn create(outer: &MapHandle, first: u32, name: &str, entries: u32) -> Result<Self> {
        let make = |slot: u32| -> Result<MapHandle> {
            let options = libbpf_sys::bpf_map_create_opts {
                sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
                ..Default::default()
            };
            let map = MapHandle::create(
                MapType::Hash,
                Some(format!("{name}_{slot}")),
                size_of::<K>() as u32,
                size_of::<V>() as u32,
                entries,
                &options,
            )
            .with_context(|| format!("cannot make the map {name} with {entries} rows"))?;
            let fd = map.as_fd().as_raw_fd().to_ne_bytes();
            outer
                .update(&(first + slot).to_ne_bytes(), &fd, MapFlags::ANY)
                .with_context(|| format!("the kernel refuses the shape of map {name}"))?;
            Ok(map)
        };
        Ok(Self { slots: [make(0)?, make(1)?], rows: PhantomData })
    }

    /// Takes every row of a sealed slot out, handing them on in batches. Returns how many.
    ///
    /// # Errors
    /// Any errno but the kernel's "that was the last batch"; rows handed on stay handed on.
    pub fn drain(&self, sealed: &Sealed, mut each: impl FnMut(&K, &V)) -> Result<u64> {
        let fd = self.slots[sealed.slot & 1].as_fd().as_raw_fd();
        let mut size =
            usize::try_from(sealed.rows + sealed.text_rows).unwrap_or(BATCH).clamp(64, BATCH);
        let mut keys = vec![K::default(); size];
        let mut values = vec![V::default(); size];
        let (mut from, mut next) = (0u64, 0u64);
        let mut first = true;
        let mut rows = 0;
        loop {
            let mut count = size as u32;
            let start = if first { std::ptr::null_mut() } else { (&raw mut from).cast() };
            // SAFETY: keys and values have `count` elements of the sizes that the map was made
            // with; `from` and `next` are larger than the 4-byte bucket number that is stored.
            let result = unsafe {
                libbpf_sys::bpf_map_lookup_and_delete_batch(
                    fd,
                    start,
                    (&raw mut next).cast(),
                    keys.as_mut_ptr().cast(),
                    values.as_mut_ptr().cast(),
                    &raw mut count,
                    std::ptr::null(),
                )
            };
            let got = (count as usize).min(size);
            match -result {
                0 | libc::ENOENT => {
                    for (key, value) in keys.iter().zip(&values).take(got) {
                        each(key, value);
                    }
                    rows += got as u64;
                    if result != 0 {
                        return Ok(rows);
                    }
                    (from, first) = (next, false);
                }
                // One bucket holds more rows than the buffer: nothing was taken.
                libc::ENOSPC if size < 1 << 24 => {
                    size *= 2;
                    keys.resize(size, K::default());
                    values.resize(size, V::default());
                }
                libc::EINTR => {}
                errno => {
                    return Err(std::io::Error::from_raw_os_error(errno))
                        .context("cannot read a sealed epoch");
                }
            }
        }
    }
}

/// A sealed epoch: no program writes to it any more.
#[derive(Clone, Copy, Debug)]
pub struct Sealed {
    pub slot: usize,
    pub number: u64,
    /// Rows and texts that programs said they made.
    pub rows: u64,
    pub text_rows: u64,
    pub clock: Clock,
}

/// What a plugin took out of a sealed epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Read {
    pub rows: u64,
    /// Sum of the rows' counts.
    pub events: u64,
}

/// One journal's clockwork; its plugin's thread owns it.
#[derive(Debug)]
pub struct Journal {
    id: u32,
    number: u64,
    /// The other slot holds rows that could not be read.
    left: bool,
    maps: StoreMaps,
    pub stats: Arc<JournalStats>,
}

/// The maps that all journals share.
#[derive(Debug)]
pub struct StoreMaps {
    pub epochs: MapHandle,
    pub ledgers: MapHandle,
    pub fills: MapHandle,
    pub limits: MapHandle,
    /// Any outer map of the journal: updating one waits for running programs.
    pub outer: MapHandle,
}

impl Journal {
    /// `rows` and `texts` are the sizes of its tables: the doorbell rings at half of either.
    pub fn new(
        id: u32,
        maps: StoreMaps,
        rows: u32,
        texts: u32,
        stats: Arc<JournalStats>,
    ) -> Result<Self> {
        let limits = types::limits {
            rows: u64::from(rows / 2).max(1),
            text_rows: u64::from(texts / 2).max(1),
        };
        let journal = Self { id, number: 0, left: false, maps, stats };
        put(&journal.maps.limits, id, &limits)?;
        Ok(journal)
    }

    /// The slot that programs write to now.
    pub fn slot(&self) -> u32 {
        (self.number & 1) as u32
    }

    /// Whether there is nothing to seal for: nothing counted since, and nothing left to read.
    pub fn is_empty(&self) -> Result<bool> {
        let ledger = self.ledger(self.slot())?;
        Ok(ledger.events == 0 && ledger.refused == 0 && !self.left)
    }

    /// Ends the present epoch. Waits, without using the CPU, for programs that still write it.
    pub fn seal(&mut self) -> Result<Sealed> {
        let began = Instant::now();
        let slot = self.slot();
        let next = self.number + 1;
        put_bytes(&self.maps.epochs, self.id, &next.to_ne_bytes())?;
        self.wait_for_programs()?;
        self.number = next;
        self.left = false;
        let fill: types::fill = get(&self.maps.fills, self.id * 2 + slot)?;
        self.stats.sealed(next, began.elapsed());
        Ok(Sealed {
            slot: slot as usize,
            number: next - 1,
            rows: fill.rows,
            text_rows: fill.text_rows,
            clock: Clock::now(),
        })
    }

    /// An update of a map of maps returns when every non-sleepable program that was running
    /// has ended. The update itself changes nothing: the same map is put where it was.
    /// (`membarrier` would wait as well, but is refused on kernels with nohz_full CPUs.)
    fn wait_for_programs(&self) -> Result<()> {
        let key = 0u32.to_ne_bytes();
        let id = self.maps.outer.lookup(&key, MapFlags::ANY)?.context("the outer map is empty")?;
        let id = u32::from_ne_bytes(id.as_slice().try_into().context("a map id is 4 bytes")?);
        let inner = MapHandle::from_map_id(id)?;
        let fd = inner.as_fd().as_raw_fd().to_ne_bytes();
        self.maps.outer.update(&key, &fd, MapFlags::ANY).context("cannot wait for programs")
    }

    /// Compares what was read with what programs counted, and makes the slot fit for reuse.
    /// The tables must be empty by now. Returns whether the ledger balanced.
    pub fn settle(&mut self, sealed: &Sealed, read: Read, took: Duration) -> Result<bool> {
        let at = self.id * 2 + sealed.slot as u32;
        let ledger = self.ledger(sealed.slot as u32)?;
        let balanced = ledger.events == read.events + ledger.refused;
        if !balanced {
            log::error!(
                "{}: epoch {} does not balance: {} events counted, {} read, {} refused",
                self.stats.name,
                sealed.number,
                ledger.events,
                read.events,
                ledger.refused
            );
        }
        self.stats.settled(&ledger, read, balanced, took);
        self.clear_ledger(at)?;
        put(&self.maps.fills, at, &types::fill::default())?;
        Ok(balanced)
    }

    /// Reading failed. Rows that are still in the tables, and what programs counted, stay for
    /// the slot's next epoch: both are read then. What was taken and lost will not balance.
    pub fn leave(&mut self, sealed: &Sealed) -> Result<()> {
        let at = self.id * 2 + sealed.slot as u32;
        let fill: types::fill = get(&self.maps.fills, at)?;
        self.left = true;
        put(&self.maps.fills, at, &types::fill { rung: 0, ..fill })
    }

    fn ledger(&self, slot: u32) -> Result<types::ledger> {
        let key = (self.id * 2 + slot).to_ne_bytes();
        let cpus = self.maps.ledgers.lookup_percpu(&key, MapFlags::ANY)?;
        let mut sum = types::ledger::default();
        for bytes in cpus.context("the ledger has no such entry")? {
            let mut one = types::ledger::default();
            if one.copy_from_bytes(&bytes).is_err() {
                bail!("a ledger has {} bytes, not {}", bytes.len(), size_of::<types::ledger>());
            }
            sum.events += one.events;
            sum.refused += one.refused;
            sum.text_refused += one.text_refused;
            sum.unowned += one.unowned;
        }
        Ok(sum)
    }

    fn clear_ledger(&self, at: u32) -> Result<()> {
        let zero = vec![0u8; size_of::<types::ledger>()];
        let cpus = vec![zero; libbpf_rs::num_possible_cpus()?];
        Ok(self.maps.ledgers.update_percpu(&at.to_ne_bytes(), &cpus, MapFlags::ANY)?)
    }
}

fn get<V: Row>(map: &MapHandle, key: u32) -> Result<V> {
    let bytes = map.lookup(&key.to_ne_bytes(), MapFlags::ANY)?.context("no such entry")?;
    let mut value = V::default();
    match value.copy_from_bytes(&bytes) {
        Ok(()) => Ok(value),
        Err(_) => bail!("a value has {} bytes, not {}", bytes.len(), size_of::<V>()),
    }
}

fn put<V: Row>(map: &MapHandle, key: u32, value: &V) -> Result<()> {
    // SAFETY: Plain types have no padding, so all of their bytes are initialised.
    put_bytes(map, key, unsafe { plain::as_bytes(value) })
}

fn put_bytes(map: &MapHandle, key: u32, value: &[u8]) -> Result<()> {
    Ok(map.update(&key.to_ne_bytes(), value, MapFlags::ANY)?)
}
