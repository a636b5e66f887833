//! Which programs feed which fact: one table, from which loading, attaching and what the user is
//! told are derived.
//!
//! Each fact names its programs best tier first. The object tier (fentry on kernel functions) is
//! a second column that is empty yet: every fact here comes from tracepoints and cgroup hooks,
//! which also work where functions cannot be hooked.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

use anyhow::{Context, Result};
use libbpf_rs::Link;
use libbpf_rs::skel::Skel;

use super::load::Kernel;
use crate::event::{Actions, Mechanism};

/// When a hook is worth its cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Whenever its mechanism is on.
    Always,
    /// Only if a recipe asks for this file action.
    Action(u32),
}

/// One fact and the programs that record it.
#[derive(Clone, Copy, Debug)]
pub struct Hook {
    pub fact: &'static str,
    pub mechanisms: &'static [Mechanism],
    /// Programs of the object tier; none: not built yet.
    pub object: &'static [&'static str],
    /// Programs of the tracepoint tier.
    pub tracepoint: &'static [&'static str],
    pub need: Need,
    /// What the tracepoint tier does not tell.
    pub lost: &'static str,
}

use Mechanism::{FileAccess, NetworkFlows, NetworkPeers};

/// `close` in the recipes' numbering of file actions.
pub const CLOSE: u32 = 12;

pub const HOOKS: &[Hook] = &[
    Hook {
        fact: "processes",
        // Always loaded: every other fact is told with its process and lineage.
        mechanisms: &Mechanism::ALL,
        object: &[],
        tracepoint: &["sched_process_fork", "sched_process_exec", "sched_process_exit"],
        need: Need::Always,
        lost: "",
    },
    Hook {
        fact: "files",
        mechanisms: &[FileAccess, NetworkFlows, NetworkPeers],
        object: &[],
        tracepoint: &["sys_exit"],
        need: Need::Always,
        lost: "rename, link, unlink and truncate by path are known by the name that was passed; \
               io_uring requests are not seen",
    },
    Hook {
        fact: "closes",
        mechanisms: &[FileAccess],
        object: &[],
        tracepoint: &["sys_enter"],
        need: Need::Action(CLOSE),
        lost: "closes by exit, exec, dup2 and close_range",
    },
    Hook {
        fact: "flows",
        mechanisms: &[NetworkFlows, NetworkPeers],
        object: &[],
        tracepoint: &["sock_create", "ingress", "egress"],
        need: Need::Always,
        lost: "attempts that send no packet",
    },
];

impl Hook {
    fn wanted(&self, mechanisms: &[Mechanism], actions: Actions) -> bool {
        let on = self.mechanisms.iter().any(|mechanism| mechanisms.contains(mechanism));
        on && match self.need {
            Need::Always => true,
            Need::Action(bit) => actions.has(bit),
        }
    }
}

/// Programs to attach for these mechanisms and the file actions that recipes ask for.
pub fn programs(mechanisms: &[Mechanism], actions: Actions) -> Vec<&'static str> {
    HOOKS
        .iter()
        .filter(|hook| hook.wanted(mechanisms, actions))
        .flat_map(|hook| hook.tracepoint)
        .copied()
        .collect()
}

/// Attached programs; dropping it detaches them all.
#[derive(Debug, Default)]
pub struct Attached {
    links: Vec<(&'static str, Link)>,
}

impl Attached {
    /// Attaches the programs by name, those of cgroups to the hierarchy's root, and detaches
    /// what is attached and not named.
    pub fn attach(
        &mut self,
        kernel: &Kernel,
        names: &[&'static str],
        cgroup: Option<&Path>,
    ) -> Result<()> {
        self.links.retain(|(attached, _)| names.contains(attached));
        let cgroup =
            cgroup.map(File::open).transpose().context("cannot open the cgroup v2 root")?;
        for program in kernel.skel.object().progs_mut() {
            let Some(name) = names.iter().find(|name| program.name() == **name) else { continue };
            if self.links.iter().any(|(attached, _)| attached == name) {
                continue;
            }
            let section = program.section().to_string_lossy().into_owned();
            let link = match &cgroup {
                Some(root) if section.starts_with("cgroup") => {
                    program.attach_cgroup(root.as_raw_fd())
                }
                _ => program.attach(),
            };
            self.links.push((name, link.with_context(|| format!("cannot attach {section}"))?));
        }
        Ok(())
    }

    pub fn has(&self, name: &str) -> bool {
        self.links.iter().any(|(attached, _)| *attached == name)
    }

    /// For people and for status: fact, its attached programs, what this tier does not tell.
    pub fn describe(&self) -> Vec<(&'static str, Vec<&'static str>, &'static str)> {
        HOOKS
            .iter()
            .map(|hook| {
                let on = hook.tracepoint.iter().copied().filter(|name| self.has(name)).collect();
                (hook.fact, on, hook.lost)
            })
            .filter(|(_, on, _): &(_, Vec<_>, _)| !on.is_empty())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closes_cost_nothing_unless_asked_for() {
        let quiet = programs(&Mechanism::ALL, Actions(0));
        assert!(quiet.contains(&"sys_exit") && !quiet.contains(&"sys_enter"));
        assert!(programs(&Mechanism::ALL, Actions(1 << CLOSE)).contains(&"sys_enter"));
    }

    #[test]
    fn a_mechanism_that_is_off_attaches_nothing_of_its_own() {
        let some = programs(&[Mechanism::Execution, Mechanism::EnvVars], Actions(0));
        assert_eq!(some, ["sched_process_fork", "sched_process_exec", "sched_process_exit"]);
    }
}
