//! Recipes from the outside: what is shipped, what the grammar takes, what it refuses.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use raqib::detect::{Conditions, Detector, Level, Parsed, Recipe, Ruleset, check_examples, parse};
use raqib::event::{FILE_ACTIONS, Mechanism};

fn shipped() -> Ruleset {
    let (ruleset, problems) = Ruleset::load(true, &[], None);
    assert!(problems.is_empty(), "{}", lines(&problems));
    ruleset
}

fn lines(problems: &[raqib::problem::Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

fn yaml_files(dir: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            yaml_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.insert(path);
        }
    }
}

/// A recipe with the fields that all need, and those given.
fn recipe(mechanism: &str, breed: &str, fields: &str) -> String {
    let common = "  name: n\n  version: 1.0\n  description: d\n  importance: low\n";
    format!("- kind: k\n{common}  mechanism: {mechanism}\n  breed: {breed}\n{fields}")
}

fn good(text: &str) -> Vec<Arc<Recipe>> {
    let Parsed { recipes, problems, .. } = parse("t.yaml", text);
    assert!(problems.is_empty(), "{}", lines(&problems));
    recipes.into_iter().map(Arc::new).collect()
}

/// Line, key and message of each mistake.
fn wrong(text: &str) -> Vec<(usize, String, String)> {
    let parsed = parse("t.yaml", text);
    assert!(parsed.problems.iter().all(|problem| problem.file == "t.yaml"));
    parsed.problems.into_iter().map(|p| (p.line, p.key, p.message)).collect()
}

/// Runs the examples of the recipe: each says what the recipe must do.
fn proves(text: &str) {
    for recipe in good(text) {
        assert!(!recipe.examples.is_empty());
        let problems = check_examples(&recipe);
        assert!(problems.is_empty(), "{}", lines(&problems));
    }
}

mod shipped_recipes {
    use super::*;

    #[test]
    fn all_are_embedded_and_without_a_doubt() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/recipes");
        let mut files = BTreeSet::new();
        yaml_files(&root, &mut files);
        let ruleset = shipped();
        assert!(ruleset.notices().is_empty(), "{}", lines(ruleset.notices()));
        let all = ruleset.recipes().iter().chain(ruleset.inactive());
        let embedded: BTreeSet<PathBuf> =
            all.map(|r| root.join(r.place.file.trim_start_matches("built-in:"))).collect();
        assert_eq!(embedded, files, "touch src/detect/ruleset.rs when a file was added");
    }

    #[test]
    fn each_proves_that_it_fires_and_stays_silent() {
        let ruleset = shipped();
        let mut failed = String::new();
        for recipe in ruleset.recipes().iter().chain(ruleset.inactive()) {
            failed += &lines(&check_examples(recipe));
            let fires = recipe.examples.iter().any(|example| example.fires);
            let silent = recipe.examples.iter().any(|example| !example.fires);
            // `flow` leaves nothing out.
            if !fires || (!silent && &*recipe.kind != "flow") {
                failed += &format!("{}: needs an example of each sort\n", recipe.name);
            }
        }
        assert!(failed.is_empty(), "{failed}");
    }

    #[test]
    fn each_has_a_label_a_limit_and_a_place_of_its_own() {
        let ruleset = shipped();
        let mut names = BTreeSet::new();
        for recipe in ruleset.recipes() {
            let name = &recipe.name;
            assert!(names.insert((recipe.kind.clone(), name.clone())), "{name} twice");
            assert!(!recipe.times.is_empty(), "{name}: no limit");
            assert!(recipe.importance > Level::None, "{name}");
            let attack = &recipe.attack;
            for label in [&attack.tactic, &attack.technique] {
                assert!(label.as_ref().is_some_and(|label| label.id.is_some()), "{name}");
            }
            let room = recipe.place.file.trim_start_matches("built-in:");
            let room = room.split('/').next().expect("a directory");
            let mechanism = Mechanism::ALL.into_iter().find(|each| each.name() == room);
            assert!(recipe.mechanism.sees(mechanism.expect("a plugin")), "{name} in {room}");
        }
        assert!(names.len() >= 40, "{}", names.len());
    }
}
