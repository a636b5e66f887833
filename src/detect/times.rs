//! `times`: how often a recipe may fire per executable, process, lineage or in total.
//!
//! Limits hold together: an alert needs every counter below its maximum, and only then do all of
//! them count it. One event counts once, however many repeats the kernel merged into it.
//!
//! Counters are kept by a keyed hash, at most [`KEYS_MAX`] for each limit. Beyond that the key
//! that came first is forgotten, and fires again: who floods us with new keys gets more alerts,
//! never silence.

use std::collections::VecDeque;

use ahash::{AHashMap, RandomState};

use crate::state::Process;

use super::fields::Fields;
use super::sheet::Sheet;

/// Counters for one limit: 64 KiB of keys, more executables than a host has at work.
pub const KEYS_MAX: usize = 4096;

/// What a counter belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Exe,
    ParentExe,
    Process,
    ParentProcess,
    Cmd,
    Total,
    FullAncestry,
    Host,
}

/// The names of scopes.
const SCOPES: &[(&str, Scope)] = &[
    ("times_per_exe", Scope::Exe),
    ("times_per_parent_exe", Scope::ParentExe),
    ("times_per_proc", Scope::Process),
    ("times_per_parent_proc", Scope::ParentProcess),
    ("times_per_cmd", Scope::Cmd),
    ("times_in_total", Scope::Total),
    ("times_per_full_ancestry", Scope::FullAncestry),
    ("times_per_hostname", Scope::Host),
    ("times_per_host", Scope::Host),
];

impl Scope {
    const fn noun(self) -> &'static str {
        match self {
            Self::Exe => "this executable",
            Self::ParentExe => "this parent executable",
            Self::Process => "this process",
            Self::ParentProcess => "this parent process",
            Self::Cmd => "this command",
            Self::Total => "this detection",
            Self::FullAncestry => "the same ancestry",
            Self::Host => "this host",
        }
    }

    fn key(self, process: &Process, hasher: &RandomState) -> u64 {
        let parent = process.parent.as_deref();
        match self {
            Self::Exe => hasher.hash_one(process.exe()),
            Self::ParentExe => hasher.hash_one(parent.map_or("", Process::exe)),
            // The process, whatever images it runs.
            Self::Process => hasher.hash_one((process.key.tgid, process.key.start_ns)),
            Self::ParentProcess => match parent {
                Some(parent) => hasher.hash_one((parent.key.tgid, parent.key.start_ns)),
                None => hasher.hash_one((process.ppid, 0_u64)),
            },
            Self::Cmd => hasher.hash_one(process.cmd()),
            Self::Total | Self::Host => 0,
            Self::FullAncestry => {
                let exes: Vec<&str> = process.lineage().map(Process::exe).collect();
                hasher.hash_one(exes)
            }
        }
    }
}

/// One entry of `times`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    pub scope: Scope,
    pub max: u64,
}

/// Reads the limits of a recipe.
pub(super) fn read(sheet: &mut Sheet, fields: &mut Fields<'_>) -> Vec<Limit> {
    let Some(node) = fields.take("times") else { return Vec::new() };
    let key = fields.key("times");
    let mut limits = Vec::new();
    for (at, node) in sheet.items(node, &key).iter().enumerate() {
        let Some(mut fields) = Fields::new(sheet, node, &format!("{key}[{at}]")) else { continue };
        let scope = match fields.required(sheet, "kind") {
            Some(node) => sheet.word(node, &fields.key("kind"), SCOPES),
            None => None,
        };
        let max: Option<u64> = match fields.required(sheet, "max") {
            Some(node) => sheet.parsed(node, &fields.key("max"), "a whole number"),
            None => None,
        };
        if max == Some(0) {
            let message = "a maximum of 0 never fires; use `enabled: false`";
            fields.wrong(sheet, "max", message);
        }
        limits.extend(scope.zip(max).map(|(scope, max)| Limit { scope, max }));
        fields.finish(sheet);
    }
    limits
}

/// The counters of one recipe.
#[derive(Debug, Default)]
pub struct Times {
    counters: Vec<Counter>,
}

#[derive(Debug, Default)]
struct Counter {
    counts: AHashMap<u64, u64>,
    /// Keys by age.
    order: VecDeque<u64>,
}

impl Times {
    /// Whether the recipe may fire once more; if so it is counted. The text says which limits
    /// this one was the last for.
    pub fn allow(
        &mut self,
        limits: &[Limit],
        process: &Process,
        hasher: &RandomState,
    ) -> Option<Option<String>> {
        self.counters.resize_with(limits.len(), Counter::default);
        let keys: Vec<u64> = limits.iter().map(|limit| limit.scope.key(process, hasher)).collect();
        let all = || limits.iter().zip(&keys);
        let full = |((limit, key), counter): ((&Limit, &u64), &Counter)| {
            counter.counts.get(key).copied().unwrap_or(0) >= limit.max
        };
        if all().zip(&self.counters).any(full) {
            return None;
        }
        let mut notes = Vec::new();
        for ((limit, key), counter) in all().zip(&mut self.counters) {
            if counter.add(*key) >= limit.max {
                notes.push(format!("Last {} for {}.", limit.max, limit.scope.noun()));
            }
        }
        Some((!notes.is_empty()).then(|| notes.join(" ")))
    }
}

impl Counter {
    fn add(&mut self, key: u64) -> u64 {
        if let Some(count) = self.counts.get_mut(&key) {
            *count += 1;
            return *count;
        }
        if self.counts.len() >= KEYS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.counts.remove(&oldest);
        }
        self.counts.insert(key, 1);
        self.order.push_back(key);
        1
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::TaskKey;
    use crate::state::Image;

    fn process(pid: u32, exe: &str) -> Process {
        Process {
            key: TaskKey { tgid: pid, start_ns: 1, exec_id: 1 },
            image: Arc::new(Image { exe: exe.into(), ..Image::default() }),
            ..Process::default()
        }
    }

    #[test]
    fn all_limits_hold_together_and_the_last_says_so() {
        let limits = [Limit { scope: Scope::Process, max: 1 }, Limit { scope: Scope::Exe, max: 2 }];
        let (mut times, hasher) = (Times::default(), RandomState::new());
        let mut allow = |pid| times.allow(&limits, &process(pid, "/bin/a"), &hasher);
        assert_eq!(allow(1), Some(Some("Last 1 for this process.".into())));
        assert_eq!(allow(1), None);
        let both = "Last 1 for this process. Last 2 for this executable.";
        assert_eq!(allow(2), Some(Some(both.into())), "a refused event counts nowhere");
        assert_eq!(allow(3), None);
    }

    #[test]
    fn memory_is_bounded_and_forgetting_fires_again() {
        let limits = [Limit { scope: Scope::Process, max: 1 }];
        let (mut times, hasher) = (Times::default(), RandomState::new());
        for pid in 0..(KEYS_MAX as u32 * 3) {
            assert!(times.allow(&limits, &process(pid, "/bin/a"), &hasher).is_some());
        }
        assert_eq!(times.counters[0].counts.len(), KEYS_MAX);
        assert_eq!(times.counters[0].order.len(), KEYS_MAX);
        assert!(times.allow(&limits, &process(0, "/bin/a"), &hasher).is_some());
    }
}
