//! A recipe: what one detection looks for, and what is said when it fires.

use std::sync::Arc;

use crate::event::Mechanism;
use crate::problem::Problem;

use super::actions::ActionRule;
use super::activity::ActivityRule;
use super::arbitrary::Group;
use super::attack::Attack;
use super::example::Example;
use super::files::FileRule;
use super::flows::FlowRule;
use super::pattern::Pattern;
use super::subject::What;
use super::times::Limit;

/// One detection as its file describes it. Immutable; shared by rule sets and verdicts.
#[derive(Debug)]
pub struct Recipe {
    /// The event's name: `hidden_elf_exec`. Several recipes may share one.
    pub kind: Arc<str>,
    /// Tells recipes of one kind apart; becomes `metadata.name`.
    pub name: Arc<str>,
    /// As the file says; whether it takes part is the rule set's decision.
    pub enabled: bool,
    /// As written: `1.0` is not a number that may become `1`.
    pub version: Arc<str>,
    pub description: Arc<str>,
    pub documentation: Arc<str>,
    pub breed: Breed,
    pub mechanism: RecipeMechanism,
    pub attack: Attack,
    pub importance: Level,
    /// 0 to 100: given, or that of the level, or that of the importance.
    pub severity: u8,
    pub severity_level: Level,
    /// 0 to 1; none when the recipe does not say.
    pub confidence: Option<f64>,
    pub times: Vec<Limit>,
    pub arbitrary: Vec<Group>,
    pub reactions: Vec<RawReaction>,
    pub conditions: Conditions,
    pub examples: Vec<Example>,
    pub place: Place,
    /// Hash of all that the recipe says: equal means unchanged.
    pub fingerprint: u64,
}

impl Recipe {
    /// Whether it cannot decide without the content of the executable.
    pub fn asks_content(&self) -> bool {
        let mut items = self.arbitrary.iter().flat_map(|group| &group.items);
        items.any(|item| item.what == What::ExeSha256)
    }
}

/// Where a recipe comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub file: Arc<str>,
    pub line: usize,
}

/// What an event must be for a recipe to be considered, by the family of its body.
#[derive(Debug)]
pub enum Conditions {
    File(FileRule),
    Flow(Box<FlowRule>),
    Env(EnvRule),
    Activity(ActivityRule),
    Container(ActionRule),
}

/// Environment variables by name, and what their value must look like.
#[derive(Debug)]
pub struct EnvRule {
    pub names: Vec<Arc<str>>,
    pub pattern: Option<Pattern>,
}

/// A reaction as written; running it is another room's business.
#[derive(Clone, Debug)]
pub struct RawReaction {
    pub format: Arc<str>,
    pub code: Arc<str>,
    pub line: usize,
}

/// What the conditions of a recipe are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breed {
    FileAccess,
    Execution,
    RemoteDomains,
    LocalDomains,
    RemoteCidrs,
    LocalCidrs,
    RemoteIps,
    LocalIps,
    EnvVars,
    /// Ours: what happens to containers.
    Containers,
    /// Ours: ports, protocol or flow actions alone.
    NetworkFlows,
    /// Ours: what is done to neither files nor flows.
    Activity,
}

/// The names of breeds.
pub const BREEDS: &[(&str, Breed)] = &[
    ("file_access", Breed::FileAccess),
    ("execution", Breed::Execution),
    ("remote_domains", Breed::RemoteDomains),
    ("local_domains", Breed::LocalDomains),
    ("remote_cidrs", Breed::RemoteCidrs),
    ("local_cidrs", Breed::LocalCidrs),
    ("remote_ips", Breed::RemoteIps),
    ("local_ips", Breed::LocalIps),
    ("env_vars", Breed::EnvVars),
    ("network_flows", Breed::NetworkFlows),
    ("activity", Breed::Activity),
    ("containers", Breed::Containers),
];

/// Which plugins' events a recipe sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecipeMechanism {
    One(Mechanism),
    FileAccessAndExecution,
}

/// The names of mechanisms in recipes.
pub const MECHANISMS: &[(&str, RecipeMechanism)] = &[
    ("file_access", RecipeMechanism::One(Mechanism::FileAccess)),
    ("execution", RecipeMechanism::One(Mechanism::Execution)),
    ("file_access_and_execution", RecipeMechanism::FileAccessAndExecution),
    ("network_peers", RecipeMechanism::One(Mechanism::NetworkPeers)),
    ("network_flows", RecipeMechanism::One(Mechanism::NetworkFlows)),
    ("env_vars", RecipeMechanism::One(Mechanism::EnvVars)),
    ("activity", RecipeMechanism::One(Mechanism::Activity)),
    ("containers", RecipeMechanism::One(Mechanism::Containers)),
];

impl RecipeMechanism {
    pub fn sees(self, mechanism: Mechanism) -> bool {
        match self {
            Self::One(one) => one == mechanism,
            Self::FileAccessAndExecution => {
                matches!(mechanism, Mechanism::FileAccess | Mechanism::Execution)
            }
        }
    }

    pub fn name(self) -> &'static str {
        let named = MECHANISMS.iter().find(|(_, mechanism)| *mechanism == self);
        named.map_or("", |(name, _)| name)
    }

    pub(crate) fn is_network(self) -> bool {
        self.sees(Mechanism::NetworkFlows) || self.sees(Mechanism::NetworkPeers)
    }
}

/// How much a detection matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    None,
    Low,
    Medium,
    High,
    Critical,
}

/// The names of levels.
pub const LEVELS: &[(&str, Level)] = &[
    ("none", Level::None),
    ("low", Level::Low),
    ("medium", Level::Medium),
    ("high", Level::High),
    ("critical", Level::Critical),
];

impl Level {
    pub fn name(self) -> &'static str {
        LEVELS.iter().find(|(_, level)| *level == self).map_or("", |(name, _)| name)
    }

    /// The severity that stands for the level when no number is given.
    pub const fn severity(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Low => 15,
            Self::Medium => 45,
            Self::High => 75,
            Self::Critical => 90,
        }
    }

    pub const fn of(severity: u8) -> Self {
        match severity {
            0 => Self::None,
            1..=29 => Self::Low,
            30..=59 => Self::Medium,
            60..=79 => Self::High,
            _ => Self::Critical,
        }
    }
}

/// What a file gave: its good recipes, and what was wrong with the others.
#[derive(Debug, Default)]
pub struct Parsed {
    pub recipes: Vec<Recipe>,
    pub problems: Vec<Problem>,
    /// Understood, but worth a look (a technique that its tactic does not have).
    pub notices: Vec<Problem>,
}
