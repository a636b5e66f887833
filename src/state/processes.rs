//! The process tree: every image that is alive, and those that ended not long ago.
//!
//! One writer (the execution plugin, once for each sealed epoch), many readers (a look-up for
//! each event that may match a recipe). The lock is never held while a kernel is asked or an
//! alert is built, and not taken for the events that nobody wants.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock};

use ahash::AHashMap;

use super::process::{LINEAGE_MAX, Process};
use crate::event::TaskKey;

/// Images kept of one process: its last few. A shell's `exec` chain is two or three long; a
/// process that executes itself for ever must not fill the memory.
const IMAGES_MAX: usize = 8;

/// Oldest links kept when a lineage grows beyond [`LINEAGE_MAX`].
const OLDEST_KEPT: usize = 8;

type Pid = (u64, u32);

#[derive(Debug, Default)]
struct Tree {
    /// By (start time, tgid): the images in order of their exec ids.
    processes: AHashMap<Pid, Vec<Arc<Process>>>,
    /// By tgid: the processes that had it, newest last.
    by_tgid: AHashMap<u32, Vec<u64>>,
    /// Ended processes, oldest first.
    ended: VecDeque<Pid>,
}

/// See the module.
#[derive(Debug)]
pub struct Processes {
    tree: RwLock<Tree>,
    ended_max: usize,
    alive_max: usize,
}

fn pid(key: TaskKey) -> Pid {
    (key.start_ns, key.tgid)
}

impl Processes {
    /// Keeps `ended_max` processes after their end, and at most `alive_max` in all.
    pub fn new(ended_max: usize, alive_max: usize) -> Self {
        Self { tree: RwLock::default(), ended_max, alive_max }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Tree> {
        self.tree.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Tree> {
        self.tree.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The image itself, or the last known one before it.
    pub fn get(&self, key: TaskKey) -> Option<Arc<Process>> {
        let tree = self.read();
        let images = tree.processes.get(&pid(key))?;
        let at = images.partition_point(|image| image.key.exec_id <= key.exec_id);
        images.get(at.saturating_sub(1)).cloned()
    }

    /// Exactly that image.
    pub fn knows(&self, key: TaskKey) -> bool {
        self.get(key).is_some_and(|image| image.key == key)
    }

    /// Every image known under a tgid, oldest first.
    pub fn by_pid(&self, tgid: u32) -> Vec<Arc<Process>> {
        let tree = self.read();
        let starts = tree.by_tgid.get(&tgid).cloned().unwrap_or_default();
        starts
            .into_iter()
            .filter_map(|start| tree.processes.get(&(start, tgid)))
            .flatten()
            .cloned()
            .collect()
    }

    /// The last images of those that fit and have not ended.
    pub fn running(&self, fits: impl Fn(&Process) -> bool) -> Vec<Arc<Process>> {
        let tree = self.read();
        let last = tree.processes.values().filter_map(|images| images.last());
        last.filter(|image| image.end().is_none() && fits(image)).cloned().collect()
    }

    pub fn len(&self) -> usize {
        self.read().processes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds an image, or replaces what was known of it (the start says less than the kernel).
    pub fn insert(&self, process: Process) -> Arc<Process> {
        let process = Arc::new(process);
        let key = process.key;
        let mut tree = self.write();
        let images = tree.processes.entry(pid(key)).or_default();
        let fresh = images.is_empty();
        match images.binary_search_by_key(&key.exec_id, |image| image.key.exec_id) {
            Ok(at) => images[at] = Arc::clone(&process),
            Err(at) => images.insert(at, Arc::clone(&process)),
        }
        if images.len() > IMAGES_MAX {
            images.remove(0);
        }
        if fresh {
            tree.by_tgid.entry(key.tgid).or_default().push(key.start_ns);
        }
        tree.bound(self.ended_max, self.alive_max);
        process
    }

    /// The process ended: it is kept for as long as there is room, since facts about it may
    /// still be in other journals.
    pub fn end(&self, key: TaskKey) {
        let mut tree = self.write();
        if tree.processes.contains_key(&pid(key)) {
            tree.ended.push_back(pid(key));
            tree.bound(self.ended_max, self.alive_max);
        }
    }
}

impl Tree {
    fn bound(&mut self, ended_max: usize, alive_max: usize) {
        while self.ended.len() > ended_max || self.processes.len() > alive_max {
            let Some(oldest) = self.ended.pop_front() else { return };
            self.processes.remove(&oldest);
            if let Some(starts) = self.by_tgid.get_mut(&oldest.1) {
                starts.retain(|start| *start != oldest.0);
                if starts.is_empty() {
                    self.by_tgid.remove(&oldest.1);
                }
            }
        }
    }
}

/// `parent`, or a stand-in for it whose own lineage is short enough for one more generation:
/// the oldest links stay, the middle is left out.
pub fn bounded_parent(parent: Arc<Process>) -> Arc<Process> {
    if parent.lineage().count() < LINEAGE_MAX {
        return parent;
    }
    let mut chain: Vec<Arc<Process>> = Vec::with_capacity(LINEAGE_MAX);
    let mut next = parent.parent.clone();
    while let Some(ancestor) = next {
        next = ancestor.parent.clone();
        chain.push(ancestor);
    }
    let oldest = chain.get(chain.len().saturating_sub(OLDEST_KEPT)).cloned();
    Arc::new(parent.with_parent(oldest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(start_ns: u64, tgid: u32, exec_id: u32) -> TaskKey {
        TaskKey { start_ns, tgid, exec_id }
    }

    fn process(start_ns: u64, tgid: u32, exec_id: u32) -> Process {
        Process { key: key(start_ns, tgid, exec_id), ..Process::default() }
    }

    #[test]
    fn an_image_is_found_by_its_exec_id_and_a_pid_may_come_again() {
        let processes = Processes::new(10, 100);
        for image in [process(1, 7, 3), process(1, 7, 4), process(9, 7, 2)] {
            processes.insert(image);
        }
        assert_eq!(processes.get(key(1, 7, 3)).unwrap().key.exec_id, 3);
        assert_eq!(processes.get(key(1, 7, 9)).unwrap().key.exec_id, 4);
        assert_eq!(processes.get(key(9, 7, 2)).unwrap().key.start_ns, 9);
        assert!(!processes.knows(key(1, 7, 9)));
        assert_eq!(processes.by_pid(7).len(), 3);
    }

    #[test]
    fn ended_processes_leave_when_the_room_is_needed() {
        let processes = Processes::new(2, 100);
        for at in 1..=5 {
            processes.insert(process(at, at as u32, 0));
            processes.end(key(at, at as u32, 0));
        }
        assert_eq!(processes.len(), 2);
        assert!(processes.get(key(5, 5, 0)).is_some());
        assert!(processes.by_pid(1).is_empty());
    }

    #[test]
    fn a_lineage_stays_bounded_and_keeps_its_oldest() {
        let mut parent = Arc::new(process(1, 1, 0));
        for at in 2..2000u32 {
            let mut child = process(u64::from(at), at, 0);
            child.parent = Some(bounded_parent(parent));
            parent = Arc::new(child);
        }
        let pids: Vec<u32> = parent.lineage().map(Process::pid).collect();
        assert!(pids.len() <= LINEAGE_MAX, "{}", pids.len());
        assert_eq!(pids.first(), Some(&1999));
        assert_eq!(pids.last(), Some(&1));
    }
}
