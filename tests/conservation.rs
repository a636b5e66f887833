//! What is done is counted, exactly, however fast it is done.
//!
//! RAQIB_FULL=1 asks for the numbers that the documentation quotes, and prints them.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
#![allow(clippy::undocumented_unsafe_blocks, reason = "plain system calls")]

mod common;

use std::ffi::CString;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::process::Command;
use std::time::{Duration, Instant};

use common::actor::Actor;
use common::{Daemon, PATIENCE, SLOW, cannot_run, file_recipe};
use raqib::kernel::host::{BTF, names};
use serde_json::Value;

const FILES: usize = 20_000;
const THREADS: u64 = 2;

fn full() -> bool {
    std::env::var("RAQIB_FULL").is_ok_and(|value| value == "1")
}

fn number(few: u64, many: u64) -> u64 {
    if full() { many } else { few / u64::from(SLOW) }
}

/// What a journal counted until now; everything that was counted was read or refused.
struct Counts {
    journal: Value,
}

impl Counts {
    /// To be asked after a query, which seals.
    fn of(daemon: &Daemon, name: &str) -> Self {
        let journal = daemon.journal(name);
        let counts = Self { journal };
        assert_eq!(counts.journal["balanced"], true, "{}", counts.journal);
        assert_eq!(counts.journal["errors"], 0, "{}", counts.journal);
        assert_eq!(counts.get("events"), counts.get("read") + counts.get("refused"));
        counts
    }

    fn get(&self, name: &str) -> u64 {
        self.journal[name].as_u64().unwrap()
    }

    fn line(&self) -> String {
        let names =
            ["events", "read", "refused", "text_refused", "unowned", "rows", "epoch", "doorbells"];
        let said: Vec<String> =
            names.iter().map(|name| format!("{name} {}", self.get(name))).collect();
        format!(
            "ledger {}: {}, seal mean {} us, read mean {} us (max {} us)",
            self.journal["name"],
            said.join(", "),
            self.journal["seal"]["mean_us"],
            self.journal["read_time"]["mean_us"],
            self.journal["read_time"]["max_us"]
        )
    }
}

/// Linux 7.0 and newer: programs at tracepoints can lose their CPU, and while one waits, the kernel
/// skips other runs of it there (bpf/tracepoint.h).
fn preemptible() -> bool {
    names(&std::fs::read(BTF).unwrap(), "class_srcu_fast_notrace_t")
}

/// What of `done` was not `counted`, where that is known to happen: it is printed, never more than the
/// kernel says that it skipped, and little. Elsewhere nothing.
fn expect_all(what: &str, counted: u64, done: u64, daemon: &Daemon, counts: &Counts) {
    let status = daemon.status();
    let programs = status["programs"].as_array().unwrap();
    let missed: u64 = programs.iter().map(|program| program["missed"].as_u64().unwrap()).sum();
    let lost = done.saturating_sub(counted);
    if !preemptible() || lost == 0 {
        assert_eq!(counted, done, "{what}: {}, runs missed {missed}", counts.line());
        return;
    }
    println!("LOSS {what}: {lost} of {done} not counted, {missed} runs were skipped by the kernel");
    assert!(lost <= missed, "{what}: {lost} of {done} lost, but {missed} runs missed");
    assert!(lost <= 2 + done / 50, "{what}: {lost} of {done} lost");
}

fn open_and_close(path: &CString) {
    unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        assert!(fd >= 0);
        libc::close(fd);
    }
}

/// Opens of all threads, and the nanoseconds that they took, are said at the end.
fn flood(paths: &[CString], each: u64) -> Actor {
    Actor::start(|stage| {
        stage.wait();
        let began = Instant::now();
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let turn = thread * paths.len() as u64 / THREADS;
                std::thread::Builder::new()
                    .spawn_scoped(scope, move || {
                        for at in turn..turn + each {
                            open_and_close(&paths[(at % paths.len() as u64) as usize]);
                        }
                    })
                    .unwrap();
            }
        });
        stage.say(began.elapsed().as_nanos() as u64);
    })
}

/// One read of the needle in each of `moments`, with pauses.
fn sew(needle: &CString, moments: u64) -> Actor {
    Actor::start(|stage| {
        stage.wait();
        for _ in 0..moments {
            let mut byte = [0u8];
            unsafe {
                let fd = libc::open(needle.as_ptr(), libc::O_RDONLY);
                assert_eq!(libc::read(fd, byte.as_mut_ptr().cast(), 1), 1);
                libc::close(fd);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    })
}

#[test]
fn every_open_of_a_flood_is_counted_and_a_needle_in_it_found() {
    if let Some(reason) = cannot_run() {
        skip!("every_open_of_a_flood_is_counted_and_a_needle_in_it_found", reason);
    }
    let each = number(200_000, 1_000_000);
    let moments = number(20, 200);
    let place = tempfile::tempdir().unwrap();
    let c_path = |name: String| {
        let path = place.path().join(name);
        std::fs::write(&path, "x").unwrap();
        CString::new(path.as_os_str().as_bytes()).unwrap()
    };
    let paths: Vec<CString> = (0..FILES).map(|at| c_path(format!("f{at}"))).collect();
    let needle = c_path("needle".to_owned());
    let regex = format!("^{}/needle$", place.path().display());
    let mut daemon = Daemon::with_recipes(&file_recipe("needle", &regex, "[read]"));
    let mut flood = flood(&paths, each);
    let mut sewer = sew(&needle, moments);
    let floods = flood.pid;
    flood.go();
    sewer.go();
    let sews = sewer.wait();
    assert!(flood.runs(), "the needle outlived the flood: this proves nothing");
    let took = Duration::from_nanos(flood.hear());
    flood.wait();

    let done = THREADS * each;
    let began = Instant::now();
    let query = daemon.query(floods);
    let asked = began.elapsed();
    let counts = Counts::of(&daemon, "file_access");
    let opened = query["file_access"][0]["actions"]["open"].as_u64().unwrap();
    let alerts = daemon.all(PATIENCE);
    let mine = alerts.iter().filter(|alert| alert["process"]["pid"] == sews);
    let reads: Vec<u64> =
        mine.map(|alert| alert["file"]["actions"]["counts"]["read"].as_u64().unwrap()).collect();
    if full() {
        println!("opens: done {done}, counted {opened}, by {THREADS} threads over {FILES} files");
        println!(
            "opens: {:.2} s, {:.0} a second; the query that sealed the last epoch took {asked:?}",
            took.as_secs_f64(),
            done as f64 / took.as_secs_f64()
        );
        println!("opens: {}", counts.line());
        println!(
            "needle: done {moments}, read in alerts {}, in {} alerts",
            reads.iter().sum::<u64>(),
            reads.len()
        );
    }
    if counts.get("refused") == 0 {
        expect_all("opens", opened, done, &daemon, &counts);
        expect_all("needle's reads", reads.iter().sum(), moments, &daemon, &counts);
    } else {
        // Somebody else filled the table: not one more than is said may be missing.
        println!("opens: {}", counts.line());
        assert!(opened <= done && done - opened <= counts.get("refused"), "{}", counts.line());
    }
}

#[test]
fn every_execution_is_counted() {
    if let Some(reason) = cannot_run() {
        skip!("every_execution_is_counted", reason);
    }
    // A program takes even longer than the rest on an emulated CPU.
    let done = number(3000 / u64::from(SLOW), 20_000);
    let daemon = Daemon::with_recipes("[]");
    // std spawns through vfork where nothing has to be done in the child.
    let mut parent = Actor::start(|stage| {
        let began = Instant::now();
        for _ in 0..done {
            assert!(Command::new("/bin/true").status().unwrap().success());
        }
        stage.say(began.elapsed().as_nanos() as u64);
    });
    let took = Duration::from_nanos(parent.hear());
    let parent = parent.wait();
    let query = daemon.query(parent);
    let counts = Counts::of(&daemon, "execution");
    let images = query["execution"].as_array().unwrap();
    let mine = images.iter().filter(|image| image["ppid"] == std::process::id());
    let mine: Vec<&Value> = mine.collect();
    assert_eq!(mine.len(), 1, "{images:?}");
    let [children, executions] =
        ["children", "child_execs"].map(|name| mine[0][name].as_u64().unwrap());
    if full() {
        println!("executions: done {done}, forks counted {children}, execs counted {executions}");
        println!(
            "executions: {:.2} s, {:.0} a second",
            took.as_secs_f64(),
            done as f64 / took.as_secs_f64()
        );
        println!("executions: {}", counts.line());
    }
    assert_eq!(counts.get("refused"), 0, "{}", counts.line());
    expect_all("forks", children, done, &daemon, &counts);
    expect_all("executions", executions, done, &daemon, &counts);
}

#[test]
fn every_connection_is_counted() {
    if let Some(reason) = cannot_run() {
        skip!("every_connection_is_counted", reason);
    }
    let done = number(4000, 20_000);
    let daemon = Daemon::with_recipes("[]");
    // Several ports, so that the client's do not come round again.
    let mut server = Actor::start(|stage| {
        let listeners: Vec<TcpListener> =
            (0..4).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        for listener in &listeners {
            stage.say(listener.local_addr().unwrap().port().into());
        }
        for at in 0..done {
            let (mut stream, _) = listeners[at as usize % 4].accept().unwrap();
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        }
    });
    let ports: Vec<u16> = (0..4).map(|_| server.hear() as u16).collect();
    let mut client = Actor::start(|stage| {
        let began = Instant::now();
        for at in 0..done {
            let to = SocketAddr::from(([127, 0, 0, 1], ports[at as usize % 4]));
            let mut stream = TcpStream::connect(to).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        }
        stage.say(began.elapsed().as_nanos() as u64);
    });
    let took = Duration::from_nanos(client.hear());
    let (client, server) = (client.wait(), server.wait());
    let totals = |pid: u32| daemon.query(pid)["network_flows"][0].clone();
    let (clients, servers) = (totals(client), totals(server));
    let counts = Counts::of(&daemon, "network_flows");
    if full() {
        println!("connections: done {done}, client {clients}");
        println!("connections: server {servers}");
        println!(
            "connections: {:.2} s, {:.0} a second",
            took.as_secs_f64(),
            done as f64 / took.as_secs_f64()
        );
        println!("connections: {}", counts.line());
    }
    let said = format!("{}, client {clients}, server {servers}", counts.line());
    // Before Linux 6.2 a table refuses a packet that interrupts an update of it on that CPU: counted.
    let refused = counts.get("refused");
    assert!(refused <= 2, "{said}");
    if refused > 0 {
        println!("LOSS connections: {refused} of {} events refused", counts.get("events"));
    }
    let told = |whose: &Value, what: &str| whose[what].as_u64().unwrap();
    let all = |told: u64| told <= done && done - told <= refused;
    assert!(all(told(&clients, "outgoing")) && told(&clients, "incoming") <= refused, "{said}");
    assert!(all(told(&servers, "incoming")) && told(&servers, "outgoing") <= refused, "{said}");
    assert_eq!(clients["accepts"], 0, "{said}");
    let accepts = told(&servers, "accepts");
    assert!(accepts <= done, "{said}");
    expect_all("accepts", (accepts + refused).min(done), done, &daemon, &counts);
}
