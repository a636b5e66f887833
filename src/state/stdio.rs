//! Standard streams that are sockets: how a shell talks to whoever is elsewhere.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;

use crate::kernel::types::exec_row;

/// One standard stream that was a socket when the program was executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stdio {
    /// `stdin`, `stdout`, `stderr`.
    pub stream: &'static str,
    /// `inet`, `inet6`, `unix` and so on; a number where it has no name here.
    pub family: String,
    /// `stream`, `dgram`, `raw`, `seqpacket`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The other end; none where it has no address (unix) or is not connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
}

const STREAMS: [&str; 3] = ["stdin", "stdout", "stderr"];

/// AF_* of `linux/socket.h`, those that programs are fed through.
fn family_name(family: u8) -> String {
    let name = match i32::from(family) {
        libc::AF_UNIX => "unix",
        libc::AF_INET => "inet",
        libc::AF_INET6 => "inet6",
        libc::AF_NETLINK => "netlink",
        libc::AF_PACKET => "packet",
        libc::AF_VSOCK => "vsock",
        other => return other.to_string(),
    };
    name.to_owned()
}

fn type_name(kind: u8) -> &'static str {
    match i32::from(kind) {
        libc::SOCK_STREAM => "stream",
        libc::SOCK_DGRAM => "dgram",
        libc::SOCK_RAW => "raw",
        libc::SOCK_SEQPACKET => "seqpacket",
        _ => "other",
    }
}

impl Stdio {
    /// As recipes match it: `stdin inet stream 203.0.113.9:4444`.
    pub fn text(&self) -> String {
        let remote = self.remote.as_deref().map(|remote| format!(" {remote}")).unwrap_or_default();
        format!("{} {} {}{remote}", self.stream, self.family, self.kind)
    }

    /// The inverse of [`Self::text`], for examples of recipes.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let stream = words.next()?;
        let family = words.next()?.to_owned();
        let kind = words.next()?;
        let kind = ["stream", "dgram", "raw", "seqpacket"].into_iter().find(|one| *one == kind)?;
        let stream = STREAMS.into_iter().find(|one| *one == stream)?;
        Some(Self { stream, family, kind, remote: words.next().map(str::to_owned) })
    }

    /// Those of a row. The address is that of the first connection among them: they are mostly
    /// one socket under three numbers.
    pub(crate) fn of(row: &exec_row) -> Box<[Self]> {
        let remote = remote(row);
        let sockets = row.stdio_family.iter().zip(&row.stdio_type).zip(STREAMS);
        sockets
            .filter(|((family, _), _)| **family != 0)
            .map(|((family, kind), stream)| {
                let network = [libc::AF_INET, libc::AF_INET6].contains(&i32::from(*family));
                Self {
                    stream,
                    family: family_name(*family),
                    kind: type_name(*kind),
                    remote: remote.clone().filter(|_| network),
                }
            })
            .collect()
    }
}

fn remote(row: &exec_row) -> Option<String> {
    if row.stdio_port == 0 {
        return None;
    }
    let bytes = row.stdio_remote;
    let address = match row.stdio_ipv6 {
        0 => Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into(),
        _ => IpAddr::from(Ipv6Addr::from(bytes)).to_canonical(),
    };
    Some(std::net::SocketAddr::new(address, row.stdio_port).to_string())
}
