//! Forks, executions and ends: feeds the process tree, and tells of each executed image.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ahash::AHashMap;
use anyhow::Result;
use serde_json::{Value, json};

use super::{Plugin, Prepared, Spec, entries};
use crate::config::Config;
use crate::event::{Actions, Body, Event, FILE_ACTIONS, File, Mechanism, TaskKey};
use crate::journal::{Read, Sealed, Table};
use crate::kernel::clock::Clock;
use crate::kernel::load::{Kernel, handle};
use crate::kernel::prime::known_or_asked;
use crate::kernel::types::{
    exec_event, exec_flags, exec_row, file_action, file_flags, journal_id, node_key, path_node,
    task_key, text_key, text_kind, text_row,
};
use crate::state::process::bounded_text;
use crate::state::processes::bounded_parent;
use crate::state::traits::is_tmpfile_name;
use crate::state::{
    Creds, Image, Namespaces, Paths, Process, Stdio, Trait, Traits, World, Written,
};
use crate::text::Text;

pub const SPEC: Spec = Spec {
    mechanism: Mechanism::Execution,
    journal: journal_id::J_EXECUTION.0,
    cadence: |cadences| cadences.execution,
    always: true,
    reads_after: None,
    prepare,
};

#[derive(Debug)]
struct Tables {
    rows: Table<task_key, exec_row>,
    texts: Table<text_key, text_row>,
    nodes: Table<node_key, path_node>,
}

fn prepare(kernel: &Kernel, config: &Config, world: &Arc<World>) -> Result<Prepared> {
    let maps = &kernel.skel.maps;
    let caches = &config.caches;
    let (rows, texts) = (entries(caches.tasks), entries(caches.args));
    let nodes = entries(caches.dirs + caches.bases) / 4;
    let tables = Arc::new(Tables {
        rows: Table::create(&handle(&maps.exec_rows)?, 0, "rq_exec", rows)?,
        texts: Table::create(&handle(&maps.exec_texts)?, 0, "rq_exec_text", texts)?,
        nodes: Table::create(&handle(&maps.nodes)?, SPEC.journal * 2, "rq_exec_path", nodes)?,
    });
    let (world, paths) = (Arc::clone(world), entries(caches.files) as usize / 4);
    Ok(Prepared {
        store: kernel.store(&maps.exec_rows)?,
        rows,
        texts: texts.min(nodes),
        build: Box::new(move || {
            let (tables, world) = (Arc::clone(&tables), Arc::clone(&world));
            Ok(Box::new(Execution { tables, world, paths: Paths::new(paths) }))
        }),
    })
}

struct Execution {
    tables: Arc<Tables>,
    world: Arc<World>,
    paths: Paths,
}

type Chunks = AHashMap<(TaskKey, u32), Vec<(u32, text_row)>>;

impl Plugin for Execution {
    fn read(&mut self, sealed: &Sealed, out: &mut dyn FnMut(Event)) -> Result<Read> {
        let mut read = Read::default();
        let mut chunks = Chunks::new();
        let mut rows: Vec<(TaskKey, exec_row)> = Vec::with_capacity(sealed.rows as usize);
        let paths = &mut self.paths;
        self.tables.nodes.drain(sealed, |key, node| paths.add(key, node))?;
        self.tables.texts.drain(sealed, |key, row| {
            chunks.entry((key.task.into(), key.kind)).or_default().push((key.chunk, *row));
        })?;
        read.rows = self.tables.rows.drain(sealed, |key, row| {
            read.events += row.counts.iter().map(|count| u64::from(*count)).sum::<u64>();
            rows.push(((*key).into(), *row));
        })?;
        // An epoch has no order of its own; a parent must be known before its child.
        rows.sort_unstable_by_key(|(_, row)| began(row));
        for (key, row) in &rows {
            self.apply(*key, row, &chunks, &sealed.clock, out);
        }
        self.paths.end_epoch();
        Ok(read)
    }

    fn query(&self, pid: u32) -> Value {
        let images = self.world.processes.by_pid(pid);
        images
            .iter()
            .map(|image| {
                json!({
                    "exec_id": image.key.exec_id,
                    "start_ns": image.key.start_ns,
                    "exe": image.exe(),
                    "args": image.args(),
                    "ppid": image.ppid,
                    "lineage": image.lineage().map(Process::pid).collect::<Vec<_>>(),
                    "children": image.children(),
                    "child_execs": image.child_execs(),
                    "ended": image.end().is_some(),
                })
            })
            .collect()
    }
}

fn began(row: &exec_row) -> u64 {
    [row.fork_ns, row.exec_ns, row.exit_ns].into_iter().find(|ns| *ns != 0).unwrap_or(0)
}

impl Execution {
    fn apply(
        &mut self,
        key: TaskKey,
        row: &exec_row,
        chunks: &Chunks,
        clock: &Clock,
        out: &mut dyn FnMut(Event),
    ) {
        if row.counts[exec_event::EX_FORK.0 as usize] > 0 {
            self.forked(key, row, clock);
        }
        if row.counts[exec_event::EX_EXEC.0 as usize] > 0 {
            out(self.executed(key, row, chunks, clock));
        }
        if row.counts[exec_event::EX_EXIT.0 as usize] > 0 {
            if let Some(process) = self.world.processes.get(key) {
                process.ended(clock.at(row.exit_ns), row.exit_status as i32);
            }
            self.world.processes.end(key);
        }
    }

    fn forked(&self, key: TaskKey, row: &exec_row, clock: &Clock) {
        let processes = &self.world.processes;
        let parent = known_or_asked(&self.world, row.parent.into());
        parent.count_child();
        // The start may have told of it already, with what /proc knew.
        if processes.knows(key) {
            return;
        }
        let process = processes.insert(Process {
            image: Arc::clone(&parent.image),
            previous: Some(Arc::clone(&parent.image)),
            cwd: parent.cwd.clone(),
            parent: Some(bounded_parent(parent)),
            ..describe(key, row, clock)
        });
        self.world.containers.place(&process);
    }

    fn executed(&mut self, key: TaskKey, row: &exec_row, chunks: &Chunks, clock: &Clock) -> Event {
        let processes = &self.world.processes;
        let before = TaskKey { exec_id: key.exec_id.wrapping_sub(1), ..key };
        let before = processes.get(before).or_else(|| processes.by_pid(row.ppid).pop());
        let parent = match &before {
            Some(before) if before.key.tgid == key.tgid => before.parent.clone(),
            // Its fork was not seen: its parent then is who its parent is now.
            other => other.clone().map(bounded_parent),
        };
        if let Some(parent) = &parent {
            // The tree's own parent, not a stand-in with a shortened lineage.
            processes.get(parent.key).as_ref().unwrap_or(parent).count_child_exec();
        }
        let path = self.paths.get(row.exe_path);
        if path.fresh && !path.truncated {
            let file = (device(row.exe_dev), row.exe_inode);
            self.world.files_mut().saw(file, &path.text, false);
        }
        let mut image = Image {
            exe: path.text.clone(),
            dev: device(row.exe_dev),
            inode: row.exe_inode,
            mode: row.exe_mode,
            uid: row.exe_uid,
            gid: row.exe_gid,
            size: row.exe_size,
            links: row.exe_nlink,
            mtime_ns: row.exe_mtime_ns,
            ctime_ns: row.exe_ctime_ns,
            magic: row.exe_magic,
            written: written(row.exe_ctime_ns, row.image_ns, clock),
            stdio: Stdio::of(row),
            ..texts(key, row, chunks)
        };
        image.traits = traits(row, &image);
        let image = Arc::new(image);
        let previous = before.filter(|before| before.key.tgid == key.tgid);
        let process = processes.insert(Process {
            parent,
            previous: previous.map(|before| Arc::clone(&before.image)),
            image: Arc::clone(&image),
            exec: Some(clock.at(row.exec_ns)),
            cwd: self.paths.get(row.cwd_path).text,
            ..describe(key, row, clock)
        });
        self.world.containers.place(&process);
        let at = clock.at(row.exec_ns);
        let body = Body::File(executable(&image, path.truncated));
        Event { mechanism: Mechanism::Execution, task: key, count: 1, first: at, last: at, body }
    }
}

/// Whether a file was changed since the system that a process runs in has started: the machine,
/// or the first process of its pid namespace (`image_ns`, 0 in the initial one).
pub(crate) fn written(ctime_ns: u64, image_ns: u64, clock: &Clock) -> Written {
    let since = |ns: u64| {
        let start = clock.at(ns).duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Duration::from_nanos(ctime_ns) > start
    };
    match image_ns {
        0 if since(0) => Written::Boot,
        0 => Written::No,
        start if since(start) => Written::Image,
        _ => Written::No,
    }
}

/// File systems whose files memfd_create makes: a dentry without a parent on any other one was
/// opened by handle.
const TMPFS: u32 = 0x0102_1994;
const HUGETLBFS: u32 = 0x9584_58f6;

fn traits(row: &exec_row, image: &Image) -> Traits {
    let at = |flag: file_flags| row.exe_flags & flag.0 != 0;
    let was = |flag: exec_flags| row.exec_flags & flag.0 != 0;
    let nameless = at(file_flags::FILE_MEMFD);
    let memory = [TMPFS, HUGETLBFS].contains(&row.exe_magic);
    let deleted = at(file_flags::FILE_DELETED);
    let tmpfile = deleted && is_tmpfile_name(&image.exe);
    [
        (Trait::Memfd, nameless && memory),
        (Trait::Detached, nameless && !memory),
        (Trait::Tmpfile, tmpfile),
        (Trait::Deleted, deleted && !tmpfile),
        (Trait::Overlay, at(file_flags::FILE_OVERLAY)),
        (Trait::UpperLayer, was(exec_flags::EXEC_UPPER_LAYER)),
        (Trait::Setuid, was(exec_flags::EXEC_SETUID)),
        (Trait::Setgid, was(exec_flags::EXEC_SETGID)),
        (Trait::FileCaps, was(exec_flags::EXEC_FILE_CAPS)),
        (Trait::Secure, was(exec_flags::EXEC_SECURE)),
        (Trait::BinfmtMisc, was(exec_flags::EXEC_BINFMT_MISC)),
        (Trait::CwdDeleted, was(exec_flags::EXEC_CWD_DELETED)),
        (Trait::Argv0Differs, image.argv0_differs()),
    ]
    .into_iter()
    .collect()
}

/// The kernel's dev_t (12 bits of major, 20 of minor) as user space writes it.
pub(super) fn device(dev: u32) -> u64 {
    libc::makedev(dev >> 20, dev & 0xf_ffff)
}

fn executable(image: &Image, truncated: bool) -> File {
    let execve = file_action::FA_EXECVE.0;
    let mut counts = [0; FILE_ACTIONS.len()];
    counts[execve as usize] = 1;
    File {
        path: image.exe.clone(),
        actions: Actions(1 << execve),
        history: Actions(1 << execve),
        counts,
        dev: image.dev,
        inode: image.inode,
        mode: image.mode,
        uid: image.uid,
        gid: image.gid,
        size: image.size,
        deleted: image.traits.has(Trait::Deleted),
        anonymous: image.traits.has(Trait::Memfd) || image.traits.has(Trait::Tmpfile),
        overlay: image.traits.has(Trait::Overlay),
        by_name: false,
        truncated,
        names: Vec::new(),
    }
}

/// What a row says of any task; texts and relations are the caller's.
pub(crate) fn describe(key: TaskKey, row: &exec_row, clock: &Clock) -> Process {
    Process {
        key,
        ppid: row.ppid,
        start: Some(clock.at(key.start_ns)),
        creds: Creds {
            uid: row.uid,
            gid: row.gid,
            euid: row.euid,
            egid: row.egid,
            cap_effective: row.cap_effective,
            cap_permitted: row.cap_permitted,
            cap_inheritable: row.cap_inheritable,
            loginuid: row.loginuid,
            sessionid: row.sessionid,
        },
        namespaces: Namespaces {
            mnt: row.ns_mnt,
            pid: row.ns_pid,
            uts: row.ns_uts,
            ipc: row.ns_ipc,
            net: row.ns_net,
            cgroup: row.ns_cgroup,
            user: row.ns_user,
        },
        cgroup: row.cgroup,
        cgroup1: row.cgroup1,
        tty: bounded_text(&row.tty),
        comm: bounded_text(&row.comm),
        ..Process::default()
    }
}

/// Arguments, script and interpreter out of their chunks.
fn texts(key: TaskKey, row: &exec_row, chunks: &Chunks) -> Image {
    let join = |kind: text_kind| -> Vec<u8> {
        let mut found = chunks.get(&(key, kind.0)).cloned().unwrap_or_default();
        found.sort_unstable_by_key(|(chunk, _)| *chunk);
        if kind == text_kind::TEXT_ARGS_TAIL {
            found.reverse();
        }
        let kept = |text: &text_row| (text.length as usize).min(text.bytes.len());
        found.iter().flat_map(|(_, text)| text.bytes[..kept(text)].to_vec()).collect()
    };
    let head = join(text_kind::TEXT_ARGS);
    let tail = join(text_kind::TEXT_ARGS_TAIL);
    let truncated = head.len() + tail.len() < row.args_length as usize;
    let args = if truncated {
        let mut args = split(&head);
        args.extend(split(&tail));
        args
    } else {
        split(&[head, tail].concat())
    };
    let pathname = Text::new(&join(text_kind::TEXT_PATHNAME));
    let script = row.exec_flags & exec_flags::EXEC_SCRIPT.0 != 0;
    Image {
        args,
        args_length: row.args_length,
        args_truncated: truncated,
        script: script.then(|| pathname.clone()),
        interpreter: script.then(|| Text::new(&join(text_kind::TEXT_INTERPRETER))),
        pathname,
        ..Image::default()
    }
}

/// NUL-terminated arguments, the last of which may have lost its end.
pub(crate) fn split(block: &[u8]) -> Vec<Text> {
    let block = block.strip_suffix(&[0]).unwrap_or(block);
    if block.is_empty() {
        return Vec::new();
    }
    block.split(|byte| *byte == 0).map(Text::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(length: usize, fill: u8) -> text_row {
        text_row { length: length as u32, pad: 0, bytes: [fill; 248] }
    }

    #[test]
    fn empty_arguments_are_arguments() {
        let shown = |block: &[u8]| {
            split(block).iter().map(|arg| arg.as_str().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(shown(b"ls\0-l\0\0"), ["ls", "-l", ""]);
        assert_eq!(shown(b""), Vec::<String>::new());
    }

    #[test]
    fn a_long_list_keeps_head_and_tail_and_says_so() {
        let key = TaskKey::default();
        let mut chunks = Chunks::new();
        chunks.insert(
            (key, text_kind::TEXT_ARGS.0),
            vec![(1, chunk(248, b'b')), (0, chunk(248, b'a'))],
        );
        chunks.insert(
            (key, text_kind::TEXT_ARGS_TAIL.0),
            vec![(0, chunk(10, b'z')), (1, chunk(248, b'y'))],
        );
        let row = exec_row { args_length: 10_000, ..exec_row::default() };
        let image = texts(key, &row, &chunks);
        assert!(image.args_truncated);
        assert_eq!(image.args.len(), 2);
        assert!(
            image.args[0].as_str().starts_with("aaa") && image.args[0].as_str().ends_with("bbb")
        );
        assert!(
            image.args[1].as_str().starts_with("yyy") && image.args[1].as_str().ends_with("zzz")
        );
        let whole = exec_row { args_length: 754, ..exec_row::default() };
        assert!(!texts(key, &whole, &chunks).args_truncated);
    }

    #[test]
    fn devices_are_as_stat_gives_them() {
        assert_eq!(device(254 << 20 | 3), libc::makedev(254, 3));
    }
}
