//! How the daemon begins, changes and ends, and what it survives.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::pipe;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use common::actor::act;
use common::kernel::{expect_gone, programs, programs_of};
use common::{
    CADENCE, Daemon, PATIENCE, cannot_run, configuration, file_recipe, lock, prepare, slow,
};
use crossbeam_channel::{Receiver, bounded};
use raqib::alert::{Alert, Host};
use raqib::config::Config;
use raqib::content::Contents;
use raqib::detect::Ruleset;
use raqib::event::{Event, Mechanism};
use raqib::journal::{Journal, Read, Sealed};
use raqib::kernel::attach::Attached;
use raqib::kernel::load::Kernel;
use raqib::plugins::driver::{Command, Running, Surroundings};
use raqib::plugins::{PLUGINS, Plugin};
use raqib::state::{Containers, Files, Names, Processes, World};
use raqib::stats::JournalStats;
use serde_json::Value;

/// A folder with files that recipes watch.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: impl AsRef<OsStr>) -> PathBuf {
        let path = self.0.path().join(name.as_ref());
        fs::write(&path, "hay").unwrap();
        path
    }

    /// For every file whose name begins so.
    fn recipe(&self, name: &str) -> String {
        file_recipe(name, &format!("^{}/{name}", self.0.path().display()), "[read]")
    }
}

fn read(path: &Path) -> u32 {
    act(|| assert_eq!(fs::read(path).unwrap(), b"hay"))
}

fn is_of(name: &str, pid: u32) -> impl Fn(&Value) -> bool {
    move |alert| alert["metadata"]["name"] == name && alert["process"]["pid"] == pid
}

#[test]
fn a_signal_ends_it_in_good_order() {
    if let Some(reason) = cannot_run() {
        skip!("a_signal_ends_it_in_good_order", reason);
    }
    let place = Place::new();
    let needle = place.file("needle");
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let daemon = Daemon::with_recipes(&place.recipe("needle"));
        let socket = daemon.folder.path().join("raqib.sock");
        let log = daemon.folder.path().join("stderr");
        let held = programs_of(daemon.pid());
        assert!(held.len() >= 7 && held.is_subset(&programs()), "{held:?}");
        assert!(socket.exists());
        // Just before: only the last seal can tell of it.
        let pid = read(&needle);
        let kept = fs::hard_link(&log, place.0.path().join("log"));
        let (status, took, alerts) = daemon.stop_by(signal);
        assert_eq!(status.code(), Some(0));
        assert!(took < slow(Duration::from_secs(2)), "{took:?}");
        assert!(alerts.iter().any(is_of("needle", pid)), "{alerts:?}");
        assert!(!socket.exists());
        expect_gone(&held);
        // Nothing went wrong on the way.
        if kept.is_ok() {
            let log = fs::read_to_string(place.0.path().join("log")).unwrap();
            // What this kernel lacks is said, and no mistake.
            let wrong = |line: &&str| line.contains("ERROR") || line.contains("WARN");
            let lacks = |line: &str| line.contains("this kernel does not take");
            assert_eq!(log.lines().filter(wrong).find(|line| !lacks(line)), None, "{log}");
            fs::remove_file(place.0.path().join("log")).unwrap();
        }
    }
}

/// More alerts than a pipe holds that nobody reads.
fn clogged(place: &Place) -> (Daemon, std::io::PipeReader) {
    let (reader, writer) = pipe().unwrap();
    let (folder, config) = prepare(&place.recipe("needle"), "", false);
    let daemon = Daemon::launch(folder, config, "json", Some(Stdio::from(writer)));
    let files: Vec<PathBuf> = (0..300).map(|at| place.file(format!("needle{at}"))).collect();
    act(|| {
        for file in &files {
            fs::read(file).unwrap();
        }
    });
    let until = Instant::now() + slow(Duration::from_secs(5));
    while daemon.status()["printers"][0]["queued"].as_u64().unwrap() == 0 {
        assert!(Instant::now() < until, "the pipe takes everything");
        std::thread::sleep(Duration::from_millis(20));
    }
    (daemon, reader)
}

#[test]
fn nobody_who_does_not_read_can_keep_it_from_ending() {
    if let Some(reason) = cannot_run() {
        skip!("nobody_who_does_not_read_can_keep_it_from_ending", reason);
    }
    let place = Place::new();
    let (daemon, _reader) = clogged(&place);
    let held = programs_of(daemon.pid());
    let (status, took, _) = daemon.stop();
    // What was not printed is said, and took its share of the time.
    assert_eq!(status.code(), Some(1));
    assert!(took < slow(Duration::from_secs(3)), "{took:?}");
    expect_gone(&held);

    let (daemon, _reader) = clogged(&place);
    let held = programs_of(daemon.pid());
    let log = daemon.folder.path().join("stderr");
    let link = place.0.path().join("log");
    fs::hard_link(&log, &link).unwrap();
    daemon.signal(libc::SIGTERM);
    daemon.wait_for_log("stopping", 1);
    std::thread::sleep(Duration::from_millis(100));
    let (status, took, _) = daemon.stop();
    assert_eq!(status.code(), Some(1));
    assert!(took < slow(Duration::from_millis(500)), "{took:?}");
    assert!(fs::read_to_string(&link).unwrap().contains("stopped at once"));
    expect_gone(&held);
}

#[test]
fn a_reload_takes_over_what_is_good() {
    if let Some(reason) = cannot_run() {
        skip!("a_reload_takes_over_what_is_good", reason);
    }
    let place = Place::new();
    let (first, second) = (place.file("first"), place.file("second"));
    let mut daemon = Daemon::with_recipes(&place.recipe("first"));
    let folder = daemon.folder.path().to_owned();
    let more = folder.join("recipes/more.yaml");
    let cadence = |daemon: &Daemon| daemon.journal("file_access")["cadence_ms"].clone();
    assert_eq!(cadence(&daemon), CADENCE.as_millis() as u64);
    let early = read(&second);
    // An epoch is judged by the recipes that hold when it is read.
    std::thread::sleep(CADENCE * 2);

    fs::write(&more, place.recipe("second")).unwrap();
    let quick = Duration::from_millis(200);
    fs::write(&daemon.config, configuration(&folder, quick, "", false)).unwrap();
    daemon.signal(libc::SIGHUP);
    daemon.wait_for_log("reloaded: 2 recipes", 1);
    assert_eq!(cadence(&daemon), 200);
    let (pid_first, pid_second) = (read(&first), read(&second));
    daemon.expect("first", is_of("first", pid_first));
    daemon.expect("second", is_of("second", pid_second));

    // A broken recipe file is said, and the others stay.
    fs::write(&more, "- {kind: broken, name: broken, breed: nonsense}\n").unwrap();
    daemon.signal(libc::SIGHUP);
    daemon.wait_for_log("reloaded: 1 recipes", 1);
    assert!(daemon.stderr().contains(&format!("{}:1", more.display())), "{}", daemon.stderr());
    let (pid_first, pid_second) = (read(&first), read(&second));
    daemon.expect("first", is_of("first", pid_first));
    daemon.expect_none("second", is_of("second", pid_second));

    // Nothing but broken recipes, or a broken configuration: all stays as it was.
    fs::write(folder.join("recipes/test.yaml"), "- [\n").unwrap();
    daemon.signal(libc::SIGHUP);
    daemon.wait_for_log("nothing was changed", 1);
    fs::write(&daemon.config, "cadences: {file-access: -1}\nnonsense: 1\n").unwrap();
    daemon.signal(libc::SIGHUP);
    daemon.wait_for_log("nothing was changed", 2);
    let log = daemon.stderr();
    assert!(log.contains("cadences.file-access") && log.contains("nonsense"), "{log}");
    let pid_first = read(&first);
    daemon.expect("first", is_of("first", pid_first));
    // Who asks reads the file as well, to find the socket.
    fs::write(&daemon.config, configuration(&folder, CADENCE, "", false)).unwrap();
    assert_eq!(cadence(&daemon), 200);
    // Read before there was a recipe for it.
    daemon.expect_none("second", is_of("second", early));
    let (status, took, _) = daemon.stop();
    assert!(status.success() && took < slow(Duration::from_secs(2)), "{status} {took:?}");
}

#[test]
fn a_renamed_log_is_begun_anew_after_a_reload() {
    if let Some(reason) = cannot_run() {
        skip!("a_renamed_log_is_begun_anew_after_a_reload", reason);
    }
    let place = Place::new();
    let needle = place.file("needle");
    let (log, renamed) = (place.0.path().join("log.json"), place.0.path().join("log.1"));
    let more = format!(
        "printers: [stdout, varlog]\nprinter_options:\n  varlog: {{file: {}}}\n",
        log.display()
    );
    let mut daemon = Daemon::start(&place.recipe("needle"), &more, false);
    let lines = |path: &Path| -> Vec<Value> {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'), "{text}");
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let once = |daemon: &mut Daemon| {
        let pid = read(&needle);
        daemon.expect("needle", is_of("needle", pid));
        // The other printer's turn.
        std::thread::sleep(Duration::from_millis(200));
        pid
    };
    let before = once(&mut daemon);
    assert_eq!(fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o600);
    fs::rename(&log, &renamed).unwrap();
    daemon.signal(libc::SIGHUP);
    daemon.wait_for_log("reloaded", 1);
    let after = once(&mut daemon);
    let (status, ..) = daemon.stop();
    assert!(status.success());
    assert_eq!(lines(&renamed).len(), 1);
    assert!(is_of("needle", before)(&lines(&renamed)[0]));
    assert_eq!(lines(&log).len(), 1);
    assert!(is_of("needle", after)(&lines(&log)[0]));
}

#[test]
fn the_status_has_its_shape_and_only_root_may_ask() {
    if let Some(reason) = cannot_run() {
        skip!("the_status_has_its_shape_and_only_root_may_ask", reason);
    }
    let daemon = Daemon::with_recipes("[]");
    let socket = daemon.folder.path().join("raqib.sock");
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o7777, 0o600);
    act(|| drop(fs::read("/etc/hostname")));
    daemon.query(std::process::id());
    let status = daemon.status();
    assert_eq!(status["pid"], daemon.pid());
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    let journals = status["journals"].as_array().unwrap();
    let mut names: Vec<&str> = journals.iter().map(|one| one["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    let known = [
        "activity",
        "containers",
        "env_vars",
        "execution",
        "file_access",
        "network_flows",
        "network_peers",
    ];
    assert_eq!(names, known);
    for journal in journals {
        let numbers = ["epoch", "events", "read", "refused", "rows", "doorbells", "errors"];
        for number in numbers.iter().chain(&["panics", "restarts", "alerts", "unbalanced_epochs"]) {
            assert!(journal[number].is_u64(), "{number} in {journal}");
        }
        assert_eq!(journal["balanced"], true, "{journal}");
        assert_eq!(journal["cadence_ms"], CADENCE.as_millis() as u64);
    }
    let files = daemon.journal("file_access");
    assert!(files["epoch"].as_u64().unwrap() > 0 && files["events"].as_u64().unwrap() > 0);
    for (key, least) in [("hooks", 3), ("programs", 7), ("printers", 1)] {
        assert!(status[key].as_array().unwrap().len() >= least, "{key} in {status}");
    }
    assert_eq!(status["printers"][0]["name"], "stdout");
}

#[test]
fn hostile_names_stay_within_their_line() {
    if let Some(reason) = cannot_run() {
        skip!("hostile_names_stay_within_their_line", reason);
    }
    let place = Place::new();
    let hostile = "needle\x1b[2J\x1b]0;title\x07\r\n{\"fake\": 1}\u{9b}31m\u{202e}\t end";
    let bytes = OsStr::from_bytes(b"needle\xff\n\xfe");
    let paths = [place.file(hostile), place.file(bytes)];
    let mut daemon = Daemon::with_recipes(&place.recipe("needle"));
    let pid = act(|| paths.iter().for_each(|path| drop(fs::read(path).unwrap())));
    // Each line that it writes was read as JSON by then.
    let alerts = daemon.all(PATIENCE);
    assert_eq!(alerts.len(), 2, "{alerts:?}");
    assert!(alerts.iter().all(is_of("needle", pid)));
    let text = alerts.iter().find(|alert| alert["file"]["basename"] == hostile);
    assert!(text.is_some_and(|alert| alert["file"]["path_raw"].is_null()), "{alerts:?}");
    let raw: String = paths[1].as_os_str().as_bytes().iter().map(|b| format!("{b:02x}")).collect();
    let exact = alerts.iter().find(|alert| alert["file"]["path_raw"] == raw.as_str());
    assert_eq!(exact.unwrap()["file"]["basename"], "needle\\xff\n\\xfe");
    drop(daemon);

    let (folder, config) = prepare(&place.recipe("needle"), "", false);
    let shown = folder.path().join("shown");
    let stdout = Stdio::from(File::create(&shown).unwrap());
    let link = place.0.path().join("shown");
    fs::hard_link(&shown, &link).unwrap();
    let daemon = Daemon::launch(folder, config, "pretty", Some(stdout));
    act(|| paths.iter().for_each(|path| drop(fs::read(path).unwrap())));
    assert!(daemon.stop().0.success());
    let text = fs::read_to_string(&link).unwrap();
    assert_eq!(text.lines().count(), 2, "{text:?}");
    assert!(text.lines().all(|line| line.contains("needle/needle")), "{text:?}");
    let unsafe_to_show = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
    assert!(!text.contains(unsafe_to_show), "{text:?}");
}

#[test]
fn a_closed_pipe_does_not_end_it() {
    if let Some(reason) = cannot_run() {
        skip!("a_closed_pipe_does_not_end_it", reason);
    }
    let place = Place::new();
    let needle = place.file("needle");
    let (reader, writer) = pipe().unwrap();
    let (folder, config) = prepare(&place.recipe("needle"), "", false);
    let mut daemon = Daemon::launch(folder, config, "json", Some(Stdio::from(writer)));
    drop(reader);
    let epoch = daemon.journal("file_access")["epoch"].as_u64().unwrap();
    for round in 1..=2 {
        let failed = || daemon.status()["printers"][0]["failed"].as_u64().unwrap();
        read(&needle);
        let until = Instant::now() + PATIENCE;
        while failed() < round {
            assert!(Instant::now() < until, "{}", daemon.status()["printers"]);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    assert!(daemon.ended().is_none());
    assert!(daemon.journal("file_access")["epoch"].as_u64().unwrap() > epoch);
    // Said once, not once an alert.
    assert_eq!(daemon.stderr().matches("printer stdout").count(), 1, "{}", daemon.stderr());
    let (status, took, _) = daemon.stop();
    assert!(status.success() && took < slow(Duration::from_secs(2)), "{status} {took:?}");
}

/// Reads files, but panics instead as often as it is told.
struct Fragile {
    inner: Box<dyn Plugin>,
    panics: Arc<AtomicU32>,
}

impl Plugin for Fragile {
    fn read(&mut self, sealed: &Sealed, out: &mut dyn FnMut(Event)) -> Result<Read> {
        let less = |left: u32| left.checked_sub(1);
        if self.panics.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok() {
            panic!("as the test asked");
        }
        self.inner.read(sealed, out)
    }
}

/// Two plugins on the real kernel without the daemon around them; files break on demand.
struct Two {
    kernel: Kernel,
    attached: Attached,
    files: Running,
    execution: Running,
    files_stats: Arc<JournalStats>,
    execution_stats: Arc<JournalStats>,
    panics: Arc<AtomicU32>,
    alerts: Receiver<Alert>,
}

impl Two {
    fn start(recipes: &Path) -> Self {
        let kernel = Kernel::load().unwrap();
        let config = Config::default();
        let processes = Processes::new(1000, 10_000);
        let (names, files) = (Names::new(10), Files::new(10));
        let world = Arc::new(World::new(processes, Containers::new(100), names, files));
        let (rules, problems) = Ruleset::load(false, &[recipes.to_owned()], None);
        assert!(problems.is_empty(), "{problems:?}");
        let (sender, alerts) = bounded(1000);
        let panics = Arc::new(AtomicU32::new(0));
        let (contents, _reading) = Contents::start(false, 1).unwrap();
        let mut around = Surroundings {
            contents,
            world: Arc::clone(&world),
            host: Arc::new(Host::detect()),
            rules: Arc::new(rules),
            alerts: sender,
            execution: None,
            names: None,
            judges: true,
        };
        let start = |mechanism: Mechanism, around: &Surroundings| {
            let spec = PLUGINS.iter().find(|spec| spec.mechanism == mechanism).unwrap();
            let prepared = (spec.prepare)(&kernel, &config, &world).unwrap();
            let stats = Arc::new(JournalStats::new(mechanism.name()));
            let (rows, texts) = (prepared.rows, prepared.texts);
            let journal =
                Journal::new(spec.journal, prepared.store, rows, texts, Arc::clone(&stats));
            let (build, left) = (prepared.build, Arc::clone(&panics));
            let fragile = mechanism == Mechanism::FileAccess;
            let build = Box::new(move || -> Result<Box<dyn Plugin>> {
                let inner = build()?;
                let panics = Arc::clone(&left);
                Ok(if fragile { Box::new(Fragile { inner, panics }) } else { inner })
            });
            let cadence = Duration::from_millis(100);
            let running =
                Running::start(mechanism, build, journal.unwrap(), cadence, around.clone());
            (running.unwrap(), stats)
        };
        let (execution, execution_stats) = start(Mechanism::Execution, &around);
        around.execution = Some(execution.commands.clone());
        let (files, files_stats) = start(Mechanism::FileAccess, &around);
        let mut attached = Attached::default();
        let hooks = ["sys_exit", "process_fork", "process_exec", "process_exit"];
        attached.attach(&kernel, &hooks, None).unwrap();
        Self { kernel, attached, files, execution, files_stats, execution_stats, panics, alerts }
    }

    fn wait_for(&self, counter: &str, value: u64) {
        let until = Instant::now() + slow(Duration::from_secs(5));
        while self.files_stats.json()[counter] != value {
            assert!(Instant::now() < until, "{counter} in {}", self.files_stats.json());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The pids of the alerts that come within `patience`.
    fn told(&self, patience: Duration) -> Vec<u32> {
        let until = Instant::now() + patience;
        std::iter::from_fn(|| self.alerts.recv_deadline(until).ok())
            .map(|alert| alert.process.pid())
            .collect()
    }
}

#[test]
fn a_plugin_that_panics_comes_back_and_loses_nothing() {
    if let Some(reason) = cannot_run() {
        skip!("a_plugin_that_panics_comes_back_and_loses_nothing", reason);
    }
    let place = Place::new();
    let needle = place.file("needle");
    let rules = tempfile::tempdir().unwrap();
    fs::write(rules.path().join("test.yaml"), place.recipe("needle")).unwrap();
    let _lock = lock();
    let two = Two::start(rules.path());

    two.panics.store(1, Ordering::SeqCst);
    let during = read(&needle);
    two.wait_for("panics", 1);
    assert_eq!(two.files_stats.json()["restarts"], 0);
    // The other one goes on meanwhile.
    let parent = act(|| assert!(std::process::Command::new("true").status().unwrap().success()));
    let (ask, answer) = bounded(1);
    two.execution.commands.send(Command::Query(parent, ask)).unwrap();
    let answer = answer.recv_timeout(slow(Duration::from_millis(150))).unwrap();
    assert_eq!(answer[0]["child_execs"], 1, "{answer}");
    // Back after its pause; what it could not read is read, and what came since.
    two.wait_for("restarts", 1);
    let after = read(&needle);
    let told = two.told(PATIENCE);
    assert!(told.contains(&during) && told.contains(&after), "{during} {after}: {told:?}");

    // The end finds it in pieces: its last alerts come all the same.
    two.panics.store(1, Ordering::SeqCst);
    let last = read(&needle);
    two.wait_for("panics", 2);
    let Two { kernel, attached, files, execution, files_stats, execution_stats, alerts, .. } = two;
    drop(attached);
    files.finish().unwrap();
    execution.finish().unwrap();
    let rest: Vec<u32> = alerts.try_iter().map(|alert| alert.process.pid()).collect();
    assert_eq!(rest, [last]);
    let (files, execution) = (files_stats.json(), execution_stats.json());
    assert_eq!([&files["panics"], &files["restarts"]], [2, 2], "{files}");
    assert_eq!([&files["unbalanced_epochs"], &execution["unbalanced_epochs"]], [0, 0], "{files}");
    let number = |key: &str| files[key].as_u64().unwrap();
    assert_eq!(number("events"), number("read") + number("refused"));
    assert_eq!([&execution["panics"], &execution["errors"]], [0, 0], "{execution}");
    drop(kernel);
}
