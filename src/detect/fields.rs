//! Reads the fields of a mapping and says everything that is wrong with them.
//!
//! Each reader takes the fields that it knows by name; what nobody took is unknown, and the
//! names that were asked for are the ones to suggest. So no list of field names exists beside
//! the code that reads them.

use crate::problem::Problem;

use super::pattern::{FILE_MAX, Pattern};
use super::yaml::{Key, Node, Value};

/// Mistakes of one file that are listed: a file of a million wrong lines must not become a
/// million messages.
const SAID_MAX: usize = 500;
const NOT_SAID: usize = SAID_MAX + 1;

/// What one file may still spend, and the mistakes found in it.
pub(crate) struct Sheet {
    pub file: String,
    pub problems: Vec<Problem>,
    /// How many there are, said or not.
    pub mistakes: usize,
    /// Doubtful, but understood: the recipe is loaded all the same.
    pub notices: Vec<Problem>,
    patterns: usize,
}

impl Sheet {
    pub fn new(file: &str) -> Self {
        Self {
            file: file.into(),
            problems: Vec::new(),
            mistakes: 0,
            notices: Vec::new(),
            patterns: FILE_MAX,
        }
    }

    pub fn wrong(&mut self, line: usize, key: &str, message: impl Into<String>) {
        self.mistakes += 1;
        match self.mistakes {
            ..=SAID_MAX => self.problems.push(self.problem(line, key, message.into())),
            NOT_SAID => {
                let message = format!("more than {SAID_MAX} mistakes; the others are not listed");
                self.problems.push(self.problem(line, "", message));
            }
            _ => {}
        }
    }

    pub fn doubtful(&mut self, line: usize, key: &str, message: impl Into<String>) {
        if self.notices.len() < SAID_MAX {
            self.notices.push(self.problem(line, key, message.into()));
        }
    }

    fn problem(&self, line: usize, key: &str, message: String) -> Problem {
        Problem { file: self.file.clone(), line, key: key.into(), message }
    }

    pub fn pattern(&mut self, node: &Node, key: &str) -> Option<Pattern> {
        let text = self.text(node, key)?;
        match Pattern::compile(text, &mut self.patterns) {
            Ok(pattern) => Some(pattern),
            Err(message) => {
                self.wrong(node.line, key, message);
                None
            }
        }
    }

    pub fn text<'n>(&mut self, node: &'n Node, key: &str) -> Option<&'n str> {
        match &node.value {
            Value::Scalar(text) => Some(text),
            _ => {
                self.wrong(node.line, key, format!("expected one value, found {}", node.kind()));
                None
            }
        }
    }

    /// A value that `T` can parse; `expected` says what that is.
    pub fn parsed<T: std::str::FromStr>(
        &mut self,
        node: &Node,
        key: &str,
        expected: &str,
    ) -> Option<T> {
        let text = self.text(node, key)?;
        let value = text.trim().parse().ok();
        if value.is_none() {
            self.wrong(node.line, key, format!("expected {expected}, found `{}`", clip(text)));
        }
        value
    }

    /// One word of a table, its value returned.
    pub fn word<T: Copy>(&mut self, node: &Node, key: &str, table: &[(&str, T)]) -> Option<T> {
        let text = self.text(node, key)?;
        self.word_of(text, node.line, key, table)
    }

    fn word_of<T: Copy>(
        &mut self,
        text: &str,
        line: usize,
        key: &str,
        table: &[(&str, T)],
    ) -> Option<T> {
        let wanted = text.trim().to_ascii_lowercase();
        let found = table.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
            let expected = match closest(&wanted, names.iter().copied()) {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("expected {}", one_of(&names)),
            };
            self.wrong(line, key, format!("unknown value `{}`; {expected}", clip(text)));
        }
        found
    }

    /// A list, one value, or words joined by `|`, each a word of the table.
    pub fn words<T: Copy>(&mut self, node: &Node, key: &str, table: &[(&str, T)]) -> Vec<T> {
        let mut found = Vec::new();
        for (at, (line, text)) in self.texts(node, key).into_iter().enumerate() {
            let key = item_key(node, key, at);
            for word in text.split('|').map(str::trim).filter(|word| !word.is_empty()) {
                found.extend(self.word_of(word, line, &key, table));
            }
        }
        found
    }

    /// A list of texts, or one text, with their lines. Empty ones are left out.
    pub fn texts<'n>(&mut self, node: &'n Node, key: &str) -> Vec<(usize, &'n str)> {
        let items = match &node.value {
            Value::List(items) => items.as_slice(),
            _ => std::slice::from_ref(node),
        };
        let mut texts = Vec::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            match &item.value {
                Value::Scalar(text) if text.is_empty() => {}
                Value::Null => {}
                Value::Scalar(text) => texts.push((item.line, text.as_str())),
                _ => {
                    let key = item_key(node, key, at);
                    self.wrong(item.line, &key, format!("expected text, found {}", item.kind()));
                }
            }
        }
        texts
    }

    /// The items of a list.
    pub fn items<'n>(&mut self, node: &'n Node, key: &str) -> &'n [Node] {
        match &node.value {
            Value::List(items) => items,
            _ => {
                self.wrong(node.line, key, format!("expected a list, found {}", node.kind()));
                &[]
            }
        }
    }
}

fn item_key(node: &Node, key: &str, at: usize) -> String {
    if matches!(node.value, Value::List(_)) { format!("{key}[{at}]") } else { key.into() }
}

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

/// At most 60 characters of a text from a file, for a message on one line.
pub(crate) fn clip(text: &str) -> String {
    let mut short: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if text.chars().nth(60).is_some() {
        short.push('…');
    }
    short
}

pub(crate) fn one_of(names: &[&str]) -> String {
    match names {
        [one] => format!("`{one}`"),
        _ if names.len() > 24 => format!("one of {} names (see docs/recipes.md)", names.len()),
        _ => format!("one of {}", names.join(", ")),
    }
}

/// The known name that was probably meant: at most a third of its letters differ.
pub(crate) fn closest<'k>(text: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    if text.len() > 60 {
        return None;
    }
    known
        .map(|name| (distance(text, name), name))
        .filter(|(distance, name)| *distance <= name.len().max(3) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Letters to insert, remove, replace or swap with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let replace = row[j] + usize::from(x != y);
            let mut best = replace.min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                best = best.min(before[j - 1] + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_name_is_suggested() {
        let known = ["file_actions", "file_actions_excl", "base", "bases"];
        assert_eq!(closest("file_action", known.into_iter()), Some("file_actions"));
        assert_eq!(closest("bsae", known.into_iter()), Some("base"));
        assert_eq!(closest("bas", known.into_iter()), Some("base"));
        assert_eq!(closest("colour", known.into_iter()), None);
    }
}
