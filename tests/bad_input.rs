//! What the daemon refuses, and what it says then: one sentence with what to do.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]
#![allow(clippy::undocumented_unsafe_blocks, reason = "plain system calls")]

mod common;

use std::fs;
use std::io::{Error, Result};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::kernel::{expect_nothing_left, programs};
use common::{Daemon, binary, cannot_run, lock, prepare};

const NOBODY: u32 = 65534;

/// What a command that must fail by itself said: exit code and stderr.
struct Refusal {
    code: i32,
    said: String,
}

/// Runs it to its end, which must come soon; what it left in the kernel is looked for.
fn refused(command: &mut Command) -> Refusal {
    let before = programs();
    let Output { status, stderr, stdout } = output(command);
    let said = String::from_utf8(stderr).unwrap();
    assert!(!status.success(), "it went on: {said}");
    assert!(stdout.is_empty(), "{}", String::from_utf8_lossy(&stdout));
    expect_nothing_left(&before);
    Refusal { code: status.code().unwrap_or(-1), said }
}

fn output(command: &mut Command) -> Output {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > until {
            child.kill().unwrap();
            let said = child.wait_with_output().unwrap().stderr;
            panic!("it does not end: {}", String::from_utf8_lossy(&said));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap()
}

impl Refusal {
    /// Exactly one line on stderr, which has all of these.
    fn says(&self, parts: &[&str]) {
        assert_eq!(self.code, 1, "{}", self.said);
        assert_eq!(self.said.lines().count(), 1, "{}", self.said);
        self.names(parts);
        assert!(self.said.starts_with("raqib: "), "{}", self.said);
    }

    fn names(&self, parts: &[&str]) {
        for part in parts {
            assert!(self.said.contains(part), "`{part}` is not in: {}", self.said);
        }
        assert!(!self.said.contains("panicked"), "{}", self.said);
    }
}

fn raqib(args: &[&str], config: &Path) -> Command {
    let mut command = Command::new(binary());
    command.args(args).arg("--config").arg(config);
    command
}

/// In mounts of its own, after `change`.
fn apart(mut command: Command, change: impl Fn() -> Result<()> + Send + Sync + 'static) -> Command {
    let steps = move || {
        check(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
        let private = libc::MS_REC | libc::MS_PRIVATE;
        let null = std::ptr::null();
        check(unsafe { libc::mount(null, c"/".as_ptr(), null, private, null.cast()) })?;
        change()
    };
    unsafe { command.pre_exec(steps) };
    command
}

fn check(result: i32) -> Result<()> {
    if result == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}

fn cover(place: &std::ffi::CStr) -> Result<()> {
    let (kind, null) = (c"tmpfs".as_ptr(), std::ptr::null());
    check(unsafe { libc::mount(kind, place.as_ptr(), kind, 0, null) })
}

/// Everything of a file system, by its name in mountinfo.
fn unmount_all(kind: &str) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    for line in mounts.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let Some(place) = left.split(' ').nth(4) else { continue };
        if right.starts_with(kind) {
            let place = std::ffi::CString::new(place)?;
            check(unsafe { libc::umount2(place.as_ptr(), libc::MNT_DETACH) })?;
        }
    }
    Ok(())
}

/// A copy of the binary and its configuration that anybody may read.
fn for_everybody(recipes: &str) -> (tempfile::TempDir, PathBuf, PathBuf) {
    let (folder, config) = prepare(recipes, "", false);
    let copy = folder.path().join("raqib");
    fs::copy(binary(), &copy).unwrap();
    for path in [folder.path(), &copy, &folder.path().join("recipes")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    (folder, config, copy)
}

#[test]
fn it_needs_root_to_run_but_not_to_check() {
    if let Some(reason) = cannot_run() {
        skip!("it_needs_root_to_run_but_not_to_check", reason);
    }
    let _lock = lock();
    let (folder, config, copy) = for_everybody("[]");
    let nobody = |args: &[&str]| {
        let mut command = Command::new(&copy);
        command.args(args).arg("--config").arg(&config).uid(NOBODY).gid(NOBODY);
        command
    };
    refused(&mut nobody(&["run"])).says(&["needs root", "sudo raqib run"]);
    assert!(!folder.path().join("raqib.sock").exists());
    let checked = output(&mut nobody(&["check"]));
    assert!(checked.status.success(), "{checked:?}");
    assert_eq!(String::from_utf8(checked.stdout).unwrap(), "0 recipes, 0 mistakes\n");
    // And its mistakes are found without root as well.
    fs::write(folder.path().join("recipes/broken.yaml"), "- {kind: broken, breed: what}\n")
        .unwrap();
    let checked = output(&mut nobody(&["check"]));
    assert_eq!(checked.status.code(), Some(1));
    let said = String::from_utf8(checked.stdout).unwrap();
    let place = folder.path().join("recipes/broken.yaml");
    assert!(said.contains(&format!("{}:1: ", place.display())), "{said}");
    assert!(said.contains("breed") && said.contains("mechanism"), "{said}");
    // Nobody answers, and nobody may ask.
    let asked = refused(&mut nobody(&["status"]));
    asked.says(&["no raqib answers at", "is it running"]);
}

#[test]
fn what_the_host_lacks_is_said() {
    if let Some(reason) = cannot_run() {
        skip!("what_the_host_lacks_is_said", reason);
    }
    let guard = lock();
    let (folder, config) = prepare("[]", "", false);
    let run = || raqib(&["run"], &config);
    let no_btf = || cover(c"/sys/kernel/btf");
    refused(&mut apart(run(), no_btf)).says(&["no BTF", "CONFIG_DEBUG_INFO_BTF=y"]);
    let no_cgroup2 = || unmount_all("cgroup2 ");
    let said = refused(&mut apart(run(), no_cgroup2));
    said.says(&["no cgroup v2", "mount -t cgroup2", "features"]);
    assert!(!folder.path().join("raqib.sock").exists());
    // What the sentence offers instead works.
    let files_only = folder.path().join("files.yaml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&files_only, format!("features: [execution, file_access]\n{text}")).unwrap();
    runs_and_ends(apart(raqib(&["run"], &files_only), no_cgroup2), folder.path());
    // Nothing is pinned: no BPF file system is needed.
    let no_bpffs = || unmount_all("bpf ").and_then(|()| cover(c"/sys/fs/bpf"));
    runs_and_ends(apart(run(), no_bpffs), folder.path());
    drop(guard);
}

/// It must get ready, and end well when it is told to.
fn runs_and_ends(mut command: Command, folder: &Path) {
    let before = programs();
    let log = folder.join("log");
    command.stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap());
    let mut child = command.spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    let said = || fs::read_to_string(&log).unwrap();
    while !said().contains(" ready after ") && child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < until, "it does not start: {}", said());
        std::thread::sleep(Duration::from_millis(20));
    }
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}: {}", said());
    expect_nothing_left(&before);
}

#[test]
fn a_socket_is_nobody_elses() {
    if let Some(reason) = cannot_run() {
        skip!("a_socket_is_nobody_elses", reason);
    }
    let daemon = Daemon::with_recipes("[]");
    let path = daemon.folder.path().join("raqib.sock");
    let socket = path.display().to_string();
    let taken = refused(&mut raqib(&["run"], &daemon.config));
    taken.says(&["another raqib answers at", &socket, "run-time.socket"]);
    // Who was there first still is.
    assert_eq!(daemon.status()["pid"], daemon.pid());
    drop(daemon);

    let guard = lock();
    let (folder, config) = prepare("[]", "", false);
    let socket = folder.path().join("raqib.sock");
    fs::write(&socket, "precious").unwrap();
    let taken = refused(&mut raqib(&["run"], &config));
    taken.says(&["is there and no socket", "run-time.socket"]);
    assert_eq!(fs::read(&socket).unwrap(), b"precious");
    fs::remove_file(&socket).unwrap();
    // Left by one that was killed.
    drop(UnixListener::bind(&socket).unwrap());
    assert!(socket.exists());
    drop(guard);
    let daemon = Daemon::launch(folder, config, "json", None);
    assert_eq!(daemon.status()["pid"], daemon.pid());
}

#[test]
fn mistakes_in_files_are_said_all_at_once() {
    if let Some(reason) = cannot_run() {
        skip!("mistakes_in_files_are_said_all_at_once", reason);
    }
    let _lock = lock();
    let (folder, config) = prepare("[]", "", false);
    let good = fs::read_to_string(&config).unwrap();
    let missing = folder.path().join("missing.yaml");
    let name = missing.display().to_string();
    for command in ["run", "check", "status"] {
        refused(&mut raqib(&[command], &missing)).says(&[&name, "No such file"]);
    }

    let broken = "run-time:\n  log-level: loud\ncadences:\n  file-access: 0\n  exexution: 1\n\
                  printers: [stdout, carrier-pigeon]\n";
    fs::write(&config, broken).unwrap();
    for command in ["run", "check"] {
        let refusal = refused(&mut raqib(&[command], &config));
        let at = |line: u32| format!("{}:{line}: ", config.display());
        refusal.names(&[&at(2), "loud", &at(4), "file-access", &at(5), "exexution"]);
        refusal.names(&["did you mean", &at(6), "carrier-pigeon", "varlog"]);
        assert_eq!(refusal.said.lines().count(), 4, "{}", refusal.said);
        assert_eq!(refusal.code, 1);
    }
    fs::write(&config, "run-time: [\n").unwrap();
    refused(&mut raqib(&["run"], &config)).says(&[&config.display().to_string()]);

    // Recipes: nothing is left that works.
    fs::write(&config, good).unwrap();
    let recipes = folder.path().join("recipes/test.yaml");
    fs::write(&recipes, "- {kind: a, name: b, breed: file_access, mechanism: network_flows}\n")
        .unwrap();
    let refusal = refused(&mut raqib(&["run"], &config));
    refusal.names(&["no recipe could be read", &format!("{}:1: ", recipes.display())]);
    let checked = output(&mut raqib(&["check"], &config));
    assert_eq!(checked.status.code(), Some(1));
    let said = String::from_utf8(checked.stdout).unwrap();
    assert!(said.contains("0 recipes, ") && !said.contains(" 0 mistakes"), "{said}");
    assert!(!folder.path().join("raqib.sock").exists());
}
