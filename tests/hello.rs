//! What clients say first, parsed: TLS and HTTP, whole, cut, odd and hostile.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use proptest::prelude::*;
use raqib::event::Source;
use raqib::hello::{Unread, parse};

fn vector8(bytes: &[u8]) -> Vec<u8> {
    [&[bytes.len() as u8][..], bytes].concat()
}

fn vector16(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector16(content)].concat()
}

fn server_name(name: &[u8]) -> Vec<u8> {
    extension(0, &vector16(&[&[0][..], &vector16(name)].concat()))
}

fn message(extensions: &[Vec<u8>]) -> Vec<u8> {
    let body = [
        &[3, 3][..],
        &[7; 32],
        &vector8(&[9; 32]),
        &vector16(&[0x13, 1, 0x13, 2]),
        &vector8(&[0]),
        &vector16(&extensions.concat()),
    ]
    .concat();
    [&[1, 0][..], &vector16(&body)].concat()
}

/// The message in records of that many bytes.
fn records(message: &[u8], length: usize) -> Vec<u8> {
    message.chunks(length).flat_map(|part| [&[22, 3, 1][..], &vector16(part)].concat()).collect()
}

fn hello(extensions: &[Vec<u8>]) -> Vec<u8> {
    records(&message(extensions), 1 << 14)
}

#[test]
fn a_client_hello_tells_name_protocols_and_encryption() {
    let protocols = vector16(&[vector8(b"h2"), vector8(b"http/1.1"), vector8(b"\xffx")].concat());
    let bytes = hello(&[
        extension(0x0a0a, b""),
        extension(51, &[5; 1300]),
        server_name(b"WWW.Example.COM."),
        extension(16, &protocols),
        extension(0xfe0d, &[1; 200]),
    ]);
    assert!(bytes.len() > 1400);
    let told = parse(&bytes).unwrap();
    assert_eq!(told.names, ["www.example.com"]);
    let alpn = ["h2", "http/1.1", "\\xffx"].map(Into::into).to_vec();
    assert_eq!(told.source, Source::Tls { alpn, ech: true });
    // What follows the message is not looked at.
    assert_eq!(parse(&[&bytes[..], b"early data"].concat()).unwrap(), told);
    for end in 0..bytes.len() {
        assert_eq!(parse(&bytes[..end]), Err(Unread::Incomplete), "{end}");
    }
}

#[test]
fn one_odd_extension_does_not_hide_the_name() {
    let bytes = hello(&[extension(16, &[0, 9, 1]), extension(10, &[1]), server_name(b"a.example")]);
    assert_eq!(parse(&bytes).unwrap().names, ["a.example"]);
    // Nor does a message in many records.
    let split = records(&message(&[server_name(b"a.example")]), 1);
    assert_eq!(parse(&split).unwrap().names, ["a.example"]);
}

#[test]
fn a_client_hello_without_a_name_is_one() {
    let told = parse(&hello(&[])).unwrap();
    assert_eq!((told.names.len(), told.addresses.len()), (0, 0));
    let told = parse(&hello(&[server_name(b"192.0.2.1"), server_name(b"a..b")])).unwrap();
    assert_eq!(told.addresses, ["192.0.2.1".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(told.names, [""; 0]);
}

#[test]
fn what_only_looks_like_tls() {
    for other in [
        &b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00"[..], // a ServerHello
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\xff\xff\x01",
        b"\x16\x02\x01\x00\x05\x01",
        b"\x17\x03\x03\x00\x05abcde",
        b"\x16\x03\x01\x00\x06\x01\x00\x00\x02\x03\x03",
        b"\x16\x03\x01\x00\x05\x01\xff\xff\xff\x00",
    ] {
        assert_eq!(parse(other), Err(Unread::Other), "{other:x?}");
    }
}

#[test]
fn requests_name_their_host() {
    let names = |text: &str| parse(text.as_bytes()).unwrap().names;
    assert_eq!(names("GET / HTTP/1.1\r\nHost: A.Example.:8080\r\n\r\n"), ["a.example"]);
    assert_eq!(names("\r\nGET / HTTP/1.0\r\nX: y\r\nhOST:b.example\r\n\r\nbody"), ["b.example"]);
    assert_eq!(names("CONNECT c.example:443 HTTP/1.1\r\n\r\n"), ["c.example"]);
    assert_eq!(
        names("GET http://u:p@d.example:80/x?y=://z HTTP/1.1\r\nHost: e.example\r\n\r\n"),
        ["d.example", "e.example"]
    );
    assert_eq!(names("GET / HTTP/1.1\r\nHost: one\r\nHost: two\r\n\r\n"), ["one", "two"]);
    assert_eq!(names("GET / HTTP/1.0\r\n\r\n"), [""; 0]);
    // Said enough before the head is whole.
    assert_eq!(names("POST / HTTP/1.1\r\nHost: f.example\r\nX-Long: aaaaaa"), ["f.example"]);
    let many = "X: y\r\n".repeat(300);
    assert_eq!(names(&format!("GET / HTTP/1.1\r\nHost: g.example\r\n{many}\r\n")), ["g.example"]);
    let hosts: String = (0..300).map(|at| format!("Host: h{at}\r\n")).collect();
    assert_eq!(names(&format!("GET / HTTP/1.1\r\n{hosts}\r\n")).len(), 4);
    let told = parse(b"GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n").unwrap();
    assert_eq!(told.addresses, ["2001:db8::1".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(told.names, [""; 0]);
}

#[test]
fn what_is_no_request_or_not_yet() {
    for begun in ["G", "GET / HT", "GET / HTTP/1.1\r\nHost: exam", "GET / HTTP/1.1\r\nX: y\r\n"] {
        assert_eq!(parse(begun.as_bytes()), Err(Unread::Incomplete), "{begun}");
    }
    for other in ["SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", "NICK me\r\nUSER me\r\n", "\x03\0\0"] {
        assert_eq!(parse(other.as_bytes()), Err(Unread::Other), "{other}");
    }
    assert_eq!(parse(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Err(Unread::Other));
    let endless = format!("GET /{} HTTP/1.1\r\n", "a".repeat(9000));
    assert_eq!(parse(endless.as_bytes()), Err(Unread::Other));
}

fn plausible(name: &str) -> bool {
    name.len() <= 4 * 253
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase())
}

proptest! {
    #[test]
    fn garbage_is_read_without_panic(
        head in prop_oneof![
            Just(&b""[..]),
            Just(&b"\x16\x03\x01\x00\x50\x01\x00\x00\x4c\x03\x03"[..]),
            Just(&b"GET http://"[..]),
            Just(&b"GET / HTTP/1.1\r\nHost:"[..]),
        ],
        bytes in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        if let Ok(told) = parse(&[head, &bytes[..]].concat()) {
            prop_assert!(told.names.len() <= 4 && told.addresses.len() <= 4);
            prop_assert!(told.names.iter().all(|name| plausible(name)));
        }
    }

    #[test]
    fn a_changed_byte_is_read_without_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = hello(&[server_name(b"a.example"), extension(16, &vector16(&vector8(b"h2")))]);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(told) = parse(&bytes) {
            prop_assert!(told.names.iter().all(|name| plausible(name)));
        }
    }

    #[test]
    fn names_survive_any_records_and_cuts(
        labels in prop::collection::vec("[a-z0-9_-]{1,20}[a-z]", 1..8),
        before in 0usize..3000,
        length in 1usize..2000,
    ) {
        let name = labels.join(".");
        let message = message(&[extension(51, &vec![1; before]), server_name(name.to_uppercase().as_bytes())]);
        let bytes = records(&message, length);
        prop_assert_eq!(parse(&bytes).unwrap().names, std::slice::from_ref(&name));
        prop_assert_eq!(parse(&bytes[..bytes.len() - 1]), Err(Unread::Incomplete));
        let request = format!("GET / HTTP/1.1\r\nX: {}\r\nHost: {name}\r\n\r\n", "y".repeat(before));
        prop_assert_eq!(parse(request.as_bytes()).unwrap().names, [name]);
    }
}
