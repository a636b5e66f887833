//! A bounded map that forgets what has not been used for longest, roughly.
//!
//! Two generations: entries live in the young one; when it is full it becomes the old one, and
//! what is used again comes back. Every operation is one or two hash look-ups, and memory never
//! exceeds twice the generation.

use std::hash::Hash;
use std::mem;

use ahash::AHashMap;

#[derive(Debug)]
pub struct Recent<K, V> {
    young: AHashMap<K, V>,
    old: AHashMap<K, V>,
    generation: usize,
}

impl<K: Hash + Eq + Clone, V> Recent<K, V> {
    /// Keeps between half of `capacity` and `capacity` entries.
    pub fn new(capacity: usize) -> Self {
        Self { young: AHashMap::new(), old: AHashMap::new(), generation: (capacity / 2).max(16) }
    }

    /// The entry, if it is there; it counts as used.
    pub fn get(&mut self, key: &K) -> Option<&mut V> {
        if !self.young.contains_key(key) {
            let value = self.old.remove(key)?;
            self.insert(key.clone(), value);
        }
        self.young.get_mut(key)
    }

    pub fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.generation {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    /// The entry, made if it is not there.
    pub fn entry(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        if !self.young.contains_key(&key) {
            let value = self.old.remove(&key).unwrap_or_default();
            self.insert(key.clone(), value);
        }
        self.young.entry(key).or_default()
    }

    /// The entry without counting as used: for readers that share the map.
    pub fn peek(&self, key: &K) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    pub fn contains(&self, key: &K) -> bool {
        self.young.contains_key(key) || self.old.contains_key(key)
    }

    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.young.remove(key).or_else(|| self.old.remove(key))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.young.iter().chain(&self.old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_is_bounded() {
        let mut recent: Recent<u32, u32> = Recent::new(100);
        for at in 0..10_000 {
            *recent.entry(7) += 1;
            recent.entry(at + 100);
        }
        assert_eq!(*recent.entry(7), 10_000);
        assert!(recent.iter().count() <= 100);
        assert!(!recent.contains(&100));
    }
}
