//! Containers, known by their cgroups.
//!
//! The kernel tells each cgroup as it is made, with its path; the path says which runtime made
//! a container of it and under which id. Names and images come later, from the runtimes' own
//! files (see `lookup.rs`): an alert waits for them for a fraction of a second at most.

mod cgroup_path;
mod files;
mod lookup;

use std::collections::VecDeque;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Instant;

use ahash::AHashMap;
use crossbeam_channel::Sender;
use serde_json::{Value, json};

pub use cgroup_path::{Found, Runtime, parse};
pub use lookup::{Ask, made_by, start as start_lookups};

use super::Process;
use crate::text::Text;

/// Levels between a process's cgroup and that of its container: systemd in a container makes few.
const DEPTH: usize = 64;
/// The initial pid namespace has this number on every kernel (`PROC_PID_INIT_INO`).
const HOST_PIDS: u32 = 0xEFFF_FFFC;

/// One run of one container.
#[derive(Debug)]
pub struct Container {
    /// As the runtime has it: 64 hex digits, or a name.
    pub id: Arc<str>,
    /// What the cgroup's path says; [`Details::runtime`] knows better.
    pub runtime: Runtime,
    pub pod_uid: Option<Arc<str>>,
    /// Path of its cgroup in its hierarchy.
    pub cgroup: Text,
    /// The user in whose part of the cgroup tree it is: a rootless runtime, or one who pretends.
    pub user: Option<u32>,
    details: OnceLock<Arc<Details>>,
    namespace: OnceLock<u32>,
    started: AtomicBool,
    stopped: AtomicBool,
}

/// What a runtime's files say of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    pub name: Option<String>,
    pub image: Option<String>,
    pub runtime: Option<Runtime>,
    pub pod_name: Option<String>,
    pub pod_namespace: Option<String>,
    pub pod_uid: Option<String>,
}

impl Container {
    pub fn new(found: Found, cgroup: &str) -> Self {
        Self {
            id: found.id.into(),
            runtime: found.runtime,
            pod_uid: found.pod_uid.map(Into::into),
            cgroup: cgroup.into(),
            user: found.user,
            details: OnceLock::new(),
            namespace: OnceLock::new(),
            started: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
        }
    }

    /// None until the runtime's files have been read, or looked for in vain.
    pub fn details(&self) -> Option<&Arc<Details>> {
        self.details.get()
    }

    pub fn runtime(&self) -> Runtime {
        self.details().and_then(|details| details.runtime).unwrap_or(self.runtime)
    }

    /// A text of the details.
    pub fn detail(&self, of: impl Fn(&Details) -> &Option<String>) -> Option<&str> {
        self.details().and_then(|details| of(details).as_deref())
    }

    pub fn pod_uid(&self) -> Option<&str> {
        self.pod_uid.as_deref().or_else(|| self.detail(|details| &details.pod_uid))
    }

    /// True once.
    pub fn starts(&self) -> bool {
        !self.started.swap(true, Relaxed)
    }

    pub fn set_details(&self, details: Details) {
        let _ = self.details.set(Arc::new(details));
    }
}

#[derive(Debug, Default)]
struct Node {
    parent: u64,
    container: Option<Arc<Container>>,
}

#[derive(Debug, Default)]
struct State {
    cgroups: AHashMap<u64, Node>,
    /// Removed ones, oldest first: facts about their processes may still be in other journals.
    gone: VecDeque<u64>,
    /// Those that run, by user and id: one has a cgroup in each hierarchy.
    running: AHashMap<(Option<u32>, Arc<str>), Arc<Container>>,
    by_namespace: AHashMap<u32, Arc<Container>>,
}

/// See the module.
#[derive(Debug)]
pub struct Containers {
    state: RwLock<State>,
    /// Grows with each change that somebody may wait for.
    changes: Mutex<u64>,
    changed: Condvar,
    capacity: usize,
    /// Mount namespaces that are no container's: pid 1's and our own.
    host_mounts: [u32; 2],
    asks: OnceLock<Sender<Ask>>,
    unplaced: AtomicU64,
    unasked: AtomicU64,
    pub(crate) unnamed: AtomicU64,
    pub(crate) unreadable: AtomicU64,
}

/// A cgroup as it is made, or found at start.
#[derive(Debug)]
pub struct Made<'a> {
    pub id: u64,
    /// 0: not known.
    pub parent: u64,
    pub path: &'a str,
    /// What its maker says of it, for paths that say nothing.
    pub by_maker: Option<Found>,
    /// The bundle that its maker was told of.
    pub bundle: Option<std::path::PathBuf>,
}

impl Containers {
    /// Keeps at most `capacity` cgroups, a quarter of them after their end.
    pub fn new(capacity: usize) -> Self {
        // That of pid 1 cannot be asked for everywhere; ours is the host's then.
        let host = ["/proc/1/ns/mnt", "/proc/self/ns/mnt"]
            .map(|link| std::fs::metadata(link).map(|file| file.ino() as u32).unwrap_or_default());
        Self {
            state: RwLock::default(),
            changes: Mutex::default(),
            changed: Condvar::new(),
            capacity: capacity.max(16),
            host_mounts: host,
            asks: OnceLock::new(),
            unplaced: AtomicU64::new(0),
            unasked: AtomicU64::new(0),
            unnamed: AtomicU64::new(0),
            unreadable: AtomicU64::new(0),
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a cgroup; the container, if it is the first cgroup of one.
    pub fn made(&self, made: Made<'_>) -> Option<Arc<Container>> {
        let own = parse(made.path).or(made.by_maker);
        let mut state = self.write();
        // Below a container everything is the container's, whatever it is called there.
        let inside = state.of(made.parent).is_some();
        let mut fresh = None;
        let mut node = Node { parent: made.parent, container: None };
        if let Some(found) = own.filter(|_| !inside) {
            let key = (found.user, Arc::from(found.id.as_str()));
            let container = state.running.entry(key).or_insert_with(|| {
                let container = Arc::new(Container::new(found, made.path));
                fresh = Some(Arc::clone(&container));
                container
            });
            node.container = Some(Arc::clone(container));
        }
        if state.cgroups.len() >= self.capacity && !state.forget() {
            self.unplaced.fetch_add(1, Relaxed);
        } else {
            state.cgroups.insert(made.id, node);
        }
        drop(state);
        if let Some(container) = &fresh {
            self.ask(Ask { container: Arc::clone(container), bundle: made.bundle });
        }
        self.tell();
        fresh
    }

    fn ask(&self, ask: Ask) {
        // A full queue means that files are slow: the container stays without a name.
        if self.asks.get().is_none_or(|asks| asks.try_send(ask).is_err()) {
            self.unasked.fetch_add(1, Relaxed);
        }
    }

    /// A cgroup is gone; its container, if that ends with it.
    pub fn removed(&self, id: u64) -> Option<Arc<Container>> {
        let mut state = self.write();
        let container = state.cgroups.get(&id)?.container.clone();
        state.gone.push_back(id);
        while state.gone.len() > self.capacity / 4 {
            state.forget();
        }
        let container = container?;
        if container.stopped.swap(true, Relaxed) {
            return None;
        }
        state.running.remove(&(container.user, Arc::clone(&container.id)));
        if let Some(namespace) = container.namespace.get() {
            state.by_namespace.remove(namespace);
        }
        Some(container)
    }

    /// The container of a task by its cgroups or its mount namespace, whichever tells first.
    pub fn of(&self, cgroup: u64, cgroup1: u64, ns_mnt: u32) -> Option<Arc<Container>> {
        let state = self.read();
        let by_cgroup = state.of(cgroup).or_else(|| state.of(cgroup1));
        by_cgroup.or_else(|| state.by_namespace.get(&ns_mnt)).cloned()
    }

    /// Whether a mount namespace is not the host's.
    pub fn is_own_namespace(&self, ns_mnt: u32) -> bool {
        ns_mnt != 0 && !self.host_mounts.contains(&ns_mnt)
    }

    /// Says of a process which container it is in, if that is known by now; for good.
    pub fn place(&self, process: &Process) {
        if process.container.get().is_some() {
            return;
        }
        let spaces = process.namespaces;
        let found = self.of(process.cgroup, process.cgroup1, spaces.mnt).or_else(|| {
            // Who moves himself out of the container's cgroup is still in its pid namespace.
            let parent = process.parent.as_ref()?;
            let inside = spaces.pid == parent.namespaces.pid && spaces.pid != HOST_PIDS;
            parent.container().filter(|_| inside && spaces.pid != 0).cloned()
        });
        let Some(container) = found else { return };
        if self.is_own_namespace(spaces.mnt) && container.namespace.set(spaces.mnt).is_ok() {
            let mut state = self.write();
            // The number of an ended namespace is soon another's.
            if !container.stopped.load(Relaxed) {
                state.by_namespace.insert(spaces.mnt, Arc::clone(&container));
            }
        }
        let _ = process.container.set(container);
    }

    /// Places a process and its lineage, and waits until `until` for what is under way: a cgroup
    /// that the kernel has rung for, the files of a new container.
    pub fn settle(&self, process: &Process, until: Instant) {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            process.lineage().collect::<Vec<_>>().iter().rev().for_each(|one| self.place(one));
            let known = match process.container() {
                Some(container) => container.details().is_some() || self.asks.get().is_none(),
                None => self.knows(process.cgroup) && self.knows(process.cgroup1),
            };
            let left = until.saturating_duration_since(Instant::now());
            if known || left.is_zero() {
                break;
            }
            let woken = self.changed.wait_timeout(changes, left);
            changes = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(changes);
        // In a hierarchy that cannot be seen from here: not to be waited for again.
        for id in [process.cgroup, process.cgroup1] {
            if !self.knows(id) {
                self.write().cgroups.entry(id).or_default();
            }
        }
    }

    /// Waits until `until` for the files of a container.
    pub fn settle_details(&self, container: &Container, until: Instant) {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        while container.details().is_none() && self.asks.get().is_some() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let woken = self.changed.wait_timeout(changes, left);
            changes = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn knows(&self, cgroup: u64) -> bool {
        cgroup == 0 || self.read().cgroups.contains_key(&cgroup)
    }

    /// Wakes who waits in [`Self::settle`].
    pub fn tell(&self) {
        *self.changes.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.changed.notify_all();
    }

    /// For `raqib status`.
    pub fn json(&self) -> Value {
        let state = self.read();
        json!({
            "running": state.running.len(),
            "cgroups": state.cgroups.len(),
            "unplaced": self.unplaced.load(Relaxed),
            "unasked": self.unasked.load(Relaxed),
            "unnamed": self.unnamed.load(Relaxed),
            "unreadable": self.unreadable.load(Relaxed),
        })
    }
}

impl State {
    fn of(&self, cgroup: u64) -> Option<&Arc<Container>> {
        let mut node = self.cgroups.get(&cgroup)?;
        for _ in 0..DEPTH {
            if node.container.is_some() {
                return node.container.as_ref();
            }
            node = self.cgroups.get(&node.parent)?;
        }
        None
    }

    /// Makes room by the oldest of the removed cgroups.
    fn forget(&mut self) -> bool {
        self.gone.pop_front().is_some_and(|id| self.cgroups.remove(&id).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(id: u64, parent: u64, path: &str) -> Made<'_> {
        Made { id, parent, path, by_maker: None, bundle: None }
    }

    fn process(cgroup: u64, mnt: u32, pid: u32) -> Process {
        let namespaces = crate::state::Namespaces { mnt, pid, ..Default::default() };
        Process { cgroup, namespaces, ..Process::default() }
    }

    #[test]
    fn nested_cgroups_are_their_containers_and_others_nobodys() {
        let containers = Containers::new(100);
        let id = "ab".repeat(32);
        assert!(containers.made(made(1, 0, "/")).is_none());
        assert!(containers.made(made(2, 1, "/docker")).is_none());
        let path = format!("/docker/{id}");
        let first = containers.made(made(3, 2, &path)).unwrap();
        assert_eq!((&*first.id, first.runtime), (id.as_str(), Runtime::Docker));
        assert!(containers.made(made(3 | 5 << 48, 0, &path)).is_none(), "another hierarchy's");
        // What is made inside may be called anything.
        let inner = format!("{path}/docker/{}", "cd".repeat(32));
        assert!(containers.made(made(4, 3, &inner)).is_none());
        assert_eq!(containers.of(4, 0, 0).unwrap().id, first.id);
        assert_eq!(containers.of(1, 3 | 5 << 48, 0).unwrap().id, first.id);
        assert!(containers.of(2, 0, 0).is_none() && containers.of(99, 0, 0).is_none());
        assert!(containers.removed(3).is_some() && containers.removed(3 | 5 << 48).is_none());
        assert!(containers.of(3, 0, 0).is_some(), "facts of its last moments are still to come");
        assert!(containers.made(made(9, 2, &path)).is_some(), "it runs again");
    }

    #[test]
    fn who_enters_by_namespace_or_leaves_the_cgroup_is_still_inside() {
        let containers = Containers::new(100);
        containers.made(made(3, 0, &format!("/docker/{}", "ab".repeat(32))));
        let inside = Arc::new(process(3, 77, 78));
        containers.place(&inside);
        assert!(inside.container().is_some());
        let entered = process(1, 77, HOST_PIDS);
        containers.place(&entered);
        assert!(entered.container().is_some());
        let left = Process { parent: Some(inside), ..process(1, 79, 78) };
        containers.place(&left);
        assert!(left.container().is_some());
        let outside = process(1, 80, HOST_PIDS);
        containers.place(&outside);
        assert!(outside.container().is_none());
        // A runtime's first process is in the cgroup, and still in the host's namespaces.
        let ours = std::fs::metadata("/proc/self/ns/mnt").unwrap().ino() as u32;
        let containers = Containers::new(100);
        containers.made(made(3, 0, &format!("/docker/{}", "ab".repeat(32))));
        let (runtime, host) = (process(3, ours, HOST_PIDS), process(1, ours, HOST_PIDS));
        containers.place(&runtime);
        containers.place(&host);
        assert!(runtime.container().is_some() && host.container().is_none());
        // Told only after its end: its namespace's number may be somebody else's by now.
        containers.removed(3);
        let (late, next) = (process(3, 91, 92), process(1, 91, HOST_PIDS));
        containers.place(&late);
        containers.place(&next);
        assert!(late.container().is_some() && next.container().is_none());
    }

    #[test]
    fn cgroups_without_end_are_bounded() {
        let containers = Containers::new(16);
        for id in 1..1000 {
            containers.made(made(id, 0, &format!("/docker/{id:064x}")));
        }
        assert!(containers.json()["cgroups"].as_u64() <= Some(16));
        assert_eq!(containers.json()["unplaced"], 983);
    }
}
