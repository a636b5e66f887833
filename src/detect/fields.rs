//! Reads the fields of a mapping and says everything that is wrong with them.
//!
//! Each reader takes the fields that it knows by name; what nobody took is unknown, and the
//! names that were asked for are the ones to suggest. So no list of field names exists beside
//! the code that reads them.

use super::pattern::Pattern;
use super::sheet::Sheet;
use super::words::{clip, closest};
use super::yaml::{Key, Node, Value};

/// The fields of one mapping, taken one by one.
pub(crate) struct Fields<'n> {
    entries: &'n [(Key, Node)],
    taken: Vec<bool>,
    known: Vec<&'static str>,
    /// Where the mapping is, for messages (`[0].bases[1]`).
    at: String,
    pub line: usize,
}

impl<'n> Fields<'n> {
    pub fn new(sheet: &mut Sheet, node: &'n Node, at: &str) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            sheet.wrong(node.line, at, format!("expected a mapping, found {}", node.kind()));
            return None;
        };
        let fields = Self {
            entries,
            taken: vec![false; entries.len()],
            known: Vec::new(),
            at: at.into(),
            line: node.line,
        };
        let mut seen = ahash::AHashSet::new();
        for (key, _) in entries {
            if !seen.insert(key.name.as_str()) {
                sheet.wrong(key.line, &fields.key(&key.name), "this field is given twice");
            }
        }
        Some(fields)
    }

    /// The dotted path of a field.
    pub fn key(&self, name: &str) -> String {
        let name = clip(name);
        if self.at.is_empty() { name } else { format!("{}.{name}", self.at) }
    }

    /// The line of a field, or of the mapping where the field is absent.
    pub fn line_of(&self, name: &str) -> usize {
        let entry = self.entries.iter().find(|(key, _)| key.name == name);
        entry.map_or(self.line, |(key, _)| key.line)
    }

    /// Says what is wrong with a field, or that it should be there.
    pub fn wrong(&self, sheet: &mut Sheet, name: &str, message: impl Into<String>) {
        sheet.wrong(self.line_of(name), &self.key(name), message);
    }

    /// Whether the mapping has the field, without taking it.
    pub fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|(key, _)| key.name == name)
    }

    /// A field; none when it is absent or has no value.
    pub fn take(&mut self, name: &'static str) -> Option<&'n Node> {
        self.known.push(name);
        let mut found = None;
        for ((key, node), taken) in self.entries.iter().zip(&mut self.taken) {
            if key.name == name {
                *taken = true;
                found.get_or_insert(node);
            }
        }
        found.filter(|node| !matches!(node.value, Value::Null))
    }

    /// The first of several names for one thing, with the name that was used.
    pub fn take_any(&mut self, names: &[&'static str]) -> Option<(&'static str, &'n Node)> {
        let mut found = None;
        for name in names {
            if let Some(node) = self.take(name)
                && found.is_none()
            {
                found = Some((*name, node));
            }
        }
        found
    }

    pub fn text(&mut self, sheet: &mut Sheet, name: &'static str) -> Option<&'n str> {
        let node = self.take(name)?;
        sheet.text(node, &self.key(name)).filter(|text| !text.is_empty())
    }

    pub fn required(&mut self, sheet: &mut Sheet, name: &'static str) -> Option<&'n Node> {
        let node = self.take(name);
        if node.is_none() {
            self.wrong(sheet, name, "this field is missing");
        }
        node
    }

    pub fn parsed<T: std::str::FromStr>(
        &mut self,
        sheet: &mut Sheet,
        name: &'static str,
        expected: &str,
    ) -> Option<T> {
        let node = self.take(name)?;
        sheet.parsed(node, &self.key(name), expected)
    }

    pub fn word<T: Copy>(
        &mut self,
        sheet: &mut Sheet,
        name: &'static str,
        table: &[(&str, T)],
    ) -> Option<T> {
        let node = self.take(name)?;
        sheet.word(node, &self.key(name), table)
    }

    pub fn words<T: Copy>(
        &mut self,
        sheet: &mut Sheet,
        name: &'static str,
        table: &[(&str, T)],
    ) -> Option<Vec<T>> {
        let node = self.take(name)?;
        Some(sheet.words(node, &self.key(name), table))
    }

    pub fn texts(&mut self, sheet: &mut Sheet, name: &'static str) -> Vec<(usize, &'n str)> {
        match self.take(name) {
            Some(node) => sheet.texts(node, &self.key(name)),
            None => Vec::new(),
        }
    }

    pub fn pattern(&mut self, sheet: &mut Sheet, name: &'static str) -> Option<Pattern> {
        let node = self.take(name)?;
        sheet.pattern(node, &self.key(name))
    }

    /// Reports what nobody took.
    pub fn finish(self, sheet: &mut Sheet) {
        for ((key, _), taken) in self.entries.iter().zip(&self.taken) {
            if *taken {
                continue;
            }
            let hint = match closest(&key.name, self.known.iter().copied()) {
                Some(name) => format!("; did you mean `{name}`?"),
                None => String::new(),
            };
            sheet.wrong(key.line, &self.key(&key.name), format!("unknown field{hint}"));
        }
    }
}
