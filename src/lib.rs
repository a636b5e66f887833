//! Raqib ("the watcher"): a query-driven runtime-security daemon for Linux.

pub mod alert;
pub mod config;
pub mod detect;
pub mod dispatch;
pub mod dns;
pub mod event;
pub mod journal;
pub mod kernel;
pub mod printers;
pub mod problem;
pub mod state;
pub mod stats;
pub mod text;
