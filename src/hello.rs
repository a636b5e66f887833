//! What a client says first on a TCP connection: whom it asks for. The bytes may be an attacker's.

use std::net::IpAddr;

mod http;
mod tls;

use crate::event::Source;

/// Names and addresses kept of one message.
const HOSTS: usize = 4;

/// A message that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    pub source: Source,
    /// In the order of the message, each once; lower case, no trailing dot, no port.
    pub names: Vec<String>,
    /// Hosts that were given as addresses.
    pub addresses: Vec<IpAddr>,
}

/// Why there is no message (yet).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It may become one with more bytes.
    Incomplete,
    /// It is something else, whatever follows.
    Other,
}

/// Reads the start of what a client sends: a TLS ClientHello or an HTTP/1 request. The work is
/// linear to the bytes.
pub fn parse(bytes: &[u8]) -> Result<Hello, Unread> {
    match bytes.first() {
        None => Err(Unread::Incomplete),
        Some(&tls::HANDSHAKE) => tls::parse(bytes),
        Some(_) => http::parse(bytes),
    }
}

impl Hello {
    fn new(source: Source) -> Self {
        Self { source, names: Vec::new(), addresses: Vec::new() }
    }

    /// Adds a host without its port, if it is one.
    fn add_host(&mut self, host: &[u8]) {
        let text = std::str::from_utf8(host).unwrap_or_default();
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = bare.parse::<IpAddr>() {
            let address = address.to_canonical();
            if self.addresses.len() < HOSTS && !self.addresses.contains(&address) {
                self.addresses.push(address);
            }
        } else if let Some(name) = crate::dns::name_of_text(host)
            && self.names.len() < HOSTS
            && !self.names.contains(&name)
        {
            self.names.push(name);
        }
    }
}
