//! Sample, JSON Schema and reference, all made from the table of keys.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::Config;
use super::keys::{Field, KEYS, Key, SECONDS, SECTIONS, Shape};
use super::names::{FEATURES, Known, PRINTERS};
use super::sections::LogLevel;

/// Columns of a comment in the sample.
const WIDTH: usize = 96;

/// The default of a key as JSON; `Null` also where nothing is the default.
pub(super) fn default_of(key: &Key) -> Value {
    match &key.field {
        Field::Accepted(Shape::Bool(value)) => json!(value),
        Field::Accepted(Shape::Number(value)) => json!(value),
        Field::Accepted(Shape::Text(value)) => json!(value),
        Field::Accepted(Shape::Map) => json!({}),
        _ => {
            let defaults = serde_json::to_value(Config::default()).unwrap_or_default();
            let pointer = format!("/{}", key.path.replace('.', "/"));
            defaults.pointer(&pointer).cloned().unwrap_or_default()
        }
    }
}

/// A complete file: every key with its default, its unit and what it does.
pub fn sample() -> String {
    let mut text = String::from(
        "# Configuration of Raqib. Every key is here with its default; all of them may be left out.\n\
         # Hyphen and underscore are the same letter in a key. The daemon checks this file as a whole\n\
         # before it starts, and says every mistake with its line.\n",
    );
    let mut open: Vec<&str> = Vec::new();
    for key in KEYS {
        let parts: Vec<&str> = key.path.split('.').collect();
        let (name, sections) =
            parts.split_last().map_or(("", &[][..]), |(last, rest)| (last, rest));
        let same = open.iter().zip(sections).take_while(|(a, b)| a == b).count();
        for depth in same..sections.len() {
            section_heading(&mut text, &sections[..=depth]);
        }
        open = sections.to_vec();
        if sections.is_empty() {
            text.push('\n');
        }
        let indent = "  ".repeat(sections.len());
        let default = default_of(key);
        comment(&mut text, &indent, &format!("{} {}.", key.doc, capital(&key.field.expectation())));
        let _ = writeln!(text, "{indent}# Default: {default}.");
        let _ = writeln!(text, "{indent}{name}: {}", yaml(&default));
    }
    text
}

fn section_heading(text: &mut String, path: &[&str]) {
    let indent = "  ".repeat(path.len() - 1);
    let full = path.join(".");
    if path.len() == 1 {
        text.push('\n');
    }
    if let Some((_, doc)) = SECTIONS.iter().find(|(name, _)| *name == full) {
        comment(text, &indent, doc);
    }
    let _ = writeln!(text, "{indent}{}:", path.last().unwrap_or(&""));
}

/// Comment lines of at most [`WIDTH`] columns.
fn comment(text: &mut String, indent: &str, words: &str) {
    let mut line = format!("{indent}#");
    for word in words.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            let _ = writeln!(text, "{line}");
            line = format!("{indent}#");
        }
        let _ = write!(line, " {word}");
    }
    let _ = writeln!(text, "{line}");
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// A default as YAML: plain words where they are no other thing, JSON (which is YAML) elsewhere.
fn yaml(value: &Value) -> String {
    let plain = |text: &str| {
        text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '/')
            && text.chars().all(|letter| letter.is_ascii_alphanumeric() || "/._-".contains(letter))
    };
    match value {
        Value::String(text) if plain(text) => text.clone(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(yaml).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// JSON Schema (draft 2020-12) of the file, with the spelling of the sample.
///
/// Older layouts and other spellings of hyphens, which the daemon also reads, are not in it.
pub fn schema() -> Value {
    let mut root = object("Configuration of Raqib.");
    for key in KEYS {
        insert(&mut root, key, key.path, "");
    }
    if let Value::Object(members) = &mut root {
        members.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
        members.insert("title".into(), json!("Raqib"));
    }
    root
}

fn object(description: &str) -> Value {
    json!({
        "type": "object",
        "description": description,
        "additionalProperties": false,
        "properties": {},
    })
}

/// Puts a key below `at`, whose path is `prefix`; `rest` is what remains of the key's path.
fn insert(at: &mut Value, key: &Key, rest: &str, prefix: &str) {
    let Some(properties) = at.get_mut("properties").and_then(Value::as_object_mut) else {
        return;
    };
    match rest.split_once('.') {
        None => {
            properties.insert(rest.into(), property(key));
        }
        Some((name, rest)) => {
            let path = if prefix.is_empty() { name.into() } else { format!("{prefix}.{name}") };
            let doc = SECTIONS.iter().find(|(name, _)| *name == path).map_or("", |(_, doc)| doc);
            insert(properties.entry(name).or_insert_with(|| object(doc)), key, rest, &path);
        }
    }
}

/// The schema of one key.
fn property(key: &Key) -> Value {
    let text = json!({ "type": "string", "minLength": 1 });
    let mut schema = match &key.field {
        Field::Bool(_) | Field::Accepted(Shape::Bool(_)) => json!({ "type": "boolean" }),
        Field::Integer { min, max, .. } => {
            json!({ "type": "integer", "minimum": min, "maximum": max })
        }
        Field::Seconds(_) => {
            json!({ "type": "number", "minimum": SECONDS.0, "maximum": SECONDS.1 })
        }
        Field::Level(_) => json!({ "enum": LogLevel::ALL.map(LogLevel::name) }),
        Field::Text(_) => text,
        // The limit is in bytes, a schema's in characters: the latter can only be looser.
        Field::Path { longest, .. } => {
            json!({ "type": "string", "minLength": 1, "maxLength": longest })
        }
        Field::Paths(_) => json!({ "type": "array", "items": text }),
        Field::Names { known, .. } => {
            let names: Vec<&str> = known.iter().map(|known| known.name).collect();
            json!({ "type": "array", "items": { "enum": names } })
        }
        Field::Events(_) => json!({ "type": ["array", "null"], "items": text }),
        Field::Accepted(Shape::Number(_)) => json!({ "type": "number" }),
        Field::Accepted(Shape::Text(_)) => json!({ "type": "string" }),
        Field::Accepted(Shape::Map) => json!({ "type": "object" }),
    };
    if let Value::Object(members) = &mut schema {
        members.extend(Map::from_iter([
            (
                "description".into(),
                json!(format!("{} {}.", key.doc, capital(&key.field.expectation()))),
            ),
            ("default".into(), default_of(key)),
        ]));
    }
    schema
}

/// `docs/configuration.md`.
pub fn reference() -> String {
    let mut text = String::from(include_str!("reference.md"));
    let prefix = |key: &Key| key.path.rsplit_once('.').map_or("", |(prefix, _)| prefix);
    for section in std::iter::once("").chain(SECTIONS.iter().map(|(name, _)| *name)) {
        let mut rows = KEYS.iter().filter(|key| prefix(key) == section).peekable();
        if rows.peek().is_some() {
            table_heading(&mut text, section);
        }
        for key in rows {
            let (expectation, default) = (key.field.expectation(), default_of(key));
            let _ =
                writeln!(text, "| `{}` | {expectation} | `{default}` | {} |", key.path, key.doc);
        }
    }
    names_table(&mut text, "features", FEATURES);
    names_table(&mut text, "printers", PRINTERS);
    text
}

fn table_heading(text: &mut String, section: &str) {
    if section.is_empty() {
        let _ = writeln!(text, "\n### At the top of the file\n");
    } else {
        let doc = SECTIONS.iter().find(|(name, _)| *name == section).map_or("", |(_, doc)| doc);
        let _ = writeln!(text, "\n### `{section}`\n\n{doc}\n");
    }
    let _ = writeln!(text, "| Key | Value | Default | What it does |\n|---|---|---|---|");
}

fn names_table(text: &mut String, list: &str, known: &[Known]) {
    let _ = writeln!(
        text,
        "\n## Names in `{list}`\n\n| Name | What it is | In this version |\n|---|---|---|"
    );
    for known in known {
        let works = if known.works { "yes" } else { "accepted, does nothing" };
        let _ = writeln!(text, "| `{}` | {} | {works} |", known.name, known.doc);
    }
}
