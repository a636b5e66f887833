//! Sockets before their first packet, the network's configuration, and what packets show.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};

use crate::calls::{NONE, at, failed};
use crate::common::wire::{answer, client_hello, question, vector16};
use crate::{Fact, fact};

fn ipv4(last: u8, port: u16) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, last]) },
        sin_zero: [0; 8],
    }
}

fn socket() -> i64 {
    call!(libc::SYS_socket, libc::AF_INET, libc::SOCK_STREAM, 0)
}

fn bind(port: u16) -> i64 {
    let to = ipv4(1, port);
    call!(libc::SYS_bind, socket(), &raw const to, 16usize)
}

fn listen(port: u16) -> i64 {
    let (fd, to) = (socket(), ipv4(1, port));
    call!(libc::SYS_bind, fd, &raw const to, 16usize).min(call!(libc::SYS_listen, fd, 1))
}

fn connect(port: u16) -> i64 {
    let to = ipv4(1, port);
    match call!(libc::SYS_connect, socket(), &raw const to, 16usize) {
        // Nobody listens there: it was asked for all the same.
        -111 => 0,
        other => other,
    }
}

fn unix_address(path: &[u8]) -> libc::sockaddr_un {
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as u16;
    for (to, from) in address.sun_path.iter_mut().zip(path) {
        *to = *from as libc::c_char;
    }
    address
}

fn unix_socket() -> i64 {
    call!(libc::SYS_socket, libc::AF_UNIX, libc::SOCK_STREAM, 0)
}

fn unix_connect(path: &str) -> i64 {
    let (fd, to) = (unix_socket(), unix_address(path.as_bytes()));
    // Nobody is there: asked for all the same.
    call!(libc::SYS_connect, fd, &raw const to, size_of::<libc::sockaddr_un>()).max(0)
}

fn unix_bind(path: &[u8]) -> i64 {
    let (fd, to) = (unix_socket(), unix_address(path));
    call!(libc::SYS_bind, fd, &raw const to, 2 + path.len())
}

fn netlink_socket() -> i64 {
    call!(libc::SYS_socket, libc::AF_NETLINK, libc::SOCK_RAW, 0)
}

/// RTM_NEWLINK of nothing is refused by the kernel, which is told in an answer, not by sendto.
fn netlink(message: u16) -> i64 {
    let mut request = [0u8; 32];
    request[..4].copy_from_slice(&32u32.to_ne_bytes());
    request[4..6].copy_from_slice(&message.to_ne_bytes());
    request[6..8].copy_from_slice(&1u16.to_ne_bytes());
    call!(libc::SYS_sendto, netlink_socket(), request.as_ptr(), 32, 0, NONE, 0usize)
}

const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;

/// An address for lo in a network namespace of its own, or the question which there are; by
/// sendmsg or sendmmsg.
fn configure(number: libc::c_long, message: u16) -> i64 {
    let own = call!(libc::SYS_unshare, libc::CLONE_NEWNET);
    if own < 0 {
        return own;
    }
    let mut request = [0u8; 40];
    request[..4].copy_from_slice(&40u32.to_ne_bytes());
    request[4..6].copy_from_slice(&message.to_ne_bytes());
    // NLM_F_REQUEST, and NLM_F_ACK or NLM_F_DUMP
    let flags: u16 = if message == RTM_NEWADDR { 5 } else { 0x301 };
    request[6..8].copy_from_slice(&flags.to_ne_bytes());
    // Family, prefix, and the interface's number; then IFA_LOCAL and IFA_ADDRESS.
    (request[16], request[17], request[20]) = (libc::AF_INET as u8, 8, 1);
    for (from, kind) in [(24, 2u8), (32, 1)] {
        request[from..from + 8].copy_from_slice(&[8, 0, kind, 0, 127, 0, 0, 9]);
    }
    let mut part = libc::iovec { iov_base: request.as_mut_ptr().cast(), iov_len: 40 };
    let mut messages: [libc::mmsghdr; 1] = unsafe { std::mem::zeroed() };
    (messages[0].msg_hdr.msg_iov, messages[0].msg_hdr.msg_iovlen) = (&raw mut part, 1);
    let fd = netlink_socket();
    let sent = if number == libc::SYS_sendmmsg {
        call!(number, fd, messages.as_mut_ptr(), 1, 0)
    } else {
        call!(number, fd, messages.as_ptr(), 0)
    };
    // The answer's error is behind its header; a list of addresses is no error.
    let mut heard = [0u8; 4096];
    let length = call!(libc::SYS_recvfrom, fd, heard.as_mut_ptr(), 4096, 0, NONE, NONE);
    let error = i32::from_ne_bytes(heard[16..20].try_into().unwrap());
    let is_error = u16::from_ne_bytes([heard[4], heard[5]]) == 2;
    sent.min(length).min(if is_error { error.into() } else { 0 })
}

/// An ICMP echo to one of this machine's own addresses, by a raw socket.
fn echo(last: u8) -> i64 {
    let fd = call!(libc::SYS_socket, libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP);
    let (bytes, to) = ([8u8, 0, 0xe5, 0xca, 0x12, 0x34, 0, 1], ipv4(last, 0));
    call!(libc::SYS_sendto, fd, bytes.as_ptr(), 8, 0, &raw const to, 16usize)
}

fn datagram(last: u8) -> i64 {
    let fd = call!(libc::SYS_socket, libc::AF_INET, libc::SOCK_DGRAM, 0);
    let to = ipv4(last, 4747);
    call!(libc::SYS_sendto, fd, b"hay".as_ptr(), 3, 0, &raw const to, 16usize)
}

/// Says it to itself, over TCP; 0, or the errno where the address is not to be had.
fn said(last: u8, words: &[u8]) -> i64 {
    let Ok(listener) = TcpListener::bind((Ipv4Addr::new(127, 0, 0, last), 0)) else {
        return failed();
    };
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    stream.write_all(words).unwrap();
    let (mut heard, mut end) = (vec![0; words.len()], listener.accept().unwrap().0);
    end.read_exact(&mut heard).unwrap();
    0
}

/// Asks a resolver of its own.
fn asked_by_datagram(name: &str) -> i64 {
    let Ok(server) = UdpSocket::bind("127.0.0.95:53") else { return failed() };
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.send_to(&question(name), "127.0.0.95:53").unwrap();
    let mut bytes = [0; 512];
    let (length, from) = server.recv_from(&mut bytes).unwrap();
    server.send_to(&answer(&bytes[..length]), from).unwrap();
    client.recv(&mut bytes).unwrap();
    0
}

fn asked_by_stream(name: &str) -> i64 {
    let Ok(listener) = TcpListener::bind("127.0.0.94:53") else { return failed() };
    let mut client = TcpStream::connect("127.0.0.94:53").unwrap();
    let mut server = listener.accept().unwrap().0;
    let query = question(name);
    client.write_all(&vector16(&query)).unwrap();
    server.read_exact(&mut vec![0; query.len() + 2]).unwrap();
    let answer = vector16(&answer(&query));
    server.write_all(&answer).unwrap();
    client.read_exact(&mut vec![0; answer.len()]).unwrap();
    0
}

/// A recipe on conversations, with what they must have.
macro_rules! flow {
    ($more:expr) => {
        concat!("breed: network_flows, mechanism: network_flows, ", $more)
    };
}

/// A recipe on names that are asked for.
macro_rules! peer {
    ($name:expr, $source:expr) => {
        concat!(
            "breed: remote_domains, mechanism: network_peers, remote_domains: [",
            $name,
            "], arbitrary: [{how: AND, which: irrelevant, items: [{what: peer_source, \
             which: pertinent, pattern: ",
            $source,
            "}]}]"
        )
    };
}

/// That a socket of this kind is made.
macro_rules! made {
    ($name:expr, $details:expr, $family:expr, $kind:expr, $protocol:expr) => {
        fact(
            "network",
            $name,
            activity!(concat!("socket_create, details: {", $details, "}")),
            |_| call!(libc::SYS_socket, $family, $kind, $protocol),
            |_| call!(libc::SYS_socket, libc::AF_INET, libc::SOCK_DGRAM, 0),
        )
    };
}

const AF_ALG: i32 = 38;
const AF_VSOCK: i32 = 40;
const AF_XDP: i32 = 44;

pub const FACTS: &[Fact] = &[
    made!("socket", "family: inet, type: stream", libc::AF_INET, libc::SOCK_STREAM, 0),
    made!("packet_socket", "family: packet", libc::AF_PACKET, libc::SOCK_RAW, 0),
    made!("raw_socket", "family: inet, type: raw", libc::AF_INET, libc::SOCK_RAW, 1),
    made!("crypto_socket", "family: alg", AF_ALG, libc::SOCK_SEQPACKET, 0),
    made!("vm_socket", "family: vsock", AF_VSOCK, libc::SOCK_STREAM, 0),
    made!("xdp_socket", "family: xdp", AF_XDP, libc::SOCK_RAW, 0),
    made!("netlink_socket", "family: netlink", libc::AF_NETLINK, libc::SOCK_RAW, 0),
    fact(
        "network",
        "bind",
        activity!("bind, details: {address: 127.0.0.1, port: '47471'}"),
        |_| bind(47471),
        |_| bind(47472),
    ),
    fact(
        "network",
        "listen",
        activity!("listen, details: {port: '47473'}"),
        |_| listen(47473),
        |_| bind(47474),
    ),
    fact(
        "network",
        "connect_refused",
        activity!("connect, details: {port: '47475'}, result: failure"),
        |_| connect(47475),
        |_| connect(47476),
    ),
    fact(
        "network",
        "unix_connect",
        activity!("connect, details: {socket_path: /run/raqib-nobody}"),
        |_| unix_connect("/run/raqib-nobody"),
        |_| unix_connect("/run/raqib-other"),
    ),
    fact(
        "network",
        "unix_bind",
        activity!("bind, details: {socket_path: {regex: '/ear$'}}"),
        |d| unix_bind(at(d, "ear").as_bytes()),
        |d| unix_bind(at(d, "eye").as_bytes()),
    ),
    fact(
        "network",
        "abstract_bind",
        activity!("bind, details: {socket_path: '@raqib-ear'}"),
        |_| unix_bind(b"\0raqib-ear"),
        |_| unix_bind(b"\0raqib-eye"),
    ),
    fact(
        "network",
        "netlink_config",
        activity!("netlink_config, details: {message: newlink}"),
        |_| netlink(16),
        |_| netlink(18),
    ),
    fact(
        "network",
        "address_added",
        activity!("netlink_config, details: {message: newaddr}"),
        |_| configure(libc::SYS_sendmsg, RTM_NEWADDR),
        |_| configure(libc::SYS_sendmsg, RTM_GETADDR),
    ),
    fact(
        "network",
        "address_added_sendmmsg",
        activity!("netlink_config, details: {message: newaddr}"),
        |_| configure(libc::SYS_sendmmsg, RTM_NEWADDR),
        |_| configure(libc::SYS_sendmmsg, RTM_GETADDR),
    ),
    fact(
        "network",
        "tcp",
        flow!("protocol: tcp, remote_ips: [127.0.0.71]"),
        |_| said(71, b"hay"),
        |_| said(72, b"hay"),
    ),
    fact(
        "network",
        "udp_unconnected",
        flow!("protocol: udp, remote_ips: [127.0.0.73]"),
        |_| datagram(73),
        |_| datagram(74),
    ),
    fact(
        "network",
        "icmp",
        flow!("protocol: icmp, remote_ips: [127.0.0.75]"),
        |_| echo(75),
        |_| echo(76),
    ),
    fact(
        "network",
        "dns_over_udp",
        peer!("udp.raqib.example", "dns"),
        |_| asked_by_datagram("udp.raqib.example"),
        |_| asked_by_datagram("other.raqib.example"),
    ),
    fact(
        "network",
        "dns_over_tcp",
        peer!("tcp.raqib.example", "dns"),
        |_| asked_by_stream("tcp.raqib.example"),
        |_| asked_by_stream("other.raqib.example"),
    ),
    fact(
        "network",
        "tls_name",
        peer!("dns.raqib.example", "tls"),
        |_| said(77, &client_hello("dns.raqib.example", 32)),
        |_| said(77, &client_hello("other.raqib.example", 32)),
    ),
    fact(
        "network",
        "http_host",
        peer!("web.raqib.example", "http"),
        |_| said(78, b"GET / HTTP/1.1\r\nHost: web.raqib.example\r\n\r\n"),
        |_| said(78, b"GET / HTTP/1.1\r\nHost: other.raqib.example\r\n\r\n"),
    ),
];
