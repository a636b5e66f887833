//! Bounded, queryable state in user space, fed by sealed epochs.

pub mod containers;
pub mod files;
pub mod names;
pub mod paths;
pub mod process;
pub mod processes;
pub mod recent;
pub mod stdio;
pub mod traits;

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub use containers::Containers;
pub use files::Files;
pub use names::Names;
pub use paths::Paths;
pub use process::{Creds, Image, Namespaces, Process};
pub use processes::Processes;
pub use stdio::Stdio;
pub use traits::{TRAITS, Trait, Traits, Written};

/// State that plugins share: who is who, and what is called what.
#[derive(Debug)]
pub struct World {
    pub processes: Processes,
    pub containers: Containers,
    names: RwLock<Names>,
    files: RwLock<Files>,
}

impl World {
    pub fn new(processes: Processes, containers: Containers, names: Names, files: Files) -> Self {
        Self { processes, containers, names: RwLock::new(names), files: RwLock::new(files) }
    }

    pub fn names(&self) -> RwLockReadGuard<'_, Names> {
        self.names.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn files(&self) -> RwLockReadGuard<'_, Files> {
        self.files.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn files_mut(&self) -> RwLockWriteGuard<'_, Files> {
        self.files.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn names_mut(&self) -> RwLockWriteGuard<'_, Names> {
        self.names.write().unwrap_or_else(PoisonError::into_inner)
    }
}
