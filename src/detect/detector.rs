//! Matches events with recipes in two steps.
//!
//! Step one ([`Detector::candidates`]) needs only the event: it is what nearly all events end
//! with. Step two ([`Detector::decide`]) joins the event with its process and asks the filters
//! and the counters.

use std::sync::Arc;

use ahash::{AHashMap, RandomState};

use crate::event::{Body, Event, File, Mechanism};
use crate::state::Process;

use super::files::{FileIs, FileRule};
use super::flows::FlowRule;
use super::index::FileIndex;
use super::recipe::{Conditions, EnvRule, Recipe};
use super::ruleset::Ruleset;
use super::subject::Subject;
use super::times::Times;

/// A recipe that fired.
#[derive(Clone, Debug)]
pub struct Verdict {
    pub recipe: Arc<Recipe>,
    /// That this was the last time a limit allowed.
    pub note: Option<String>,
}

/// The matcher of one plugin: its thread owns it.
#[derive(Debug)]
pub struct Detector {
    ruleset: Arc<Ruleset>,
    mechanism: Mechanism,
    files: FileIndex,
    /// Recipes on flows and peers, by number.
    flows: Vec<usize>,
    /// Recipes on activities, by number.
    activities: Vec<usize>,
    /// Recipes on environment variables, by name and number.
    envs: AHashMap<Arc<str>, Vec<usize>>,
    /// Recipes on containers, by number.
    containers: Vec<usize>,
    /// Counters by the fingerprint of the recipe, so that they outlive a reload.
    times: AHashMap<u64, Times>,
    hasher: RandomState,
}

impl Detector {
    pub fn new(ruleset: Arc<Ruleset>, mechanism: Mechanism) -> Self {
        let mut detector = Self {
            ruleset: Arc::default(),
            mechanism,
            files: FileIndex::default(),
            flows: Vec::new(),
            activities: Vec::new(),
            envs: AHashMap::new(),
            containers: Vec::new(),
            times: AHashMap::new(),
            hasher: RandomState::new(),
        };
        detector.reload(ruleset);
        detector
    }

    /// Takes another rule set. Counters of recipes that say the same as before go on; the path
    /// cache starts anew. Candidates found before are no longer valid.
    pub fn reload(&mut self, ruleset: Arc<Ruleset>) {
        self.ruleset = ruleset;
        let all = self.ruleset.recipes.iter().enumerate();
        let mine = all.filter(|(_, recipe)| recipe.mechanism.sees(self.mechanism));
        let mut files = Vec::new();
        self.flows.clear();
        self.activities.clear();
        self.envs.clear();
        self.containers.clear();
        let mut kept = AHashMap::new();
        for (number, recipe) in mine {
            match &recipe.conditions {
                Conditions::File(rule) => files.push((number, rule)),
                Conditions::Flow(_) => self.flows.push(number),
                Conditions::Activity(_) => self.activities.push(number),
                Conditions::Container(_) => self.containers.push(number),
                Conditions::Env(rule) => {
                    for name in &rule.names {
                        self.envs.entry(name.clone()).or_default().push(number);
                    }
                }
            }
            let old = self.times.remove(&recipe.fingerprint).unwrap_or_default();
            kept.entry(recipe.fingerprint).or_insert(old);
        }
        self.files = FileIndex::new(files.into_iter());
        self.times = kept;
    }

    /// Adds the recipes whose conditions on the body hold, as indices into
    /// [`Ruleset::recipes`]; `out` is emptied first.
    ///
    /// An execution has one more path to match, that of the script, and only the process knows
    /// it: [`Self::decide`] looks for it, so it is worth calling even without candidates.
    pub fn candidates(&mut self, event: &Event, out: &mut Vec<usize>) {
        out.clear();
        if event.mechanism != self.mechanism {
            return;
        }
        match &event.body {
            Body::File(file) => self.at_path(file, file.path.as_str(), out),
            Body::Flow(flow) => self.on_flows(|rule| rule.matches_flow(flow), out),
            Body::Peer(peer) => self.on_flows(|rule| rule.matches_peer(peer), out),
            Body::Activity(activity) => {
                let numbers = self.activities.iter().copied();
                out.extend(numbers.filter(|number| {
                    let recipe = self.ruleset.recipes.get(*number);
                    recipe.is_some_and(|recipe| {
                        matches!(&recipe.conditions, Conditions::Activity(rule) if rule.matches(activity))
                    })
                }));
            }
            Body::Container(life) => {
                out.extend(self.containers.iter().copied().filter(|number| {
                    let recipe = self.ruleset.recipes.get(*number);
                    match recipe.map(|recipe| &recipe.conditions) {
                        Some(Conditions::Container(rule)) => rule.matches(life.actions),
                        _ => false,
                    }
                }));
            }
            Body::Env(env) => {
                let numbers = self.envs.get(&env.name).map_or(&[][..], Vec::as_slice);
                let value = env.value.as_str();
                for number in numbers {
                    let pattern = self.env_rule(*number).and_then(|rule| rule.pattern.as_ref());
                    if pattern.is_none_or(|pattern| pattern.is_match(value)) {
                        out.push(*number);
                    }
                }
            }
        }
    }

    /// The candidates that the process, the filters and the limits confirm.
    pub fn decide(
        &mut self,
        candidates: &[usize],
        event: &Event,
        process: &Arc<Process>,
    ) -> Vec<Verdict> {
        let subject = Subject { event, process };
        let mut numbers;
        let mut all = candidates;
        if self.mechanism == Mechanism::Execution
            && let (Body::File(file), Some(script)) = (&event.body, &process.image.script)
        {
            numbers = candidates.to_vec();
            self.at_path(file, script.as_str(), &mut numbers);
            all = &numbers;
        }
        let mut verdicts = Vec::new();
        for number in all {
            let Some(recipe) = self.ruleset.recipes.get(*number) else { continue };
            if !relates(recipe, &subject) || !recipe.arbitrary.iter().all(|g| g.keeps(&subject)) {
                continue;
            }
            let times = self.times.entry(recipe.fingerprint).or_default();
            if let Some(note) = times.allow(&recipe.times, process, &self.hasher) {
                verdicts.push(Verdict { recipe: recipe.clone(), note });
            }
        }
        verdicts
    }

    /// Both steps at once, for those who have the process at hand anyway.
    pub fn judge(&mut self, event: &Event, process: &Arc<Process>) -> Vec<Verdict> {
        let mut candidates = Vec::new();
        self.candidates(event, &mut candidates);
        self.decide(&candidates, event, process)
    }

    pub fn ruleset(&self) -> &Arc<Ruleset> {
        &self.ruleset
    }

    fn at_path(&mut self, file: &File, path: &str, out: &mut Vec<usize>) {
        let recipes = &self.ruleset.recipes;
        let rule_of = |number: usize| -> Option<&FileRule> {
            match &recipes.get(number)?.conditions {
                Conditions::File(rule) => Some(rule),
                _ => None,
            }
        };
        self.files.candidates(path, (file.actions, file.history), rule_of, out);
    }

    fn on_flows(&self, matches: impl Fn(&FlowRule) -> bool, out: &mut Vec<usize>) {
        let recipes = &self.ruleset.recipes;
        out.extend(self.flows.iter().copied().filter(|number| {
            match recipes.get(*number).map(|recipe| &recipe.conditions) {
                Some(Conditions::Flow(rule)) => matches(rule),
                _ => false,
            }
        }));
    }

    fn env_rule(&self, number: usize) -> Option<&EnvRule> {
        match &self.ruleset.recipes.get(number)?.conditions {
            Conditions::Env(rule) => Some(rule),
            _ => None,
        }
    }
}

/// `file_is`: the file is one that the process is made of.
fn relates(recipe: &Recipe, subject: &Subject<'_>) -> bool {
    let (Conditions::File(rule), Body::File(file)) = (&recipe.conditions, &subject.event.body)
    else {
        return true;
    };
    let process = subject.process;
    rule.file_is.is_empty()
        || rule.file_is.iter().any(|relation| match relation {
            FileIs::TaskExe => is_exe(file, process),
            FileIs::ParentExe => process.parent.as_deref().is_some_and(|p| is_exe(file, p)),
        })
}

/// By inode where both are known: another name of the same file is the same file.
fn is_exe(file: &File, process: &Process) -> bool {
    let image = &process.image;
    if file.inode != 0 && image.inode != 0 {
        return (file.dev, file.inode) == (image.dev, image.inode);
    }
    !file.path.is_empty() && file.path == image.exe
}
