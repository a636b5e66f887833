//! `arbitrary`: the filter on an event that a recipe's conditions already let through.
//!
//! A group has a default (`which`), and items that say which events differ from it. With `P` the
//! group's pertinent items and `I` its irrelevant ones, an event is kept by
//!
//! | group        | kept when                                                              |
//! |--------------|------------------------------------------------------------------------|
//! | `irrelevant` | `P` holds and no item of `I` matches                                   |
//! | `pertinent`  | no item of `I` matches, or `P` is not empty and holds                  |
//!
//! where `P` holds when any (`how: OR`) or all (`how: AND`) of its items match. "No item of `I`
//! matches" does not depend on `how`: excluding two things means excluding either. Who wants the
//! literal reading writes `strict: true`; then `AND` drops only what matches all of `I`. Every
//! group must keep the event.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;

use super::fields::Fields;
use super::pattern::Pattern;
use super::recipe::RecipeMechanism;
use super::sheet::Sheet;
use super::subject::{Shape, Subject, What, whats};
use super::yaml::{Node, Value};

/// How the items of a group are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    And,
    Or,
}

/// What an event is: by default (of a group), or once it matches (an item).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    Pertinent,
    Irrelevant,
}

/// One group; all groups of a recipe must keep the event.
#[derive(Debug)]
pub struct Group {
    pub how: How,
    pub which: Which,
    pub strict: bool,
    pub items: Vec<Item>,
}

/// One question about the event or its process.
#[derive(Debug)]
pub struct Item {
    pub what: What,
    pub which: Which,
    pub operand: Operand,
    pub when: When,
}

/// What a value is compared with.
#[derive(Debug)]
pub enum Operand {
    Pattern(Pattern),
    Numbers(Vec<i64>),
    Cidrs(Vec<IpNet>),
    /// An instant.
    At(SystemTime),
    /// How long before the event.
    Ago(Duration),
    /// Whether it holds.
    Is(bool),
}

/// How a number or a time is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Equal,
    Smaller,
    Bigger,
}

const HOWS: &[(&str, How)] = &[("and", How::And), ("or", How::Or)];
const WHICHES: &[(&str, Which)] =
    &[("pertinent", Which::Pertinent), ("irrelevant", Which::Irrelevant)];
const WHENS: &[(&str, When)] =
    &[("equal", When::Equal), ("smaller", When::Smaller), ("bigger", When::Bigger)];

impl Group {
    /// Whether this group lets the event through.
    pub fn keeps(&self, subject: &Subject<'_>) -> bool {
        let dropped = || self.combine(Which::Irrelevant, self.strict, subject);
        let held = || self.combine(Which::Pertinent, true, subject);
        match self.which {
            Which::Irrelevant => held() && !dropped(),
            Which::Pertinent => !dropped() || held(),
        }
    }

    /// Whether the items of one sort hold together; none of that sort never do.
    fn combine(&self, sort: Which, literal: bool, subject: &Subject<'_>) -> bool {
        let mut items = self.items.iter().filter(|item| item.which == sort).peekable();
        if items.peek().is_none() {
            return false;
        }
        match self.how {
            How::And if literal => items.all(|item| item.matches(subject)),
            _ => items.any(|item| item.matches(subject)),
        }
    }
}

impl Item {
    fn matches(&self, subject: &Subject<'_>) -> bool {
        match &self.operand {
            Operand::Pattern(pattern) => {
                subject.any_text(self.what, &mut |text| pattern.is_match(text))
            }
            Operand::Is(wanted) => subject.holds(self.what) == *wanted,
            Operand::Numbers(numbers) => subject.any_number(self.what, &mut |value| {
                numbers.iter().any(|number| self.when.holds(&value, number))
            }),
            Operand::Cidrs(nets) => subject.any_address(self.what, &mut |address: IpAddr| {
                nets.iter().any(|net| net.contains(&address))
            }),
            Operand::At(at) => {
                subject.time(self.what).is_some_and(|time| self.when.holds(&time, at))
            }
            // `smaller` is younger. A clock that was set back gives an age of zero.
            Operand::Ago(age) => subject.time(self.what).is_some_and(|time| {
                let since = subject.event.first.duration_since(time).unwrap_or_default();
                self.when.holds(&since, age)
            }),
        }
    }
}

impl When {
    fn holds<T: PartialOrd>(self, value: &T, operand: &T) -> bool {
        match self {
            Self::Equal => value == operand,
            Self::Smaller => value < operand,
            Self::Bigger => value > operand,
        }
    }
}

/// Reads the groups of a recipe.
pub(super) fn read(
    sheet: &mut Sheet,
    fields: &mut Fields<'_>,
    mechanism: Option<RecipeMechanism>,
) -> Vec<Group> {
    let Some(node) = fields.take("arbitrary") else { return Vec::new() };
    let key = fields.key("arbitrary");
    let groups = sheet.items(node, &key).iter().enumerate();
    groups
        .filter_map(|(at, node)| read_group(sheet, node, &format!("{key}[{at}]"), mechanism))
        .collect()
}

fn read_group(
    sheet: &mut Sheet,
    node: &Node,
    at: &str,
    mechanism: Option<RecipeMechanism>,
) -> Option<Group> {
    let mut fields = Fields::new(sheet, node, at)?;
    let how = fields.word(sheet, "how", HOWS).unwrap_or(How::And);
    let which = match fields.required(sheet, "which") {
        Some(node) => sheet.word(node, &fields.key("which"), WHICHES),
        None => None,
    };
    let strict = fields.parsed(sheet, "strict", "true or false").unwrap_or(false);
    let key = fields.key("items");
    let nodes = match fields.required(sheet, "items") {
        Some(node) => sheet.items(node, &key),
        None => &[],
    };
    let items: Vec<Item> = nodes
        .iter()
        .enumerate()
        .filter_map(|(at, node)| read_item(sheet, node, &format!("{key}[{at}]"), mechanism))
        .collect();
    let complete = items.len() == nodes.len();
    let line = fields.line_of("items");
    fields.finish(sheet);
    let which = which?;
    if complete && !items.iter().any(|item| item.which != which) {
        let (never, needs) = match which {
            Which::Irrelevant => ("keeps", "pertinent"),
            Which::Pertinent => ("drops", "irrelevant"),
        };
        sheet.wrong(line, &key, format!("this group never {never} an event: no item is {needs}"));
    }
    Some(Group { how, which, strict, items })
}

fn read_item(
    sheet: &mut Sheet,
    node: &Node,
    at: &str,
    mechanism: Option<RecipeMechanism>,
) -> Option<Item> {
    let mut fields = Fields::new(sheet, node, at)?;
    let before = sheet.mistakes;
    let what = match fields.required(sheet, "what") {
        Some(node) => sheet.word(node, &fields.key("what"), &whats()),
        None => None,
    };
    if let Some(what) = what
        && let Some(reason) = what.refused(mechanism)
    {
        fields.wrong(sheet, "what", reason);
    }
    let which = match fields.required(sheet, "which") {
        Some(node) => sheet.word(node, &fields.key("which"), WHICHES),
        None => None,
    };
    let when = fields.word(sheet, "when", WHENS).unwrap_or(When::Equal);
    let operand = read_operand(sheet, &mut fields, what);
    if let (Some(what), Some(operand), true) = (what, &operand, sheet.mistakes == before) {
        check_operand(sheet, &fields, what, operand, when);
    }
    fields.finish(sheet);
    Some(Item { what: what?, which: which?, operand: operand?, when })
}

/// Exactly one of `pattern`, `number`, `numbers`, `cidr`, `time`, `is`; a flag that says nothing
/// must hold.
fn read_operand(sheet: &mut Sheet, fields: &mut Fields<'_>, what: Option<What>) -> Option<Operand> {
    let mut found = Vec::new();
    if let Some(node) = fields.take("pattern") {
        found.push(sheet.pattern(node, &fields.key("pattern")).map(Operand::Pattern));
    }
    if let Some((name, node)) = fields.take_any(&["number", "numbers"]) {
        found.push(numbers(sheet, node, &fields.key(name)).map(Operand::Numbers));
    }
    if let Some((name, node)) = fields.take_any(&["cidr", "cidrs"]) {
        let key = fields.key(name);
        let texts = sheet.texts(node, &key);
        let nets = texts.into_iter().filter_map(|(line, text)| {
            super::cidrs::read_net(text).map_err(|message| sheet.wrong(line, &key, message)).ok()
        });
        found.push(Some(Operand::Cidrs(nets.collect())));
    }
    if let Some(node) = fields.take("time") {
        found.push(time(sheet, node, &fields.key("time")));
    }
    if let Some(is) = fields.parsed(sheet, "is", "true or false") {
        found.push(Some(Operand::Is(is)));
    }
    if found.is_empty() && what.is_some_and(|what| what.shape() == Shape::Flag) {
        found.push(Some(Operand::Is(true)));
    }
    let one = found.len() == 1;
    if !one {
        let message = "expected exactly one of pattern, number, numbers, cidr, time, is";
        fields.wrong(sheet, "pattern", message);
    }
    found.into_iter().flatten().next().filter(|_| one)
}

fn numbers(sheet: &mut Sheet, node: &Node, key: &str) -> Option<Vec<i64>> {
    let nodes = match &node.value {
        Value::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    nodes.iter().map(|node| sheet.parsed(node, key, "a whole number")).collect()
}

fn time(sheet: &mut Sheet, node: &Node, key: &str) -> Option<Operand> {
    let text = sheet.text(node, key)?.trim();
    if let Ok(at) = humantime::parse_rfc3339_weak(text) {
        return Some(Operand::At(at));
    }
    if let Ok(age) = humantime::parse_duration(text) {
        return Some(Operand::Ago(age));
    }
    let expected = "expected a UTC time (2026-01-31T12:00:00Z) or an age (10s, 2h)";
    sheet.wrong(node.line, key, expected);
    None
}

fn check_operand(
    sheet: &mut Sheet,
    fields: &Fields<'_>,
    what: What,
    operand: &Operand,
    when: When,
) {
    let fits = match operand {
        Operand::Pattern(_) => !matches!(what.shape(), Shape::Time | Shape::Flag),
        Operand::Is(_) => what.shape() == Shape::Flag,
        Operand::Numbers(_) => what.shape() == Shape::Number,
        Operand::Cidrs(_) => what.shape() == Shape::Address,
        Operand::At(_) | Operand::Ago(_) => what.shape() == Shape::Time,
    };
    if !fits {
        let message = format!("`{}` is compared with {}", what.name(), what.shape().operands());
        fields.wrong(sheet, "what", message);
    }
    let ordered = matches!(operand, Operand::Numbers(_) | Operand::At(_) | Operand::Ago(_));
    if when != When::Equal && !ordered {
        let message = "smaller and bigger are for numbers and times";
        fields.wrong(sheet, "when", message);
    }
}
