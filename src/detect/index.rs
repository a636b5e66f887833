//! From a path to the recipes whose places it is in.
//!
//! Exact files, directories and base names are hash look-ups; only regular expressions are tried
//! one by one. Paths come again, epoch after epoch, so the answer is cached with the path: most
//! file events cost one look-up that says "no recipe".

use ahash::AHashMap;

use crate::event::Actions;

use super::actions::ActionRule;
use super::files::{FilePlace, FileRule, split};

/// Paths per generation of the cache, and their bytes. Two generations exist: at worst the cache
/// holds 8 MiB of paths, and long paths made to flood it only shorten its memory.
const CACHE_PATHS: usize = 32 * 1024;
const CACHE_BYTES: usize = 4 << 20;

/// Recipes (by number) that look at files, found by path.
#[derive(Debug, Default)]
pub(super) struct FileIndex {
    exact: AHashMap<Box<str>, Vec<usize>>,
    dirs: AHashMap<Box<str>, Vec<usize>>,
    bases: AHashMap<Box<str>, Vec<usize>>,
    /// Places with a regular expression: rule and place.
    regexes: Vec<(usize, usize)>,
    anywhere: Vec<usize>,
    /// The number of each recipe in the rule set, and what it wants done.
    rules: Vec<(usize, ActionRule)>,
    /// All actions that any recipe wants.
    wanted: u32,
    cache: PathCache,
}

impl FileIndex {
    pub fn new<'r>(rules: impl Iterator<Item = (usize, &'r FileRule)>) -> Self {
        let mut index = Self::default();
        for (number, rule) in rules {
            let at = index.rules.len();
            index.rules.push((number, rule.actions));
            // Zero means that any action will do, even none.
            index.wanted |= if rule.actions.want.0 == 0 { u32::MAX } else { rule.actions.want.0 };
            if rule.places.is_empty() {
                index.anywhere.push(at);
            }
            for (place_at, place) in rule.places.iter().enumerate() {
                index.add(at, place_at, place);
            }
        }
        index
    }

    fn add(&mut self, at: usize, place_at: usize, place: &FilePlace) {
        match (&place.regex, &place.dir, &place.base) {
            (Some(_), ..) => self.regexes.push((at, place_at)),
            (None, Some(dir), Some(base)) => {
                self.exact.entry(format!("{dir}/{base}").into()).or_default().push(at);
            }
            (None, Some(dir), None) => self.dirs.entry(dir.clone()).or_default().push(at),
            (None, None, Some(base)) => self.bases.entry(base.clone()).or_default().push(at),
            (None, None, None) => self.anywhere.push(at),
        }
    }

    /// Adds the numbers of the recipes that match path and actions (those of the epoch, and all
    /// so far). `rule_of` gives back the rule
    /// of a number, for places that need more than a look-up.
    pub fn candidates<'r>(
        &mut self,
        path: &str,
        (actions, history): (Actions, Actions),
        rule_of: impl Fn(usize) -> Option<&'r FileRule>,
        out: &mut Vec<usize>,
    ) {
        if actions.0 & self.wanted == 0 && self.wanted != u32::MAX {
            return;
        }
        let rules = &self.rules;
        let mut emit = |found: &[u32]| {
            for at in found {
                if let Some((number, rule)) = rules.get(*at as usize)
                    && rule.matches_with(actions, history)
                    && !out.contains(number)
                {
                    out.push(*number);
                }
            }
        };
        if let Some(found) = self.cache.get(path) {
            emit(found);
            return;
        }
        let found = self.look_up(path, rule_of);
        emit(&found);
        self.cache.insert(path, found);
    }

    /// All rules with a place that has the path, whatever the actions.
    fn look_up<'r>(
        &self,
        path: &str,
        rule_of: impl Fn(usize) -> Option<&'r FileRule>,
    ) -> Box<[u32]> {
        let (dir, base) = split(path);
        let mut found = self.anywhere.clone();
        let by_dir = dir.and_then(|dir| self.dirs.get(dir));
        let sets = [self.exact.get(path), by_dir, self.bases.get(base)];
        found.extend(sets.into_iter().flatten().flatten());
        for (at, place_at) in &self.regexes {
            // One place is enough; the next ones need not be tried.
            if found.last() == Some(at) {
                continue;
            }
            let rule = self.rules.get(*at).and_then(|(number, _)| rule_of(*number));
            if rule.and_then(|rule| rule.places.get(*place_at)).is_some_and(|p| p.matches(path)) {
                found.push(*at);
            }
        }
        found.sort_unstable();
        found.dedup();
        found.into_iter().filter_map(|at| u32::try_from(at).ok()).collect()
    }
}

/// Two generations: when the young one is full it becomes the old one, and what is asked for
/// again moves back. This is LRU at the cost of a plain map.
#[derive(Debug, Default)]
struct PathCache {
    young: AHashMap<Box<str>, Box<[u32]>>,
    old: AHashMap<Box<str>, Box<[u32]>>,
    bytes: usize,
}

impl PathCache {
    fn get(&mut self, path: &str) -> Option<&[u32]> {
        if !self.old.is_empty()
            && !self.young.contains_key(path)
            && let Some((path, found)) = self.old.remove_entry(path)
        {
            self.insert_entry(path, found);
        }
        self.young.get(path).map(|found| &**found)
    }

    fn insert(&mut self, path: &str, found: Box<[u32]>) {
        self.insert_entry(path.into(), found);
    }

    fn insert_entry(&mut self, path: Box<str>, found: Box<[u32]>) {
        if self.young.len() >= CACHE_PATHS || self.bytes + path.len() > CACHE_BYTES {
            self.old = std::mem::take(&mut self.young);
            self.bytes = 0;
        }
        self.bytes += path.len();
        self.young.insert(path, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_bounded_and_keeps_what_is_used() {
        let mut cache = PathCache::default();
        cache.insert("/used", Box::new([7]));
        for n in 0..CACHE_PATHS * 5 {
            cache.insert(&format!("/{n}"), Box::new([]));
            assert_eq!(cache.get("/used"), Some(&[7][..]));
        }
        assert!(cache.young.len() <= CACHE_PATHS && cache.old.len() <= CACHE_PATHS);
        assert!(cache.get("/0").is_none());
        let long = "x".repeat(4000);
        for n in 0..10_000 {
            cache.insert(&format!("/{long}/{n}"), Box::new([]));
            assert!(cache.bytes <= CACHE_BYTES);
        }
    }
}
