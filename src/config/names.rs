//! The names that lists of the configuration may hold.

use crate::event::Mechanism;

/// A name that a list may hold.
pub(super) struct Known {
    pub name: &'static str,
    /// False: the name is accepted, and a notice says that nothing happens.
    pub works: bool,
    pub doc: &'static str,
}

const fn works(name: &'static str, doc: &'static str) -> Known {
    Known { name, works: true, doc }
}

const fn accepted(name: &'static str, doc: &'static str) -> Known {
    Known { name, works: false, doc }
}

/// `functionalities`: none has an effect, hence none deserves a notice.
pub(super) static FUNCTIONALITIES: &[Known] = &[
    works("raqib", "the daemon"),
    works("jibril", "the same, by the name that older files have"),
    works("config", "configuration, always there"),
    works("data", "state, always there"),
    works("tests", "no effect"),
];

/// `features`.
pub(super) static FEATURES: &[Known] = &[
    works("hold", "run until told to stop, always so"),
    works("procfs", "know the processes that ran before the daemon, always so"),
    works("detect", "every plugin below"),
    works(Mechanism::Execution.name(), "plugin: programs that are run"),
    works(Mechanism::FileAccess.name(), "plugin: what tasks do to files"),
    works(Mechanism::NetworkFlows.name(), "plugin: conversations"),
    works(Mechanism::NetworkPeers.name(), "plugin: names and addresses that tasks talk to"),
    works(Mechanism::EnvVars.name(), "plugin: environment of new programs"),
    works(Mechanism::Activity.name(), "plugin: what is done to neither files nor flows"),
    works(Mechanism::Containers.name(), "plugin: containers made, run, entered, removed"),
    works("alchemies", "recipes from directories, beside those in the binary"),
    accepted("netpolicy", "network policy"),
    accepted("enricher", "facts about containers and places"),
    accepted("attenuator", "triage by a language model"),
    accepted("jbconfig", "of older releases"),
    accepted("pause", "of older releases"),
    accepted("github", "of older releases"),
];

/// `printers`.
pub(super) static PRINTERS: &[Known] = &[
    works("stdout", "standard output"),
    works("varlog", "a file, rotated"),
    accepted("garnet", "the Garnet service"),
    accepted("profiler", "Markdown profile of a CI run"),
    accepted("jsonprofiler", "the same as JSON"),
];

/// The names of a list, for a message.
pub(super) fn names(known: &[Known]) -> String {
    known.iter().map(|known| known.name).collect::<Vec<_>>().join(", ")
}
