//! Names that tasks resolve, and the conversations that follow.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use common::actor::{Actor, act};
use common::{Daemon, PATIENCE, cannot_run, network_recipe};
use serde_json::{Value, json};

/// A server of each test's own; not the stub resolver's address, which may be taken.
const SERVER: &str = "127.0.0.99:53";
const OTHER_SERVER: &str = "127.0.0.98:53";
const FRONT_SERVER: &str = "127.0.0.57:53";
const SECOND: Duration = Duration::from_secs(1);

fn wire(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

/// One record of an answer.
#[derive(Clone)]
enum Record {
    Address(&'static str, IpAddr, u32),
    Alias(&'static str, &'static str),
    /// A text record, to make an answer long.
    Filler(&'static str, usize),
}

use Record::{Address, Alias, Filler};

fn v4(address: &str) -> IpAddr {
    IpAddr::V4(address.parse::<Ipv4Addr>().unwrap())
}

fn v6(address: &str) -> IpAddr {
    IpAddr::V6(address.parse::<Ipv6Addr>().unwrap())
}

fn question(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [id, 0x0100, 1, 0, 0, 0] {
        bytes.extend(word.to_be_bytes());
    }
    bytes.extend(wire(name));
    bytes.extend([kind.to_be_bytes(), [0, 1]].concat());
    bytes
}

/// What the server says to a name; the acts below ask for these.
fn zone(name: &str) -> Vec<Record> {
    let ttl = 77;
    match name {
        "www.example.com" => {
            vec![
                Address("www.example.com", v4("127.9.0.1"), ttl),
                Address("www.example.com", v4("127.9.0.2"), 5),
            ]
        }
        "six.example.com" => vec![Address("six.example.com", v6("2001:db8::6"), ttl)],
        "evilexample.com" => vec![Address("evilexample.com", v4("127.9.0.3"), ttl)],
        "innocent.example.org" => vec![
            Alias("innocent.example.org", "hop.example.net"),
            Alias("hop.example.net", "pool.miner.example"),
            Address("pool.miner.example", v4("127.9.0.4"), ttl),
        ],
        "one.equal.example" => vec![Address("one.equal.example", v4("127.9.1.1"), ttl)],
        "two.equal.example" => vec![Address("two.equal.example", v4("127.9.1.2"), ttl)],
        "long.example.com" => {
            vec![
                Filler("long.example.com", 3900),
                Address("long.example.com", v4("127.9.0.5"), ttl),
            ]
        }
        "tcp.example.com" => {
            vec![Filler("tcp.example.com", 3000), Address("tcp.example.com", v4("127.9.0.6"), ttl)]
        }
        "after.garbage.example" => vec![Address("after.garbage.example", v4("127.9.0.7"), ttl)],
        "flow.example.com" => vec![Address("flow.example.com", v4("127.9.0.8"), ttl)],
        "at-once.example.com" => vec![Address("at-once.example.com", v4("127.9.0.9"), ttl)],
        "front.example.com" => vec![Address("front.example.com", v4("127.9.0.10"), ttl)],
        _ => Vec::new(),
    }
}

/// Name and bytes of the answer to a question.
fn answer(query: &[u8]) -> (String, Vec<u8>) {
    let mut labels = Vec::new();
    let mut at = 12;
    while query[at] > 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8(query[at + 1..end].to_vec()).unwrap());
        at = end;
    }
    let name = labels.join(".");
    let records = zone(&name);
    let rcode = if records.is_empty() { 3 } else { 0 };
    let mut bytes = query[..2].to_vec();
    for word in [0x8180 | rcode, 1, records.len() as u16, 0, 0] {
        bytes.extend(word.to_be_bytes());
    }
    bytes.extend(&query[12..at + 5]);
    for record in records {
        let (owner, kind, ttl, content) = match record {
            Address(name, IpAddr::V4(address), ttl) => (name, 1u16, ttl, address.octets().to_vec()),
            Address(name, IpAddr::V6(address), ttl) => (name, 28, ttl, address.octets().to_vec()),
            Alias(name, target) => (name, 5, 300, wire(target)),
            Filler(name, length) => (name, 16, 300, vec![b'x'; length]),
        };
        bytes.extend(wire(owner));
        bytes.extend([kind.to_be_bytes(), [0, 1]].concat());
        bytes.extend(ttl.to_be_bytes());
        bytes.extend((content.len() as u16).to_be_bytes());
        bytes.extend(content);
    }
    (name, bytes)
}

/// A resolver in a process of its own, over UDP and TCP, until it is dropped.
fn serve(at: &str) -> Actor {
    let mut server = Actor::start(|stage| {
        let udp = UdpSocket::bind(at).unwrap();
        let tcp = TcpListener::bind(at).unwrap();
        std::thread::Builder::new().spawn(move || serve_tcp(&tcp)).unwrap();
        stage.say(1);
        let mut query = [0; 1500];
        loop {
            let (length, from) = udp.recv_from(&mut query).unwrap();
            if &query[2..length] == b"garbage" {
                for garbage in [&b"\xff"[..], &[0xc0; 600], &query[..length], &[0; 12], &[0x80; 12]]
                {
                    udp.send_to(garbage, from).unwrap();
                }
                continue;
            }
            udp.send_to(&answer(&query[..length]).1, from).unwrap();
        }
    });
    assert_eq!(server.hear(), 1);
    server
}

/// Each answer in five pieces, apart in time, the length prefix cut in two.
fn serve_tcp(listener: &TcpListener) {
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        stream.set_nodelay(true).unwrap();
        loop {
            let mut length = [0; 2];
            if stream.read_exact(&mut length).is_err() {
                break;
            }
            let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut query).unwrap();
            let (_, bytes) = answer(&query);
            let message = [&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat();
            let end = message.len();
            let cuts = [0, 1, 2, end / 4, end / 2, end];
            for piece in cuts.windows(2) {
                stream.write_all(&message[piece[0]..piece[1]]).unwrap();
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

fn resolver(at: &str) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(at).unwrap();
    socket.set_read_timeout(Some(SECOND)).unwrap();
    socket
}

fn ask_on(socket: &UdpSocket, name: &str, kind: u16) -> usize {
    socket.send(&question(0x1234, name, kind)).unwrap();
    socket.recv(&mut [0; 8192]).unwrap()
}

fn ask(at: &str, name: &str) -> usize {
    ask_on(&resolver(at), name, 1)
}

fn peers(name: &str, how: &str, names: &[&str]) -> String {
    let names = names.join(", ");
    let more = format!(", remote_domains: [{names}], remote_domains_type: {how}");
    network_recipe(name, "network_peers", "remote_domains", &more)
}

/// What `any` told of one name.
fn answers_of<'a>(alerts: &'a [Value], pid: u32, name: &str) -> Vec<&'a Value> {
    let fits = |alert: &&Value| {
        alert["metadata"]["name"] == "any"
            && alert["process"]["pid"] == pid
            && alert["dns"]["names"][0] == name
    };
    alerts.iter().filter(fits).collect()
}

#[test]
fn answers_are_told_with_names_and_addresses() {
    if let Some(reason) = cannot_run() {
        skip!("answers_are_told_with_names_and_addresses", reason);
    }
    let _server = serve(SERVER);
    let recipes = [
        network_recipe("any", "network_peers", "network_flows", ", remote_ports: [53]"),
        peers("suffix", "suffix", &["example.com"]),
        peers("target", "suffix", &["miner.example"]),
        peers("exact", "exact", &["example.com"]),
        peers("elsewhere", "suffix", &["example.edu"]),
    ];
    let mut daemon = Daemon::with_recipes(&recipes.concat());
    let www = act(|| assert!(ask(SERVER, "www.example.com") > 40));
    let six = act(|| assert!(ask_on(&resolver(SERVER), "six.example.com", 28) > 40));
    let evil = act(|| assert!(ask(SERVER, "evilexample.com") > 40));
    let chain = act(|| assert!(ask(SERVER, "innocent.example.org") > 40));
    let none = act(|| assert!(ask(SERVER, "missing.example.com") > 12));
    let equal = act(|| {
        let socket = resolver(SERVER);
        assert_eq!(
            ask_on(&socket, "one.equal.example", 1),
            ask_on(&socket, "two.equal.example", 1)
        );
    });
    let long = act(|| assert!((3900..4480).contains(&ask(SERVER, "long.example.com"))));
    let tcp = act(|| {
        let mut stream = TcpStream::connect(SERVER).unwrap();
        for name in ["tcp.example.com", "www.example.com"] {
            let query = question(7, name, 1);
            stream.write_all(&(query.len() as u16).to_be_bytes()).unwrap();
            stream.write_all(&query).unwrap();
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            stream.read_exact(&mut vec![0; usize::from(u16::from_be_bytes(length))]).unwrap();
        }
    });
    let garbage = act(|| {
        let socket = resolver(SERVER);
        socket.send(b"##garbage").unwrap();
        for _ in 0..5 {
            socket.recv(&mut [0; 8192]).unwrap();
        }
        ask_on(&socket, "after.garbage.example", 1);
    });
    let alerts = daemon.all(PATIENCE);
    let one = |pid: u32, name: &str| -> Value {
        let told = answers_of(&alerts, pid, name);
        assert_eq!(told.len(), 1, "{name}: {told:?}");
        told[0].clone()
    };
    let dns = |names: &[&str], addresses: &[(&str, u32)], rcode: u32| {
        let addresses: Vec<Value> =
            addresses.iter().map(|(at, ttl)| json!({ "address": at, "ttl": ttl })).collect();
        json!({ "names": names, "addresses": addresses, "rcode": rcode })
    };

    let told = one(www, "www.example.com");
    let expected = dns(&["www.example.com"], &[("127.9.0.1", 77), ("127.9.0.2", 5)], 0);
    assert_eq!(told["dns"], expected);
    assert_eq!(told["flow"]["remote"]["address"], "127.0.0.99");
    assert_eq!(told["flow"]["remote"]["port"], 53);
    assert_eq!(told["flow"]["proto"], "UDP");
    let told = one(six, "six.example.com");
    assert_eq!(told["dns"], dns(&["six.example.com"], &[("2001:db8::6", 77)], 0));
    let told = one(chain, "innocent.example.org");
    let names = ["innocent.example.org", "hop.example.net", "pool.miner.example"];
    assert_eq!(told["dns"], dns(&names, &[("127.9.0.4", 77)], 0));
    assert_eq!(one(none, "missing.example.com")["dns"], dns(&["missing.example.com"], &[], 3));
    // Of the same length, on the same socket, in the same epoch: two answers all the same.
    assert_eq!(one(equal, "one.equal.example")["dns"]["addresses"][0]["address"], "127.9.1.1");
    assert_eq!(one(equal, "two.equal.example")["dns"]["addresses"][0]["address"], "127.9.1.2");
    assert_eq!(one(long, "long.example.com")["dns"]["addresses"][0]["address"], "127.9.0.5");
    let told = one(tcp, "tcp.example.com");
    assert_eq!(told["dns"], dns(&["tcp.example.com"], &[("127.9.0.6", 77)], 0));
    assert_eq!(told["flow"]["proto"], "TCP");
    assert_eq!(one(tcp, "www.example.com")["dns"], expected);
    one(garbage, "after.garbage.example");

    let fired = |name: &str| -> Vec<u64> {
        let of = alerts.iter().filter(|alert| alert["metadata"]["name"] == name);
        let mut pids: Vec<u64> =
            of.map(|alert| alert["process"]["pid"].as_u64().unwrap()).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    };
    let below_example_com: Vec<u64> = [www, six, none, long, tcp].map(u64::from).to_vec();
    assert_eq!(fired("suffix"), below_example_com, "not {evil}, who asked for evilexample.com");
    assert_eq!(fired("target"), [u64::from(chain)]);
    assert_eq!(fired("exact"), [0u64; 0]);
    assert_eq!(fired("elsewhere"), [0u64; 0]);
    let journal = daemon.journal("network_peers");
    assert_eq!(journal["balanced"], true, "{journal}");
    assert_eq!([&journal["refused"], &journal["errors"], &journal["panics"]], [0, 0, 0]);
}

/// What DNS said of an address, and what its clients ask for there: each its own, and both seen.
#[test]
fn a_client_that_asks_for_another_name_than_dns_gave_is_told() {
    if let Some(reason) = cannot_run() {
        skip!("a_client_that_asks_for_another_name_than_dns_gave_is_told", reason);
    }
    let _server = serve(FRONT_SERVER);
    let front = TcpListener::bind("127.9.0.10:0").unwrap();
    let at = front.local_addr().unwrap();
    let fronting = "[{how: AND, which: irrelevant, items: \
                    [{what: peer_mismatch, pattern: '^true$', which: pertinent}]}]";
    let more = format!(", remote_ports: [{}], arbitrary: {fronting}", at.port());
    let hidden = |mechanism: &str, name: &str| {
        let more = format!(", remote_domains: [hidden.example], remote_ports: [{}]", at.port());
        network_recipe(name, mechanism, "remote_domains", &more)
    };
    let recipes = [
        network_recipe("fronting", "network_peers", "network_flows", &more),
        hidden("network_flows", "hidden_flow"),
        network_recipe(
            "any_flow",
            "network_flows",
            "network_flows",
            &format!(", remote_ports: [{}]", at.port()),
        ),
    ];
    let mut daemon = Daemon::with_recipes(&recipes.concat());
    let request = |host: &str| {
        assert!(ask(FRONT_SERVER, "front.example.com") > 40);
        std::thread::sleep(SECOND);
        let mut stream = TcpStream::connect(at).unwrap();
        stream.write_all(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).unwrap();
    };
    let fronts = act(|| request("hidden.example"));
    let honest = act(|| request("front.example.com"));
    let alert = daemon.expect("fronting", |alert| alert["process"]["pid"] == fronts);
    assert_eq!(alert["peer"]["names"], json!(["hidden.example"]));
    assert_eq!(alert["peer"]["resolved"], json!(["front.example.com"]));
    assert_eq!(alert["peer"]["mismatch"], true);
    let alerts = daemon.all(PATIENCE);
    let of = |name: &str, pid: u32| -> Vec<&Value> {
        let fits =
            |alert: &&Value| alert["metadata"]["name"] == name && alert["process"]["pid"] == pid;
        alerts.iter().filter(fits).collect()
    };
    assert!(of("fronting", honest).is_empty());
    let told = of("hidden_flow", fronts);
    assert!(!told.is_empty());
    let both = json!(["hidden.example", "front.example.com"]);
    assert!(told.iter().all(|alert| alert["flow"]["remote"]["names"] == both), "{told:?}");
    // Nobody else's conversation with that address gets the name.
    assert!(of("hidden_flow", honest).is_empty());
    let told = of("any_flow", honest);
    assert!(!told.is_empty());
    let one = json!(["front.example.com"]);
    assert!(told.iter().all(|alert| alert["flow"]["remote"]["names"] == one), "{told:?}");
}

/// An address that was resolved is known by its name when it is spoken to: later, and at once.
#[test]
fn flows_carry_the_names_that_were_resolved() {
    if let Some(reason) = cannot_run() {
        skip!("flows_carry_the_names_that_were_resolved", reason);
    }
    let _server = serve(OTHER_SERVER);
    let sink = UdpSocket::bind("0.0.0.0:0").unwrap();
    let port = sink.local_addr().unwrap().port();
    let named = |name: &str, how: &str, domain: &str| {
        let more = format!(
            ", remote_domains: [{domain}], remote_domains_type: {how}, remote_ports: [{port}]"
        );
        network_recipe(name, "network_flows", "remote_domains", &more)
    };
    let recipes = [
        named("named", "exact", "flow.example.com"),
        named("below", "suffix", "example.com"),
        named("unnamed", "suffix", "ample.com"),
    ];
    let mut daemon = Daemon::with_recipes(&recipes.concat());
    let speak = |address: [u8; 4]| {
        let to = SocketAddr::from((address, port));
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", to).unwrap();
    };
    act(|| assert!(ask(OTHER_SERVER, "flow.example.com") > 40));
    std::thread::sleep(SECOND);
    let later = act(|| speak([127, 9, 0, 8]));
    let alert = daemon.expect("named", |alert| alert["process"]["pid"] == later);
    assert_eq!(alert["flow"]["remote"]["name"], "flow.example.com");
    assert_eq!(alert["flow"]["remote"]["address"], "127.9.0.8");
    // As programs do it: question, answer, connection within a millisecond. Several times, so
    // that some fall between the seals of the two journals.
    let pids: Vec<u32> = (0..10)
        .map(|_| {
            std::thread::sleep(Duration::from_millis(130));
            act(|| {
                assert!(ask(OTHER_SERVER, "at-once.example.com") > 40);
                speak([127, 9, 0, 9]);
            })
        })
        .collect();
    let stranger = act(|| speak([127, 9, 0, 77]));
    let alerts = daemon.all(PATIENCE);
    let of = |name: &str| -> Vec<&Value> {
        alerts.iter().filter(|alert| alert["metadata"]["name"] == name).collect()
    };
    for pid in pids {
        let told = of("below").into_iter().find(|alert| alert["process"]["pid"] == pid);
        let told = told.unwrap_or_else(|| panic!("{pid} was not told, {} were", of("below").len()));
        assert_eq!(told["flow"]["remote"]["names"], json!(["at-once.example.com"]));
    }
    assert!(of("below").iter().all(|alert| alert["process"]["pid"] != stranger));
    assert_eq!(of("unnamed").len(), 0);
}
