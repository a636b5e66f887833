//! Conversations without the usual calls.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use serde_json::{Value, json};

use crate::common::actor::act;
use crate::common::acts::ok;
use crate::common::wire::{answer, client_hello, question, vector16};
use crate::common::{Daemon, PATIENCE, cannot_run, exec_recipe, network_recipe};
use crate::ring::{Request, Ring, op};
use crate::{Findings, skip};

/// Remote addresses of the TCP and UDP flows of one process to one port, each once.
fn remotes(alerts: &[Value], pid: u32, port: u16) -> Vec<String> {
    let fits = |alert: &&Value| {
        alert["metadata"]["name"] == "flow"
            && alert["process"]["pid"] == pid
            && alert["flow"]["remote"]["port"] == port
    };
    let address = |alert: &Value| alert["flow"]["remote"]["address"].as_str().unwrap().to_owned();
    let mut told: Vec<String> = alerts.iter().filter(fits).map(address).collect();
    told.sort_unstable();
    told.dedup();
    told
}

/// Answers one question over TCP, in two pieces.
fn serve_tcp(listener: TcpListener) {
    let (mut stream, _) = listener.accept().unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut query).unwrap();
    let answer = answer(&query);
    let message = vector16(&answer);
    stream.write_all(&message[..22]).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(20));
    stream.write_all(&message[22..]).unwrap();
}

fn packet_sockets() {
    // One datagram's worth of nothing to lo, by a packet socket; and an ICMP echo by a raw one.
    unsafe {
        let raw = ok(libc::socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP));
        let echo = [8u8, 0, 0xe5, 0xca, 0x12, 0x34, 0, 1];
        let mut to: libc::sockaddr_in = std::mem::zeroed();
        to.sin_family = libc::AF_INET as u16;
        to.sin_addr.s_addr = u32::from_ne_bytes([127, 0, 0, 77]);
        let length = size_of::<libc::sockaddr_in>() as u32;
        let (bytes, to) = (echo.as_ptr().cast(), (&raw const to).cast());
        ok(libc::sendto(raw, bytes, 8, 0, to, length) as i64);
        let all = i32::from(3u16.to_be());
        let packet = ok(libc::socket(libc::AF_PACKET, libc::SOCK_RAW, all));
        let mut at: libc::sockaddr_ll = std::mem::zeroed();
        at.sll_family = libc::AF_PACKET as u16;
        at.sll_ifindex = libc::if_nametoindex(c"lo".as_ptr()) as i32;
        at.sll_protocol = 0x88b5u16.to_be();
        let mut frame = [0u8; 60];
        frame[12..14].copy_from_slice(&[0x88, 0xb5]);
        let length = size_of::<libc::sockaddr_ll>() as u32;
        let (bytes, to) = (frame.as_ptr().cast(), (&raw const at).cast());
        ok(libc::sendto(packet, bytes, 60, 0, to, length) as i64);
    }
}

#[test]
fn conversations_without_the_usual_calls() {
    if let Some(reason) = cannot_run() {
        skip!("conversations_without_the_usual_calls", reason);
    }
    let listeners: [TcpListener; 4] =
        std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    let [ring_port, mapped_port, shell_port, tls_port] =
        [0, 1, 2, 3].map(|at: usize| listeners[at].local_addr().unwrap().port());
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let udp_port = receiver.local_addr().unwrap().port();
    let resolvers = ["127.0.0.97:53", "127.0.0.96:53"];
    let over_udp = UdpSocket::bind(resolvers[0]).unwrap();
    let over_tcp = TcpListener::bind(resolvers[1]).unwrap();
    let recipes = network_recipe("flow", "network_flows", "network_flows", "")
        + &network_recipe("peer", "network_peers", "network_flows", "")
        + &exec_recipe("run", "");
    let mut daemon = Daemon::with_recipes(&recipes);

    let ringed = act(|| {
        let ring = Ring::new(0);
        let stream = Request { opcode: op::SOCKET, fd: libc::AF_INET, ..Request::default() };
        let fd = ring.ask(Request { offset: libc::SOCK_STREAM as u64, ..stream });
        let mut to = [0u8; 16];
        to[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
        to[2..4].copy_from_slice(&ring_port.to_be_bytes());
        to[4..8].copy_from_slice(&[127, 0, 0, 1]);
        let connect =
            Request { opcode: op::CONNECT, fd, address: to.as_ptr() as u64, ..Request::default() };
        ring.ask(Request { offset: 16, ..connect });
        assert_eq!(ring.ask(Request::bytes(op::SEND, fd, &mut b"raqib".to_owned())), 5);
    });
    let mapped = act(|| {
        let at: SocketAddr = format!("[::ffff:127.0.0.1]:{mapped_port}").parse().unwrap();
        TcpStream::connect(at).unwrap();
    });
    let unconnected = act(|| unsafe {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = receiver.local_addr().unwrap();
        socket.send_to(b"one", to).unwrap();
        let mut address = [0u8; 16];
        address[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
        address[2..4].copy_from_slice(&to.port().to_be_bytes());
        address[4..8].copy_from_slice(&[127, 0, 0, 1]);
        let mut part = libc::iovec { iov_base: c"two".as_ptr() as *mut _, iov_len: 3 };
        let mut message: libc::mmsghdr = std::mem::zeroed();
        message.msg_hdr.msg_name = address.as_mut_ptr().cast();
        message.msg_hdr.msg_namelen = 16;
        message.msg_hdr.msg_iov = &raw mut part;
        message.msg_hdr.msg_iovlen = 1;
        ok(libc::sendmsg(socket.as_raw_fd(), &raw const message.msg_hdr, 0) as i64);
        assert_eq!(ok(libc::sendmmsg(socket.as_raw_fd(), &raw mut message, 1, 0)), 1);
    });
    let own_resolver = {
        let server = std::thread::Builder::new().spawn(move || {
            let mut query = [0; 512];
            let (length, from) = over_udp.recv_from(&mut query).unwrap();
            over_udp.send_to(&answer(&query[..length]), from).unwrap();
        });
        let pid = act(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.send_to(&question("own.evasion.example"), resolvers[0]).unwrap();
            socket.recv(&mut [0; 512]).unwrap();
        });
        server.unwrap().join().unwrap();
        pid
    };
    let tcp_resolver = {
        let server = std::thread::Builder::new().spawn(move || serve_tcp(over_tcp));
        let pid = act(|| {
            let mut stream = TcpStream::connect(resolvers[1]).unwrap();
            let query = question("tcp.evasion.example");
            stream.write_all(&vector16(&query)).unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
        });
        server.unwrap().join().unwrap();
        pid
    };
    // A client's hello to its resolver, and what a TLS record looks like from outside, with the
    // name that it asks for inside.
    let hidden = act(|| {
        let mut stream = TcpStream::connect(("127.0.0.1", tls_port)).unwrap();
        let sealed: Vec<u8> =
            question("doh.evasion.example").iter().map(|byte| byte ^ 0xa5).collect();
        stream.write_all(&client_hello("resolver.evasion.example", 32)).unwrap();
        stream.write_all(&[&[23, 3, 3, 0, sealed.len() as u8][..], &sealed].concat()).unwrap();
    });
    let raw = act(packet_sockets);
    let shell = {
        let server = std::thread::Builder::new().spawn({
            let listener = listeners[2].try_clone().unwrap();
            move || {
                let (mut stream, _) = listener.accept().unwrap();
                stream.write_all(b"exit 7\n").unwrap();
                stream.read_to_end(&mut Vec::new()).unwrap();
            }
        });
        let pid = crate::common::acts::fork(|| unsafe {
            let stream = TcpStream::connect(("127.0.0.1", shell_port)).unwrap();
            for fd in 0..3 {
                ok(libc::dup2(stream.as_raw_fd(), fd));
            }
            drop(stream);
            let _ = Command::new("/bin/sh").exec();
        });
        assert_eq!(crate::common::acts::wait(pid), 7 << 8);
        server.unwrap().join().unwrap();
        pid
    };

    let alerts = daemon.all(PATIENCE);
    let mut findings = Findings::default();
    let here = vec!["127.0.0.1".to_owned()];
    findings.seen("io_uring network", here.clone(), remotes(&alerts, ringed, ring_port));
    findings.seen("IPv4-mapped IPv6", here.clone(), remotes(&alerts, mapped, mapped_port));
    findings.seen("unconnected UDP", here.clone(), remotes(&alerts, unconnected, udp_port));
    let packets = |alert: &Value| alert["flow"]["packets_out"].as_u64().unwrap();
    let sent = alerts.iter().filter(|alert| {
        alert["process"]["pid"] == unconnected && alert["metadata"]["name"] == "flow"
    });
    findings.seen("unconnected UDP", 3, sent.map(packets).sum());
    let named = |pid: u32, name: &str| {
        let fits = |alert: &&Value| {
            alert["process"]["pid"] == pid
                && alert["dns"]["names"]
                    .as_array()
                    .is_some_and(|names| names.contains(&json!(name)))
        };
        alerts.iter().any(|alert| fits(&alert))
    };
    findings.seen("own resolver", true, named(own_resolver, "own.evasion.example"));
    findings.seen("DNS over TCP", true, named(tcp_resolver, "tcp.evasion.example"));
    let asked = |name: &str| {
        alerts.iter().any(|alert| {
            alert["process"]["pid"] == hidden
                && alert["peer"]["names"]
                    .as_array()
                    .is_some_and(|names| names.contains(&json!(name)))
        })
    };
    findings.seen("DNS over HTTPS", true, asked("resolver.evasion.example"));
    findings.unseen("DNS over HTTPS", true, named(hidden, "doh.evasion.example"));
    assert_eq!(remotes(&alerts, hidden, tls_port), here, "its conversation is told");
    let of_raw = |proto: &str| {
        let fits =
            |alert: &&Value| alert["process"]["pid"] == raw && alert["flow"]["proto"] == proto;
        alerts.iter().filter(fits).count()
    };
    findings.seen("raw and packet sockets", true, of_raw("ICMP") > 0);
    let other = |alert: &&Value| {
        alert["process"]["pid"] == raw
            && alert["flow"].is_object()
            && alert["flow"]["proto"] != "ICMP"
    };
    findings.unseen("raw and packet sockets", 1, alerts.iter().filter(other).count());
    findings.seen("reverse shell by dup", here, remotes(&alerts, shell, shell_port));
    let executed = alerts
        .iter()
        .find(|alert| alert["metadata"]["name"] == "run" && alert["process"]["pid"] == shell);
    let sockets = executed.unwrap()["process"]["stdio_sockets"].as_array().unwrap();
    findings.seen("reverse shell by dup", 3, sockets.len());
    let remote = sockets[0]["remote"].as_str().unwrap().to_owned();
    findings.seen("reverse shell by dup", format!("127.0.0.1:{shell_port}"), remote);
    findings.report();
}
