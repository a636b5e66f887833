//! Bounded, queryable state in user space, fed by sealed epochs.

pub mod process;

pub use process::{Creds, Image, Namespaces, Process};
