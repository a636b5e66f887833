//! Names that clients ask a server for, with real clients and servers.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::actor::{Actor, act};
use common::wire::client_hello;
use common::{Daemon, PATIENCE, cannot_run, network_recipe};
use serde_json::{Value, json};

/// A program that serves until it is dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    fn start(command: &mut Command, port: u16) -> Self {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Self(quiet.spawn().unwrap());
        let until = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "the server does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// `openssl s_server`, answering HTTP, with a certificate of its own.
    fn tls(folder: &std::path::Path, port: u16) -> Self {
        let [key, certificate] = ["key", "certificate"].map(|name| folder.join(name));
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
            .args(["-nodes", "-subj", "/CN=cert.example", "-days", "2", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .stderr(Stdio::null())
            .status();
        assert!(made.unwrap().success());
        let mut command = Command::new("openssl");
        command.args(["s_server", "-quiet", "-www", "-alpn", "http/1.1", "-accept"]);
        command.arg(format!("127.0.0.1:{port}")).arg("-key").arg(key).arg("-cert").arg(certificate);
        Self::start(&mut command, port)
    }

    fn http(folder: &std::path::Path, port: u16) -> Self {
        let mut command = Command::new("python3");
        command.args(["-m", "http.server", "--bind", "127.0.0.1", &port.to_string()]);
        command.current_dir(folder);
        Self::start(&mut command, port)
    }
}

/// Runs a client to its end; its pid.
fn client(command: &mut Command) -> u32 {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = quiet.spawn().unwrap();
    let pid = child.id();
    assert!(child.wait().unwrap().success(), "{command:?}");
    pid
}

fn s_client(port: u16, more: &[&str]) -> u32 {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &format!("127.0.0.1:{port}")]);
    client(command.args(more))
}

fn curl(args: &[&str]) -> u32 {
    let mut command = Command::new("curl");
    // Neither its configuration nor a proxy of the environment.
    command.env_clear().args(["-q", "-s", "-k", "--max-time", "10"]);
    client(command.args(args))
}

fn missing() -> Option<&'static str> {
    let lacks = |name: &str, arg: &str| {
        let quiet =
            Command::new(name).arg(arg).stdout(Stdio::null()).stderr(Stdio::null()).status();
        quiet.is_err()
    };
    cannot_run().or_else(|| {
        (lacks("openssl", "version") || lacks("curl", "-V") || lacks("python3", "-V"))
            .then_some("needs openssl, curl and python3")
    })
}

fn named(name: &str, mechanism: &str, domain: &str, more: &str) -> String {
    let more = format!(", remote_domains: [{domain}], remote_domains_type: suffix{more}");
    network_recipe(name, mechanism, "remote_domains", &more)
}

/// What `peers` told of a process: the objects named `peer`.
fn told(alerts: &[Value], pid: u32) -> Vec<&Value> {
    let mine = alerts
        .iter()
        .filter(|alert| alert["metadata"]["name"] == "peers" && alert["process"]["pid"] == pid);
    mine.map(|alert| &alert["peer"]).collect()
}

fn fired(alerts: &[Value], name: &str) -> Vec<u64> {
    let of = alerts.iter().filter(|alert| alert["metadata"]["name"] == name);
    let mut pids: Vec<u64> = of.map(|alert| alert["process"]["pid"].as_u64().unwrap()).collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

#[test]
fn real_clients_are_told_with_the_names_that_they_ask_for() {
    if let Some(reason) = missing() {
        skip!("real_clients_are_told_with_the_names_that_they_ask_for", reason);
    }
    let folder = tempfile::tempdir().unwrap();
    let (tls_port, http_port) = (free_port(), free_port());
    let tls_server = Server::tls(folder.path(), tls_port);
    let http_server = Server::http(folder.path(), http_port);
    let ports = format!(", remote_ports: [{tls_port}, {http_port}]");
    let source = |source: &str| {
        format!(
            ", arbitrary: [{{how: AND, which: irrelevant, items: [{{what: peer_source, \
             pattern: '^{source}$', which: pertinent}}]}}]"
        )
    };
    let recipes = [
        network_recipe("peers", "network_peers", "network_flows", &ports),
        named("suffix", "network_peers", "example.com", ""),
        named("flow", "network_flows", "example.com", ""),
        named("only_http", "network_peers", "example.com", &source("http")),
        named("elsewhere", "network_peers", "ample.com", ""),
    ];
    let mut daemon = Daemon::with_recipes(&recipes.concat());
    let sni = s_client(tls_port, &["-servername", "SNI.Example.COM", "-alpn", "h2,http/1.1"]);
    let nameless = s_client(tls_port, &["-noservername"]);
    let tls_at = format!("tls.example.com:{tls_port}:127.0.0.1");
    let tls_url = format!("https://tls.example.com:{tls_port}/");
    let by_tls = curl(&["--resolve", &tls_at, &tls_url]);
    let http_at = format!("http.example.com:{http_port}:127.0.0.1");
    let http_url = format!("http://http.example.com:{http_port}/");
    // The second URL goes over the same connection, to python's HTTP/1.0 over another: one name.
    let by_http = curl(&["--resolve", &http_at, &http_url, &http_url]);
    let literal = curl(&[&format!("http://127.0.0.1:{http_port}/")]);
    let absolute =
        curl(&["-x", &format!("http://127.0.0.1:{http_port}"), "http://proxied.example.com/"]);
    let evil = curl(&["-H", "Host: evilexample.com", &format!("http://127.0.0.1:{http_port}/")]);
    let (tls_pid, http_pid) = (tls_server.0.id(), http_server.0.id());
    let alerts = daemon.all(PATIENCE);

    let one = |pid: u32| -> &Value {
        let told = told(&alerts, pid);
        assert_eq!(told.len(), 1, "{told:?}");
        told[0]
    };
    assert_eq!(
        one(sni),
        &json!({ "source": "tls", "names": ["sni.example.com"], "resolved": [], "mismatch": false,
                 "alpn": ["h2", "http/1.1"], "ech": false })
    );
    assert_eq!(one(nameless)["source"], "tls");
    assert_eq!(one(nameless)["names"], json!([]));
    assert_eq!(one(by_tls)["names"], json!(["tls.example.com"]));
    assert_eq!(
        one(by_http),
        &json!({ "source": "http", "names": ["http.example.com"], "resolved": [], "mismatch": false })
    );
    assert_eq!(one(literal)["names"], json!([]));
    assert_eq!(one(literal)["addresses"], json!(["127.0.0.1"]));
    assert_eq!(one(absolute)["names"], json!(["proxied.example.com"]));
    assert_eq!(one(evil)["names"], json!(["evilexample.com"]));
    // Servers hear names and say none.
    assert!(told(&alerts, tls_pid).is_empty() && told(&alerts, http_pid).is_empty());

    let below: Vec<u64> = [sni, by_tls, by_http, absolute].map(u64::from).to_vec();
    assert_eq!(fired(&alerts, "suffix"), below, "not {evil}");
    assert_eq!(fired(&alerts, "flow"), below, "flows carry the names too");
    assert_eq!(fired(&alerts, "only_http"), [by_http, absolute].map(u64::from));
    assert_eq!(fired(&alerts, "elsewhere"), [0u64; 0]);
    let journal = daemon.journal("network_peers");
    assert_eq!(journal["balanced"], true, "{journal}");
    assert_eq!([&journal["refused"], &journal["errors"], &journal["panics"]], [0, 0, 0]);
}

/// Accepts connections, hears all of them to their ends and answers nothing; with `first`, says
/// that before.
fn listen(first: &'static [u8]) -> (Actor, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let actor = Actor::start(move |_| {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.write_all(first).unwrap();
            let mut heard = [0; 4096];
            while stream.read(&mut heard).unwrap_or(0) > 0 {}
        }
    });
    (actor, at)
}

/// Sends the pieces apart in time, so that each is a segment.
fn say(to: SocketAddr, pieces: &[&[u8]], pause: Duration) {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_nodelay(true).unwrap();
    for piece in pieces {
        stream.write_all(piece).unwrap();
        std::thread::sleep(pause);
    }
}

#[test]
fn large_and_broken_up_messages_are_told_and_what_only_looks_like_one_is_not() {
    if let Some(reason) = cannot_run() {
        skip!("large_and_broken_up_messages_are_told", reason);
    }
    let (_silent, at) = listen(b"");
    let (_greeter, greeter_at) = listen(b"220 hello\r\n");
    let ports = format!(", remote_ports: [{}, {}]", at.port(), greeter_at.port());
    let mut daemon =
        Daemon::with_recipes(&network_recipe("peers", "network_peers", "network_flows", &ports));
    let short = Duration::from_millis(5);
    let large = client_hello("large.example", 12_000);
    let seen = [
        (act(|| say(at, &[&client_hello("quantum.example", 1300)], short)), "quantum.example"),
        (act(|| say(at, &[&large[..1400], &large[1400..]], short)), "large.example"),
        (
            act(|| {
                let bytes = client_hello("bytes.example", 8);
                let pieces: Vec<&[u8]> = bytes.chunks(1).collect();
                say(at, &pieces, Duration::from_millis(1));
            }),
            "bytes.example",
        ),
        (
            // Over the seal of an epoch.
            act(|| {
                let bytes = client_hello("slow.example", 700);
                say(at, &[&bytes[..700], &bytes[700..]], Duration::from_millis(900));
            }),
            "slow.example",
        ),
        (
            act(|| say(at, &[b"GET / HTTP/1.1\r\nHo", b"st: cut.example\r\n\r\n"], short)),
            "cut.example",
        ),
        (
            act(|| say(greeter_at, &[b"GET / HTTP/1.1\r\nHost: late.example\r\n\r\n"], short)),
            "late.example",
        ),
    ];
    // Looks like TLS, and is not; is none; is TLS, but not the first that is said.
    let mut broken = client_hello("broken.example", 100);
    broken[9] = 9;
    let hello = client_hello("second.example", 100);
    let unseen = [
        act(|| say(at, &[&broken], short)),
        act(|| say(at, &[b"SSH-2.0-OpenSSH_9.2\r\n"], short)),
        act(|| say(at, &[b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00"], short)),
        act(|| say(at, &[b"\x00\x01binary", &hello], short)),
    ];
    let once = act(|| {
        let (first, second) = (client_hello("first.example", 100), client_hello("no.example", 9));
        say(at, &[&first, &second], short);
    });
    let merged = act(|| {
        for _ in 0..20 {
            say(at, &[&client_hello("again.example", 100)], Duration::ZERO);
        }
    });
    let alerts = daemon.all(PATIENCE + Duration::from_millis(500));
    for (pid, name) in seen {
        let told = told(&alerts, pid);
        assert_eq!(told.len(), 1, "{name}: {told:?}");
        assert_eq!(told[0]["names"], json!([name]));
    }
    for pid in unseen {
        assert!(told(&alerts, pid).is_empty(), "{:?}", told(&alerts, pid));
    }
    let told_once = told(&alerts, once);
    assert_eq!(told_once.len(), 1, "{told_once:?}");
    assert_eq!(told_once[0]["names"], json!(["first.example"]));
    // One behaviour, however many connections; at most two epochs' worth of rows.
    let rows: Vec<&Value> =
        alerts.iter().filter(|alert| alert["process"]["pid"] == merged).collect();
    assert!((1..=2).contains(&rows.len()), "{rows:?}");
    assert_eq!(rows.iter().map(|row| row["count"].as_u64().unwrap()).sum::<u64>(), 20);
    let journal = daemon.journal("network_peers");
    assert_eq!(journal["balanced"], true, "{journal}");
    assert_eq!([&journal["refused"], &journal["errors"], &journal["panics"]], [0, 0, 0]);
}
