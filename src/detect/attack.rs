//! Names of MITRE ATT&CK (Enterprise) and their ids.
//!
//! Recipes say names in snake case; alerts carry the ids that other tools join on. The tables
//! hold all tactics and the techniques that are seen on Linux hosts, containers and their
//! networks. A name that is not here is kept, without an id and with a notice.

use std::sync::Arc;

use super::attack_table::{SUBTECHNIQUES, TECHNIQUES};
use super::fields::Fields;
use super::sheet::Sheet;
use super::words::{clip, closest};

/// Tactics: name, id.
pub const TACTICS: &[(&str, &str)] = &[
    ("reconnaissance", "TA0043"),
    ("resource_development", "TA0042"),
    ("initial_access", "TA0001"),
    ("execution", "TA0002"),
    ("persistence", "TA0003"),
    ("privilege_escalation", "TA0004"),
    ("defense_evasion", "TA0005"),
    ("credential_access", "TA0006"),
    ("discovery", "TA0007"),
    ("lateral_movement", "TA0008"),
    ("collection", "TA0009"),
    ("command_and_control", "TA0011"),
    ("exfiltration", "TA0010"),
    ("impact", "TA0040"),
];

/// Words that stand for "no tactic": demonstrations and facts without judgement.
const NO_TACTIC: [&str; 3] = ["none", "example", ""];

/// One tactic, technique or sub-technique: its name and, where known, its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    pub name: Arc<str>,
    pub id: Option<&'static str>,
}

/// What a recipe says about ATT&CK.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attack {
    pub tactic: Option<Label>,
    pub technique: Option<Label>,
    pub subtechnique: Option<Label>,
}

/// Reads `tactic`, `technique` and `subtechnique`; doubts become notices, since a wrong label
/// does not make a detection wrong.
pub(super) fn read(sheet: &mut Sheet, fields: &mut Fields<'_>) -> Attack {
    let tactic = label(
        sheet,
        fields,
        "tactic",
        |name| find(TACTICS, name),
        || TACTICS.iter().map(|(name, _)| *name).collect(),
    );
    let techniques = || TECHNIQUES.iter().map(|technique| technique.1).collect();
    let technique =
        label(sheet, fields, "technique", |name| by_name(name).map(|t| t.0), techniques);
    let known = technique.as_ref().and_then(|label| by_name(&label.name));
    if let (Some(tactic), Some((id, name, tactics))) = (&tactic, known)
        && tactic.id.is_some_and(|tactic| !tactics.split(' ').any(|each| each == &tactic[4..]))
    {
        let message = format!("technique `{name}` ({id}) does not belong to `{}`", tactic.name);
        sheet.doubtful(fields.line_of("technique"), &fields.key("technique"), message);
    }
    let parent = known.map_or("", |technique| technique.0);
    let subtechnique = label(
        sheet,
        fields,
        "subtechnique",
        |name| under(parent).find(|(_, each)| *each == name).map(|(id, _)| id),
        || under(parent).map(|(_, name)| name).collect(),
    );
    Attack { tactic, technique, subtechnique }
}

fn label(
    sheet: &mut Sheet,
    fields: &mut Fields<'_>,
    field: &'static str,
    id: impl Fn(&str) -> Option<&'static str>,
    known: impl Fn() -> Vec<&'static str>,
) -> Option<Label> {
    let node = fields.take(field)?;
    let text = sheet.text(node, &fields.key(field))?;
    let name = snake(text);
    if NO_TACTIC.contains(&name.as_str()) {
        return None;
    }
    let id = id(&name);
    if id.is_none() {
        let hint = match closest(&name, known().into_iter()) {
            Some(close) => format!("; did you mean `{close}`?"),
            None => String::new(),
        };
        let message = format!("`{}` is no {field} known here; no id is given{hint}", clip(text));
        sheet.doubtful(node.line, &fields.key(field), message);
    }
    Some(Label { name: name.into(), id })
}

/// `OS Credential Dumping` and `os-credential-dumping` are one name.
fn snake(text: &str) -> String {
    let lower = text.trim().to_ascii_lowercase();
    lower.replace("/etc/", "etc_").replace([' ', '-', '/', '.'], "_")
}

fn find(table: &[(&'static str, &'static str)], name: &str) -> Option<&'static str> {
    table.iter().find(|(each, _)| *each == name).map(|(_, id)| *id)
}

fn by_name(name: &str) -> Option<Technique> {
    TECHNIQUES.iter().find(|technique| technique.1 == name).copied()
}

fn under(technique: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    SUBTECHNIQUES.iter().copied().filter(move |(id, _)| id.split('.').next() == Some(technique))
}

/// Id, name, and the last two digits of its tactics' ids.
pub(super) type Technique = (&'static str, &'static str, &'static str);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_agree_with_each_other() {
        for (id, name, tactics) in TECHNIQUES {
            assert!(id.starts_with('T') && id.len() == 5, "{id}");
            assert_eq!(snake(name), **name);
            for tactic in tactics.split(' ') {
                assert!(TACTICS.iter().any(|(_, id)| &id[4..] == tactic), "{id}: {tactic}");
            }
            assert_eq!(TECHNIQUES.iter().filter(|t| t.0 == *id || t.1 == *name).count(), 1, "{id}");
        }
        for (id, name) in SUBTECHNIQUES {
            let (parent, number) = id.split_once('.').expect("a dot");
            assert!(TECHNIQUES.iter().any(|t| t.0 == parent) && number.len() == 3, "{id}");
            assert_eq!(snake(name), **name);
            assert_eq!(SUBTECHNIQUES.iter().filter(|t| t.0 == *id).count(), 1, "{id}");
        }
    }
}
