//! A tree of YAML against the table of keys: fills a [`Config`], collects every mistake.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use saphyr::ScalarOwned as Scalar;

use super::keys::{Field, KEYS, Key, LONGEST_PATH, SECONDS, SECTIONS, Shape};
use super::names::{Known, names};
use super::suggest::{elsewhere, nearest, normal};
use super::yaml::{self, Entry, Node, Value};
use super::{Config, LogLevel, legacy};
use crate::problem::Problem;

/// Characters of the user's text that a message repeats.
const SHOWN: usize = 60;
/// Names that a message lists at most.
const LISTED: usize = 20;

/// Reads, translates, checks.
pub(super) fn config(file: &str, text: &str) -> Result<Config, Vec<Problem>> {
    let mut check = Check { file, config: Config::default(), problems: Vec::new() };
    match yaml::read(text) {
        Err(broken) => check.problem(broken.line, "", broken.message),
        Ok(None) => {}
        Ok(Some(mut root)) => {
            check.config.translated = legacy::translate(&mut root);
            check.section("", &root);
        }
    }
    if check.problems.is_empty() {
        return Ok(check.config);
    }
    check.problems.sort_by_key(|problem| problem.line);
    Err(check.problems)
}

struct Check<'a> {
    file: &'a str,
    config: Config,
    problems: Vec<Problem>,
}

impl Check<'_> {
    fn problem(&mut self, line: usize, key: &str, message: String) {
        let (file, key) = (self.file.into(), key.into());
        self.problems.push(Problem { file, line, key, message });
    }

    /// A map whose keys begin with `prefix`; null is an empty one.
    fn section(&mut self, prefix: &str, node: &Node) {
        let entries = match &node.value {
            Value::Map(entries) => entries,
            Value::Scalar(Scalar::Null) => return,
            other => {
                let message = format!("{}; expected a map of keys", found(other));
                return self.problem(node.line, prefix, message);
            }
        };
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for entry in entries {
            let path = normal(&join(prefix, &entry.key));
            if let Some(first) = seen.insert(path.clone(), entry.line) {
                let key = join(prefix, &shown(&entry.key));
                let message = format!("is given twice; first on line {first}");
                self.problem(entry.line, &key, message);
            }
            if let Some(key) = KEYS.iter().find(|key| normal(key.path) == path) {
                self.leaf(key, entry);
            } else if let Some((name, _)) = SECTIONS.iter().find(|(name, _)| normal(name) == path) {
                self.section(name, &entry.value);
            } else {
                self.problem(
                    entry.line,
                    &join(prefix, &shown(&entry.key)),
                    unknown(prefix, &entry.key),
                );
            }
        }
    }

    /// The value of one key.
    fn leaf(&mut self, key: &Key, entry: &Entry) {
        let value = &entry.value.value;
        let config = &mut self.config;
        let fits = match &key.field {
            Field::Bool(at) => boolean(value).map(|value| *at(config) = value),
            Field::Integer { at, min, max, .. } => integer(value)
                .filter(|value| (min..=max).contains(&value))
                .map(|value| *at(config) = value),
            Field::Seconds(at) => seconds(value).map(|value| *at(config) = value),
            Field::Level(at) => level(value).map(|value| *at(config) = value),
            Field::Text(at) => text(value, LONGEST_PATH).map(|value| *at(config) = value.into()),
            Field::Path { at, longest } => {
                text(value, *longest).map(|value| *at(config) = value.into())
            }
            Field::Events(_) if entry.value.is_null() => Some(()),
            Field::Names { .. } | Field::Paths(_) | Field::Events(_) => match value {
                Value::List(items) => return self.list(key, items),
                _ => None,
            },
            Field::Accepted(shape) => accepts(shape, value).then_some(()),
        };
        if fits.is_none() {
            let message = format!("{}; expected {}", found(value), key.field.expectation());
            self.problem(entry.line, key.path, message);
        }
    }

    /// The items of one list; each is checked, and a name that is repeated counts once.
    fn list(&mut self, key: &Key, items: &[Node]) {
        let mut kept: Vec<String> = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let checked = match (&key.field, text(&item.value, LONGEST_PATH)) {
                (_, None) => Err(format!("{}; expected text", found(&item.value))),
                (Field::Names { known, .. }, Some(name)) => listed(known, name),
                (_, Some(name)) => Ok(name),
            };
            match checked {
                Ok(name) if kept.iter().any(|kept| kept == name) => {}
                Ok(name) => kept.push(name.into()),
                Err(message) => {
                    self.problem(item.line, &format!("{}[{index}]", key.path), message);
                }
            }
        }
        match &key.field {
            Field::Names { at, .. } => *at(&mut self.config) = kept,
            Field::Paths(at) => {
                *at(&mut self.config) = kept.into_iter().map(PathBuf::from).collect();
            }
            Field::Events(at) => *at(&mut self.config) = Some(kept),
            _ => {}
        }
    }
}

/// `true` and `false`; and the words of YAML 1.1, which the other readers of these files accept.
fn boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Scalar(Scalar::Boolean(value)) => Some(*value),
        Value::Scalar(Scalar::String(word)) => match word.to_lowercase().as_str() {
            "yes" | "on" | "true" => Some(true),
            "no" | "off" | "false" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

fn integer(value: &Value) -> Option<u32> {
    match value {
        Value::Scalar(Scalar::Integer(value)) => u32::try_from(*value).ok(),
        _ => None,
    }
}

fn seconds(value: &Value) -> Option<Duration> {
    let seconds = match value {
        Value::Scalar(Scalar::Integer(value)) => *value as f64,
        Value::Scalar(Scalar::FloatingPoint(value)) => (*value).into(),
        _ => return None,
    };
    if !(SECONDS.0..=SECONDS.1).contains(&seconds) {
        return None;
    }
    Duration::try_from_secs_f64(seconds).ok()
}

fn level(value: &Value) -> Option<LogLevel> {
    let word = text(value, SHOWN)?.to_lowercase();
    LogLevel::ALL.into_iter().find(|level| level.name() == word)
}

/// Text that is not empty, not longer than `longest` bytes, and that the kernel would take whole.
fn text(value: &Value, longest: usize) -> Option<&str> {
    match value {
        Value::Scalar(Scalar::String(text)) => Some(text.as_str())
            .filter(|text| !text.is_empty() && text.len() <= longest && !text.contains('\0')),
        _ => None,
    }
}

/// Values that are not kept need only be of the right sort; an empty one is what templates leave.
fn accepts(shape: &Shape, value: &Value) -> bool {
    match (shape, value) {
        (_, Value::Scalar(Scalar::Null)) => true,
        (Shape::Bool(_), value) => boolean(value).is_some(),
        (Shape::Number(_), Value::Scalar(scalar)) => {
            matches!(scalar, Scalar::Integer(_) | Scalar::FloatingPoint(_))
        }
        (Shape::Text(_), Value::Scalar(_)) | (Shape::Map, Value::Map(_)) => true,
        _ => false,
    }
}

/// The name of a list entry as the table has it.
fn listed(known: &'static [Known], name: &str) -> Result<&'static str, String> {
    let normalized = normal(name);
    if let Some(known) = known.iter().find(|known| normal(known.name) == normalized) {
        return Ok(known.name);
    }
    let hint = match nearest(name, known.iter().map(|known| known.name)) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("expected one of {}", names(known)),
    };
    Err(format!("\"{}\" is unknown; {hint}", shown(name)))
}

/// What to say about a key that no row has.
fn unknown(prefix: &str, name: &str) -> String {
    let siblings = children(prefix);
    if let Some(near) = nearest(name, siblings.iter().copied()) {
        return format!("is unknown; did you mean {}?", join(prefix, near));
    }
    match elsewhere(name) {
        Some(path) => format!("is unknown here; did you mean {path}?"),
        None if siblings.len() <= LISTED => {
            format!("is unknown; expected one of {}", siblings.join(", "))
        }
        None => "is unknown".into(),
    }
}

/// Names that may stand below a section, in the table's order.
fn children(prefix: &str) -> Vec<&'static str> {
    let mut names = Vec::new();
    for key in KEYS {
        let below = match prefix {
            "" => Some(key.path),
            _ => key.path.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.')),
        };
        if let Some(name) = below.and_then(|below| below.split('.').next())
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    names
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.into() } else { format!("{prefix}.{name}") }
}

/// The value as a message names it.
fn found(value: &Value) -> String {
    match value {
        Value::List(_) => "is a list".into(),
        Value::Map(_) => "is a map".into(),
        Value::Scalar(Scalar::Null) => "is empty".into(),
        Value::Scalar(Scalar::Boolean(value)) => format!("is {value}"),
        Value::Scalar(Scalar::Integer(value)) => format!("is {value}"),
        Value::Scalar(Scalar::FloatingPoint(value)) => format!("is {value}"),
        Value::Scalar(Scalar::String(text)) => format!("is \"{}\"", shown(text)),
    }
}

/// The user's text, short and without anything that a terminal would obey.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push_str("...");
    }
    shown
}
