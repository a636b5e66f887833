//! Detection: recipes, and matching events with them.
//!
//! A recipe is data: what a behaviour looks like, how much it matters, how often to say so. One
//! file in `config/recipes` (embedded) or in a directory of the user's holds a list of them;
//! `docs/recipes.md` is the grammar. [`Ruleset`] loads them, [`Detector`] asks which of them an
//! event fires. Nothing here knows where events come from or where alerts go.

mod actions;
mod activity;
pub mod arbitrary;
pub mod attack;
mod attack_table;
mod cidrs;
mod detector;
mod example;
mod facts;
mod fields;
mod files;
mod flows;
mod index;
mod names;
mod parse;
mod pattern;
mod recipe;
mod ruleset;
mod sheet;
mod subject;
pub mod times;
mod words;
mod yaml;

pub use actions::ActionRule;
pub use activity::{ActivityRule, Outcome};
pub use attack::{Attack, Label};
pub use cidrs::CidrSet;
pub use detector::{Detector, Verdict};
pub use example::{Example, check_examples};
pub use files::{FileIs, FilePlace, FileRule};
pub use flows::FlowRule;
pub use names::{NameMatch, NameSet};
pub use parse::parse;
pub use pattern::Pattern;
pub use recipe::{
    Breed, Conditions, EnvRule, Level, Parsed, Place, RawReaction, Recipe, RecipeMechanism,
};
pub use ruleset::Ruleset;
pub use subject::{Subject, What};
