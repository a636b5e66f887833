//! Conversations, as the running kernel tells of them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]
#![allow(clippy::undocumented_unsafe_blocks, reason = "plain system calls")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use common::actor::{Actor, act};
use common::{CADENCE, Daemon, PATIENCE, cannot_run, network_recipe, prepare};
use serde_json::Value;

/// Longer than an epoch, with the time that sealing takes.
const AN_EPOCH: Duration = Duration::from_millis(900);

fn any() -> String {
    network_recipe("any", "network_flows", "network_flows", "")
}

fn netns(path: &str) -> u64 {
    fs::metadata(path).unwrap().ino()
}

/// All rows of one conversation.
struct Told(Vec<Value>);

impl Told {
    /// What `any` said of this process and port (local or remote).
    fn of(alerts: &[Value], pid: u32, port: u16) -> Self {
        let fits = |alert: &&Value| {
            let flow = &alert["flow"];
            alert["metadata"]["name"] == "any"
                && alert["process"]["pid"] == pid
                && (flow["local"]["port"] == port || flow["remote"]["port"] == port)
        };
        let told: Vec<Value> = alerts.iter().filter(fits).cloned().collect();
        assert!(!told.is_empty(), "nothing told of process {pid}, port {port}");
        Self(told)
    }

    fn sum(&self, counter: &str) -> u64 {
        self.0.iter().map(|alert| alert["flow"][counter].as_u64().unwrap()).sum()
    }

    /// Rows that have the flag.
    fn flagged(&self, flag: &str) -> usize {
        self.0.iter().filter(|alert| alert["flow"]["flags"][flag] == true).count()
    }

    fn flow(&self) -> &Value {
        &self.0[0]["flow"]
    }
}

/// The flags of one alert, by name.
fn flags(alert: &Value) -> Vec<&str> {
    let flags = alert["flow"]["flags"].as_object().unwrap();
    assert_eq!(flags.len(), 10);
    let mut on: Vec<&str> =
        flags.iter().filter(|(_, on)| **on == true).map(|(name, _)| name.as_str()).collect();
    on.sort_unstable();
    on
}

/// Answers 500 bytes to 1000, and closes when the other side has.
fn answer_once(listener: TcpListener) -> JoinHandle<()> {
    std::thread::Builder::new()
        .spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut [0; 1000]).unwrap();
            stream.write_all(&[7; 500]).unwrap();
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        })
        .unwrap()
}

fn converse(to: SocketAddr) {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.write_all(&[7; 1000]).unwrap();
    stream.read_exact(&mut [0; 500]).unwrap();
}

/// Header bytes of a TCP segment without its SYN options.
fn header(ip: u64) -> u64 {
    let stamps = fs::read_to_string("/proc/sys/net/ipv4/tcp_timestamps").unwrap();
    ip + 20 + if stamps.trim() == "0" { 0 } else { 12 }
}

fn icmp_echo(to: IpAddr) {
    let (family, protocol, kind) = match to {
        IpAddr::V4(_) => (libc::AF_INET, libc::IPPROTO_ICMP, 8),
        IpAddr::V6(_) => (libc::AF_INET6, libc::IPPROTO_ICMPV6, 128),
    };
    let fd = unsafe { libc::socket(family, libc::SOCK_RAW, protocol) };
    assert!(fd >= 0);
    let fd: OwnedFd = unsafe { std::os::fd::FromRawFd::from_raw_fd(fd) };
    let mut packet = [kind, 0, 0, 0, 0x12, 0x34, 0, 1, b'r', b'a', b'q', b'i', b'b', 0, 0, 0];
    if to.is_ipv4() {
        let words = packet.chunks_exact(2).map(|two| u32::from(two[0]) << 8 | u32::from(two[1]));
        let sum: u32 = words.sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        packet[2..4].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    }
    // Through a socket of std's, which only lends its `send_to`.
    let socket = UdpSocket::from(fd);
    assert_eq!(socket.send_to(&packet, SocketAddr::new(to, 0)).unwrap(), packet.len());
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut answer = [0; 128];
    loop {
        // Raw sockets hear the question as well.
        let got = socket.recv(&mut answer).unwrap();
        let at = if to.is_ipv4() { 20 } else { 0 };
        if got > at && answer[at] == if to.is_ipv4() { 0 } else { 129 } {
            return;
        }
    }
}

#[test]
fn connections_and_datagrams_are_told_exactly() {
    if let Some(reason) = cannot_run() {
        skip!("connections_and_datagrams_are_told_exactly", reason);
    }
    let v4 = TcpListener::bind("127.0.0.1:0").unwrap();
    let v6 = TcpListener::bind("[::1]:0").unwrap();
    let mapped = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let receivers: Vec<UdpSocket> =
        (0..4).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    let [v4_at, v6_at, mapped_at] = [&v4, &v6, &mapped].map(|at| at.local_addr().unwrap());
    let ports: Vec<u16> = receivers.iter().map(|at| at.local_addr().unwrap().port()).collect();
    let only = |name: &str, breed: &str, more: &str| {
        network_recipe(name, "network_flows", breed, &format!(", {more}"))
    };
    let recipes = [
        any(),
        only("hit_cidr", "remote_cidrs", "remote_cidrs: ['127.0.0.0/8']"),
        only("hit_cidr6", "remote_cidrs", "remote_cidrs: ['::1/128']"),
        only("hit_port", "network_flows", &format!("remote_ports: [{}]", v4_at.port())),
        only("hit_udp", "network_flows", &format!("protocol: udp, remote_ports: [{}]", ports[0])),
        only("miss_cidr", "remote_cidrs", "remote_cidrs: ['192.0.2.0/25', '127.128.0.0/9']"),
        only("miss_port", "network_flows", "remote_ports: [1, 2]"),
        only(
            "miss_proto",
            "network_flows",
            &format!("protocol: udp, remote_ports: [{}]", v4_at.port()),
        ),
        only(
            "miss_action",
            "network_flows",
            &format!("remote_ports: [{}], flow_actions: [incoming]", v4_at.port()),
        ),
    ];
    let mut daemon = Daemon::with_recipes(&recipes.concat());
    let began = SystemTime::now();

    let servers = [v4, v6, mapped].map(answer_once);
    let on_v4 = act(|| converse(v4_at));
    let on_v6 = act(|| converse(v6_at));
    let on_mapped = act(|| {
        let address = IpAddr::V6("::ffff:127.0.0.1".parse::<Ipv6Addr>().unwrap());
        converse(SocketAddr::new(address, mapped_at.port()));
    });
    for server in servers {
        server.join().unwrap();
    }
    let refused = act(|| {
        let error = TcpStream::connect(closed).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    });
    let connected = act(|| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(("127.0.0.1", ports[0])).unwrap();
        socket.send(b"one").unwrap();
        socket.send(b"three").unwrap();
    });
    let unconnected = act(|| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for port in &ports[1..] {
            socket.send_to(b"raqib", ("127.0.0.1", *port)).unwrap();
        }
    });
    let echo = act(|| icmp_echo("127.0.0.1".parse().unwrap()));
    let echo6 = act(|| icmp_echo("::1".parse().unwrap()));
    let ended = SystemTime::now();
    let alerts = daemon.all(PATIENCE);

    // TCP: who, where, and every byte of it.
    let tcp = [(on_v4, v4_at, 20, 4), (on_v6, v6_at, 40, 6), (on_mapped, mapped_at, 20, 4)];
    for (pid, at, ip, version) in tcp {
        let told = Told::of(&alerts, pid, at.port());
        let flow = told.flow();
        assert_eq!(flow["ip_version"], version, "{flow}");
        assert_eq!(flow["proto"], "TCP");
        assert_eq!(flow["remote"]["address"], at.ip().to_string());
        assert_eq!(flow["local"]["address"], at.ip().to_string());
        assert_eq!(flow["netns"], netns("/proc/self/ns/net"));
        let (packets, back) = (told.sum("packets_out"), told.sum("packets_in"));
        // Handshake, data and end: at least SYN, ACK or data, FIN, and the last ACK.
        assert!((4..=8).contains(&packets) && (3..=8).contains(&back), "{packets} {back}");
        let syn = ip + 40;
        assert_eq!(told.sum("bytes_out"), syn + (packets - 1) * header(ip) + 1000);
        assert_eq!(told.sum("bytes_in"), syn + (back - 1) * header(ip) + 500);
        assert_eq!([told.flagged("created"), told.flagged("terminator")], [1, 1]);
        assert_eq!([told.flagged("incoming"), told.flagged("terminated")], [0, 0]);
        assert_eq!(told.flagged("outgoing"), told.0.len());
    }
    // The other side of one of them, which the test itself is.
    let server = Told::of(&alerts, std::process::id(), v4_at.port());
    assert_eq!(server.flow()["local"]["port"], v4_at.port());
    assert_eq!([server.flagged("created"), server.flagged("terminated")], [1, 1]);
    assert_eq!([server.flagged("outgoing"), server.flagged("terminator")], [0, 0]);

    let told = Told::of(&alerts, refused, closed.port());
    assert_eq!([told.sum("packets_out"), told.sum("packets_in")], [1, 1]);
    assert_eq!([told.sum("bytes_out"), told.sum("bytes_in")], [60, 40]);
    assert_eq!([told.flagged("outgoing"), told.flagged("ended")], [told.0.len(), 1]);
    assert_eq!([told.flagged("terminated"), told.flagged("terminator")], [1, 0]);

    // UDP.
    let told = Told::of(&alerts, connected, ports[0]);
    assert_eq!([told.sum("packets_out"), told.sum("packets_in")], [2, 0]);
    assert_eq!(told.sum("bytes_out"), 2 * 28 + 8);
    assert_eq!(told.flow()["proto"], "UDP");
    for port in &ports[1..] {
        let told = Told::of(&alerts, unconnected, *port);
        assert_eq!(told.0.len(), 1);
        assert_eq!([told.sum("packets_out"), told.sum("bytes_out")], [1, 33]);
        assert_eq!(flags(&told.0[0]), ["created", "egress", "ongoing", "outgoing", "started"]);
        assert_eq!(told.flow()["remote"]["port"], *port);
        let server = Told::of(&alerts, std::process::id(), *port);
        assert_eq!([server.sum("packets_in"), server.sum("bytes_in")], [1, 33]);
        assert_eq!(flags(&server.0[0]), ["created", "incoming", "ingress", "ongoing", "started"]);
    }
    // ICMP: the question and the answer are flows of different types.
    for (pid, name, question, answer, bytes) in
        [(echo, "ICMP", 8, 0, 20 + 16), (echo6, "ICMPV6", 128, 129, 40 + 16)]
    {
        let of_type = |kind: u64| {
            let mine = alerts.iter().filter(|alert| {
                alert["metadata"]["name"] == "any"
                    && alert["process"]["pid"] == pid
                    && alert["flow"]["icmp"]["type"] == kind
            });
            Told(mine.cloned().collect())
        };
        let asked = of_type(question);
        assert_eq!(asked.flow()["proto"], name);
        assert_eq!([asked.sum("packets_out"), asked.sum("bytes_out")], [1, bytes]);
        let answered = of_type(answer);
        assert_eq!([answered.sum("packets_in"), answered.sum("bytes_in")], [1, bytes]);
        assert_eq!(answered.sum("packets_out"), 0);
    }

    // Times lie within the act, to a jiffy or two.
    let slack = Duration::from_millis(30);
    for alert in alerts.iter().filter(|alert| alert["process"]["pid"] == on_v4) {
        let time =
            |name: &str| humantime::parse_rfc3339(alert["flow"][name].as_str().unwrap()).unwrap();
        let (first, last) = (time("first"), time("last"));
        assert!(began - slack <= first && first <= last && last <= ended + slack, "{alert}");
    }

    // Recipes that hit, and recipes that must not.
    let hits = |name: &str, pid: u32| {
        alerts
            .iter()
            .filter(|alert| alert["metadata"]["name"] == name && alert["process"]["pid"] == pid)
            .count()
    };
    for pid in [on_v4, on_mapped, refused, connected, unconnected, echo] {
        assert!(hits("hit_cidr", pid) > 0, "{pid}");
        assert_eq!(hits("hit_cidr6", pid), 0);
    }
    assert!(hits("hit_cidr6", on_v6) > 0 && hits("hit_cidr", on_v6) == 0);
    assert!(hits("hit_port", on_v4) > 0 && hits("hit_port", on_v6) == 0);
    assert!(hits("hit_udp", connected) > 0 && hits("hit_udp", unconnected) == 0);
    for name in ["miss_cidr", "miss_port", "miss_proto", "miss_action"] {
        let missed: Vec<_> = alerts.iter().filter(|a| a["metadata"]["name"] == name).collect();
        assert!(missed.is_empty(), "{missed:?}");
    }
    let journal = daemon.journal("network_flows");
    assert_eq!(journal["balanced"], true, "{journal}");
    assert_eq!(journal["refused"], 0, "{journal}");
}

/// One connection over several epochs: created once, and each end told once.
#[test]
fn a_connection_is_created_once_and_ends_once() {
    if let Some(reason) = cannot_run() {
        skip!("a_connection_is_created_once_and_ends_once", reason);
    }
    let long = TcpListener::bind("127.0.0.1:0").unwrap();
    let half = TcpListener::bind("127.0.0.1:0").unwrap();
    let [long_at, half_at] = [&long, &half].map(|at| at.local_addr().unwrap());
    let mut daemon = Daemon::with_recipes(&any());
    let serve = |listener: TcpListener, dawdle: Duration| {
        std::thread::Builder::new()
            .spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut byte = [0];
                while stream.read(&mut byte).unwrap() > 0 {
                    stream.write_all(&byte).unwrap();
                }
                std::thread::sleep(dawdle);
            })
            .unwrap()
    };
    let servers = [serve(long, Duration::ZERO), serve(half, AN_EPOCH)];
    let say = |stream: &mut TcpStream| {
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).unwrap();
    };
    // Speaks in two epochs, and closes in the second.
    let mut long = Actor::start(|stage| {
        let mut stream = TcpStream::connect(long_at).unwrap();
        say(&mut stream);
        stage.wait();
        say(&mut stream);
    });
    // Half closed for an epoch: the other side's end comes in a third one.
    let mut half = Actor::start(|stage| {
        let mut stream = TcpStream::connect(half_at).unwrap();
        say(&mut stream);
        stage.wait();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    });
    std::thread::sleep(AN_EPOCH);
    long.go();
    half.go();
    let (long, half) = (long.wait(), half.wait());
    for server in servers {
        server.join().unwrap();
    }
    let alerts = daemon.all(PATIENCE);

    let of = |pid: u32, at: SocketAddr| Told::of(&alerts, pid, at.port());
    let client = of(long, long_at);
    let [first, .., last] = &client.0[..] else { panic!("one epoch only: {:?}", client.0) };
    let begun = ["created", "egress", "ingress", "ongoing", "outgoing", "started"];
    assert_eq!(flags(first), begun, "{first}");
    assert!(flags(last).contains(&"ended"), "{last}");
    let server = of(std::process::id(), long_at);
    assert!(server.0.len() >= 2);
    let begun = ["created", "egress", "incoming", "ingress", "ongoing", "started"];
    assert_eq!(flags(&server.0[0]), begun, "{}", server.0[0]);

    for (told, initiated, ended, other) in [
        (&client, "outgoing", "terminator", "terminated"),
        (&server, "incoming", "terminated", "terminator"),
        (&of(half, half_at), "outgoing", "terminator", "terminated"),
        (&of(std::process::id(), half_at), "incoming", "terminated", "terminator"),
    ] {
        let shown: Vec<Vec<&str>> = told.0.iter().map(flags).collect();
        assert_eq!(told.flagged("created"), 1, "{shown:?}");
        assert_eq!(told.flagged("started"), 1, "{shown:?}");
        assert_eq!(told.flagged(initiated), told.0.len(), "{shown:?}");
        assert_eq!([told.flagged(ended), told.flagged(other)], [1, 0], "{shown:?}");
        assert!(told.flagged("ended") >= 1, "{shown:?}");
    }
    let phase = &client.0[client.0.len() - 1]["flow"]["phase"];
    assert_eq!(phase["initiated_by"], "local");
    assert_eq!(phase["ended_by"], "local");
    assert_eq!(phase["status"], "ended");

    // The journal's own sums are of conversations, not of rows.
    let totals = |pid: u32| daemon.query(pid)["network_flows"][0].clone();
    assert_eq!(totals(long)["outgoing"], 1, "{}", totals(long));
    assert_eq!(totals(half)["outgoing"], 1, "{}", totals(half));
    assert_eq!(totals(half)["incoming"], 0, "{}", totals(half));
}

/// Whose a socket is: who made it, who accepted it, who had it before the daemon began; and in
/// which network.
#[test]
fn sockets_have_their_owners() {
    if let Some(reason) = cannot_run() {
        skip!("sockets_have_their_owners", reason);
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let old_server = TcpListener::bind("127.0.0.1:0").unwrap();
    let [at, old_at] = [&listener, &old_server].map(|at| at.local_addr().unwrap());
    let sink = UdpSocket::bind("127.0.0.1:0").unwrap();
    let sink_at = sink.local_addr().unwrap();
    // There before the daemon: a connection, a datagram socket, a listener.
    let mut old = Actor::start(|stage| {
        let mut stream = TcpStream::connect(old_at).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        stage.say(listener.local_addr().unwrap().port().into());
        stage.wait();
        stream.write_all(b"old").unwrap();
        socket.send_to(b"old", sink_at).unwrap();
        listener.accept().unwrap().0.read_exact(&mut [0]).unwrap();
    });
    let old_port = old.hear() as u16;
    let (_held, _) = old_server.accept().unwrap();
    let mut daemon = Daemon::with_recipes(&any());

    old.go();
    let to_old =
        act(|| TcpStream::connect(("127.0.0.1", old_port)).unwrap().write_all(b"x").unwrap());
    let old = old.wait();
    // Listened by the test, accepted by a child of it.
    let mut acceptor = Actor::start(|stage| {
        let (mut stream, _) = listener.accept().unwrap();
        stage.say(1);
        stream.read_exact(&mut [0; 5]).unwrap();
        stream.write_all(b"there").unwrap();
    });
    let connector = act(|| {
        let mut stream = TcpStream::connect(at).unwrap();
        // After the accept, so that whose these are is not a question of the moment.
        assert_eq!(acceptor.hear(), 1);
        stream.write_all(b"hello").unwrap();
        stream.read_exact(&mut [0; 5]).unwrap();
    });
    let acceptor = acceptor.wait();
    // A network of its own, with a loopback.
    let mut apart = Actor::start(|stage| {
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0);
        lo_up();
        stage.say(netns("/proc/self/ns/net"));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stage.say(listener.local_addr().unwrap().port().into());
        stream.write_all(b"x").unwrap();
        listener.accept().unwrap().0.read_exact(&mut [0]).unwrap();
    });
    let (apart_netns, apart_port) = (apart.hear(), apart.hear() as u16);
    let apart = apart.wait();
    let alerts = daemon.all(PATIENCE);

    let told = Told::of(&alerts, old, old_at.port());
    assert_eq!(told.flow()["remote"]["port"], old_at.port());
    let told = Told::of(&alerts, old, sink_at.port());
    assert_eq!([told.sum("packets_out"), told.sum("bytes_out")], [1, 31]);
    let told = Told::of(&alerts, old, old_port);
    assert_eq!(told.flagged("incoming"), told.0.len());
    assert!(Told::of(&alerts, to_old, old_port).flagged("outgoing") > 0);

    let told = Told::of(&alerts, acceptor, at.port());
    assert_eq!(told.flagged("incoming"), told.0.len());
    assert_eq!(told.flagged("outgoing"), 0);
    // What came after the accept is all the acceptor's: five bytes each way, and the ends.
    assert!(told.sum("bytes_in") >= header(20) + 5, "{:?}", told.0);
    assert!(told.sum("bytes_out") >= header(20) + 5, "{:?}", told.0);
    let listener_saw = Told::of(&alerts, std::process::id(), at.port());
    assert!(listener_saw.sum("bytes_in") <= 60 + 2 * header(20), "{:?}", listener_saw.0);
    assert!(Told::of(&alerts, connector, at.port()).sum("packets_out") >= 4);
    assert_eq!(daemon.query(acceptor)["network_flows"][0]["accepts"], 1);

    let told = Told::of(&alerts, apart, apart_port);
    assert_eq!(told.flow()["netns"], apart_netns);
    assert_ne!(apart_netns, netns("/proc/self/ns/net"));
}

fn lo_up() {
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0) };
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    assert_eq!(unsafe { libc::ioctl(fd, libc::SIOCSIFFLAGS, &request) }, 0);
    unsafe { libc::close(fd) };
}

/// Alerts that flow over a connection must not make alerts.
#[test]
fn the_daemons_own_traffic_is_not_told() {
    if let Some(reason) = cannot_run() {
        skip!("the_daemons_own_traffic_is_not_told", reason);
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stdout = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut reader, _) = listener.accept().unwrap();
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = receiver.local_addr().unwrap();
    let (folder, config) = prepare(&any(), "", false);
    assert!(stdout.as_raw_fd() > 2);
    let daemon = Daemon::launch(folder, config, "json", Some(Stdio::from(OwnedFd::from(stdout))));
    let pid = daemon.pid();
    let sender = act(|| {
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", to).unwrap();
    });
    // Long enough for the alert's own packets to make an epoch, if they were told.
    std::thread::sleep(CADENCE * 3 + Duration::from_millis(500));
    let (status, ..) = daemon.stop();
    assert!(status.success());
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    let alerts: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(alerts.iter().any(|alert| alert["process"]["pid"] == sender), "{text}");
    let own: Vec<_> = alerts.iter().filter(|alert| alert["process"]["pid"] == pid).collect();
    assert!(own.is_empty(), "{own:?}");
}

fn socket(family: i32, kind: i32, protocol: i32) -> OwnedFd {
    let fd = unsafe { libc::socket(family, kind, protocol) };
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    unsafe { std::os::fd::FromRawFd::from_raw_fd(fd) }
}

fn sockaddr(port: u16) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) },
        sin_zero: [0; 8],
    }
}

/// One datagram to each port by one system call.
fn send_many(ports: &[u16]) {
    let fd = socket(libc::AF_INET, libc::SOCK_DGRAM, 0);
    let mut to: Vec<_> = ports.iter().map(|port| sockaddr(*port)).collect();
    let mut piece =
        libc::iovec { iov_base: b"many!".as_ptr().cast_mut().cast::<libc::c_void>(), iov_len: 5 };
    let mut messages: Vec<libc::mmsghdr> = to
        .iter_mut()
        .map(|to| {
            let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
            message.msg_hdr.msg_name = (&raw mut *to).cast();
            message.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
            message.msg_hdr.msg_iov = &raw mut piece;
            message.msg_hdr.msg_iovlen = 1;
            message
        })
        .collect();
    let count = messages.len() as u32;
    let sent = unsafe { libc::sendmmsg(fd.as_raw_fd(), messages.as_mut_ptr(), count, 0) };
    assert_eq!(sent, count as i32);
}

/// An IPv4 datagram to a UDP port, header and all; the kernel fills in the checksums it wants.
fn ip_datagram(port: u16) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 33, 0, 1, 0, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1];
    let words = packet.chunks_exact(2).map(|two| u32::from(two[0]) << 8 | u32::from(two[1]));
    let sum: u32 = words.sum();
    packet[10..12].copy_from_slice(&(!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
    packet.extend(4321u16.to_be_bytes());
    packet.extend(port.to_be_bytes());
    packet.extend([0, 13, 0, 0]);
    packet.extend(b"crude");
    packet
}

/// Every way to send a datagram without a connection, and whose it was.
#[test]
fn datagrams_of_every_kind_have_their_task() {
    if let Some(reason) = cannot_run() {
        skip!("datagrams_of_every_kind_have_their_task", reason);
    }
    let receivers: Vec<UdpSocket> =
        (0..6).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    let ports: Vec<u16> = receivers.iter().map(|at| at.local_addr().unwrap().port()).collect();
    let made = network_recipe(
        "made",
        "activity",
        "activity",
        ", activities: [socket_create], details: {family: packet}",
    );
    let mut daemon = Daemon::with_recipes(&(any() + &made));
    let many = act(|| send_many(&ports[..3]));
    let mapped = act(|| {
        let to = SocketAddr::new("::ffff:127.0.0.1".parse().unwrap(), ports[3]);
        UdpSocket::bind("[::]:0").unwrap().send_to(b"six!!", to).unwrap();
    });
    let crude = act(|| {
        let fd = socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW);
        let to = SocketAddr::from(([127, 0, 0, 1], 0));
        assert_eq!(UdpSocket::from(fd).send_to(&ip_datagram(ports[4]), to).unwrap(), 33);
    });
    // A frame of its own making: no program on sockets of a cgroup sees it go out.
    let framed = act(|| {
        let fd = socket(libc::AF_PACKET, libc::SOCK_DGRAM, 0);
        let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        to.sll_family = libc::AF_PACKET as u16;
        to.sll_protocol = (libc::ETH_P_IP as u16).to_be();
        to.sll_ifindex = unsafe { libc::if_nametoindex(c"lo".as_ptr()) } as i32;
        to.sll_halen = 6;
        let packet = ip_datagram(ports[5]);
        let sent = unsafe {
            let (to, length) = ((&raw const to).cast(), size_of::<libc::sockaddr_ll>() as u32);
            libc::sendto(fd.as_raw_fd(), packet.as_ptr().cast(), packet.len(), 0, to, length)
        };
        assert_eq!(sent, packet.len() as isize, "{}", std::io::Error::last_os_error());
    });
    // The socket that `ping` has without a capability, in a network where everybody may.
    let ping = act(|| {
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0);
        lo_up();
        fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647").unwrap();
        let socket = UdpSocket::from(socket(libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP));
        let echo = [8, 0, 0, 0, 0, 0, 0, 1, b'p', b'i', b'n', b'g'];
        socket.send_to(&echo, ("127.0.0.1", 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let mut answer = [0; 64];
        assert_eq!(socket.recv(&mut answer).unwrap(), 12);
        assert_eq!(answer[0], 0);
    });
    let alerts = daemon.all(PATIENCE);
    let own = std::process::id();
    for port in &ports[..3] {
        let told = Told::of(&alerts, many, *port);
        assert_eq!([told.sum("packets_out"), told.sum("bytes_out")], [1, 33]);
        assert_eq!(told.flow()["remote"]["port"], *port);
        assert_eq!(Told::of(&alerts, own, *port).sum("packets_in"), 1);
    }
    for (pid, port) in [(mapped, ports[3]), (crude, ports[4])] {
        let told = Told::of(&alerts, pid, port);
        assert_eq!([told.sum("packets_out"), told.sum("bytes_out")], [1, 33]);
        let flow = told.flow();
        assert_eq!((&flow["ip_version"], &flow["proto"]), (&4.into(), &"UDP".into()), "{flow}");
        assert_eq!(flow["remote"]["address"], "127.0.0.1");
    }
    assert_eq!(Told::of(&alerts, crude, ports[4]).flow()["local"]["port"], 4321);
    // Not the frame, but that somebody made a socket for such.
    let told: Vec<_> = alerts.iter().filter(|alert| alert["process"]["pid"] == framed).collect();
    assert!(
        !told.is_empty() && told.iter().all(|told| told["metadata"]["name"] == "made"),
        "{told:?}"
    );
    let of_type = |kind: u64| {
        let mine = alerts.iter().filter(|alert| {
            alert["metadata"]["name"] == "any"
                && alert["process"]["pid"] == ping
                && alert["flow"]["icmp"]["type"] == kind
        });
        Told(mine.cloned().collect())
    };
    assert_eq!([of_type(8).sum("packets_out"), of_type(8).sum("bytes_out")], [1, 32]);
    assert_eq!([of_type(0).sum("packets_in"), of_type(0).sum("bytes_in")], [1, 32]);
    let journal = daemon.journal("network_flows");
    assert_eq!(
        [&journal["balanced"], &journal["refused"]],
        [&true.into(), &0.into()] as [&Value; 2]
    );
}
