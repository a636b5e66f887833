//! The configuration: one YAML file, checked as a whole before anything starts.
//!
//! The format is the one that users of this architecture have (`run-time`, `cadences`, `caches`,
//! `features` ...), so that their files run unchanged. `keys` is the table of all keys; a file
//! is read by `yaml` under limits, older layouts are moved by `legacy`, `check` fills a
//! [`Config`] and collects every mistake with its line.

mod check;
mod describe;
mod keys;
mod legacy;
mod names;
mod sections;
mod suggest;
#[cfg(test)]
mod tests;
mod yaml;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use describe::{reference, sample, schema};
pub use sections::*;

use crate::event::Mechanism;
use crate::problem::Problem;

/// What the daemon was told. Every value is within the range of its key.
///
/// Serializes to what [`Config::parse`] reads, accepted keys without effect left out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Config {
    #[serde(rename = "run-time")]
    pub run_time: RunTime,
    pub cadences: Cadences,
    pub caches: Caches,
    /// For compatibility; no effect.
    pub functionalities: Vec<String>,
    /// What is on, by the names of the reference; ask [`Config::plugins`] and [`Config::feature`].
    pub features: Vec<String>,
    pub feature_options: FeatureOptions,
    /// Printers in the file's order, each once. Some may not be built yet, see
    /// [`Config::printers_built`].
    pub printers: Vec<String>,
    pub printer_options: PrinterOptions,
    /// Kinds or names of the recipes that are used; `None` is every enabled recipe.
    pub events: Option<Vec<String>>,
    /// What was understood by translation while the file was read; part of [`Config::notices`].
    #[serde(skip)]
    pub translated: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        let list = |names: &[&str]| names.iter().map(|&name| name.into()).collect();
        Self {
            run_time: RunTime::default(),
            cadences: Cadences::default(),
            caches: Caches::default(),
            functionalities: list(&["raqib"]),
            features: list(&["hold", "procfs", "detect", "alchemies"]),
            feature_options: FeatureOptions::default(),
            printers: list(&["stdout"]),
            printer_options: PrinterOptions::default(),
            events: None,
            translated: Vec::new(),
        }
    }
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// Every mistake of the file; or one, if it cannot be read, is larger than 1 MiB, or is not
    /// YAML in UTF-8.
    pub fn load(path: &Path) -> Result<Self, Vec<Problem>> {
        let file_name = path.display().to_string();
        let one = |line, message| {
            let (file, key) = (file_name.clone(), String::new());
            Err(vec![Problem { file, line, key, message }])
        };
        let mut bytes = Vec::new();
        let limit = yaml::MAX_BYTES as u64 + 1;
        let read =
            File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes).map(drop));
        if let Err(error) = read {
            return one(
                0,
                format!(
                    "cannot be read: {error}; name another file, write this one (the sample \
                     config/raqib.yaml has every key), or name none to run with the defaults"
                ),
            );
        }
        match std::str::from_utf8(&bytes) {
            Ok(text) => Self::parse(&file_name, text),
            // The limit may have cut a character in two.
            Err(_) if bytes.len() > yaml::MAX_BYTES => {
                one(0, format!("is larger than {} bytes", yaml::MAX_BYTES))
            }
            Err(error) => {
                let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
                let line = 1 + valid.iter().filter(|&&byte| byte == b'\n').count();
                one(line, "is not UTF-8; save it as UTF-8".into())
            }
        }
    }

    /// Checks a text; `file_name` is for messages.
    ///
    /// # Errors
    /// Every mistake of the text in the order of its lines; one, if it is not YAML or is beyond
    /// the limits (1 MiB, 16 levels, 20,000 values).
    pub fn parse(file_name: &str, text: &str) -> Result<Self, Vec<Problem>> {
        check::config(file_name, text)
    }

    /// True if the list `features` has the name.
    pub fn feature(&self, name: &str) -> bool {
        self.features.iter().any(|feature| feature == name)
    }

    /// The plugins that are on: all of them if `features` has `detect`, else those it names.
    pub fn plugins(&self) -> Vec<Mechanism> {
        let all = self.feature("detect");
        Mechanism::ALL.into_iter().filter(|plugin| all || self.feature(plugin.name())).collect()
    }

    /// The printers that this version has, out of those listed.
    pub fn printers_built(&self) -> impl Iterator<Item = &str> {
        let built =
            |name: &&str| names::PRINTERS.iter().any(|known| known.works && known.name == *name);
        self.printers.iter().map(String::as_str).filter(built)
    }

    /// True if the recipes inside the binary are used.
    ///
    /// They do not need the feature `alchemies`: a file that lists only `detect` expects
    /// detections.
    pub fn builtin_recipes(&self) -> bool {
        self.feature_options.alchemies.builtin.enabled
    }

    /// Directories of recipes that are used, in this order: shared ones, then the site's own.
    pub fn recipe_dirs(&self) -> Vec<&Path> {
        let alchemies = &self.feature_options.alchemies;
        [&alchemies.public, &alchemies.private]
            .into_iter()
            .filter(|dirs| dirs.enabled && self.feature("alchemies"))
            .flat_map(|dirs| dirs.paths.iter().map(PathBuf::as_path))
            .collect()
    }

    /// What a person should know about this configuration although it is no mistake.
    pub fn notices(&self) -> Vec<String> {
        let mut notices = self.translated.clone();
        let lists = [
            ("feature", &self.features, names::FEATURES),
            ("printer", &self.printers, names::PRINTERS),
        ];
        for (what, listed, known) in lists {
            let works: BTreeMap<&str, bool> =
                known.iter().map(|known| (known.name, known.works)).collect();
            for name in listed.iter().filter(|name| works.get(name.as_str()) == Some(&false)) {
                notices.push(format!("{what} {name} is accepted but does nothing in this version"));
            }
        }
        if self.plugins().is_empty() {
            notices.push("features names neither detect nor a plugin: nothing is watched".into());
        }
        if self.printers_built().next().is_none() {
            notices.push("printers names none that works: alerts are printed nowhere".into());
        }
        if self.events.as_ref().is_some_and(Vec::is_empty) {
            notices.push("events is an empty list: no recipe is used".into());
        }
        notices
    }
}
