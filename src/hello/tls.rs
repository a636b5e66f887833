//! A TLS ClientHello (RFC 8446 §4.1.2), as far as names go.
//!
//! Not a library's parser: those read every extension and stop at the first that is malformed, so
//! one odd extension before the server name would hide it from us and not from the server.

use std::sync::Arc;

use super::{Hello, Unread};
use crate::event::Source;

pub(super) const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const VERSION_MAJOR: u8 = 3;
/// Bytes of one record's content; servers refuse more (RFC 8446 §5.1).
const MAX_RECORD: usize = 1 << 14;
/// As the protocol allows; the kernel side keeps less.
const MAX_MESSAGE: usize = 1 << 16;

const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;
/// Protocols kept of what the client offers.
const PROTOCOLS: usize = 8;

pub(super) fn parse(bytes: &[u8]) -> Result<Hello, Unread> {
    let message = message(bytes)?;
    read(&message).ok_or(Unread::Other)
}

/// The content of the first handshake message, which may lie in several records.
fn message(mut bytes: &[u8]) -> Result<Vec<u8>, Unread> {
    let mut message = Vec::new();
    loop {
        match message.as_slice() {
            [CLIENT_HELLO, high, middle, low, content @ ..] => {
                let [high, middle, low] = [high, middle, low].map(|byte| usize::from(*byte));
                let length = high << 16 | middle << 8 | low;
                if length > MAX_MESSAGE {
                    return Err(Unread::Other);
                }
                if let Some(content) = content.get(..length) {
                    return Ok(content.to_vec());
                }
            }
            [] | [CLIENT_HELLO, ..] => {}
            _ => return Err(Unread::Other),
        }
        match bytes {
            [] | [HANDSHAKE] | [HANDSHAKE, VERSION_MAJOR] => return Err(Unread::Incomplete),
            [HANDSHAKE, VERSION_MAJOR, _] | [HANDSHAKE, VERSION_MAJOR, _, _] => {
                return Err(Unread::Incomplete);
            }
            [HANDSHAKE, VERSION_MAJOR, _, high, low, rest @ ..] => {
                let length = usize::from(*high) << 8 | usize::from(*low);
                if length == 0 || length > MAX_RECORD {
                    return Err(Unread::Other);
                }
                let (part, after) = rest.split_at(length.min(rest.len()));
                message.extend_from_slice(part);
                bytes = after;
            }
            _ => return Err(Unread::Other),
        }
    }
}

/// None if it is no ClientHello. An extension that cannot be read is left out.
fn read(message: &[u8]) -> Option<Hello> {
    let mut rest = message;
    let version = take(&mut rest, 2)?;
    if version.first() != Some(&VERSION_MAJOR) {
        return None;
    }
    take(&mut rest, 32)?;
    let session = vector8(&mut rest)?;
    let ciphers = vector16(&mut rest)?;
    let compression = vector8(&mut rest)?;
    if session.len() > 32 || ciphers.len() < 2 || ciphers.len() % 2 != 0 || compression.is_empty() {
        return None;
    }
    let (mut alpn, mut ech, mut servers) = (Vec::new(), false, Vec::new());
    // Before TLS 1.2 there may be none.
    let mut extensions = if rest.is_empty() { rest } else { vector16(&mut rest)? };
    while let Some(kind) = number(&mut extensions) {
        let Some(content) = vector16(&mut extensions) else { break };
        match kind {
            SERVER_NAME => servers.extend(server_names(content)),
            ALPN => alpn = protocols(content),
            ENCRYPTED_CLIENT_HELLO => ech = true,
            _ => {}
        }
    }
    let mut hello = Hello::new(Source::Tls { alpn, ech });
    servers.into_iter().for_each(|server| hello.add_host(server));
    Some(hello)
}

fn server_names(mut content: &[u8]) -> Vec<&[u8]> {
    let mut list = vector16(&mut content).unwrap_or_default();
    let mut names = Vec::new();
    while let Some(kind) = take(&mut list, 1) {
        let Some(name) = vector16(&mut list) else { break };
        if kind == [0] && names.len() < super::HOSTS {
            names.push(name);
        }
    }
    names
}

fn protocols(mut content: &[u8]) -> Vec<Arc<str>> {
    let mut list = vector16(&mut content).unwrap_or_default();
    let mut names = Vec::new();
    while let Some(name) = vector8(&mut list).filter(|_| names.len() < PROTOCOLS) {
        let text: String = name
            .iter()
            .map(|byte| match byte {
                b'!'..=b'~' => char::from(*byte).to_string(),
                _ => format!("\\x{byte:02x}"),
            })
            .collect();
        names.push(text.into());
    }
    names
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(count)?;
    *rest = after;
    Some(taken)
}

fn number(rest: &mut &[u8]) -> Option<u16> {
    let bytes = take(rest, 2)?;
    Some(u16::from_be_bytes(bytes.try_into().ok()?))
}

fn vector8<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::from(*take(rest, 1)?.first()?);
    take(rest, length)
}

fn vector16<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::from(number(rest)?);
    take(rest, length)
}
