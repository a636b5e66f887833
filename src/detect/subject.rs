//! What a filter can ask about: the event with its process.

use std::net::IpAddr;
use std::time::SystemTime;

use crate::event::{Body, Event, Flow, Mechanism, Peer};
use crate::state::containers::Container;
use crate::state::{Process, TRAITS, Trait};
use crate::text::Text;

use super::recipe::RecipeMechanism;

/// One event and the process that caused it.
#[derive(Clone, Copy)]
pub struct Subject<'e> {
    pub event: &'e Event,
    pub process: &'e Process,
}

/// The subjects of `what`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    TaskUid,
    TaskPid,
    TaskRetCode,
    TaskStart,
    TaskExit,
    ParentPid,
    /// A text of one or several processes.
    Text(Who, Field),
    FlowProto,
    FlowFamily,
    FlowLocal,
    FlowRemote,
    FlowLocalPorts,
    FlowRemotePorts,
    FlowAnyPorts,
    FlowAnyPeers,
    FlowAnyPeersAndPorts,
    /// Ours: where a peer's names stood: dns, tls or http.
    PeerSource,
    /// Ours: `true` if a client asked for a name that DNS had not given to the address, though it
    /// had given others; else `false`.
    PeerMismatch,
    /// Ours: the file's path, and the script's where one is executed.
    FilePath,
    /// Ours: the value of the variable.
    EnvValue,
    /// Ours: a trait of the execution.
    Is(Trait),
    /// Ours: every name that the file was seen under.
    FileNames,
    /// Ours: any trait of gained privileges.
    GainedPrivileges,
    /// Ours: texts of the execution.
    Argv0,
    Pathname,
    Script,
    Interpreter,
    LoaderTarget,
    ExeWritten,
    ExeSha256,
    StdioSocket,
    ExeSize,
    ExeLinks,
    ExeMtime,
    ExeCtime,
    /// Ours: a text of the container that the event is about or the process is in.
    Container(ContainerText),
    /// Ours: whether there is such a container.
    InContainer,
}

/// Which text of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerText {
    Id,
    Name,
    Image,
    Runtime,
    PodName,
    PodNamespace,
}

/// Whose text is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Task,
    Parent,
    TaskOrParent,
    TaskOrPrevious,
    ParentOrPrevious,
    /// Parents of any degree; the task itself is not among them.
    AnyAncient,
}

/// Which text of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    Exe,
    Comm,
    Cmd,
    Args,
    /// Known by name only to say that it cannot be had.
    Envs,
}

use Field::{Args, Cmd, Comm, Envs, Exe};
use Who::{AnyAncient, Parent, ParentOrPrevious, Task, TaskOrParent, TaskOrPrevious};

/// The names of subjects, the full one first where there are two.
pub const WHATS: &[(&str, What)] = &[
    ("task_uid", What::TaskUid),
    ("uid", What::TaskUid),
    ("task_pid", What::TaskPid),
    ("pid", What::TaskPid),
    ("task_ret_code", What::TaskRetCode),
    ("ret_code", What::TaskRetCode),
    ("task_start", What::TaskStart),
    ("task_exit", What::TaskExit),
    ("task_exe", What::Text(Task, Exe)),
    ("exe", What::Text(Task, Exe)),
    ("task_comm", What::Text(Task, Comm)),
    ("comm", What::Text(Task, Comm)),
    ("task_cmd", What::Text(Task, Cmd)),
    ("cmd", What::Text(Task, Cmd)),
    ("task_args", What::Text(Task, Args)),
    ("args", What::Text(Task, Args)),
    ("task_envs", What::Text(Task, Envs)),
    ("envs", What::Text(Task, Envs)),
    ("parent_pid", What::ParentPid),
    ("parent_exe", What::Text(Parent, Exe)),
    ("parent_comm", What::Text(Parent, Comm)),
    ("parent_cmd", What::Text(Parent, Cmd)),
    ("parent_args", What::Text(Parent, Args)),
    ("parent_envs", What::Text(Parent, Envs)),
    ("parent_or_prev_exe", What::Text(ParentOrPrevious, Exe)),
    ("task_or_prev_exe", What::Text(TaskOrPrevious, Exe)),
    ("task_or_parent_exe", What::Text(TaskOrParent, Exe)),
    ("task_or_parent_comm", What::Text(TaskOrParent, Comm)),
    ("task_or_parent_cmd", What::Text(TaskOrParent, Cmd)),
    ("task_or_parent_args", What::Text(TaskOrParent, Args)),
    ("task_or_parent_envs", What::Text(TaskOrParent, Envs)),
    ("any_ancient_exe", What::Text(AnyAncient, Exe)),
    ("ancient_exe", What::Text(AnyAncient, Exe)),
    ("any_ancient_comm", What::Text(AnyAncient, Comm)),
    ("ancient_comm", What::Text(AnyAncient, Comm)),
    ("any_ancient_cmd", What::Text(AnyAncient, Cmd)),
    ("ancient_cmd", What::Text(AnyAncient, Cmd)),
    ("any_ancient_args", What::Text(AnyAncient, Args)),
    ("ancient_args", What::Text(AnyAncient, Args)),
    ("any_ancient_envs", What::Text(AnyAncient, Envs)),
    ("ancient_envs", What::Text(AnyAncient, Envs)),
    ("flow_proto", What::FlowProto),
    ("flow_family", What::FlowFamily),
    ("flow_local", What::FlowLocal),
    ("flow_remote", What::FlowRemote),
    ("flow_local_ports", What::FlowLocalPorts),
    ("flow_local_port", What::FlowLocalPorts),
    ("flow_remote_ports", What::FlowRemotePorts),
    ("flow_remote_port", What::FlowRemotePorts),
    ("flow_any_ports", What::FlowAnyPorts),
    ("flow_any_peers", What::FlowAnyPeers),
    ("flow_any_peers_and_ports", What::FlowAnyPeersAndPorts),
    ("peer_source", What::PeerSource),
    ("peer_mismatch", What::PeerMismatch),
    ("file_path", What::FilePath),
    ("env_value", What::EnvValue),
    ("file_names", What::FileNames),
    ("gained_privileges", What::GainedPrivileges),
    ("argv0", What::Argv0),
    ("pathname", What::Pathname),
    ("script", What::Script),
    ("interpreter", What::Interpreter),
    ("loader_target", What::LoaderTarget),
    ("exe_written", What::ExeWritten),
    ("exe_sha256", What::ExeSha256),
    ("stdio_socket", What::StdioSocket),
    ("exe_size", What::ExeSize),
    ("exe_links", What::ExeLinks),
    ("exe_mtime", What::ExeMtime),
    ("exe_ctime", What::ExeCtime),
    ("container_id", What::Container(ContainerText::Id)),
    ("container_name", What::Container(ContainerText::Name)),
    ("container_image", What::Container(ContainerText::Image)),
    ("container_runtime", What::Container(ContainerText::Runtime)),
    ("pod_name", What::Container(ContainerText::PodName)),
    ("pod_namespace", What::Container(ContainerText::PodNamespace)),
    ("in_container", What::InContainer),
];

/// All of them: [`WHATS`], and one for each trait of an execution.
pub(super) fn whats() -> Vec<(&'static str, What)> {
    let traits = TRAITS.iter().map(|(name, _, one)| (*name, What::Is(*one)));
    WHATS.iter().copied().chain(traits).collect()
}

/// What a subject's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Text,
    Number,
    Address,
    Time,
    /// It holds or it does not.
    Flag,
}

impl Shape {
    /// The operands that fit, for messages.
    pub(super) const fn operands(self) -> &'static str {
        match self {
            Self::Text => "a pattern",
            Self::Number => "number, numbers or a pattern",
            Self::Address => "cidr or a pattern",
            Self::Time => "time",
            Self::Flag => "is: true or is: false",
        }
    }
}

impl What {
    pub fn name(self) -> &'static str {
        whats().into_iter().find(|(_, what)| *what == self).map_or("", |(name, _)| name)
    }

    pub const fn shape(self) -> Shape {
        match self {
            Self::TaskUid | Self::TaskPid | Self::TaskRetCode | Self::ParentPid => Shape::Number,
            Self::FlowLocalPorts | Self::FlowRemotePorts | Self::FlowAnyPorts => Shape::Number,
            Self::ExeSize | Self::ExeLinks => Shape::Number,
            Self::TaskStart | Self::TaskExit | Self::ExeMtime | Self::ExeCtime => Shape::Time,
            Self::Is(_) | Self::GainedPrivileges | Self::InContainer => Shape::Flag,
            Self::Argv0 | Self::Pathname | Self::Script | Self::Interpreter => Shape::Text,
            Self::LoaderTarget | Self::ExeWritten | Self::ExeSha256 => Shape::Text,
            Self::StdioSocket | Self::FileNames => Shape::Text,
            Self::FlowLocal | Self::FlowRemote | Self::FlowAnyPeers => Shape::Address,
            Self::Text(..) | Self::FilePath | Self::EnvValue => Shape::Text,
            Self::Container(_) => Shape::Text,
            Self::FlowProto | Self::FlowFamily | Self::FlowAnyPeersAndPorts => Shape::Text,
            Self::PeerSource | Self::PeerMismatch => Shape::Text,
        }
    }

    /// Why a recipe of this mechanism cannot ask this.
    pub(super) fn refused(self, mechanism: Option<RecipeMechanism>) -> Option<String> {
        let name = self.name();
        if matches!(self, Self::Text(_, Envs)) {
            return Some(format!(
                "`{name}` cannot be asked: only variables that a recipe of breed env_vars names \
                 are read; write such a recipe"
            ));
        }
        let mechanism = mechanism?;
        let env = mechanism.sees(Mechanism::EnvVars);
        let containers = mechanism.sees(Mechanism::Containers);
        let (there, needs) = match self {
            Self::EnvValue => (env, "a variable, which only recipes of env_vars have"),
            Self::FilePath | Self::FileNames => (
                !env && !containers && !mechanism.is_network(),
                "a file, which only recipes on files have",
            ),
            Self::PeerSource | Self::PeerMismatch => {
                let peers = mechanism.sees(Mechanism::NetworkPeers);
                (peers, "a peer, which only recipes of network_peers have")
            }
            _ if name.starts_with("flow_") => {
                (mechanism.is_network(), "a flow, which only network recipes have")
            }
            _ => return None,
        };
        (!there).then(|| format!("`{name}` needs {needs}"))
    }
}

fn filled(text: &Text) -> Option<&str> {
    Some(text.as_str()).filter(|text| !text.is_empty())
}

impl<'e> Subject<'e> {
    /// Whether any text of the subject passes `test`.
    pub(super) fn any_text(&self, what: What, test: &mut dyn FnMut(&str) -> bool) -> bool {
        match what {
            What::Text(who, field) => self.any_process_text(who, field, test),
            What::FlowProto => {
                self.flow().is_some_and(|flow| test(super::flows::protocol_name(flow.protocol)))
            }
            What::FlowFamily => {
                self.flow().is_some_and(|f| test(if f.remote.is_ipv4() { "ipv4" } else { "ipv6" }))
            }
            What::FlowAnyPeersAndPorts => self.flow().is_some_and(|flow| {
                test(&format!("{}:{}", flow.local, flow.local_port))
                    || test(&format!("{}:{}", flow.remote, flow.remote_port))
            }),
            What::FilePath => {
                let script = self.process.image.script.as_ref();
                let script = script.filter(|_| self.event.mechanism == Mechanism::Execution);
                matches!(&self.event.body, Body::File(file) if test(file.path.as_str()))
                    || script.is_some_and(|script| test(script.as_str()))
            }
            What::FileNames => match &self.event.body {
                Body::File(file) => {
                    test(file.path.as_str()) || file.names.iter().any(|name| test(name.as_str()))
                }
                _ => false,
            },
            What::PeerSource => {
                matches!(&self.event.body, Body::Peer(peer) if test(peer.source.name()))
            }
            What::PeerMismatch => {
                let mut told = |peer: &Peer| test(if peer.mismatch() { "true" } else { "false" });
                matches!(&self.event.body, Body::Peer(peer) if told(peer))
            }
            What::EnvValue => {
                matches!(&self.event.body, Body::Env(env) if test(env.value.as_str()))
            }
            What::Argv0 => self.process.image.args.first().is_some_and(|arg| test(arg.as_str())),
            What::Pathname => filled(&self.process.image.pathname).is_some_and(test),
            What::Script => self.process.image.script.as_ref().and_then(filled).is_some_and(test),
            What::Interpreter => {
                self.process.image.interpreter.as_ref().and_then(filled).is_some_and(test)
            }
            What::LoaderTarget => self.process.image.loader_target().is_some_and(test),
            What::ExeWritten => {
                self.process.image.inode != 0 && test(self.process.image.written.name())
            }
            What::ExeSha256 => {
                matches!(self.process.image.sha256(), Some(Ok(sum)) if test(&sum.to_string()))
            }
            What::StdioSocket => self.process.image.stdio.iter().any(|one| test(&one.text())),
            What::Container(which) => self.any_container_text(which, test),
            _ => match what.shape() {
                Shape::Number => self.any_number(what, &mut |value| test(&value.to_string())),
                Shape::Address => self.any_address(what, &mut |value| test(&value.to_string())),
                Shape::Text | Shape::Time | Shape::Flag => false,
            },
        }
    }

    /// The one that the event is about, else that of the process.
    fn container(&self) -> Option<&'e Container> {
        match &self.event.body {
            Body::Container(life) => Some(&life.container),
            _ => self.process.container().map(|container| &**container),
        }
    }

    fn any_container_text(&self, which: ContainerText, test: &mut dyn FnMut(&str) -> bool) -> bool {
        let Some(container) = self.container() else { return false };
        let text = match which {
            ContainerText::Id => Some(&*container.id),
            ContainerText::Name => container.detail(|details| &details.name),
            ContainerText::Image => container.detail(|details| &details.image),
            ContainerText::Runtime => Some(container.runtime().name()),
            ContainerText::PodName => container.detail(|details| &details.pod_name),
            ContainerText::PodNamespace => container.detail(|details| &details.pod_namespace),
        };
        text.is_some_and(test)
    }

    fn any_process_text(&self, who: Who, field: Field, test: &mut dyn FnMut(&str) -> bool) -> bool {
        let task = self.process;
        let parent = task.parent.as_deref();
        let previous = task.previous.as_deref();
        let mut of = |process: &Process| match field {
            Exe => test(process.exe()),
            Comm => test(process.comm.as_str()),
            Cmd => test(process.cmd()),
            Args => test(&process.args()),
            Envs => false,
        };
        match who {
            Task => of(task),
            Parent => parent.is_some_and(of),
            TaskOrParent => of(task) || parent.is_some_and(of),
            AnyAncient => task.lineage().skip(1).any(of),
            TaskOrPrevious => of(task) || previous.is_some_and(|image| test(image.exe.as_str())),
            ParentOrPrevious => {
                parent.is_some_and(of) || previous.is_some_and(|image| test(image.exe.as_str()))
            }
        }
    }

    pub(super) fn any_number(&self, what: What, test: &mut dyn FnMut(i64) -> bool) -> bool {
        let ports = || self.flow().map(|flow| (flow.local_port.into(), flow.remote_port.into()));
        match what {
            What::ExeSize => {
                self.process.image.inode != 0 && test(self.process.image.size.cast_signed())
            }
            What::ExeLinks => {
                self.process.image.inode != 0 && test(self.process.image.links.into())
            }
            What::TaskUid => test(self.process.creds.uid.into()),
            What::TaskPid => test(self.process.pid().into()),
            What::ParentPid => test(self.process.ppid.into()),
            // What a shell would show as `$?`.
            What::TaskRetCode => self.process.end().is_some_and(|(_, status)| {
                let signal = status & 0x7f;
                test(if signal == 0 { (status >> 8) & 0xff } else { 128 + signal }.into())
            }),
            What::FlowLocalPorts => ports().is_some_and(|(local, _)| test(local)),
            What::FlowRemotePorts => ports().is_some_and(|(_, remote)| test(remote)),
            What::FlowAnyPorts => {
                ports().is_some_and(|(local, remote)| test(local) || test(remote))
            }
            _ => false,
        }
    }

    pub(super) fn any_address(&self, what: What, test: &mut dyn FnMut(IpAddr) -> bool) -> bool {
        let Some(flow) = self.flow() else { return false };
        // What a peer is about are the addresses that the answer named.
        let answers = match &self.event.body {
            Body::Peer(peer) => peer.addresses.as_slice(),
            _ => &[],
        };
        match what {
            What::FlowLocal => test(flow.local),
            What::FlowRemote => test(flow.remote),
            What::FlowAnyPeers => {
                test(flow.local) || test(flow.remote) || answers.iter().any(|(ip, _)| test(*ip))
            }
            _ => false,
        }
    }

    pub(super) fn time(&self, what: What) -> Option<SystemTime> {
        match what {
            What::TaskStart => self.process.start,
            What::TaskExit => self.process.end().map(|(at, _)| at),
            What::ExeMtime => self.process.image.mtime(),
            What::ExeCtime => self.process.image.ctime(),
            _ => None,
        }
    }

    pub(super) fn holds(&self, what: What) -> bool {
        let traits = self.process.image.traits;
        match what {
            What::InContainer => self.container().is_some(),
            What::Is(one) => traits.has(one),
            What::GainedPrivileges => {
                [Trait::Setuid, Trait::Setgid, Trait::FileCaps].iter().any(|one| traits.has(*one))
            }
            _ => false,
        }
    }

    fn flow(&self) -> Option<&'e Flow> {
        match &self.event.body {
            Body::Flow(flow) => Some(flow),
            Body::Peer(peer) => Some(&peer.flow),
            Body::File(_) | Body::Env(_) | Body::Activity(_) | Body::Container(_) => None,
        }
    }
}
