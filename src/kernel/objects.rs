//! Whether the object tier can be had: programs on kernel functions that are handed its objects.
//!
//! The same programs are attached in one of two ways. As BPF LSM programs, where the list of
//! security modules has `bpf`; else to the functions that call the modules, whose arguments are
//! the same.

use std::fs;
use std::io;

use super::hooks::{HOOKS, Tier};
use super::{detached, host, trampoline};

/// What the programs of the tier are attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objects {
    /// Hooks of the BPF security module.
    Lsm,
    /// Functions that call the hooks of all modules.
    Functions,
}

/// Linux 7.0's type by which bpf/tracepoint.h knows that it has to turn preemption off.
const GUARDED: &str = "class_srcu_fast_notrace_t";

/// The programs of the tier.
pub fn programs() -> impl Iterator<Item = &'static str> {
    let ways = HOOKS.iter().flat_map(|hook| hook.ways);
    let ways = ways.filter(|way| way.tier == Tier::Object);
    // The others of such a way stand in another one too.
    ways.flat_map(|way| way.programs).copied().filter(|name| function(name).is_some())
}

/// The function that calls a program's hook.
pub fn function(program: &str) -> Option<String> {
    let ours = program.starts_with("path_") || program.starts_with("file_");
    ours.then(|| format!("security_{program}"))
}

/// How the tier's programs can be attached on this kernel.
///
/// # Errors
/// Why they cannot.
pub fn offered() -> Result<Objects, String> {
    trampoline::attempt().map_err(|refused| format!("functions cannot be hooked: {refused}"))?;
    if !preemption_is_ours()? {
        return Err("its functions can be preempted, and programs would write over one another's \
                    drafts (boot with preempt=voluntary, or use Linux 7.0)"
            .to_owned());
    }
    let modules = security_modules().unwrap_or_default();
    Ok(match modules.trim().split(',').any(|name| name == "bpf") {
        true => Objects::Lsm,
        false => Objects::Functions,
    })
}

/// The active security modules, separated by commas.
pub fn security_modules() -> io::Result<String> {
    detached::read(c"securityfs", "/sys/kernel/security", c"lsm")
}

/// The model of preemption that runs, if the kernel can change it and shows it.
pub fn running_preemption() -> Option<String> {
    let text = detached::read(c"debugfs", "/sys/kernel/debug", c"sched/preempt").ok()?;
    chosen(&text, ['(', ')']).map(str::to_owned)
}

/// The word for preemption in `uname -v`: PREEMPT, PREEMPT_DYNAMIC, PREEMPT_RT, or none.
pub fn built_preemption(version: &str) -> &str {
    let mut words = version.split_whitespace();
    words.find(|word| word.starts_with("PREEMPT")).unwrap_or("voluntary or none")
}

/// The one in brackets of several that can be chosen.
pub fn chosen(text: &str, [open, close]: [char; 2]) -> Option<&str> {
    Some(text.split_once(open)?.1.split_once(close)?.0.trim())
}

/// Whether a program has its CPU to itself: by the kernel's model, or because it can say so.
fn preemption_is_ours() -> Result<bool, String> {
    let btf = fs::read(host::BTF).map_err(|error| format!("no BTF: {error}"))?;
    if host::names(&btf, GUARDED) {
        return Ok(true);
    }
    let version = fs::read_to_string("/proc/sys/kernel/version").unwrap_or_default();
    Ok(match running_preemption() {
        Some(model) => matches!(model.as_str(), "none" | "voluntary"),
        // Not one that can change its model, or not shown: the build alone says.
        None => !built_preemption(&version).starts_with("PREEMPT"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_the_tier_are_named_after_their_functions() {
        let all: Vec<&str> = programs().collect();
        assert!(all.contains(&"path_unlink") && all.contains(&"file_open"), "{all:?}");
        assert!(!all.contains(&"io_uring_complete"));
        assert_eq!(function("path_unlink").as_deref(), Some("security_path_unlink"));
    }
}
