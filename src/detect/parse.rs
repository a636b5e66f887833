//! A recipe file: a list of recipes, each good or refused with everything that is wrong with it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::event::Mechanism;

use super::activity::ActivityRule;
use super::fields::Fields;
use super::files::FileRule;
use super::flows::FlowRule;
use super::recipe::{
    BREEDS, Breed, Conditions, EnvRule, LEVELS, Level, MECHANISMS, Parsed, Place, RawReaction,
    Recipe, RecipeMechanism,
};
use super::sheet::Sheet;
use super::yaml::{self, Node, Value};
use super::{actions, arbitrary, attack, example, times};

/// Reads the text of one file. A mistake refuses the recipe that has it, not its neighbours; only
/// a file that is not YAML at all is refused whole.
pub fn parse(file: &str, text: &str) -> Parsed {
    let mut sheet = Sheet::new(file);
    let mut recipes = Vec::new();
    match yaml::parse(text) {
        Err(error) => sheet.wrong(error.line, "", error.message),
        Ok(documents) => {
            for document in &documents {
                if matches!(document.value, Value::Null) {
                    continue;
                }
                let Value::List(items) = &document.value else {
                    let message = format!("expected a list of recipes, found {}", document.kind());
                    sheet.wrong(document.line, "", message);
                    continue;
                };
                for (at, item) in items.iter().enumerate() {
                    recipes.extend(read_recipe(&mut sheet, item, &format!("[{at}]")));
                }
            }
        }
    }
    Parsed { recipes, problems: sheet.problems, notices: sheet.notices }
}

fn read_recipe(sheet: &mut Sheet, node: &Node, at: &str) -> Option<Recipe> {
    let before = sheet.mistakes;
    let mut fields = Fields::new(sheet, node, at)?;
    let place = Place { file: sheet.file.as_str().into(), line: node.line };
    let head = read_head(sheet, &mut fields);
    let mechanism = head.mechanism;
    let attack = attack::read(sheet, &mut fields);
    let (severity, severity_level, confidence) = read_score(sheet, &mut fields, head.importance);
    let times = times::read(sheet, &mut fields);
    let arbitrary = arbitrary::read(sheet, &mut fields, mechanism);
    let reactions = read_reactions(sheet, &mut fields);
    let conditions = read_conditions(sheet, &mut fields, head.breed.zip(mechanism));
    let examples = example::read(sheet, &mut fields, mechanism);
    // Which fields a recipe has depends on what it is about.
    if conditions.is_some() {
        fields.finish(sheet);
    }
    if sheet.mistakes > before {
        return None;
    }
    Some(Recipe {
        kind: normalize(head.kind?).into(),
        name: head.name?.into(),
        enabled: head.enabled,
        version: head.version?.into(),
        description: head.description?.into(),
        documentation: head.documentation.into(),
        breed: head.breed?,
        mechanism: mechanism?,
        attack,
        importance: head.importance?,
        severity,
        severity_level,
        confidence,
        times,
        arbitrary,
        reactions,
        conditions: conditions?,
        examples,
        place,
        fingerprint: fingerprint(node),
    })
}

/// What all recipes say; none where it is missing or wrong, which has been reported.
struct Head<'n> {
    kind: Option<&'n str>,
    name: Option<&'n str>,
    enabled: bool,
    version: Option<&'n str>,
    description: Option<&'n str>,
    documentation: &'n str,
    breed: Option<Breed>,
    mechanism: Option<RecipeMechanism>,
    importance: Option<Level>,
}

fn read_head<'n>(sheet: &mut Sheet, fields: &mut Fields<'n>) -> Head<'n> {
    Head {
        kind: required_text(sheet, fields, "kind"),
        name: required_text(sheet, fields, "name"),
        enabled: fields.word(sheet, "enabled", SWITCH).unwrap_or(true),
        version: required_text(sheet, fields, "version"),
        description: required_text(sheet, fields, "description"),
        documentation: fields.text(sheet, "documentation").unwrap_or_default(),
        breed: required_word(sheet, fields, "breed", BREEDS),
        mechanism: required_word(sheet, fields, "mechanism", MECHANISMS),
        importance: required_word(sheet, fields, "importance", LEVELS),
    }
}

fn required_word<T: Copy>(
    sheet: &mut Sheet,
    fields: &mut Fields<'_>,
    name: &'static str,
    table: &[(&str, T)],
) -> Option<T> {
    let node = fields.required(sheet, name)?;
    sheet.word(node, &fields.key(name), table)
}

/// The words that YAML's readers in other languages take for a switch.
const SWITCH: &[(&str, bool)] =
    &[("true", true), ("false", false), ("yes", true), ("no", false), ("on", true), ("off", false)];

/// Longest name: it goes into every alert.
const NAME_MAX: usize = 200;

fn required_text<'n>(
    sheet: &mut Sheet,
    fields: &mut Fields<'n>,
    name: &'static str,
) -> Option<&'n str> {
    let node = fields.required(sheet, name)?;
    let text = sheet.text(node, &fields.key(name))?.trim();
    if text.is_empty() {
        sheet.wrong(node.line, &fields.key(name), "this field is empty");
    } else if name != "description" && text.len() > NAME_MAX {
        sheet.wrong(node.line, &fields.key(name), format!("longer than {NAME_MAX} bytes"));
    }
    Some(text)
}

/// Kinds are compared with the names in a configuration: lower case, words joined by `_`.
pub(super) fn normalize(kind: &str) -> String {
    let lower = kind.trim().to_lowercase();
    lower.chars().map(|c| if c.is_alphanumeric() { c } else { '_' }).collect()
}

fn read_score(
    sheet: &mut Sheet,
    fields: &mut Fields<'_>,
    importance: Option<Level>,
) -> (u8, Level, Option<f64>) {
    let number: Option<u8> = fields.parsed(sheet, "severity", "a whole number from 0 to 100");
    let level = fields.word(sheet, "severity_level", LEVELS);
    let confidence: Option<f64> = fields.parsed(sheet, "confidence", "a number from 0 to 1");
    if number.is_some_and(|number| number > 100) {
        fields.wrong(sheet, "severity", "expected a number from 0 to 100");
    }
    if confidence.is_some_and(|confidence| !(0.0..=1.0).contains(&confidence)) {
        fields.wrong(sheet, "confidence", "expected a number from 0 to 1");
    }
    let stands_for = level.or(importance).unwrap_or(Level::Medium);
    let severity = number.unwrap_or_else(|| stands_for.severity());
    (severity, level.unwrap_or_else(|| Level::of(severity)), confidence)
}

fn read_reactions(sheet: &mut Sheet, fields: &mut Fields<'_>) -> Vec<RawReaction> {
    let Some(node) = fields.take("reactions") else { return Vec::new() };
    let key = fields.key("reactions");
    let mut reactions = Vec::new();
    for (at, node) in sheet.items(node, &key).iter().enumerate() {
        let Some(mut fields) = Fields::new(sheet, node, &format!("{key}[{at}]")) else { continue };
        let line = fields.line;
        let mut required = |fields: &mut Fields<'_>, name| -> Option<Arc<str>> {
            let node = fields.required(sheet, name)?;
            sheet.text(node, &fields.key(name)).map(Arc::from)
        };
        let format = required(&mut fields, "format");
        let code = required(&mut fields, "code");
        fields.finish(sheet);
        if let (Some(format), Some(code)) = (format, code) {
            reactions.push(RawReaction { format, code, line });
        }
    }
    reactions
}

/// Reads the fields of the breed's family, and checks that breed and mechanism go together.
fn read_conditions(
    sheet: &mut Sheet,
    fields: &mut Fields<'_>,
    both: Option<(Breed, RecipeMechanism)>,
) -> Option<Conditions> {
    let (breed, mechanism) = both?;
    let seen_by_files =
        mechanism.sees(Mechanism::FileAccess) || mechanism.sees(Mechanism::Execution);
    let fits = match breed {
        Breed::FileAccess => seen_by_files,
        Breed::Execution => mechanism.sees(Mechanism::Execution),
        Breed::EnvVars => mechanism.sees(Mechanism::EnvVars),
        Breed::Activity => mechanism.sees(Mechanism::Activity),
        Breed::Containers => mechanism.sees(Mechanism::Containers),
        _ => mechanism.is_network(),
    };
    if !fits {
        let breed = BREEDS.iter().find(|(_, each)| *each == breed).map_or("", |(name, _)| name);
        let message = format!("breed `{breed}` does not go with mechanism `{}`", mechanism.name());
        fields.wrong(sheet, "breed", message);
    }
    Some(if seen_by_files {
        Conditions::File(FileRule::read(sheet, fields, Some(mechanism)))
    } else if mechanism.is_network() {
        let rule = FlowRule::read(sheet, fields);
        check_breed(sheet, fields, breed, &rule);
        Conditions::Flow(Box::new(rule))
    } else if mechanism.sees(Mechanism::Activity) {
        Conditions::Activity(ActivityRule::read(sheet, fields))
    } else if mechanism.sees(Mechanism::Containers) {
        let names = ["container_actions", "container_actions_how", "container_actions_excl"];
        Conditions::Container(actions::read(sheet, fields, names, &actions::container_words()))
    } else {
        Conditions::Env(read_env(sheet, fields))
    })
}

/// A recipe that says what it is about must have it, or it would match everything.
fn check_breed(sheet: &mut Sheet, fields: &Fields<'_>, breed: Breed, rule: &FlowRule) {
    let (field, given) = match breed {
        Breed::RemoteDomains => ("remote_domains", rule.remote_names.is_some()),
        Breed::LocalDomains => ("local_domains", rule.local_names.is_some()),
        Breed::RemoteCidrs | Breed::RemoteIps => ("remote_cidrs", rule.remote.is_some()),
        Breed::LocalCidrs | Breed::LocalIps => ("local_cidrs", rule.local.is_some()),
        Breed::FileAccess
        | Breed::Execution
        | Breed::EnvVars
        | Breed::NetworkFlows
        | Breed::Activity
        | Breed::Containers => return,
    };
    if !given {
        let message = "a recipe of this breed needs this field";
        fields.wrong(sheet, field, message);
    }
}

fn read_env(sheet: &mut Sheet, fields: &mut Fields<'_>) -> EnvRule {
    let mut names: Vec<Arc<str>> = Vec::new();
    if let Some((name, node)) = fields.take_any(&["env_vars", "envs"]) {
        let key = fields.key(name);
        for (line, text) in sheet.texts(node, &key) {
            if text.contains(['=', '\0']) || text.len() > NAME_MAX {
                let message = "expected the name of a variable; its value goes into `pattern`";
                sheet.wrong(line, &key, message);
            }
            names.push(text.into());
        }
    }
    if names.is_empty() {
        let message = "expected at least one name of a variable";
        fields.wrong(sheet, "env_vars", message);
    }
    EnvRule { names, pattern: fields.pattern(sheet, "pattern") }
}

/// Equal for recipes that say the same, wherever in a file they stand.
fn fingerprint(node: &Node) -> u64 {
    fn walk(node: &Node, hasher: &mut DefaultHasher) {
        match &node.value {
            Value::Null => 0_u8.hash(hasher),
            Value::Scalar(text) => (1_u8, text).hash(hasher),
            Value::List(items) => {
                (2_u8, items.len()).hash(hasher);
                items.iter().for_each(|item| walk(item, hasher));
            }
            Value::Map(entries) => {
                (3_u8, entries.len()).hash(hasher);
                for (key, node) in entries {
                    key.name.hash(hasher);
                    walk(node, hasher);
                }
            }
        }
    }
    let mut hasher = DefaultHasher::new();
    walk(node, &mut hasher);
    hasher.finish()
}
