//! Files that people wrote, read as a whole: configuration and recipes.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};

use crate::config::Config;
use crate::detect::Ruleset;
use crate::problem::Problem;

/// Every mistake of a file in one error, one a line.
fn all(problems: &[Problem]) -> anyhow::Error {
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    anyhow!("{}", lines.join("\n"))
}

/// The configuration of a file, with its notices in the log.
pub fn config(file: &Path) -> Result<Config> {
    let config = Config::load(file).map_err(|problems| all(&problems))?;
    for notice in config.notices() {
        log::warn!("{notice}");
    }
    Ok(config)
}

/// The recipes that a configuration names. A broken recipe is said and left out, the others
/// work; that none at all is left is an error.
pub fn load(config: &Config) -> Result<Ruleset> {
    let (rules, problems) = read(config);
    for problem in &problems {
        log::error!("{problem}");
    }
    if rules.recipes().is_empty() && !problems.is_empty() {
        return Err(all(&problems).context("no recipe could be read"));
    }
    Ok(rules)
}

/// The recipes and all that is wrong with them.
pub fn read(config: &Config) -> (Ruleset, Vec<Problem>) {
    let dirs: Vec<PathBuf> = config.recipe_dirs().into_iter().map(Path::to_owned).collect();
    Ruleset::load(config.builtin_recipes(), &dirs, config.events.as_deref())
}
