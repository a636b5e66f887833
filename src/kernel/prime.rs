//! What was there before us: processes with their lineage, and whose the open sockets are.
//!
//! Run once, after the hooks are attached: whatever begins meanwhile is told by both, under the
//! same identity, and nothing falls between. The iterator gives exact start times, credentials
//! and namespaces; paths and arguments come from /proc, where they are whole.

use std::fs;
use std::io::Read as _;
use std::mem::size_of;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use anyhow::{Context, Result};
use libbpf_rs::Iter;
use plain::Plain;

use super::clock::Clock;
use super::load::Kernel;
use super::types::prime_task;
use crate::event::TaskKey;
use crate::plugins::execution::{describe, split, written};
use crate::state::processes::bounded_parent;
use crate::state::traits::is_tmpfile_name;
use crate::state::{Creds, Image, Process, Trait, World};
use crate::text::Text;

/// Fills the tree; returns how many processes there were.
pub fn processes(kernel: &Kernel, world: &World) -> Result<usize> {
    let link = kernel.skel.progs.prime_tasks.attach().context("cannot attach the task iterator")?;
    let mut bytes = Vec::new();
    Iter::new(&link)?.read_to_end(&mut bytes).context("cannot read the task iterator")?;
    let mut tasks: Vec<prime_task> = bytes
        .chunks_exact(size_of::<prime_task>())
        .filter_map(|chunk| {
            let mut task = prime_task::default();
            task.copy_from_bytes(chunk).ok().map(|()| task)
        })
        .collect();
    // Parents first; pid 1 and kthreadd began at the same nanosecond as nothing else.
    tasks.sort_unstable_by_key(|task| (task.task.start_ns, task.task.tgid));
    let clock = Clock::now();
    for task in &tasks {
        insert(task, world, &clock);
    }
    Ok(tasks.len())
}

fn insert(task: &prime_task, world: &World, clock: &Clock) {
    let key = task.task.into();
    let parent = (task.parent.tgid != 0 && task.parent.tgid != task.task.tgid)
        .then(|| known_or_asked(world, task.parent.into()))
        .map(bounded_parent);
    let process = describe(key, &task.row, clock);
    let process = world.processes.insert(Process {
        parent,
        image: Arc::new(image(key.tgid, task.row.image_ns, clock)),
        cwd: link(key.tgid, "cwd"),
        ..process
    });
    world.containers.place(&process);
}

/// The process of an exact identity: from the tree, else from /proc. Some kernels keep tasks out
/// of the iterator (pid 1 on one that was met); their children still name them exactly.
pub fn known_or_asked(world: &World, key: TaskKey) -> Arc<Process> {
    if let Some(known) = world.processes.get(key) {
        return known;
    }
    let status = fs::read_to_string(format!("/proc/{}/status", key.tgid)).unwrap_or_default();
    let numbers = |field: &str| -> Vec<u32> {
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
        line.split_whitespace().filter_map(|word| word.parse().ok()).collect()
    };
    let (uids, gids) = (numbers("Uid:"), numbers("Gid:"));
    let at = |ids: &[u32], place: usize| ids.get(place).copied().unwrap_or_default();
    let name = status.lines().next().and_then(|line| line.strip_prefix("Name:\t"));
    world.processes.insert(Process {
        key,
        ppid: at(&numbers("PPid:"), 0),
        start: Some(Clock::now().at(key.start_ns)),
        creds: Creds {
            uid: at(&uids, 0),
            euid: at(&uids, 1),
            gid: at(&gids, 0),
            egid: at(&gids, 1),
            ..Creds::default()
        },
        image: Arc::new(image(key.tgid, 0, &Clock::now())),
        cwd: link(key.tgid, "cwd"),
        comm: name.unwrap_or_default().into(),
        ..Process::default()
    })
}

fn link(pid: u32, name: &str) -> Text {
    let target = fs::read_link(format!("/proc/{pid}/{name}")).unwrap_or_default();
    Text::new(target.as_os_str().as_bytes())
}

/// A kernel thread has neither executable nor arguments; so has who ended while we looked.
fn image(pid: u32, image_ns: u64, clock: &Clock) -> Image {
    let mut exe = link(pid, "exe");
    let deleted = exe.as_str().ends_with(" (deleted)");
    if let Some(path) = exe.bytes().strip_suffix(b" (deleted)") {
        exe = Text::new(path);
    }
    let args = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let file = fs::metadata(format!("/proc/{pid}/exe")).ok();
    let memfd = exe.as_str().starts_with("/memfd:");
    let tmpfile = deleted && is_tmpfile_name(&exe);
    let traits = [
        (Trait::Memfd, memfd),
        (Trait::Tmpfile, tmpfile),
        (Trait::Deleted, deleted && !memfd && !tmpfile),
    ];
    let mut image = Image {
        exe,
        args: split(&args),
        args_length: args.len() as u32,
        traits: traits.into_iter().collect(),
        ..Image::default()
    };
    if let Some(file) = file {
        let ns = |seconds: i64, ns: i64| seconds.unsigned_abs() * 1_000_000_000 + ns.unsigned_abs();
        image.dev = file.dev();
        image.inode = file.ino();
        image.mode = file.mode();
        image.uid = file.uid();
        image.gid = file.gid();
        image.size = file.size();
        image.links = file.nlink() as u32;
        image.mtime_ns = ns(file.mtime(), file.mtime_nsec());
        image.ctime_ns = ns(file.ctime(), file.ctime_nsec());
        image.written = written(image.ctime_ns, image_ns, clock);
    }
    image
}

/// Gives open sockets their owners: the iterator writes them down, there is nothing to read.
pub fn sockets(kernel: &Kernel) -> Result<()> {
    let link =
        kernel.skel.progs.prime_sockets.attach().context("cannot attach the file iterator")?;
    let mut nothing = Vec::new();
    Iter::new(&link)?.read_to_end(&mut nothing).context("cannot read the file iterator")?;
    Ok(())
}
