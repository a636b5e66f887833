//! Conditions on activities: which, how they ended, and what their details must be.

use crate::event::{ACTIVITIES, Activity};

use super::fields::Fields;
use super::pattern::Pattern;
use super::sheet::Sheet;
use super::words::{closest, one_of};
use super::yaml::{Node, Value};

/// What an activity must be: each condition that is given must hold.
#[derive(Debug)]
pub struct ActivityRule {
    /// By id; empty means any.
    pub activities: Vec<u32>,
    pub result: Outcome,
    details: Vec<(Box<str>, Wanted)>,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Any,
    Success,
    Failure,
}

const OUTCOMES: &[(&str, Outcome)] =
    &[("any", Outcome::Any), ("success", Outcome::Success), ("failure", Outcome::Failure)];

#[derive(Debug)]
enum Wanted {
    /// One of these: names or numbers.
    OneOf(Vec<Box<str>>),
    Like(Pattern),
}

impl ActivityRule {
    pub fn matches(&self, activity: &Activity) -> bool {
        let outcome = match self.result {
            Outcome::Any => true,
            Outcome::Success => activity.error == 0,
            Outcome::Failure => activity.error != 0,
        };
        if !outcome || !(self.activities.is_empty() || self.activities.contains(&activity.id)) {
            return false;
        }
        if self.details.is_empty() {
            return true;
        }
        let have = activity.details();
        self.details.iter().all(|(label, wanted)| {
            have.iter().filter(|(name, _)| **name == **label).any(|(_, detail)| match wanted {
                Wanted::OneOf(words) => words.iter().any(|word| detail.is(word)),
                Wanted::Like(pattern) => pattern.is_match(&detail.to_string()),
            })
        })
    }

    pub(super) fn read(sheet: &mut Sheet, fields: &mut Fields<'_>) -> Self {
        let words: Vec<(&str, u32)> = (0..).zip(ACTIVITIES).map(|(id, k)| (k.name, id)).collect();
        let activities = fields.words(sheet, "activities", &words).unwrap_or_default();
        let result = fields.word(sheet, "result", OUTCOMES).unwrap_or(Outcome::Any);
        let details = fields.take("details").map_or_else(Vec::new, |node| {
            let key = fields.key("details");
            read_details(sheet, node, &key, &activities)
        });
        Self { activities, result, details }
    }
}

/// `label: value`, `label: [values]` or `label: {regex: pattern}`.
fn read_details(
    sheet: &mut Sheet,
    node: &Node,
    at: &str,
    activities: &[u32],
) -> Vec<(Box<str>, Wanted)> {
    let Value::Map(entries) = &node.value else {
        sheet.wrong(node.line, at, format!("expected a mapping, found {}", node.kind()));
        return Vec::new();
    };
    let kinds = (0..).zip(ACTIVITIES);
    let mine = kinds.filter(|(id, _)| activities.is_empty() || activities.contains(id));
    let mut labels: Vec<&str> = mine.flat_map(|(_, kind)| kind.labels()).collect();
    labels.sort_unstable();
    labels.dedup();
    let mut details = Vec::new();
    for (key, node) in entries {
        let at = format!("{at}.{}", super::words::clip(&key.name));
        if !labels.contains(&key.name.as_str()) {
            let hint = match closest(&key.name, labels.iter().copied()) {
                Some(label) => format!("did you mean `{label}`?"),
                None if labels.is_empty() => "they have no details".into(),
                None => format!("expected {}", one_of(&labels)),
            };
            sheet.wrong(key.line, &at, format!("these activities have no such detail; {hint}"));
            continue;
        }
        let wanted = match &node.value {
            Value::Map(_) => Fields::new(sheet, node, &at).and_then(|mut fields| {
                fields.required(sheet, "regex");
                let pattern = fields.pattern(sheet, "regex");
                fields.finish(sheet);
                pattern.map(Wanted::Like)
            }),
            _ => {
                let words = sheet.texts(node, &at).into_iter();
                Some(Wanted::OneOf(words.map(|(_, word)| word.into()).collect()))
            }
        };
        details.extend(wanted.map(|wanted| (key.name.as_str().into(), wanted)));
    }
    details
}

/// What an example says: `activity: ptrace`, `result: EPERM` or a number, and its details by
/// their labels, as numbers, names or texts.
pub(super) fn read_example(sheet: &mut Sheet, fields: &mut Fields<'_>) -> Option<Activity> {
    let words: Vec<(&str, u32)> = (0..).zip(ACTIVITIES).map(|(id, kind)| (kind.name, id)).collect();
    let node = fields.required(sheet, "activity")?;
    let id = sheet.word(node, &fields.key("activity"), &words)?;
    let kind = &ACTIVITIES[id as usize];
    let text = crate::text::Text::default;
    let mut activity = Activity {
        id,
        a: 0,
        b: 0,
        error: fields.parsed(sheet, "errno", "an errno").unwrap_or(0),
        code: 0,
        target: None,
        text: text(),
        kind: text(),
        path: text(),
        other: text(),
    };
    let Some(node) = fields.take("details") else { return Some(activity) };
    let at = fields.key("details");
    let Value::Map(entries) = &node.value else {
        sheet.wrong(node.line, &at, "expected a mapping");
        return None;
    };
    for (key, node) in entries {
        let at = format!("{at}.{}", super::words::clip(&key.name));
        let Some(value) = sheet.text(node, &at) else { continue };
        let label = Some(key.name.as_str());
        let number = [(kind.a, 0), (kind.b, 1)].into_iter().find_map(|(part, at)| {
            part.filter(|(name, _)| Some(*name) == label).map(|p| (p.1, at))
        });
        if let Some((show, place)) = number {
            match show.value(value) {
                Some(value) if place == 0 => activity.a = value,
                Some(value) => activity.b = value,
                None => sheet.wrong(key.line, &at, format!("unknown value `{value}`")),
            }
        } else if kind.text == label {
            activity.text = value.into();
        } else if kind.kind == label {
            activity.kind = value.into();
        } else if kind.path == label {
            activity.path = value.into();
        } else if kind.other == label {
            activity.other = value.into();
        } else if kind.address {
            if !activity.set_address(&key.name, value) {
                sheet.wrong(key.line, &at, "expected `family`, `address` or `port`");
            }
        } else {
            sheet.wrong(key.line, &at, format!("expected {}", one_of(&kind.labels())));
        }
    }
    Some(activity)
}
