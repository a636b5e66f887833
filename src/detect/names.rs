//! Sets of domain names.

use std::collections::BTreeSet;

use ahash::AHashSet;

/// How a set of names matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameMatch {
    /// The name itself.
    Exact,
    /// The name and all names below it, by label: `a.io` has `x.a.io` but not `ba.io`.
    Suffix,
    /// Names that start with the text.
    Prefix,
}

/// The names of the ways to match.
pub(super) const NAME_MATCHES: &[(&str, NameMatch)] =
    &[("exact", NameMatch::Exact), ("suffix", NameMatch::Suffix), ("prefix", NameMatch::Prefix)];

/// Names with one way to match; a look-up costs the labels of the name, not the size of the set.
#[derive(Debug)]
pub struct NameSet {
    how: NameMatch,
    names: AHashSet<Box<str>>,
    /// Lengths that occur, for prefixes.
    lengths: BTreeSet<usize>,
}

impl NameSet {
    pub fn new(how: NameMatch) -> Self {
        Self { how, names: AHashSet::new(), lengths: BTreeSet::new() }
    }

    pub fn len(&self) -> usize {
        self.names.len()
    }

    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Adds a name as a recipe writes it.
    pub(super) fn insert(&mut self, text: &str) -> Result<(), String> {
        let lower = text.trim().trim_end_matches('.').to_ascii_lowercase();
        let name = match self.how {
            NameMatch::Suffix => lower.trim_start_matches("*.").trim_start_matches('.'),
            NameMatch::Exact | NameMatch::Prefix => lower.as_str(),
        };
        if name.is_empty() || name.len() > 253 {
            return Err("expected a domain name of 1 to 253 characters".into());
        }
        if name.contains(['*', '/', ' ', ':']) {
            let text = super::words::clip(text);
            return Err(format!(
                "`{text}` is no domain name; for all names below one, write it with \
                 `remote_domains_type: suffix`"
            ));
        }
        self.lengths.insert(name.len());
        self.names.insert(name.into());
        Ok(())
    }

    /// `name` is lower case without a trailing dot, as events have it.
    pub fn contains(&self, name: &str) -> bool {
        match self.how {
            NameMatch::Exact => self.names.contains(name),
            NameMatch::Suffix => {
                let mut rest = name;
                loop {
                    if self.names.contains(rest) {
                        return true;
                    }
                    match rest.split_once('.') {
                        Some((_, parent)) => rest = parent,
                        None => return false,
                    }
                }
            }
            NameMatch::Prefix => self
                .lengths
                .range(..=name.len())
                .any(|length| name.get(..*length).is_some_and(|head| self.names.contains(head))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(how: NameMatch, names: &[&str]) -> NameSet {
        let mut set = NameSet::new(how);
        for name in names {
            set.insert(name).expect("a name");
        }
        set
    }

    #[test]
    fn the_three_ways() {
        let exact = set(NameMatch::Exact, &["A.example."]);
        assert!(exact.contains("a.example") && !exact.contains("b.a.example"));
        let suffix = set(NameMatch::Suffix, &["a.example", "*.b.example"]);
        assert!(suffix.contains("a.example") && suffix.contains("x.y.a.example"));
        assert!(suffix.contains("z.b.example") && !suffix.contains("ba.example"));
        let prefix = set(NameMatch::Prefix, &["pool.", "xmr"]);
        assert!(prefix.contains("pool.example") && prefix.contains("xmr.example"));
        assert!(!prefix.contains("my.pool.example") && !prefix.contains("xm"));
    }

    #[test]
    fn what_is_no_name() {
        let mut set = NameSet::new(NameMatch::Exact);
        assert!(set.insert("*.a.example").is_err() && set.insert("").is_err());
        assert!(set.insert("https://a.example/x").is_err());
    }
}
