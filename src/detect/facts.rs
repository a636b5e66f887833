//! What an alert says of the recipe that fired.

use std::sync::Arc;

use super::attack::Label;
use super::recipe::{Level, Recipe};
use crate::alert::{Importance, Named, RecipeFacts};

impl From<&Recipe> for RecipeFacts {
    fn from(recipe: &Recipe) -> Self {
        Self {
            kind: Arc::clone(&recipe.kind),
            name: Arc::clone(&recipe.name),
            version: Arc::clone(&recipe.version),
            description: Arc::clone(&recipe.description),
            documentation: Some(&recipe.documentation).filter(|text| !text.is_empty()).cloned(),
            tactic: recipe.attack.tactic.as_ref().and_then(named),
            technique: recipe.attack.technique.as_ref().and_then(named),
            subtechnique: recipe.attack.subtechnique.as_ref().and_then(named),
            importance: importance(recipe.importance),
            severity: Some(recipe.severity),
            confidence: recipe.confidence,
        }
    }
}

/// A label that ATT&CK does not have (`none`, `example`) is not told.
fn named(label: &Label) -> Option<Named> {
    Some(Named { name: Arc::clone(&label.name), id: label.id?.into() })
}

fn importance(level: Level) -> Importance {
    match level {
        Level::None | Level::Low => Importance::Low,
        Level::Medium => Importance::Medium,
        Level::High => Importance::High,
        Level::Critical => Importance::Critical,
    }
}
