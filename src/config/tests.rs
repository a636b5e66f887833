//! The table of keys, the struct and the sections say the same.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::keys::{Field, KEYS, Key, SECTIONS};
use super::suggest::normal;
use super::{Config, LogLevel};

/// Paths of the leaves of a serialized [`Config`]. An empty map has none.
fn leaves(prefix: &str, value: &Value, paths: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let path =
                    if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                leaves(&path, value, paths);
            }
        }
        _ => {
            paths.insert(prefix.into());
        }
    }
}

#[test]
fn table_and_struct_have_the_same_keys() {
    let mut fields = BTreeSet::new();
    leaves("", &serde_json::to_value(Config::default()).unwrap(), &mut fields);
    let kept = KEYS.iter().filter(|key| !matches!(key.field, Field::Accepted(_)));
    let rows: BTreeSet<String> = kept.map(|key| key.path.to_owned()).collect();
    assert_eq!(fields, rows);
}

#[test]
fn paths_differ_and_lie_in_sections() {
    let mut seen = BTreeSet::new();
    for key in KEYS {
        assert!(seen.insert(normal(key.path)), "{} is there twice", key.path);
        if let Some((section, _)) = key.path.rsplit_once('.') {
            assert!(SECTIONS.iter().any(|(name, _)| *name == section), "no section {section}");
        }
    }
    for (section, _) in SECTIONS {
        let below = |key: &&Key| key.path.starts_with(&format!("{section}."));
        assert!(KEYS.iter().any(|key| below(&key)), "nothing in section {section}");
    }
}

/// A row that fills another row's field would pass every other check of the table.
#[test]
fn each_row_fills_its_own_field() {
    for key in KEYS {
        let mut config = Config::default();
        match &key.field {
            Field::Bool(at) => *at(&mut config) ^= true,
            Field::Integer { at, .. } => *at(&mut config) += 1,
            Field::Seconds(at) => *at(&mut config) += Duration::from_secs(1),
            Field::Level(at) => *at(&mut config) = LogLevel::Debug,
            Field::Text(at) => at(&mut config).push('x'),
            Field::Path { at, .. } => at(&mut config).push("x"),
            Field::Paths(at) => at(&mut config).clear(),
            Field::Names { at, .. } => at(&mut config).clear(),
            Field::Events(at) => *at(&mut config) = Some(vec![]),
            Field::Accepted(_) => continue,
        }
        let pointer = format!("/{}", key.path.replace('.', "/"));
        let at = |config: &Config| serde_json::to_value(config).unwrap().pointer(&pointer).cloned();
        assert_ne!(at(&config), at(&Config::default()), "{}", key.path);
    }
}
