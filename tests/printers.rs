//! Alerts through the dispatch and real files, as a consumer sees them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by panicking")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proptest::prelude::*;
use raqib::alert::{Alert, Host, Importance, Named, RecipeFacts};
use raqib::dispatch::Dispatch;
use raqib::event::{Actions, Body, Env, Event, File, Flow, Mechanism, Peer, Source, TaskKey};
use raqib::printers::{Output, Printer, PrinterSpec, Settings, TryAgain};
use raqib::state::{Creds, Image, Process};
use raqib::text::Text;
use serde_json::Value;

const LONG: Duration = Duration::from_secs(20);

fn facts() -> Arc<RecipeFacts> {
    let named = |name: &str, id: &str| Some(Named { name: name.into(), id: id.into() });
    Arc::new(RecipeFacts {
        kind: "sensitive_read".into(),
        name: "shadow_read".into(),
        version: "1.0".into(),
        description: "somebody read the passwords".into(),
        tactic: named("execution", "TA0002"),
        technique: named("command_and_scripting_interpreter", "T1059"),
        subtechnique: named("unix_shell", "T1059.004"),
        importance: Importance::High,
        confidence: Some(0.9),
        ..Default::default()
    })
}

fn image(exe: &[u8], args: &[&[u8]]) -> Arc<Image> {
    let args: Vec<Text> = args.iter().map(|arg| Text::new(arg)).collect();
    Arc::new(Image { exe: Text::new(exe), args, ..Default::default() })
}

fn process(pid: u32, image: Arc<Image>, parent: Option<Arc<Process>>) -> Arc<Process> {
    // Its private fields rule out the struct update syntax.
    let mut process = Process::default();
    process.key = TaskKey { start_ns: u64::from(pid) * 1000, tgid: pid, exec_id: 3 };
    process.ppid = parent.as_ref().map_or(0, |parent| parent.pid());
    process.parent = parent;
    process.comm = Text::from("comm");
    process.image = image;
    process.start = Some(UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    process.creds = Creds { loginuid: u32::MAX, sessionid: 4, ..Default::default() };
    Arc::new(process)
}

/// systemd > sshd > a shell > the program.
fn lineage(exe: &[u8], args: &[&[u8]]) -> Arc<Process> {
    let systemd = process(1, image(b"/sbin/systemd", &[]), None);
    let sshd = process(800, image(b"/usr/sbin/sshd", &[b"sshd", b"-D"]), Some(systemd));
    let bash = process(900, image(b"/bin/bash", &[b"-bash"]), Some(sshd));
    process(1234, image(exe, args), Some(bash))
}

fn file(path: &[u8]) -> Body {
    let mut counts = [0; raqib::event::FILE_ACTIONS.len()];
    (counts[5], counts[6]) = (1, 2);
    Body::File(File {
        path: Text::new(path),
        actions: Actions(1 << 5 | 1 << 6),
        history: Actions::default(),
        counts,
        dev: libc::makedev(8, 1),
        inode: u64::MAX,
        mode: 0o104_640,
        uid: 0,
        gid: 42,
        size: 1024,
        deleted: false,
        anonymous: false,
        overlay: false,
        by_name: false,
        truncated: false,
        names: Vec::new(),
    })
}

fn flow() -> Flow {
    Flow {
        protocol: 6,
        local: "10.0.0.1".parse().unwrap(),
        remote: "2001:db8::1".parse().unwrap(),
        local_port: 40_000,
        remote_port: 443,
        icmp: None,
        netns: u64::MAX,
        actions: Actions(1 << 1 | 1 << 2 | 1 << 4 | 1 << 7),
        packets_in: 3,
        packets_out: 4,
        bytes_in: 300,
        bytes_out: 1200,
        local_names: vec![],
        remote_names: vec!["new.example.org".into(), "old.example.org".into()],
    }
}

fn event(mechanism: Mechanism, task: TaskKey, body: Body) -> Event {
    let first = UNIX_EPOCH + Duration::new(1_700_000_000, 1);
    Event { mechanism, task, count: 3, first, last: first + Duration::from_secs(1), body }
}

fn host() -> Arc<Host> {
    let text = |text: &str| text.to_owned();
    Arc::new(Host {
        hostname: text("box"),
        machine_id: text("cafe"),
        boot_id: text("1"),
        ..Default::default()
    })
}

fn alert_of(mechanism: Mechanism, process: &Arc<Process>, body: Body) -> Alert {
    Alert::new(&facts(), None, &event(mechanism, process.key, body), process, &host())
}

fn alert() -> Alert {
    alert_of(Mechanism::FileAccess, &lineage(b"/bin/cat", &[b"cat", b"x"]), file(b"/etc/shadow"))
}

/// The JSON form; fails when it is not exactly one line of valid JSON.
fn json(alert: &Alert) -> Value {
    let mut line = Vec::new();
    alert.write_line(&mut line).unwrap();
    assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1);
    assert_eq!(line.last(), Some(&b'\n'));
    serde_json::from_slice(&line).unwrap()
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn sequence(path: &Path) -> Vec<u64> {
    lines(path).iter().map(|line| line["seq"].as_u64().unwrap()).collect()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// For conditions that another thread brings about.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < LONG, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

// --- the JSON form ---

#[test]
fn envelope_and_score_have_the_fields_that_consumers_read() {
    let value = json(&alert());
    assert_eq!(value["timestamp"], "2023-11-14T22:13:21.000000001Z");
    assert_eq!(value["first_seen"], "2023-11-14T22:13:20.000000001Z");
    assert_eq!(value["count"], 3);
    assert!(value.get("note").is_none());
    assert_eq!(value["metadata"]["format"], "file_access");
    assert_eq!(value["metadata"]["importance"], "high");
    assert_eq!(value["metadata"]["subtechnique"], "unix_shell");
    assert_eq!(value["metadata"]["attack"]["technique_id"], "T1059");
    assert_eq!(value["metadata"]["attack"]["subtechnique_id"], "T1059.004");
    assert_eq!(value["score"]["source"], "recipe");
    assert_eq!(value["score"]["severity"], 75);
    assert_eq!(value["score"]["risk_score"], 68);
    assert_eq!(value["scenarios"]["hostos"]["machine_id"], "cafe");
    assert_eq!(value["scenarios"]["hostos"]["scenario_type"], "hostos");
}

#[test]
fn field_order_is_stable() {
    let mut line = Vec::new();
    alert().write_line(&mut line).unwrap();
    let line = String::from_utf8(line).unwrap();
    let order = [
        "{\"uuid\"",
        "\"seq\"",
        "\"timestamp\"",
        "\"metadata\"",
        "\"score\"",
        "\"file\"",
        "\"process\"",
        "\"background\"",
        "\"scenarios\"",
    ];
    let places: Vec<usize> = order.iter().map(|field| line.find(field).unwrap()).collect();
    assert!(places.is_sorted(), "{places:?}");
}

#[test]
fn ancestry_goes_from_the_oldest_to_the_process() {
    let value = json(&alert());
    let ancestry = value["background"]["ancestry"].as_array().unwrap();
    let pids: Vec<_> = ancestry.iter().map(|one| one["pid"].as_u64().unwrap()).collect();
    assert_eq!(pids, [1, 800, 900, 1234]);
    assert_eq!(ancestry.last(), value.get("process"));
    assert_eq!(ancestry[3]["parent_hash"], ancestry[2]["process_hash"]);
    assert!(ancestry[0].get("parent_hash").is_none());
}

#[test]
fn one_process_image_has_one_uuid_in_all_alerts() {
    let cat = lineage(b"/bin/cat", &[]);
    let (one, two) = (
        json(&alert_of(Mechanism::FileAccess, &cat, file(b"/a"))),
        json(&alert_of(Mechanism::NetworkFlows, &cat, Body::Flow(flow()))),
    );
    assert_eq!(one["process"]["uuid"], two["process"]["uuid"]);
    assert_ne!(one["uuid"], two["uuid"]);
    assert_ne!(one["process"]["uuid"], one["background"]["ancestry"][0]["uuid"]);
}

#[test]
fn ids_of_64_bits_are_hex_strings() {
    let value = json(&alert());
    for id in ["process_hash", "parent_hash", "exe_hash", "args_hash"] {
        let text = value["process"][id].as_str().unwrap();
        assert!(text.len() == 16 && u64::from_str_radix(text, 16).is_ok(), "{id}: {text}");
    }
    for id in ["file_hash", "dir_hash", "base_hash"] {
        assert_eq!(value["file"][id].as_str().unwrap().len(), 16);
    }
}

#[test]
fn a_running_process_has_the_zero_time_and_an_ended_one_its_status() {
    let cat = lineage(b"/bin/cat", &[]);
    let before = alert_of(Mechanism::FileAccess, &cat, file(b"/a"));
    cat.ended(UNIX_EPOCH + Duration::from_secs(1_700_000_009), 7 << 8);
    let after = alert_of(Mechanism::FileAccess, &cat, file(b"/a"));
    assert_eq!(json(&before)["process"]["exit"], "0001-01-01T00:00:00Z");
    assert_eq!(json(&after)["process"]["exit"], "2023-11-14T22:13:29.000000000Z");
    assert_eq!(json(&after)["process"]["retcode"], 7);
    assert!(json(&after)["process"].get("loginuid").is_none());
    assert_eq!(json(&after)["process"]["session"], 4);
}

#[test]
fn file_facts() {
    let value = json(&alert());
    let file = &value["file"];
    assert_eq!((&file["dir"], &file["basename"]), (&"/etc".into(), &"shadow".into()));
    assert_eq!(file["type"], "regular");
    assert_eq!(file["device"], "8:1");
    assert_eq!(file["inode"].as_u64(), Some(u64::MAX));
    assert_eq!(file["permissions"]["mode"], "4640");
    assert_eq!(file["permissions"]["setuid"], true);
    assert_eq!(file["permissions"]["other_read"], false);
    assert_eq!(file["actions"]["actions"], serde_json::json!(["open", "read"]));
    assert_eq!(file["actions"]["read"], true);
    assert_eq!(file["actions"]["write"], false);
    assert_eq!(file["actions"]["counts"], serde_json::json!({"open": 1, "read": 2}));
    assert!(file.get("deleted").is_none());
}

#[test]
fn flow_and_peer_facts() {
    let curl = lineage(b"/usr/bin/curl", &[]);
    let value = json(&alert_of(Mechanism::NetworkFlows, &curl, Body::Flow(flow())));
    assert_eq!(value["flow"]["proto"], "TCP");
    assert_eq!(value["flow"]["ip_version"], 6);
    assert_eq!(value["flow"]["service_port"], 443);
    assert_eq!(value["flow"]["remote"]["name"], "new.example.org");
    assert_eq!(value["flow"]["remote"]["names"].as_array().unwrap().len(), 2);
    let phase = serde_json::json!({"direction": "both", "initiated_by": "local",
        "status": "ended", "ended_by": "unknown"});
    assert_eq!(value["flow"]["phase"], phase);
    assert!(value.get("file").is_none() && value.get("dns").is_none());

    let names = vec!["a.example".into()];
    let addresses = vec![("192.0.2.1".parse().unwrap(), 60)];
    let peer = Peer {
        names,
        addresses,
        source: Source::Dns { rcode: 0 },
        resolved: Vec::new(),
        flow: flow(),
    };
    let value = json(&alert_of(Mechanism::NetworkPeers, &curl, Body::Peer(peer)));
    assert_eq!(value["dns"]["addresses"][0]["ttl"], 60);
    assert_eq!(value["flow"]["bytes_out"], 1200);
}

#[test]
fn secrets_in_variables_are_not_printed() {
    let env = |name: &str, value: &[u8]| {
        let (length, truncated) = (value.len() as u32, false);
        let body = Body::Env(Env { name: name.into(), value: Text::new(value), length, truncated });
        alert_of(Mechanism::EnvVars, &lineage(b"/bin/sh", &[]), body)
    };
    for value in [&b"hunter2"[..], b"hunter2\xff"] {
        let secret = env("DB_PASSWORD", value);
        let text = json(&secret).to_string() + &pretty(&secret);
        assert!(!text.contains("hunter2") && !text.contains("68756e746572"), "{text}");
        assert_eq!(json(&secret)["env"]["value"], format!("<redacted {} bytes>", value.len()));
    }
    assert_eq!(json(&env("LD_PRELOAD", b"/tmp/x.so"))["env"]["value"], "/tmp/x.so");
    assert_eq!(json(&env("LD_PRELOAD", b"/\xff"))["env"]["value_raw"], "2fff");
}

#[test]
fn hostile_text_stays_valid_json_and_loses_nothing() {
    let path = b"/tmp/\x1b[2J\"\\\n\r\0\xff\xfe";
    let body = file(path);
    let cat = lineage(b"/tmp/\xc3(", &[b"a\nb", b"\xf0\x9f", b"c d"]);
    let value = json(&alert_of(Mechanism::FileAccess, &cat, body));
    assert_eq!(value["file"]["path_raw"], "2f746d702f1b5b324a225c0a0d00fffe");
    assert_eq!(value["process"]["exe_raw"], "2f746d702fc328");
    assert_eq!(value["process"]["args"], "a\nb \\xf0\\x9f c d");
    assert_eq!(value["process"]["args_list"][2], "c d");
    assert_eq!(value["process"]["args_raw"][1], "f09f");
    assert!(value["process"].get("cwd_raw").is_none());
}

#[test]
fn longest_paths_and_argument_lists() {
    let path = [&b"/"[..], &[b'\x1b'; 4095]].concat();
    let argument = vec![b'"'; 2 << 20];
    let cat = lineage(b"/bin/cat", &[b"cat", &argument]);
    let alert = alert_of(Mechanism::FileAccess, &cat, file(&path));
    let value = json(&alert);
    assert_eq!(value["file"]["path"].as_str().unwrap().len(), 4096);
    assert_eq!(value["process"]["args_list"][1].as_str().unwrap().len(), 2 << 20);
    assert!(pretty(&alert).chars().count() < 1000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_make_valid_json_and_a_safe_line(
        path in proptest::collection::vec(any::<u8>(), 0..200),
        exe in proptest::collection::vec(any::<u8>(), 0..60),
        argument in proptest::collection::vec(any::<u8>(), 0..60),
        note in proptest::option::of(any::<String>()),
    ) {
        let process = lineage(&exe, &[&exe, &argument]);
        for mechanism in [Mechanism::FileAccess, Mechanism::Execution] {
            let mut alert = alert_of(mechanism, &process, file(&path));
            alert.note = note.clone();
            let value = json(&alert);
            let shown = Text::new(&path);
            prop_assert_eq!(value["file"]["path"].as_str(), Some(shown.as_str()));
            prop_assert_eq!(value["file"].get("path_raw").is_some(), shown.raw().is_some());
            let line = pretty(&alert);
            prop_assert!(!line.contains(|c: char| c.is_control()), "{:?}", line);
            let deceives = line.contains(['\u{202e}', '\u{2066}', '\u{2028}', '\u{200b}']);
            prop_assert!(!deceives);
        }
    }
}

// --- the pretty line, through the printer itself ---

fn stdout_to(path: &Path, output: Output) -> Settings {
    Settings { output, stdout: path.to_str().unwrap().to_owned(), ..Default::default() }
}

/// The line as written to something that is no terminal, without its newline.
fn pretty(alert: &Alert) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out");
    let stdout = raqib::printers::PRINTERS.iter().find(|spec| spec.name == "stdout").unwrap();
    let mut printer = (stdout.build)(&stdout_to(&path, Output::Pretty)).unwrap();
    printer.print(alert).unwrap();
    let line = fs::read_to_string(&path).unwrap();
    line.strip_suffix('\n').unwrap().to_owned()
}

#[test]
fn the_pretty_line_says_who_did_what() {
    let line = pretty(&alert());
    assert!(line.starts_with("2023-11-14T22:13:21.000Z high     sensitive_read/shadow_read  "));
    assert!(line.contains("cat[1234] read /etc/shadow (x3)"), "{line}");
    assert!(line.contains("systemd(1) > sshd(800) > bash(900) > cat(1234)"), "{line}");
    assert!(line.ends_with("root(0)"), "{line}");
}

#[test]
fn a_name_cannot_pretend_to_be_a_lineage_or_a_line() {
    let evil = lineage(b"/tmp/sshd(1) > bash", &[b"x", b"a\n2023-11-14 all is well"]);
    let line = pretty(&alert_of(Mechanism::Execution, &evil, file(b"/tmp/x")));
    assert!(line.contains("> \"sshd(1) > bash\"(1234)"), "{line}");
    assert!(line.contains("\"a\\n2023-11-14 all is well\""), "{line}");
}

#[test]
fn auto_is_json_when_no_terminal_reads() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out");
    let settings = stdout_to(&path, Output::Auto);
    let (dispatch, alerts) = Dispatch::start(&names(&["stdout"]), settings).unwrap();
    alerts.send(alert()).unwrap();
    drop(alerts);
    dispatch.finish(LONG).unwrap();
    assert_eq!(sequence(&path), [1]);
}

// --- varlog ---

fn varlog(file: &Path) -> Settings {
    Settings { varlog_file: file.to_owned(), ..Default::default() }
}

fn print_all(settings: Settings, count: u64) {
    let (dispatch, alerts) = Dispatch::start(&names(&["varlog"]), settings).unwrap();
    for _ in 0..count {
        alerts.send(alert()).unwrap();
    }
    drop(alerts);
    dispatch.finish(LONG).unwrap();
}

#[test]
fn varlog_appends_to_a_private_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    print_all(varlog(&path), 2);
    print_all(varlog(&path), 1);
    assert_eq!(sequence(&path), [1, 2, 1]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn varlog_rotates_by_size_and_keeps_so_many() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut line = Vec::new();
    alert().write_line(&mut line).unwrap();
    let varlog_max_bytes = 2 * line.len() as u64 + 100;
    print_all(Settings { varlog_max_bytes, varlog_keep: 2, ..varlog(&path) }, 9);
    assert_eq!(sequence(&path), [9]);
    assert_eq!(sequence(&dir.path().join("log.1")), [7, 8]);
    assert_eq!(sequence(&dir.path().join("log.2")), [5, 6]);
    assert!(!dir.path().join("log.3").exists());
    print_all(Settings { varlog_max_bytes, varlog_keep: 0, ..varlog(&path) }, 2);
    assert_eq!(sequence(&path), [2]);
    assert_eq!(sequence(&dir.path().join("log.1")), [7, 8]);
}

#[test]
fn varlog_writes_on_where_it_cannot_rotate() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    // A directory that is not empty cannot be replaced by a rename.
    fs::create_dir_all(dir.path().join("log.1/x")).unwrap();
    print_all(Settings { varlog_max_bytes: 10, varlog_keep: 1, ..varlog(&path) }, 3);
    assert_eq!(sequence(&path), [1, 2, 3]);
}

#[test]
fn varlog_opens_the_name_again_on_reopen() {
    let dir = tempfile::tempdir().unwrap();
    let (path, moved) = (dir.path().join("log"), dir.path().join("moved"));
    let (dispatch, alerts) = Dispatch::start(&names(&["varlog"]), varlog(&path)).unwrap();
    let printed = |count| {
        until("the alert is printed", || dispatch.counters()[0].printed == count);
    };
    alerts.send(alert()).unwrap();
    printed(1);
    fs::rename(&path, &moved).unwrap();
    alerts.send(alert()).unwrap();
    printed(2);
    dispatch.reopen();
    until("the file is there", || path.exists());
    alerts.send(alert()).unwrap();
    printed(3);
    // Removed without a word: the next alert must not go where nobody can read it.
    fs::remove_file(&path).unwrap();
    alerts.send(alert()).unwrap();
    drop(alerts);
    dispatch.finish(LONG).unwrap();
    assert_eq!(sequence(&moved), [1, 2]);
    assert_eq!(sequence(&path), [4]);
}

#[test]
fn varlog_closes_the_line_that_a_crash_left_open() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    fs::write(&path, "{\"uuid\":\"cut o").unwrap();
    print_all(varlog(&path), 1);
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(serde_json::from_str::<Value>(lines[1]).is_ok());
}

#[test]
fn varlog_follows_no_link_and_takes_no_device() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("link");
    symlink(dir.path().join("target"), &link).unwrap();
    for path in [link.as_path(), Path::new("/dev/null"), dir.path()] {
        let Err(error) = Dispatch::start(&names(&["varlog"]), varlog(path)) else {
            panic!("{} was opened", path.display());
        };
        assert!(format!("{error:#}").starts_with("printer varlog: "), "{error:#}");
    }
    assert!(!dir.path().join("target").exists());
}

#[test]
fn varlog_takes_back_half_a_line_and_tries_again() {
    // A limit on file sizes fails writes as a full disk does, part of the line written before.
    // It holds for the process, so a child of this test takes it on.
    const CHILD: &str = "RAQIB_TEST_FULL_DISK";
    if let Some(path) = std::env::var_os(CHILD) {
        return full_disk(Path::new(&path));
    }
    let dir = tempfile::tempdir().unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "varlog_takes_back_half_a_line_and_tries_again", "--test-threads=1"])
        .env(CHILD, dir.path().join("log"))
        .stdout(Stdio::null())
        .status();
    assert!(status.unwrap().success());
    assert_eq!(sequence(&dir.path().join("log")), [1, 2]);
}

fn full_disk(path: &Path) {
    let limit = |bytes| {
        let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: the pointer is to a whole rlimit; SIGXFSZ is set to be ignored.
        unsafe {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &limit), 0);
        }
    };
    let mut line = Vec::new();
    alert().write_line(&mut line).unwrap();
    limit(line.len() as u64 * 3 / 2);
    let (dispatch, alerts) = Dispatch::start(&names(&["varlog"]), varlog(path)).unwrap();
    alerts.send(alert()).unwrap();
    alerts.send(alert()).unwrap();
    until("an attempt failed", || dispatch.counters()[0].retried > 0);
    assert_eq!(sequence(path), [1], "half of a line stays in the file");
    limit(libc::RLIM_INFINITY);
    until("both are printed", || dispatch.counters()[0].printed == 2);
    drop(alerts);
    dispatch.finish(LONG).unwrap();
    assert_eq!(sequence(path), [1, 2]);
}

// --- the dispatch ---

/// A printer of one closure.
struct Act<F>(F);

impl<F: FnMut(&Alert) -> anyhow::Result<()>> Printer for Act<F> {
    fn print(&mut self, alert: &Alert) -> anyhow::Result<()> {
        (self.0)(alert)
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
}

fn row(
    name: &'static str,
    build: fn(&Settings) -> anyhow::Result<Box<dyn Printer>>,
) -> PrinterSpec {
    PrinterSpec { name, summary: "of a test", build }
}

fn threads() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let comms = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    comms.map(|comm| comm.trim().to_owned()).collect()
}

#[test]
fn a_printer_that_cannot_be_built_stops_the_start_and_leaves_no_thread() {
    let rows = [
        row("zgood", |_| Ok(Box::new(Act(|_: &Alert| Ok(()))))),
        row("zbad", |_| anyhow::bail!("no such place")),
    ];
    let Err(error) = Dispatch::start_with(&rows, &Settings::default(), 4) else { panic!() };
    assert_eq!(format!("{error:#}"), "printer zbad: building it: no such place");
    // A joined thread may still be listed for a moment.
    until("the threads are gone", || !threads().iter().any(|name| name.starts_with("raqib-z")));

    let Err(error) = Dispatch::start(&names(&["stdot"]), Settings::default()) else { panic!() };
    assert!(error.to_string().contains("\"stdot\": there are stdout, varlog"), "{error}");
    assert!(Dispatch::start(&names(&["stdout", "stdout"]), Settings::default()).is_err());
}

#[test]
fn a_stuck_printer_costs_the_others_nothing_and_its_loss_is_counted() {
    static GATE: Mutex<()> = Mutex::new(());
    static SEEN: Mutex<Vec<u64>> = Mutex::new(Vec::new());
    let rows = [
        row("stuck", |_| {
            Ok(Box::new(Act(|_: &Alert| {
                drop(GATE.lock());
                Ok(())
            })))
        }),
        row("fast", |_| {
            Ok(Box::new(Act(|alert: &Alert| {
                SEEN.lock().unwrap().push(alert.seq);
                Ok(())
            })))
        }),
    ];
    let (dispatch, alerts) = Dispatch::start_with(&rows, &Settings::default(), 8).unwrap();
    let shared = dispatch.counters_shared();
    let gate = GATE.lock().unwrap();
    for sent in 1..=100 {
        alerts.send(alert()).unwrap();
        until("the fast one prints", || dispatch.counters()[1].printed == sent);
    }
    let counters = shared.read();
    assert_eq!(counters[1].dropped, 0);
    // Eight in the queue, and one in hand once the thread got to run.
    let (queued, dropped) = (counters[0].queued, counters[0].dropped);
    assert!(matches!(queued, 8 | 9) && dropped == 100 - queued && counters[0].printed == 0);
    drop(gate);
    drop(alerts);
    dispatch.finish(LONG).unwrap();
    assert_eq!(*SEEN.lock().unwrap(), (1..=100).collect::<Vec<u64>>());
    let stuck = &shared.read()[0];
    assert_eq!((stuck.printed, stuck.queued, stuck.dropped), (queued, 0, dropped));
}

#[test]
fn finish_drains_all_that_was_sent() {
    static PRINTED: AtomicU64 = AtomicU64::new(0);
    let rows = [row("slow", |_| {
        Ok(Box::new(Act(|_: &Alert| {
            std::thread::sleep(Duration::from_millis(1));
            PRINTED.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })))
    })];
    let (dispatch, alerts) = Dispatch::start_with(&rows, &Settings::default(), 1000).unwrap();
    let plugins: Vec<_> = (0..4)
        .map(|_| {
            let alerts = alerts.clone();
            std::thread::Builder::new()
                .spawn(move || (0..100).for_each(|_| alerts.send(alert()).unwrap()))
                .unwrap()
        })
        .collect();
    drop(alerts);
    dispatch.finish(LONG).unwrap();
    assert_eq!(PRINTED.load(Ordering::Relaxed), 400);
    plugins.into_iter().for_each(|plugin| plugin.join().unwrap());
}

#[test]
fn finish_keeps_its_deadline_and_says_what_was_left() {
    static GATE: Mutex<()> = Mutex::new(());
    let rows = [row("hung", |_| {
        Ok(Box::new(Act(|_: &Alert| {
            drop(GATE.lock());
            Ok(())
        })))
    })];
    let gate = GATE.lock().unwrap();
    let (dispatch, alerts) = Dispatch::start_with(&rows, &Settings::default(), 8).unwrap();
    (0..3).for_each(|_| alerts.send(alert()).unwrap());
    drop(alerts);
    let error = dispatch.finish(Duration::from_millis(100)).unwrap_err().to_string();
    assert_eq!(error, "printer hung: did not end in time (3 alerts not printed)");
    drop(gate);

    let (dispatch, _alerts) = Dispatch::start_with(&[], &Settings::default(), 8).unwrap();
    let error = dispatch.finish(Duration::from_millis(50)).unwrap_err().to_string();
    assert!(error.contains("a plugin still holds its sender"), "{error}");
}

#[test]
fn a_panicking_printer_is_built_again_and_the_others_go_on() {
    static BUILT: AtomicU64 = AtomicU64::new(0);
    let rows = [
        row("frail", |_| {
            // The second build fails as well: the third serves.
            anyhow::ensure!(BUILT.fetch_add(1, Ordering::Relaxed) != 1, "not yet");
            Ok(Box::new(Act(|alert: &Alert| {
                assert!(alert.seq != 2, "cannot bear the second");
                Ok(())
            })))
        }),
        row("sound", |_| Ok(Box::new(Act(|_: &Alert| Ok(()))))),
    ];
    let (dispatch, alerts) = Dispatch::start_with(&rows, &Settings::default(), 8).unwrap();
    (0..4).for_each(|_| alerts.send(alert()).unwrap());
    until("the frail one works again", || dispatch.counters()[0].printed == 3);
    let counters = dispatch.counters();
    assert_eq!((counters[0].failed, counters[0].panics, counters[0].dropped), (1, 1, 0));
    assert_eq!(counters[1].printed, 4);
    assert_eq!(BUILT.load(Ordering::Relaxed), 3);
    drop(alerts);
    dispatch.finish(LONG).unwrap();
}

#[test]
fn what_may_pass_is_tried_again_and_what_may_not_is_given_up() {
    static DOWN: AtomicBool = AtomicBool::new(true);
    let rows = [
        row("patient", |_| {
            Ok(Box::new(Act(|_: &Alert| match DOWN.load(Ordering::Relaxed) {
                true => Err(anyhow::anyhow!("full").context(TryAgain)),
                false => Ok(()),
            })))
        }),
        row("broken", |_| Ok(Box::new(Act(|_: &Alert| anyhow::bail!("for ever"))))),
    ];
    let (dispatch, alerts) = Dispatch::start_with(&rows, &Settings::default(), 8).unwrap();
    (0..2).for_each(|_| alerts.send(alert()).unwrap());
    until("an attempt failed", || dispatch.counters()[0].retried > 0);
    until("the other gave up", || dispatch.counters()[1].failed == 2);
    DOWN.store(false, Ordering::Relaxed);
    // Cuts the pause short.
    dispatch.reopen();
    until("both are printed", || dispatch.counters()[0].printed == 2);
    // While stopping there is one attempt and no pause.
    DOWN.store(true, Ordering::Relaxed);
    alerts.send(alert()).unwrap();
    let shared = dispatch.counters_shared();
    drop(alerts);
    dispatch.finish(LONG).unwrap();
    let counters = shared.read();
    assert_eq!((counters[0].printed, counters[0].failed, counters[0].queued), (2, 1, 0));
}

/// Standard output belongs to the process, so children of these tests run the printer.
#[test]
fn a_closed_pipe_is_counted_and_no_more() {
    const CHILD: &str = "RAQIB_TEST_CLOSED_PIPE";
    if std::env::var_os(CHILD).is_some() {
        let settings = Settings { output: Output::Json, ..Default::default() };
        let (dispatch, alerts) = Dispatch::start(&names(&["stdout"]), settings).unwrap();
        alerts.send(alert()).unwrap();
        until("the first is printed", || dispatch.counters()[0].printed == 1);
        // The parent closes its end, then ours.
        std::io::stdin().read_to_string(&mut String::new()).unwrap();
        (0..5).for_each(|_| alerts.send(alert()).unwrap());
        until("the rest failed", || dispatch.counters()[0].failed == 5);
        drop(alerts);
        dispatch.finish(LONG).unwrap();
        // Past the harness, which would panic for want of a standard output.
        std::process::exit(42);
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_closed_pipe_is_counted_and_no_more", "--nocapture"])
        .env(CHILD, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("\"seq\":1,") {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0, "no alert came");
    }
    drop(reader);
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(42));
}

#[test]
fn an_alert_is_cheap_to_make() {
    // A bound far above what it takes, against copying texts or forming JSON in the plugin.
    let argument = vec![b'a'; 2 << 20];
    let process = lineage(b"/bin/cat", &[&argument]);
    let start = SystemTime::now();
    for _ in 0..1000 {
        alert_of(Mechanism::FileAccess, &process, file(b"/etc/shadow"));
    }
    assert!(start.elapsed().unwrap() < Duration::from_secs(1));
}
