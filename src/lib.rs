//! Raqib ("the watcher"): a query-driven runtime-security daemon for Linux.

pub mod alert;
pub mod cli;
pub mod component;
pub mod config;
pub mod content;
pub mod control;
pub mod daemon;
pub mod detect;
pub mod dispatch;
pub mod dns;
pub mod doctor;
pub mod doorbell;
pub mod event;
pub mod journal;
pub mod kernel;
pub mod logging;
pub mod plugins;
pub mod printers;
pub mod problem;
pub mod rules;
pub mod signals;
pub mod state;
pub mod stats;
pub mod status;
pub mod text;
