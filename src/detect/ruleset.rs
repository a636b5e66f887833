//! All recipes that a daemon knows, from its binary and from directories.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use include_dir::{Dir, include_dir};

use crate::event::{Actions, Mechanism};
use crate::problem::Problem;

use super::actions::ANY_FILE_ACTION;
use super::parse::{normalize, parse};
use super::recipe::{Conditions, Parsed, Recipe};

/// The recipes in the binary. Cargo does not see a *new* file in the directory (a changed one it
/// does); a test compares what is embedded with what is there.
static BUILTIN: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/config/recipes");

/// A larger file is refused unread.
const FILE_MAX: u64 = 16 << 20;
/// Directories inside each other, and files in all: a loop of symbolic links ends here, as does
/// a recipe directory set to `/`.
const DEPTH_MAX: usize = 8;
const FILES_MAX: usize = 10_000;

/// Kinds that existed under two names: a configuration that says one means the other too.
const SAME_KINDS: &[(&str, &str)] = &[
    ("ssh_auth_keys_modification", "ssh_authorized_keys_modification"),
    ("password_brute_force", "password_brute_force_tool"),
];

/// Recipes that take part, and those that were loaded and do not. Immutable; shared.
#[derive(Debug, Default)]
pub struct Ruleset {
    pub(super) recipes: Vec<Arc<Recipe>>,
    inactive: Vec<Arc<Recipe>>,
    notices: Vec<Problem>,
}

impl Ruleset {
    /// Loads the embedded recipes (if `builtin`), then each directory in order.
    ///
    /// A recipe of a later source replaces those of the same kind *and* name of earlier ones;
    /// inside one source all are kept. With a list of `events` an embedded recipe takes part when
    /// the list has its kind, one from a directory also when it is `enabled` by itself; without
    /// a list `enabled` decides. A directory that does not exist is a notice, everything else
    /// that is wrong a problem; good recipes are loaded all the same.
    pub fn load(
        builtin: bool,
        dirs: &[PathBuf],
        events: Option<&[String]>,
    ) -> (Self, Vec<Problem>) {
        let mut loader = Loader::default();
        if builtin {
            loader.begin();
            loader.embedded(&BUILTIN);
        }
        for dir in dirs {
            loader.begin();
            loader.directory(dir);
        }
        loader.finish(builtin, events)
    }

    /// One recipe, which takes part even if it is not enabled: for trying it.
    pub fn only(recipe: Arc<Recipe>) -> Self {
        Self { recipes: vec![recipe], ..Self::default() }
    }

    /// Those that take part; candidates are indices into this.
    pub fn recipes(&self) -> &[Arc<Recipe>] {
        &self.recipes
    }

    /// Those that were loaded but switched off, by themselves or by the list of events.
    pub fn inactive(&self) -> &[Arc<Recipe>] {
        &self.inactive
    }

    /// Doubtful places that keep nothing from being loaded.
    pub fn notices(&self) -> &[Problem] {
        &self.notices
    }

    /// Environment variables that the kernel should look for.
    pub fn watched_env_names(&self) -> BTreeSet<String> {
        let rules = self.recipes.iter().filter_map(|recipe| match &recipe.conditions {
            Conditions::Env(rule) => Some(rule),
            _ => None,
        });
        rules.flat_map(|rule| rule.names.iter().map(ToString::to_string)).collect()
    }

    /// File actions that some recipe of file accesses asks for or excludes: hooks for the others
    /// can stay off.
    pub fn wanted_actions(&self) -> Actions {
        let mut wanted = 0;
        for recipe in &self.recipes {
            if let Conditions::File(rule) = &recipe.conditions
                && recipe.mechanism.sees(Mechanism::FileAccess)
            {
                let any = rule.actions.want.0 == 0;
                wanted |= if any { ANY_FILE_ACTION.0 } else { rule.actions.want.0 };
                wanted |= rule.actions.without.0;
            }
        }
        Actions(wanted)
    }
}

#[derive(Default)]
struct Loader {
    /// Recipes with the number of their source.
    loaded: Vec<(usize, Recipe)>,
    source: usize,
    files: usize,
    problems: Vec<Problem>,
    notices: Vec<Problem>,
}

impl Loader {
    fn begin(&mut self) {
        self.source += 1;
    }

    fn add(&mut self, parsed: Parsed) {
        let source = self.source;
        self.loaded.extend(parsed.recipes.into_iter().map(|recipe| (source, recipe)));
        self.problems.extend(parsed.problems);
        self.notices.extend(parsed.notices);
    }

    fn wrong(&mut self, path: &Path, message: String) {
        self.problems.push(whole_file(path, message));
    }

    fn embedded(&mut self, dir: &Dir<'_>) {
        for file in dir.files().filter(|file| is_yaml(file.path())) {
            let name = format!("built-in:{}", file.path().display());
            self.add(parse(&name, file.contents_utf8().unwrap_or_default()));
        }
        for dir in dir.dirs() {
            self.embedded(dir);
        }
    }

    fn directory(&mut self, dir: &Path) {
        match fs::metadata(dir) {
            Ok(found) if found.is_dir() => self.walk(dir, 0),
            Ok(_) => self.wrong(dir, "expected a directory of recipe files".into()),
            // The default directories need not exist.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.notices.push(whole_file(dir, "this directory does not exist".into()));
            }
            Err(error) => self.wrong(dir, error.to_string()),
        }
    }

    fn walk(&mut self, dir: &Path, depth: usize) {
        if depth > DEPTH_MAX {
            let message = format!("more than {DEPTH_MAX} directories deep; not read");
            return self.wrong(dir, message);
        }
        if !self.count(dir) {
            return;
        }
        let mut paths = Vec::new();
        match fs::read_dir(dir) {
            Ok(entries) => {
                for entry in entries.take(FILES_MAX) {
                    match entry {
                        Ok(entry) => paths.push(entry.path()),
                        Err(error) => self.wrong(dir, error.to_string()),
                    }
                }
            }
            Err(error) => self.wrong(dir, error.to_string()),
        }
        paths.sort();
        for path in paths.iter().filter(|path| !is_hidden(path)) {
            // Follows symbolic links: Kubernetes mounts a ConfigMap as links into `..data`.
            match fs::metadata(path) {
                Ok(found) if found.is_dir() => self.walk(path, depth + 1),
                Ok(found) if found.is_file() && is_yaml(path) => self.file(path, found.len()),
                Ok(_) => {}
                Err(error) if is_yaml(path) => self.wrong(path, error.to_string()),
                Err(_) => {}
            }
        }
    }

    /// Directories count too: links that lead back multiply them.
    fn count(&mut self, path: &Path) -> bool {
        self.files += 1;
        if self.files == FILES_MAX + 1 {
            self.wrong(path, format!("more than {FILES_MAX} files; this and later not read"));
        }
        self.files <= FILES_MAX
    }

    fn file(&mut self, path: &Path, size: u64) {
        if !self.count(path) {
            return;
        }
        if size > FILE_MAX {
            return self.wrong(path, format!("larger than {FILE_MAX} bytes; not read"));
        }
        let mut bytes = Vec::new();
        // The size may have changed since; the limit holds for what is read.
        let read =
            fs::File::open(path).and_then(|file| file.take(FILE_MAX + 1).read_to_end(&mut bytes));
        match read.map(|_| String::from_utf8(bytes)) {
            Err(error) => self.wrong(path, error.to_string()),
            Ok(Err(error)) => {
                let at = error.utf8_error().valid_up_to();
                self.wrong(path, format!("not UTF-8 text: byte {at} fits no character"));
            }
            Ok(Ok(text)) if text.len() as u64 > FILE_MAX => {
                self.wrong(path, format!("larger than {FILE_MAX} bytes; not read"));
            }
            Ok(Ok(text)) => self.add(parse(&path.display().to_string(), &text)),
        }
    }

    fn finish(self, builtin: bool, events: Option<&[String]>) -> (Ruleset, Vec<Problem>) {
        let listed = events.map(listed_kinds);
        let key = |recipe: &Recipe| (recipe.kind.clone(), recipe.name.clone());
        let mut newest = HashMap::new();
        for (source, recipe) in &self.loaded {
            let seen = newest.entry(key(recipe)).or_insert(*source);
            *seen = (*seen).max(*source);
        }
        let mut ruleset = Ruleset { notices: self.notices, ..Ruleset::default() };
        for (source, recipe) in self.loaded {
            if newest.get(&key(&recipe)).is_some_and(|newest| *newest > source) {
                continue;
            }
            let own = builtin && source == 1;
            let active = match &listed {
                None => recipe.enabled,
                Some(listed) => listed.contains(&*recipe.kind) || (!own && recipe.enabled),
            };
            let list = if active { &mut ruleset.recipes } else { &mut ruleset.inactive };
            list.push(Arc::new(recipe));
        }
        (ruleset, self.problems)
    }
}

fn listed_kinds(events: &[String]) -> BTreeSet<String> {
    let mut kinds: BTreeSet<String> = events.iter().map(|event| normalize(event)).collect();
    for (one, other) in SAME_KINDS {
        for (one, other) in [(one, other), (other, one)] {
            if kinds.contains(*one) {
                kinds.insert((*other).into());
            }
        }
    }
    kinds
}

fn whole_file(path: &Path, message: String) -> Problem {
    Problem { file: path.display().to_string(), line: 0, key: String::new(), message }
}

fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

/// Editors' and version control's own files, and the `..data` of a mounted ConfigMap, whose
/// contents are linked beside it.
fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}
