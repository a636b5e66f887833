//! Signals: stop, stop at once, read again.

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Exit status after a second signal: the drain was cut short.
const CUT_SHORT: i32 = 1;

/// From here on signals wait to be read. Taken before anything is begun: one that comes during
/// the start must find everything given back as well.
pub fn listen() -> Result<Signals> {
    Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot listen for signals")
}

/// Blocks until SIGINT or SIGTERM; SIGHUP calls `reload`. From then on a second stop signal ends
/// the process at once, whatever it is doing.
pub fn until_stop(mut signals: Signals, mut reload: impl FnMut()) -> Result<()> {
    for signal in &mut signals {
        match signal {
            SIGHUP => reload(),
            _ => break,
        }
    }
    log::info!("stopping: hooks detach, last epochs are read, printers flush");
    std::thread::Builder::new()
        .name("raqib-signals".into())
        .spawn(move || {
            if signals.forever().any(|signal| signal != SIGHUP) {
                log::warn!("stopped at once: what was not printed yet is lost");
                std::process::exit(CUT_SHORT);
            }
        })
        .context("cannot start the signals' thread")?;
    Ok(())
}
