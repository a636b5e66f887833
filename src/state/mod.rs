//! Bounded, queryable state in user space, fed by sealed epochs.

pub mod names;
pub mod process;

pub use names::Names;
pub use process::{Creds, Image, Namespaces, Process};
