//! Which programs feed which fact: one table, from which loading, attaching and what the user is
//! told are derived.
//!
//! Each fact has its ways, best first. Those of the object tier hook kernel functions and are
//! handed kernel objects; those of the tracepoint tier also work where functions cannot be hooked.

mod table;

use super::host;
use super::objects::{self, Objects};
use super::refusal::Refusal;
use crate::event::{Actions, Mechanism};

pub use table::HOOKS;

/// When a hook is worth its cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Whenever its mechanism is on.
    Always,
    /// Only if a recipe asks for this file action.
    Action(u32),
    /// Run once at start (an iterator), not attached.
    Once,
}

/// What a program is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Functions of the kernel, or its security hooks, beside whatever else is named.
    Object,
    /// Tracepoints, control groups, iterators.
    Tracepoint,
}

impl Tier {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Tracepoint => "tracepoint",
        }
    }
}

/// Programs that together record a fact.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    pub tier: Tier,
    pub programs: &'static [&'static str],
    /// What is not told in this way.
    pub lost: &'static str,
    /// A name that the kernel's BTF has if it takes the first of the programs; empty: known by
    /// trying, which costs a kernel that refuses a further attempt.
    pub asks: &'static str,
}

const fn tracepoint(programs: &'static [&'static str], lost: &'static str) -> Way {
    Way { tier: Tier::Tracepoint, programs, lost, asks: "" }
}

const fn object(programs: &'static [&'static str], lost: &'static str) -> Way {
    Way { tier: Tier::Object, programs, lost, asks: "" }
}

impl Way {
    const fn asking(self, asks: &'static str) -> Self {
        Self { asks, ..self }
    }

    fn refusal<'a>(&self, refused: &'a [Refusal]) -> Option<&'a Refusal> {
        refused.iter().find(|refusal| self.programs.contains(&refusal.program.as_str()))
    }
}

/// One fact and the programs that record it.
#[derive(Clone, Copy, Debug)]
pub struct Hook {
    pub fact: &'static str,
    pub mechanisms: &'static [Mechanism],
    /// Best first.
    pub ways: &'static [Way],
    pub need: Need,
    /// For who runs a kernel that refuses these programs: what it lacks, what is not told, and
    /// what can be done.
    pub lacks: &'static str,
    /// How the same is told without these programs; empty: it is off.
    pub instead: &'static str,
}

/// `close` in the recipes' numbering of file actions.
pub const CLOSE: u32 = 12;

/// What every other fact is told with.
const ESSENTIAL: [&str; 2] = ["processes", "processes that were there before"];

/// Programs that need not be tried: what they ask for is not in this kernel.
pub fn missing(objects: &Result<Objects, String>) -> Vec<Refusal> {
    let btf = std::fs::read(host::BTF).unwrap_or_default();
    let mut missing: Vec<Refusal> = Vec::new();
    for way in HOOKS.iter().flat_map(|hook| hook.ways) {
        let names = !way.asks.is_empty() && !btf.is_empty();
        if names && !host::names(&btf, way.asks) {
            let reason = format!("{}{}", Refusal::NO_NAME, way.asks);
            missing.extend(way.programs.first().map(|name| Refusal::new(*name, reason)));
        }
    }
    if let Err(reason) = objects {
        missing.extend(objects::programs().map(|name| Refusal::new(name, reason.as_str())));
    }
    missing
}

/// Whether nothing could be told without this program.
pub fn essential(program: &str) -> bool {
    let mut essential = HOOKS.iter().filter(|hook| ESSENTIAL.contains(&hook.fact));
    essential.any(|hook| hook.ways.iter().any(|way| way.programs.contains(&program)))
}

/// A fact as it stands: for people and for status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    pub fact: &'static str,
    /// Its programs that record, or have run.
    pub programs: Vec<&'static str>,
    /// What this tier does not tell.
    pub lost: &'static str,
    /// Why it is off although it is wanted, and what can be done.
    pub off: Option<String>,
    /// How it is told without programs; empty: by them.
    pub instead: &'static str,
    /// None: by no programs.
    pub chosen: Option<Tier>,
}

impl Fact {
    /// Where it is taken from, or `off`.
    pub const fn tier(&self) -> &'static str {
        match self.chosen {
            Some(tier) => tier.name(),
            None if self.instead.is_empty() => "off",
            None => "other",
        }
    }
}

impl Hook {
    /// Whether these mechanisms and the file actions that recipes ask for need it.
    pub fn wanted(&self, mechanisms: &[Mechanism], actions: Actions) -> bool {
        let on = self.mechanisms.iter().any(|mechanism| mechanisms.contains(mechanism));
        on && match self.need {
            Need::Always | Need::Once => true,
            Need::Action(bit) => actions.has(bit),
        }
    }

    /// The best way of which no program is refused: half of them would tell half-truths.
    fn way(&self, refused: &[Refusal]) -> Option<&'static Way> {
        self.ways.iter().find(|way| way.refusal(refused).is_none())
    }

    fn programs(&self, refused: &[Refusal]) -> &'static [&'static str] {
        self.way(refused).map_or(&[], |way| way.programs)
    }

    /// How it stands on a kernel that refuses some programs, wanted or not.
    pub fn fact(&self, refused: &[Refusal]) -> Fact {
        let way = self.way(refused);
        // What the kernel says of a program says more than that it has no place for another.
        let mut refusals = self.ways.iter().rev().filter_map(|way| way.refusal(refused));
        let last = refusals.clone().next();
        let refusal = refusals.find(|refusal| !refusal.untried()).or(last);
        let off = match refusal {
            Some(refusal) if way.is_none() && self.instead.is_empty() => {
                Some(format!("{refusal}: {}", self.lacks))
            }
            _ => None,
        };
        Fact {
            fact: self.fact,
            programs: way.map_or_else(Vec::new, |way| way.programs.to_vec()),
            lost: way.map_or("", |way| way.lost),
            off,
            instead: if way.is_none() { self.instead } else { "" },
            chosen: way.map(|way| way.tier),
        }
    }
}

/// Programs to attach for these mechanisms and the file actions that recipes ask for, on a kernel
/// that refuses some.
pub fn programs(
    mechanisms: &[Mechanism],
    actions: Actions,
    refused: &[Refusal],
) -> Vec<&'static str> {
    HOOKS
        .iter()
        .filter(|hook| hook.need != Need::Once && hook.wanted(mechanisms, actions))
        .flat_map(|hook| hook.programs(refused))
        .copied()
        .collect()
}

/// Whether a program is among those that feed facts here.
pub fn chosen(program: &str, refused: &[Refusal]) -> bool {
    HOOKS.iter().any(|hook| hook.programs(refused).contains(&program))
}

/// The facts that are wanted, on or off.
pub fn facts(mechanisms: &[Mechanism], actions: Actions, refused: &[Refusal]) -> Vec<Fact> {
    let wanted = HOOKS.iter().filter(|hook| hook.wanted(mechanisms, actions));
    wanted.map(|hook| hook.fact(refused)).collect()
}

impl Fact {
    /// In a few words: the fact, and what tells it.
    pub fn told(&self) -> String {
        let by = self.programs.join(", ");
        format!("{} ({})", self.fact, if self.instead.is_empty() { &by } else { self.instead })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closes_cost_nothing_unless_asked_for() {
        let quiet = programs(&Mechanism::ALL, Actions(0), &[]);
        assert!(quiet.contains(&"sys_exit") && !quiet.contains(&"sys_enter"));
        assert!(programs(&Mechanism::ALL, Actions(1 << CLOSE), &[]).contains(&"sys_enter"));
    }

    #[test]
    fn a_mechanism_that_is_off_attaches_nothing_of_its_own() {
        let some = programs(&[Mechanism::Execution, Mechanism::EnvVars], Actions(0), &[]);
        let always =
            ["process_fork", "process_exec", "process_exit", "cgroup_mkdir", "cgroup_rmdir"];
        assert_eq!(some, always);
    }

    #[test]
    fn a_refused_program_turns_its_fact_off_and_no_other() {
        let refused =
            [Refusal { program: "ingress".to_owned(), reason: "unknown helper".to_owned() }];
        let some = programs(&Mechanism::ALL, Actions(0), &refused);
        assert!(!some.contains(&"egress") && some.contains(&"sys_exit"), "{some:?}");
        let facts = facts(&Mechanism::ALL, Actions(0), &refused);
        let off: Vec<&Fact> = facts.iter().filter(|fact| fact.off.is_some()).collect();
        assert_eq!(off.len(), 1);
        assert_eq!((off[0].fact, off[0].programs.len()), ("flows", 0));
        let reason = off[0].off.as_deref().unwrap_or_default();
        assert!(reason.contains("unknown helper") && reason.contains("CONFIG_CGROUP_BPF"));
    }

    #[test]
    fn each_fact_that_can_be_off_says_what_to_do() {
        for hook in HOOKS {
            let first = hook.ways.iter().flat_map(|way| way.programs);
            let mandatory = first.clone().all(|program| essential(program));
            let said = !hook.lacks.is_empty() || !hook.instead.is_empty();
            assert_eq!(said, !mandatory, "{}", hook.fact);
        }
    }
}
