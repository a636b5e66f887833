//! The head of an HTTP/1 request: the host in its target (of a proxy's client, or CONNECT) and in
//! its Host field. A client that gives several different ones shows them all: which of them counts
//! is the server's choice.

use httparse::{EMPTY_HEADER, Error, Request, Status};

use super::{Hello, Unread};
use crate::event::Source;

/// Fields of one head; servers refuse more by default (a hundred, mostly).
const FIELDS: usize = 128;
/// Bytes of a head: what the kernel side keeps.
const MAX_HEAD: usize = 8192;

pub(super) fn parse(bytes: &[u8]) -> Result<Hello, Unread> {
    let mut fields = [EMPTY_HEADER; FIELDS];
    let mut request = Request::new(&mut fields);
    let whole = match request.parse(bytes) {
        Ok(Status::Complete(_)) => true,
        Ok(Status::Partial) | Err(Error::TooManyHeaders) => false,
        Err(_) => return Err(Unread::Other),
    };
    // HTTP/2 without TLS has a request line of this form, and its host is compressed.
    if request.method == Some("PRI") {
        return Err(Unread::Other);
    }
    let mut hello = Hello::new(Source::Http);
    if let (Some(method), Some(target)) = (request.method, request.path) {
        let connect = method == "CONNECT";
        let authority = if connect { Some(target) } else { authority(target) };
        if let Some(authority) = authority {
            hello.add_host(without_port(authority.as_bytes()));
        }
    }
    let hosts = request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case("host"));
    hosts.for_each(|field| hello.add_host(without_port(field.value.trim_ascii())));
    // A head that was cut, or that is still being sent, has said enough if it has said a host.
    let named = !hello.names.is_empty() || !hello.addresses.is_empty();
    if whole || (named && request.version.is_some()) {
        return Ok(hello);
    }
    Err(if bytes.len() >= MAX_HEAD { Unread::Other } else { Unread::Incomplete })
}

/// Of an absolute target: `http://user@host:port/path`.
fn authority(target: &str) -> Option<&str> {
    let (_, rest) = target.split_once("://").filter(|(scheme, _)| {
        !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })?;
    let authority = rest.split(['/', '?', '#']).next()?;
    Some(authority.rsplit_once('@').map_or(authority, |(_, host)| host))
}

fn without_port(host: &[u8]) -> &[u8] {
    let end = host.iter().rposition(|byte| *byte == b':');
    match end {
        // The colons of an address in brackets are no port's.
        Some(end) if host[end..].iter().skip(1).all(u8::is_ascii_digit) => &host[..end],
        _ => host,
    }
}
