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
use super::refusal::Refusal;
use crate::event::{Actions, Mechanism};

/// When a hook is worth its cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Whenever its mechanism is on.
    Always,
    /// Only if a recipe asks for this file action.
    Action(u32),
    /// Run once at start (an iterator), not attached.
    Once,
}

/// One fact and the programs that record it.
#[derive(Clone, Copy, Debug)]
pub struct Hook {
    pub fact: &'static str,
    pub mechanisms: &'static [Mechanism],
    /// Better programs, where the kernel takes all of them; none: there is one way only.
    pub object: &'static [&'static str],
    /// Programs of the tracepoint tier.
    pub tracepoint: &'static [&'static str],
    pub need: Need,
    /// What the tracepoint tier does not tell.
    pub lost: &'static str,
    /// For who runs a kernel that refuses these programs: what it lacks, what is not told, and
    /// what can be done.
    pub lacks: &'static str,
    /// A name that the kernel's BTF has if it takes these programs; empty: known by trying, which
    /// costs a kernel that refuses a second attempt.
    pub asks: &'static str,
    /// How the same is told without these programs; empty: it is off.
    pub instead: &'static str,
}

use Mechanism::{Activity, FileAccess, NetworkFlows, NetworkPeers};

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
        lacks: "",
        asks: "",
        instead: "",
    },
    Hook {
        fact: "processes that were there before",
        mechanisms: &Mechanism::ALL,
        object: &[],
        tracepoint: &["prime_tasks"],
        need: Need::Once,
        lost: "",
        lacks: "",
        asks: "",
        instead: "",
    },
    Hook {
        fact: "cgroups",
        // As processes: whose container a process is in is told with every fact.
        mechanisms: &Mechanism::ALL,
        object: &[],
        tracepoint: &["cgroup_mkdir", "cgroup_rmdir"],
        need: Need::Always,
        lost: "",
        lacks: "control groups (CONFIG_CGROUPS=y) and their tracepoints must be built into the \
                kernel: without them only containers that are older than raqib are named",
        asks: "",
        instead: "",
    },
    Hook {
        fact: "files and activities",
        mechanisms: &[FileAccess, NetworkFlows, NetworkPeers, Activity],
        object: &[],
        tracepoint: &["sys_exit"],
        need: Need::Always,
        lost: "rename, link, unlink and truncate by path are known by the name that was passed; \
               io_uring requests are not seen",
        lacks: "the system calls' tracepoints (CONFIG_FTRACE_SYSCALLS=y) must be built into the \
                kernel: without them neither files nor who accepts connections are told",
        asks: "",
        instead: "",
    },
    Hook {
        fact: "closes",
        mechanisms: &[FileAccess],
        object: &[],
        tracepoint: &["sys_enter"],
        need: Need::Action(CLOSE),
        lost: "closes by exit, exec, dup2 and close_range",
        lacks: "the system calls' tracepoints (CONFIG_FTRACE_SYSCALLS=y) must be built into the \
                kernel: `close` in recipes never comes true without them",
        asks: "",
        instead: "",
    },
    Hook {
        fact: "signals",
        mechanisms: &[Activity],
        object: &[],
        tracepoint: &["signal_generate"],
        need: Need::Always,
        lost: "",
        lacks: "the tracepoint signal_generate must be built into the kernel: who is signalled is \
                not told without it",
        asks: "",
        instead: "",
    },
    Hook {
        fact: "io_uring requests",
        mechanisms: &[Activity],
        // Its name until Linux 6.3 was the second one.
        object: &["io_uring_submit_req"],
        tracepoint: &["io_uring_submit_sqe"],
        need: Need::Always,
        lost: "which file a request is about",
        lacks: "this kernel has no io_uring (CONFIG_IO_URING): nothing is missed",
        asks: "",
        instead: "",
    },
    Hook {
        fact: "names of threads",
        mechanisms: &[Activity],
        object: &[],
        tracepoint: &["task_rename"],
        need: Need::Always,
        lost: "",
        lacks: "the tracepoint task_rename must be built into the kernel: a thread that renames \
                itself is not told without it",
        asks: "",
        instead: "",
    },
    Hook {
        fact: "flows",
        mechanisms: &[NetworkFlows, NetworkPeers],
        object: &[],
        tracepoint: &["sock_create", "ingress", "egress"],
        need: Need::Always,
        lost: "attempts that send no packet",
        lacks: "programs of control groups (CONFIG_CGROUP_BPF=y) must be built into the kernel: \
                without them neither flows nor names of peers are told",
        asks: "",
        instead: "",
    },
    Hook {
        fact: "sockets that were open before",
        mechanisms: &[NetworkFlows, NetworkPeers],
        object: &[],
        tracepoint: &["prime_sockets"],
        need: Need::Once,
        lost: "",
        lacks: "Linux 5.11 (bpf_sock_from_file) or newer is needed",
        asks: "BPF_FUNC_sock_from_file",
        instead: "asked of each process by pidfd_getfd, as this kernel's iterators know no \
                  sockets (Linux 5.11 has one that does)",
    },
];

/// What every other fact is told with.
const ESSENTIAL: [&str; 2] = ["processes", "processes that were there before"];

/// Programs that need not be tried: what they ask for is not in this kernel.
pub fn missing() -> Vec<Refusal> {
    let Ok(btf) = std::fs::read("/sys/kernel/btf/vmlinux") else { return Vec::new() };
    let asked = |hook: &'static Hook| {
        let programs = hook.object.iter().chain(hook.tracepoint);
        programs.filter_map(move |program| {
            // Where there are two ways, the tracepoints of one of them are not there.
            let name = match (hook.asks, hook.object) {
                ("", []) => return None,
                ("", _) => format!("btf_trace_{program}"),
                (name, _) => name.to_owned(),
            };
            Some((*program, name))
        })
    };
    HOOKS
        .iter()
        .flat_map(asked)
        .filter(|(_, name)| !super::host::names(&btf, name))
        .map(|(program, name)| Refusal {
            program: program.to_owned(),
            reason: format!("it has no {name}"),
        })
        .collect()
}

/// Whether nothing could be told without this program.
pub fn essential(program: &str) -> bool {
    HOOKS.iter().any(|hook| ESSENTIAL.contains(&hook.fact) && hook.tracepoint.contains(&program))
}

/// A fact as it stands: for people and for status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    pub fact: &'static str,
    /// Its programs that record, or have run.
    pub programs: Vec<&'static str>,
    /// What this tier does not tell.
    pub lost: &'static str,
    /// Why it is off although it is wanted, and what can be done.
    pub off: Option<String>,
    /// How it is told without programs; empty: by them.
    pub instead: &'static str,
}

impl Fact {
    /// Where it is taken from, or `off`.
    pub const fn tier(&self) -> &'static str {
        match (&self.off, self.instead.is_empty()) {
            (Some(_), _) => "off",
            (None, true) => "tracepoint",
            (None, false) => "process",
        }
    }
}

impl Hook {
    /// Whether these mechanisms and the file actions that recipes ask for need it.
    pub fn wanted(&self, mechanisms: &[Mechanism], actions: Actions) -> bool {
        let on = self.mechanisms.iter().any(|mechanism| mechanisms.contains(mechanism));
        on && match self.need {
            Need::Always | Need::Once => true,
            Need::Action(bit) => actions.has(bit),
        }
    }

    /// The better programs where none of them is refused.
    fn programs(&self, refused: &[Refusal]) -> &'static [&'static str] {
        let mine = |refusal: &Refusal| self.object.contains(&refusal.program.as_str());
        if self.object.is_empty() || refused.iter().any(mine) {
            self.tracepoint
        } else {
            self.object
        }
    }

    /// How it stands on a kernel that refuses some programs, wanted or not.
    pub fn fact(&self, refused: &[Refusal]) -> Fact {
        let off = self.off(refused);
        let programs = if off.is_none() { self.programs(refused).to_vec() } else { Vec::new() };
        let instead = off.is_some() && !self.instead.is_empty();
        let off = off.filter(|_| !instead);
        let instead = if instead { self.instead } else { "" };
        Fact { fact: self.fact, programs, lost: self.lost, instead, off }
    }

    /// Half of a fact's programs would tell half-truths: one that is refused turns it off.
    fn off(&self, refused: &[Refusal]) -> Option<String> {
        let programs = self.programs(refused);
        let mine = |refusal: &&Refusal| programs.contains(&refusal.program.as_str());
        refused.iter().find(mine).map(|refusal| format!("{refusal}: {}", self.lacks))
    }
}

/// Programs to attach for these mechanisms and the file actions that recipes ask for, on a kernel
/// that refuses some.
pub fn programs(
    mechanisms: &[Mechanism],
    actions: Actions,
    refused: &[Refusal],
) -> Vec<&'static str> {
    HOOKS
        .iter()
        .filter(|hook| hook.need != Need::Once && hook.wanted(mechanisms, actions))
        .filter(|hook| hook.off(refused).is_none())
        .flat_map(|hook| hook.programs(refused))
        .copied()
        .collect()
}

/// The facts that are wanted, on or off.
pub fn facts(mechanisms: &[Mechanism], actions: Actions, refused: &[Refusal]) -> Vec<Fact> {
    let wanted = HOOKS.iter().filter(|hook| hook.wanted(mechanisms, actions));
    wanted.map(|hook| hook.fact(refused)).collect()
}

impl Fact {
    /// In a few words: the fact, and what tells it.
    pub fn told(&self) -> String {
        let by = self.programs.join(", ");
        format!("{} ({})", self.fact, if self.instead.is_empty() { &by } else { self.instead })
    }
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closes_cost_nothing_unless_asked_for() {
        let quiet = programs(&Mechanism::ALL, Actions(0), &[]);
        assert!(quiet.contains(&"sys_exit") && !quiet.contains(&"sys_enter"));
        assert!(programs(&Mechanism::ALL, Actions(1 << CLOSE), &[]).contains(&"sys_enter"));
    }

    #[test]
    fn a_mechanism_that_is_off_attaches_nothing_of_its_own() {
        let some = programs(&[Mechanism::Execution, Mechanism::EnvVars], Actions(0), &[]);
        let always = [
            "sched_process_fork",
            "sched_process_exec",
            "sched_process_exit",
            "cgroup_mkdir",
            "cgroup_rmdir",
        ];
        assert_eq!(some, always);
    }

    #[test]
    fn a_refused_program_turns_its_fact_off_and_no_other() {
        let refused =
            [Refusal { program: "ingress".to_owned(), reason: "unknown helper".to_owned() }];
        let some = programs(&Mechanism::ALL, Actions(0), &refused);
        assert!(!some.contains(&"egress") && some.contains(&"sys_exit"), "{some:?}");
        let facts = facts(&Mechanism::ALL, Actions(0), &refused);
        let off: Vec<&Fact> = facts.iter().filter(|fact| fact.off.is_some()).collect();
        assert_eq!(off.len(), 1);
        assert_eq!((off[0].fact, off[0].programs.len()), ("flows", 0));
        let reason = off[0].off.as_deref().unwrap_or_default();
        assert!(reason.contains("unknown helper") && reason.contains("CONFIG_CGROUP_BPF"));
    }

    #[test]
    fn each_fact_that_can_be_off_says_what_to_do() {
        for hook in HOOKS {
            let mandatory = hook.tracepoint.iter().all(|program| essential(program));
            assert_eq!(hook.lacks.is_empty(), mandatory, "{}", hook.fact);
        }
    }
}
