//! What a task did to something that is neither a file nor a flow: signals, credentials, mounts,
//! modules, sockets before their first packet. One table says what each activity is called and
//! what its two numbers, its text and its paths are; recipes, alerts and people's lines are
//! derived from it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::words::{self, Words};
use crate::state::Process;
use crate::text::Text;

/// Which part of the system an activity is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    Process,
    Identity,
    Namespaces,
    Kernel,
    Storage,
    Network,
    Memory,
}

impl Area {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Identity => "identity",
            Self::Namespaces => "namespaces",
            Self::Kernel => "kernel",
            Self::Storage => "storage",
            Self::Network => "network",
            Self::Memory => "memory",
        }
    }
}

/// How a number is told.
#[derive(Clone, Copy, Debug)]
pub enum Show {
    Number,
    Hex,
    /// One of several values, each with a name.
    Word(Words),
    /// A set of bits, each with a name.
    Bits(Words),
}

impl Show {
    /// The number that a recipe writes as `text`: a name, names joined by `|`, or a number.
    pub fn value(self, text: &str) -> Option<u64> {
        let number = text
            .strip_prefix("0x")
            .map_or_else(|| text.parse().ok(), |hex| u64::from_str_radix(hex, 16).ok());
        let named = |words: Words, name: &str| {
            words.iter().find(|(_, word)| *word == name).map(|(number, _)| *number)
        };
        number.or_else(|| match self {
            Self::Number | Self::Hex => None,
            Self::Word(words) => named(words, text),
            Self::Bits(words) => text.split('|').map(|name| named(words, name)).sum(),
        })
    }
}

/// A number's label in recipes and alerts, and how it is told.
pub type Part = Option<(&'static str, Show)>;

/// One row of [`ACTIVITIES`].
#[derive(Debug)]
pub struct Kind {
    pub name: &'static str,
    pub area: Area,
    pub a: Part,
    pub b: Part,
    /// Labels of what else a row may have.
    pub text: Option<&'static str>,
    pub kind: Option<&'static str>,
    pub path: Option<&'static str>,
    pub other: Option<&'static str>,
    /// `a` and `b` are the 16 bytes of an address, with family and port beside them.
    pub address: bool,
    /// What it is, in a sentence, for the reference.
    pub doc: &'static str,
}

const fn kind(name: &'static str, area: Area, doc: &'static str) -> Kind {
    Kind {
        name,
        area,
        a: None,
        b: None,
        text: None,
        kind: None,
        path: None,
        other: None,
        address: false,
        doc,
    }
}

impl Kind {
    const fn a(mut self, label: &'static str, show: Show) -> Self {
        self.a = Some((label, show));
        self
    }

    const fn b(mut self, label: &'static str, show: Show) -> Self {
        self.b = Some((label, show));
        self
    }

    const fn text(mut self, label: &'static str) -> Self {
        self.text = Some(label);
        self
    }

    const fn kind(mut self, label: &'static str) -> Self {
        self.kind = Some(label);
        self
    }

    const fn path(mut self, label: &'static str) -> Self {
        self.path = Some(label);
        self
    }

    const fn other(mut self, label: &'static str) -> Self {
        self.other = Some(label);
        self
    }

    const fn address(mut self) -> Self {
        self.address = true;
        self
    }

    /// Labels that a recipe's `details` may name.
    pub fn labels(&self) -> Vec<&'static str> {
        let numbers = [self.a, self.b].into_iter().flatten().map(|(label, _)| label);
        let texts = [self.text, self.kind, self.path, self.other].into_iter().flatten();
        let address: &[&str] = if self.address { &["address", "port", "family"] } else { &[] };
        numbers.chain(texts).chain(address.iter().copied()).collect()
    }
}

use Area::{Identity, Kernel, Memory, Namespaces, Network, Storage};
use Show::{Bits, Hex, Number, Word};

/// Every activity, in the order of `enum activity` of bpf/types.h.
pub const ACTIVITIES: &[Kind] = &[
    kind("signal", Area::Process, "a signal sent to another process")
        .a("signal", Word(words::SIGNALS)),
    kind("ptrace", Area::Process, "a ptrace request").a("request", Word(words::PTRACE)),
    kind("process_vm_read", Area::Process, "another process's memory read (process_vm_readv)"),
    kind("process_vm_write", Area::Process, "another process's memory written (process_vm_writev)"),
    kind("pidfd_getfd", Area::Process, "a descriptor taken out of another process").a("fd", Number),
    kind("comm_change", Area::Process, "a thread renamed itself").text("comm"),
    kind("thread_create", Area::Process, "a thread begun"),
    kind("namespaces_create", Area::Process, "a child begun in new namespaces (clone, clone3)")
        .a("flags", Bits(words::NAMESPACES)),
    kind("memfd_create", Area::Process, "an anonymous file in memory made")
        .a("flags", Hex)
        .text("memfd"),
    kind("userfaultfd", Area::Process, "page faults to be served by user space").a("flags", Hex),
    kind("io_uring_setup", Area::Process, "a ring for system calls that are not called")
        .a("entries", Number),
    kind("io_uring_request", Area::Process, "a request through such a ring")
        .a("opcode", Word(words::IO_URING)),
    kind("personality", Area::Process, "execution domain changed")
        .a("persona", Bits(words::PERSONA)),
    kind("set_uid", Identity, "user ids set").a("uid", Number).b("euid", Number),
    kind("set_gid", Identity, "group ids set").a("gid", Number).b("egid", Number),
    kind("set_groups", Identity, "supplementary groups set").a("groups", Number),
    kind("capset", Identity, "capabilities set")
        .a("effective", Bits(words::CAPABILITIES))
        .b("permitted", Bits(words::CAPABILITIES)),
    kind("prctl", Identity, "a property of the process that guards depend on")
        .a("option", Word(words::PRCTL))
        .b("argument", Hex),
    kind("keyctl", Identity, "an operation on a keyring").a("operation", Word(words::KEYCTL)),
    kind("add_key", Identity, "a key added or asked for").kind("key_type").text("description"),
    kind("unshare", Namespaces, "new namespaces for itself").a("flags", Bits(words::NAMESPACES)),
    kind("setns", Namespaces, "joined the namespaces of another")
        .a("flags", Bits(words::NAMESPACES))
        .b("namespace", Number),
    kind("chroot", Namespaces, "root directory changed").path("path"),
    kind("pivot_root", Namespaces, "root mount exchanged").path("path").other("old_root"),
    kind("module_load", Kernel, "a kernel module loaded").text("module").path("path"),
    kind("module_unload", Kernel, "a kernel module unloaded").text("module"),
    kind("bpf", Kernel, "a BPF object made, attached or looked up")
        .a("command", Word(words::BPF))
        .b("type", Number)
        .text("object"),
    kind("kexec_load", Kernel, "another kernel to boot into").path("path"),
    kind("perf_event_open", Kernel, "a performance event opened")
        .a("type", Word(words::PERF))
        .b("config", Hex),
    kind("kernel_log", Kernel, "the kernel's log read or cleared (syslog)").a("action", Number),
    kind("io_ports", Kernel, "direct access to I/O ports asked for").a("level", Number),
    kind("reboot", Kernel, "the machine stopped or restarted").a("command", Hex),
    kind("set_time", Kernel, "the clock set").a("clock", Number),
    kind("set_hostname", Kernel, "host or domain name set").text("hostname"),
    kind("swap", Kernel, "swap space turned on or off").path("path"),
    kind("accounting", Kernel, "process accounting turned on or off").path("path"),
    kind("mount", Storage, "a file system mounted, bound or remounted")
        .a("flags", Bits(words::MOUNT))
        .text("source")
        .kind("fs_type")
        .path("path"),
    kind("umount", Storage, "a file system unmounted").a("flags", Hex).path("path"),
    kind("move_mount", Storage, "a mount put in its place").path("path").other("from"),
    kind("open_tree", Storage, "a mount taken up, to be put elsewhere")
        .a("flags", Hex)
        .path("path"),
    kind("fs_open", Storage, "a file system to be configured").kind("fs_type"),
    kind("fs_config", Storage, "an option of such a file system, or that it be made")
        .a("command", Word(words::FS_CONFIG))
        .kind("key")
        .text("value"),
    kind("fs_pick", Storage, "a mounted file system to be configured anew")
        .a("flags", Hex)
        .path("path"),
    kind("mount_setattr", Storage, "properties of a mount changed").path("path"),
    kind("block_setup", Storage, "a loop or device mapper device set up")
        .a("command", Word(words::BLOCK))
        .path("path"),
    kind("socket_create", Network, "a socket made")
        .a("family", Word(words::FAMILIES))
        .b("type", Word(words::SOCKET_TYPES)),
    kind("bind", Network, "a socket bound to an address").address().text("socket_path"),
    kind("listen", Network, "a socket that accepts connections").address().text("socket_path"),
    kind("connect", Network, "a connection asked for, made or not").address().text("socket_path"),
    kind("netlink_config", Network, "a request to the kernel's network configuration")
        .a("message", Word(words::NETLINK_ROUTE)),
    kind("memory_exec", Memory, "memory made executable")
        .a("protection", Bits(words::PROTECTION))
        .b("backing", Word(words::BACKING)),
];

/// Where a socket is bound or connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// As `AF_` constants number them.
    pub family: u16,
    /// Host order; 0 where the family has none.
    pub port: u16,
    pub ip: Option<IpAddr>,
}

/// One activity of one task image, repeats merged.
#[derive(Clone, Debug)]
pub struct Activity {
    /// Index into [`ACTIVITIES`].
    pub id: u32,
    pub a: u64,
    pub b: u64,
    /// 0, or the errno with which it failed.
    pub error: i32,
    /// Family in the high half, port in the low one.
    pub code: u32,
    /// Who it was done to; known by its pid alone where the kernel did not say more.
    pub target: Option<Arc<Process>>,
    pub text: Text,
    pub kind: Text,
    pub path: Text,
    pub other: Text,
}

/// One detail's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Detail<'a> {
    Number(u64, Option<&'static str>),
    Hex(u64),
    Bits(u64, Vec<&'static str>),
    Text(&'a Text),
    Address(IpAddr),
}

impl fmt::Display for Detail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(_, Some(word)) => f.write_str(word),
            Self::Number(number, None) => write!(f, "{number}"),
            Self::Hex(number) => write!(f, "{number:#x}"),
            Self::Bits(_, names) if !names.is_empty() => f.write_str(&names.join("|")),
            Self::Bits(bits, _) => write!(f, "{bits:#x}"),
            Self::Text(text) => f.write_str(text.as_str()),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

impl Detail<'_> {
    /// Whether a recipe means this value by `word`: its name, one of its bits' names, or the
    /// number, decimal or hexadecimal.
    pub fn is(&self, word: &str) -> bool {
        let number = || {
            word.strip_prefix("0x")
                .map_or_else(|| word.parse().ok(), |hex| u64::from_str_radix(hex, 16).ok())
        };
        match self {
            Self::Number(value, name) => *name == Some(word) || number() == Some(*value),
            Self::Hex(value) => number() == Some(*value),
            Self::Bits(value, names) => names.contains(&word) || number() == Some(*value),
            Self::Text(text) => text.as_str() == word,
            Self::Address(address) => word.parse() == Ok(*address),
        }
    }
}

fn told(value: u64, show: Show) -> Detail<'static> {
    match show {
        Show::Number => Detail::Number(value, None),
        Show::Hex => Detail::Hex(value),
        Show::Word(words) => {
            let found = words.iter().find(|(number, _)| *number == value);
            Detail::Number(value, found.map(|(_, word)| *word))
        }
        Show::Bits(words) => {
            let on = words.iter().filter(|(bits, _)| *bits != 0 && value & bits == *bits);
            Detail::Bits(value, on.map(|(_, word)| *word).collect())
        }
    }
}

impl Activity {
    pub fn kind(&self) -> &'static Kind {
        // What the kernel writes is below the table's length; a test compares both.
        ACTIVITIES.get(self.id as usize).unwrap_or(&ACTIVITIES[0])
    }

    /// The address of a socket; none where the activity is not about one.
    pub fn address(&self) -> Option<Address> {
        if !self.kind().address {
            return None;
        }
        let (family, port) = ((self.code >> 16) as u16, self.code as u16);
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.a.to_ne_bytes());
        bytes[8..].copy_from_slice(&self.b.to_ne_bytes());
        let ip = match i32::from(family) {
            libc::AF_INET => {
                Some(IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3])))
            }
            // A mapped address is the IPv4 address that packets go to.
            libc::AF_INET6 => Some(Ipv6Addr::from(bytes).to_canonical()),
            _ => None,
        };
        Some(Address { family, port, ip })
    }

    /// Sets one part of the address as a recipe's example writes it; false: there is no such part.
    pub fn set_address(&mut self, part: &str, value: &str) -> bool {
        match (part, value.parse::<IpAddr>(), value.parse::<u16>()) {
            ("address", Ok(ip), _) => {
                let mut bytes = [0; 16];
                let family = match ip {
                    IpAddr::V4(ip) => {
                        bytes[..4].copy_from_slice(&ip.octets());
                        libc::AF_INET
                    }
                    IpAddr::V6(ip) => {
                        bytes = ip.octets();
                        libc::AF_INET6
                    }
                };
                let half = |at: usize| {
                    bytes[at..at + 8].iter().rev().fold(0, |all, byte| all << 8 | u64::from(*byte))
                };
                (self.a, self.b) = (u64::from_le(half(0)), u64::from_le(half(8)));
                self.code = (family as u32) << 16 | self.code & 0xffff;
            }
            ("port", _, Ok(port)) => self.code = self.code & 0xffff_0000 | u32::from(port),
            ("family", ..) => match Show::Word(words::FAMILIES).value(value) {
                Some(family) => self.code = (family as u32) << 16 | self.code & 0xffff,
                None => return false,
            },
            _ => return false,
        }
        true
    }

    /// Label and value of everything that is known, in the order of the table.
    pub fn details(&self) -> Vec<(&'static str, Detail<'_>)> {
        let kind = self.kind();
        let mut details = Vec::new();
        if let Some(address) = self.address() {
            details.push(("family", told(address.family.into(), Show::Word(words::FAMILIES))));
            if let Some(ip) = address.ip {
                details.push(("address", Detail::Address(ip)));
                details.push(("port", Detail::Number(address.port.into(), None)));
            }
        } else {
            for (part, value) in [(kind.a, self.a), (kind.b, self.b)] {
                details.extend(part.map(|(label, show)| (label, told(value, show))));
            }
        }
        let texts = [
            (kind.text, &self.text),
            (kind.kind, &self.kind),
            (kind.path, &self.path),
            (kind.other, &self.other),
        ];
        for (label, text) in texts {
            details.extend(
                label.filter(|_| !text.bytes().is_empty()).map(|label| (label, Detail::Text(text))),
            );
        }
        details
    }
}

/// `EPERM` for 1; the number where it has no name here.
pub fn errno_name(errno: i32) -> String {
    let found = words::ERRNOS.iter().find(|(number, _)| *number == u64::from(errno.unsigned_abs()));
    found.map_or_else(|| errno.to_string(), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::types::activity;

    #[test]
    fn the_table_is_in_the_order_of_the_kernels_numbers() {
        assert_eq!(ACTIVITIES.len() as u32, activity::ACT_COUNT.0);
        for (name, id) in [
            ("signal", activity::ACT_SIGNAL),
            ("personality", activity::ACT_PERSONALITY),
            ("setns", activity::ACT_SETNS),
            ("module_load", activity::ACT_MODULE_LOAD),
            ("accounting", activity::ACT_ACCOUNTING),
            ("mount", activity::ACT_MOUNT),
            ("block_setup", activity::ACT_BLOCK_SETUP),
            ("connect", activity::ACT_CONNECT),
            ("memory_exec", activity::ACT_MEMORY_EXEC),
        ] {
            assert_eq!(ACTIVITIES[id.0 as usize].name, name);
        }
    }

    fn of(id: activity, a: u64, b: u64) -> Activity {
        let (error, code) = (0, 0);
        let text = Text::default();
        Activity {
            id: id.0,
            a,
            b,
            error,
            code,
            target: None,
            text: text.clone(),
            kind: text.clone(),
            path: text.clone(),
            other: text,
        }
    }

    #[test]
    fn words_bits_and_numbers_are_told_and_recognised() {
        let trace = of(activity::ACT_PTRACE, 16, 0);
        let details = trace.details();
        assert_eq!(details[0].1.to_string(), "attach");
        assert!(details[0].1.is("attach") && details[0].1.is("16") && details[0].1.is("0x10"));
        assert!(!details[0].1.is("seize"));
        let memory = of(activity::ACT_MEMORY_EXEC, 7, 0);
        assert_eq!(memory.details()[0].1.to_string(), "read|write|exec");
        assert!(memory.details()[0].1.is("write") && memory.details()[0].1.is("7"));
        assert_eq!(errno_name(1), "EPERM");
    }

    #[test]
    fn a_mapped_address_is_the_one_that_packets_go_to() {
        let mut bytes = [0u8; 16];
        bytes[10..].copy_from_slice(&[0xff, 0xff, 192, 0, 2, 7]);
        let half = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
        let mut connect = of(activity::ACT_CONNECT, half(0), half(8));
        connect.code = (libc::AF_INET6 as u32) << 16 | 443;
        let address = connect.address().unwrap();
        assert_eq!(address.ip, Some("192.0.2.7".parse().unwrap()));
        assert_eq!(address.port, 443);
    }
}
