//! What a plugin makes of one sealed row, and the identities that every room shares.
//!
//! An [`Event`] is a *fact with a count*: the kernel has already merged repeats of one
//! behaviour (one task image, one object) inside an epoch. It carries the identity of the task
//! image, not the process itself: most events match no recipe, and only those that may match
//! are joined with the process tree (see [`crate::state`]).

mod activity;
mod reference;
mod words;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use crate::state::containers::Container;
pub use activity::{ACTIVITIES, Activity, Address, Area, Detail, Kind, errno_name};
pub use reference::reference;

use crate::text::Text;

/// Identity of one process image: thread group, when it started, how many images it has run.
///
/// A bare pid is reused within seconds on a busy host; `(tgid, start)` is not. `exec_id` is the
/// kernel's `task_struct::self_exec_id`: it grows with each `execve`, so a fact belongs to the
/// image that caused it even when the same process runs another one a millisecond later.
/// A forked child starts with its parent's `exec_id`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskKey {
    /// Nanoseconds since boot, suspend included (`group_leader->start_boottime`).
    pub start_ns: u64,
    /// Thread group id in the initial pid namespace: what user space calls a pid.
    pub tgid: u32,
    /// Low 32 bits of `self_exec_id`.
    pub exec_id: u32,
}

/// Family of facts. One plugin feeds each; recipes name them by [`Mechanism::name`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mechanism {
    Execution,
    FileAccess,
    NetworkFlows,
    NetworkPeers,
    EnvVars,
    /// What is done to neither files nor flows: see [`ACTIVITIES`].
    Activity,
    Containers,
}

impl Mechanism {
    pub const ALL: [Self; 7] = [
        Self::Execution,
        Self::FileAccess,
        Self::NetworkFlows,
        Self::NetworkPeers,
        Self::EnvVars,
        Self::Activity,
        Self::Containers,
    ];

    /// The name in recipes, configuration, status and `metadata.format`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Execution => "execution",
            Self::FileAccess => "file_access",
            Self::NetworkFlows => "network_flows",
            Self::NetworkPeers => "network_peers",
            Self::EnvVars => "env_vars",
            Self::Activity => "activity",
            Self::Containers => "containers",
        }
    }
}

/// One merged behaviour of one task image, read from a sealed epoch.
#[derive(Clone, Debug)]
pub struct Event {
    pub mechanism: Mechanism,
    pub task: TaskKey,
    /// Kernel events merged into this one (at least 1).
    pub count: u64,
    pub first: SystemTime,
    pub last: SystemTime,
    pub body: Body,
}

/// The object that was acted upon.
#[derive(Clone, Debug)]
pub enum Body {
    /// `file_access`, and `execution` (the image, with the action `execve`).
    File(File),
    Flow(Flow),
    Peer(Peer),
    Env(Env),
    Activity(Activity),
    Container(Life),
}

/// What happened to a container.
#[derive(Clone, Debug)]
pub struct Life {
    pub container: Arc<Container>,
    /// See [`CONTAINER_ACTIONS`].
    pub actions: Actions,
}

/// Names of what happens to containers, by bit number: made, first image run in it, an image run
/// in it from outside, removed.
pub const CONTAINER_ACTIONS: [&str; 4] = ["create", "start", "exec", "stop"];

/// A set of file actions; bit numbers are those of the recipe language.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Actions(pub u32);

/// Names of the file actions, by bit number: `enum file_action` of bpf/types.h. The first 15 are
/// those that existing recipes know.
pub const FILE_ACTIONS: [&str; 32] = [
    "fasync",
    "flock",
    "fsync",
    "llseek",
    "mmap",
    "open",
    "read",
    "write",
    "rename",
    "truncate",
    "unlink",
    "create",
    "close",
    "link",
    "execve",
    "chmod",
    "chown",
    "utimes",
    "setxattr",
    "setacl",
    "setcap",
    "setflags",
    "setid",
    "symlink",
    "mkdir",
    "rmdir",
    "mknod",
    "clone",
    "mmap_exec",
    "mmap_write",
    "receive",
    "exchange",
];

/// Names of the 10 flow actions, by bit number.
pub const FLOW_ACTIONS: [&str; 10] = [
    "created",
    "ingress",
    "egress",
    "incoming",
    "outgoing",
    "ongoing",
    "started",
    "ended",
    "terminator",
    "terminated",
];

impl Actions {
    pub const fn has(self, bit: u32) -> bool {
        self.0 & (1 << bit) != 0
    }
}

/// A file as a task reached it: one name of one inode.
#[derive(Clone, Debug)]
pub struct File {
    /// Absolute path in the mount namespace's own root (not the task's chroot).
    pub path: Text,
    /// What happened in this epoch.
    pub actions: Actions,
    /// What this process has done to this path so far, this epoch included: `how: all` asks for
    /// several actions that need not fall into one epoch.
    pub history: Actions,
    /// Kernel events per action, by bit number.
    pub counts: [u32; FILE_ACTIONS.len()],
    /// `st_dev` as `makedev(major, minor)`; 0 when only a name is known.
    pub dev: u64,
    /// 0 when only a name is known (see [`File::by_name`]).
    pub inode: u64,
    /// `st_mode`: type and permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Bytes, when the row was made.
    pub size: u64,
    /// The name had already been unlinked when the row was made.
    pub deleted: bool,
    /// The file lives in no directory: memfd, O_TMPFILE, shared memory.
    pub anonymous: bool,
    /// It is on an overlay file system: a container's, mostly.
    pub overlay: bool,
    /// Known by the name that the task passed, not by a kernel object (rename, unlink, link
    /// and truncate by path, on the tracepoint tier): symbolic links in it are not resolved.
    pub by_name: bool,
    /// The path was longer than could be kept: its start is missing.
    pub truncated: bool,
    /// All names that the file was seen under, oldest first; filled for candidates only.
    pub names: Vec<Text>,
}

/// One conversation of one task in one network namespace.
#[derive(Clone, Debug)]
pub struct Flow {
    /// IANA protocol number: 6 TCP, 17 UDP, 1 ICMP, 58 ICMPv6.
    pub protocol: u8,
    /// IPv4-mapped IPv6 addresses are given as IPv4.
    pub local: IpAddr,
    pub remote: IpAddr,
    /// Host byte order; 0 for ICMP.
    pub local_port: u16,
    pub remote_port: u16,
    /// (type, code) of ICMP and ICMPv6.
    pub icmp: Option<(u8, u8)>,
    /// Cookie (or, before Linux 5.7's cookies, inode) of the network namespace.
    pub netns: u64,
    /// See [`FLOW_ACTIONS`].
    pub actions: Actions,
    pub packets_in: u64,
    pub packets_out: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Names that DNS answers gave to the addresses, newest first. Before the remote ones stand
    /// those that this conversation's client asked the server for (TLS, HTTP).
    pub local_names: Vec<Arc<str>>,
    pub remote_names: Vec<Arc<str>>,
}

/// What a task learned or said of a peer's name.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Lower case, no trailing dot. Of DNS: the question, then the CNAME chain in order; else what
    /// the client asked the server for, none if it named nobody.
    pub names: Vec<Arc<str>>,
    /// Addresses and their time to live in seconds. Of HTTP: a host given as an address (0 s).
    pub addresses: Vec<(IpAddr, u32)>,
    pub source: Source,
    /// Names that DNS had given to the remote address when the client spoke; of DNS: none.
    pub resolved: Vec<Arc<str>>,
    /// The conversation that carried it: with the resolver, or with the peer itself.
    pub flow: Flow,
}

/// Where a peer's names stood.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// An answer, with its response code (0 NOERROR, 3 NXDOMAIN ...).
    Dns { rcode: u8 },
    /// A ClientHello's server name.
    Tls {
        /// The protocols that the client offers, in its order; bytes that are no visible ASCII are
        /// written `\xNN`.
        alpn: Vec<Arc<str>>,
        /// It has an encrypted ClientHello, or pretends to (browsers always do): the name is then
        /// possibly that of the front only.
        ech: bool,
    },
    /// The host of an HTTP/1 request, in its target or its Host field.
    Http,
}

impl Peer {
    /// DNS is known to have named the address, and the client asked for something else.
    pub fn mismatch(&self) -> bool {
        !self.names.is_empty()
            && !self.resolved.is_empty()
            && !self.names.iter().any(|name| self.resolved.contains(name))
    }
}

impl Source {
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Dns { .. } => "dns",
            Self::Tls { .. } => "tls",
            Self::Http => "http",
        }
    }
}

/// One environment variable that a recipe asked for, as it was at `execve`.
#[derive(Clone, Debug)]
pub struct Env {
    pub name: Arc<str>,
    /// Head of the value.
    pub value: Text,
    /// Bytes of the whole value.
    pub length: u32,
    pub truncated: bool,
}
