//! Raqib ("the watcher"): a query-driven runtime-security daemon for Linux.

pub mod alert;
pub mod config;
pub mod detect;
pub mod dispatch;
pub mod dns;
pub mod event;
pub mod printers;
pub mod problem;
pub mod state;
pub mod text;
