//! What executables contain: SHA-256, off every hot path.
//!
//! One thread reads files, when a recipe asks for the content or an alert is about to be told.
//! It reads the very file that was executed: what it opened must have the device, inode, times
//! and size that the kernel saw at the exec, before reading and after. Who asks never waits here:
//! a finding is put into the [`Image`], and a bell rings.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use crossbeam_channel::{Receiver, Sender, bounded};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::alert::Hex;
use crate::state::recent::Recent;
use crate::state::{Image, Process};

/// A SHA-256, in lower-case hex as text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sum([u8; 32]);

/// Why a content cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untold {
    /// The process and every name of the file that we know are gone.
    Vanished,
    /// Another file has the name by now, or it was written meanwhile.
    Changed,
    TooLarge,
    /// On a network or user-space file system: reading could wait for ever.
    NotLocal,
    Unreadable,
    /// Others were in front of it, or reading takes longer than an alert waits.
    Late,
}

impl Untold {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vanished => "vanished",
            Self::Changed => "changed",
            Self::TooLarge => "too_large",
            Self::NotLocal => "not_local",
            Self::Unreadable => "unreadable",
            Self::Late => "late",
        }
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(&self.0).fmt(f)
    }
}

impl fmt::Debug for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Sum {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut sum = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(());
        }
        for (at, byte) in sum.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).map_err(|_| ())?;
        }
        Ok(Self(sum))
    }
}

/// Executables that wait to be read. More than these in one moment are told as late.
const QUEUE: usize = 256;
/// Findings kept: an executable that runs again is not read again.
const KEPT: usize = 4096;

/// Device, inode, modification time and size: who writes a file changes one of the last two.
type Key = (u64, u64, u64, u64);

fn key(image: &Image) -> Key {
    (image.dev, image.inode, image.mtime_ns, image.size)
}

struct Job {
    process: Arc<Process>,
    bell: Sender<()>,
}

#[derive(Default)]
struct Counters {
    asked: AtomicU64,
    from_cache: AtomicU64,
    read: AtomicU64,
    untold: AtomicU64,
    dropped: AtomicU64,
}

struct Shared {
    cache: Mutex<Recent<Key, Sum>>,
    /// Bytes of the largest file that is read.
    largest: AtomicU64,
    /// Whether alerts want it even where no recipe asks.
    alerts: AtomicBool,
    counters: Counters,
}

/// Where to ask. Clones share one thread, which ends with the last of them.
#[derive(Clone)]
pub struct Contents {
    jobs: Sender<Job>,
    shared: Arc<Shared>,
}

impl Contents {
    /// Starts the reading thread. `largest` in MiB.
    pub fn start(alerts: bool, largest: u32) -> Result<(Self, JoinHandle<()>)> {
        let (jobs, inbox) = bounded(QUEUE);
        let shared = Arc::new(Shared {
            cache: Mutex::new(Recent::new(KEPT)),
            largest: AtomicU64::new(0),
            alerts: AtomicBool::new(alerts),
            counters: Counters::default(),
        });
        let contents = Self { jobs, shared: Arc::clone(&shared) };
        contents.configure(alerts, largest);
        let thread = std::thread::Builder::new()
            .name("raqib-content".to_owned())
            .spawn(move || read_all(&inbox, &shared))
            .context("cannot start the thread that reads executables")?;
        Ok((contents, thread))
    }

    /// At a reload. `largest` in MiB.
    pub fn configure(&self, alerts: bool, largest: u32) {
        self.shared.alerts.store(alerts, Relaxed);
        self.shared.largest.store(u64::from(largest) << 20, Relaxed);
    }

    /// Whether alerts are told with the content.
    pub fn for_alerts(&self) -> bool {
        self.shared.alerts.load(Relaxed)
    }

    /// True when the image's content is known by now, or known not to be known; else `bell`
    /// rings when it is.
    pub fn ask(&self, process: &Arc<Process>, bell: &Sender<()>) -> bool {
        let (image, counters) = (&process.image, &self.shared.counters);
        // Kernel threads, and processes of which only the number is known.
        if image.sha256().is_some() || image.inode == 0 {
            return true;
        }
        counters.asked.fetch_add(1, Relaxed);
        if let Some(sum) = self.shared.cached(image) {
            counters.from_cache.fetch_add(1, Relaxed);
            image.found(Ok(sum));
            return true;
        }
        let job = Job { process: Arc::clone(process), bell: bell.clone() };
        if self.jobs.try_send(job).is_err() {
            counters.dropped.fetch_add(1, Relaxed);
            image.found(Err(Untold::Late));
            return true;
        }
        false
    }

    /// For `raqib status`.
    pub fn json(&self) -> Value {
        let counters = &self.shared.counters;
        json!({
            "asked": counters.asked.load(Relaxed),
            "from_cache": counters.from_cache.load(Relaxed),
            "read": counters.read.load(Relaxed),
            "untold": counters.untold.load(Relaxed),
            "dropped": counters.dropped.load(Relaxed),
        })
    }
}

impl Shared {
    fn cached(&self, image: &Image) -> Option<Sum> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.get(&key(image)).copied()
    }
}

fn read_all(inbox: &Receiver<Job>, shared: &Shared) {
    // IOPRIO_WHO_PROCESS, this thread, IOPRIO_CLASS_IDLE: nobody's disk waits for a hash. Where
    // the scheduler has no classes it does nothing, and that is all the same.
    // SAFETY: three integers; no memory is passed.
    unsafe { libc::syscall(libc::SYS_ioprio_set, 1, 0, 3 << 13) };
    while let Ok(job) = inbox.recv() {
        let image = &job.process.image;
        if image.sha256().is_none() {
            // Several processes may have asked for one file before the first was read.
            let content = match shared.cached(image) {
                Some(sum) => Ok(sum),
                None => sum(&job.process, shared.largest.load(Relaxed)),
            };
            match content {
                Ok(sum) => {
                    shared.counters.read.fetch_add(1, Relaxed);
                    let mut cache = shared.cache.lock().unwrap_or_else(PoisonError::into_inner);
                    cache.insert(key(image), sum);
                }
                Err(_) => {
                    shared.counters.untold.fetch_add(1, Relaxed);
                }
            }
            image.found(content);
        }
        // Full: it rings already.
        let _ = job.bell.try_send(());
    }
}

/// File systems that answer when somebody else does (`linux/magic.h`): FUSE, NFS, CIFS, SMB 2,
/// 9P, Ceph, AFS.
const NOT_LOCAL: [u32; 7] =
    [0x6573_5546, 0x6969, 0xff53_4d42, 0xfe53_4d42, 0x0102_1997, 0x00c3_6400, 0x5346_414f];

fn sum(process: &Process, largest: u64) -> Result<Sum, Untold> {
    let image = &process.image;
    if NOT_LOCAL.contains(&image.magic) {
        return Err(Untold::NotLocal);
    }
    if image.size > largest {
        return Err(Untold::TooLarge);
    }
    let mut why = Untold::Vanished;
    for path in places(process) {
        match open(&path, image) {
            Ok(mut file) => match read(&mut file, image) {
                Ok(sum) => return Ok(sum),
                Err(reason) => why = reason,
            },
            Err(Untold::Vanished) => {}
            Err(reason) => why = reason,
        }
    }
    Err(why)
}

/// The process itself has the very file, while it runs; else its path, as the process or who is
/// left of its parents in the same mount namespace sees it.
fn places(process: &Process) -> Vec<PathBuf> {
    let image = &process.image;
    let mut places = vec![PathBuf::from(format!("/proc/{}/exe", process.pid()))];
    let path = image.exe.as_str();
    if image.exe.raw().is_some() || !path.starts_with('/') {
        return places;
    }
    let mount = process.namespaces.mnt;
    for one in process.lineage().filter(|one| one.namespaces.mnt == mount && one.end().is_none()) {
        places.push(PathBuf::from(format!("/proc/{}/root{path}", one.pid())));
    }
    places.push(PathBuf::from(path));
    places
}

/// Opened first without touching it: what has the name now may be a device or a pipe, and opening
/// one of those does something.
fn open(path: &Path, image: &Image) -> Result<File, Untold> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => Untold::Vanished,
        _ if error.raw_os_error() == Some(libc::ESRCH) => Untold::Vanished,
        _ => Untold::Unreadable,
    };
    let place = File::options()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_CLOEXEC)
        .open(path)
        .map_err(failed)?;
    same(&place.metadata().map_err(failed)?, image)?;
    let held = format!("/proc/self/fd/{}", place.as_raw_fd());
    let flags = libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
    File::options().read(true).custom_flags(flags).open(held).map_err(failed)
}

/// Whether it is the file that was executed, unchanged. Overlay and btrfs give user space devices
/// (overlay: inodes) of their own making; their times are the file's.
fn same(file: &Metadata, image: &Image) -> Result<(), Untold> {
    let ns = |seconds: i64, ns: i64| seconds.unsigned_abs() * 1_000_000_000 + ns.unsigned_abs();
    let anonymous = libc::major(image.dev) == 0;
    let overlay = image.traits.has(crate::state::Trait::Overlay);
    let is = file.is_file()
        && (overlay || file.ino() == image.inode)
        && (anonymous || file.dev() == image.dev)
        && file.size() == image.size
        && ns(file.mtime(), file.mtime_nsec()) == image.mtime_ns;
    if is { Ok(()) } else { Err(Untold::Changed) }
}

fn read(file: &mut File, image: &Image) -> Result<Sum, Untold> {
    let mut hasher = Sha256::new();
    let mut block = vec![0; 256 << 10];
    let mut left = image.size;
    loop {
        match file.read(&mut block) {
            Ok(0) => break,
            // It grows while it is read: as large as it was is as far as we go.
            Ok(length) if length as u64 > left => return Err(Untold::Changed),
            Ok(length) => {
                left -= length as u64;
                hasher.update(&block[..length]);
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return Err(Untold::Unreadable),
        }
    }
    same(&file.metadata().map_err(|_| Untold::Unreadable)?, image)?;
    Ok(Sum(hasher.finalize().into()))
}
