//! Processes, as the running kernel tells of them.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
#![allow(clippy::undocumented_unsafe_blocks, reason = "system calls with arguments in sight")]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::acts::{c, chdir, child, exec, fork, in_child, of, ok, open, tiny_program, wait};
use common::{CADENCE, Daemon, PATIENCE, ancestry, cannot_run, exec_recipe, file_recipe};
use serde_json::{Value, json};

const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

/// A directory that anybody may enter, with a program that ends with status 7.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// None without a compiler.
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        tiny_program(&folder.path().join("tiny"))?;
        Some(Self { folder })
    }

    fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    fn told(&self, name: &str) -> String {
        self.at(name).to_str().unwrap().to_owned()
    }

    /// A recipe on all that is executed in here.
    fn recipe(&self) -> String {
        exec_recipe("run", &format!("^{}/", self.folder.path().display()))
    }
}

const NO_COMPILER: &str = "gcc cannot build a static program here";

#[track_caller]
fn one(alerts: &[Value], pid: u32) -> &Value {
    let mut found = of(alerts, "run", pid);
    let alert = found.next().unwrap_or_else(|| panic!("no alert on {pid}"));
    assert!(found.next().is_none(), "told twice: {pid}");
    alert
}

/// Does `act` in a child that ends as the tiny program.
#[track_caller]
fn as_tiny(act: impl FnOnce()) -> u32 {
    let pid = fork(act);
    assert_eq!(wait(pid), 7 << 8);
    pid
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn arguments_are_told_one_by_one() {
    if let Some(reason) = cannot_run() {
        skip!("arguments_are_told_one_by_one", reason);
    }
    let Some(place) = Place::new() else { skip!("arguments_are_told_one_by_one", NO_COMPILER) };
    let tiny = place.at("tiny");
    let mut daemon = Daemon::with_recipes(&place.recipe());
    let odd = as_tiny(|| exec(&tiny, &[b"tiny", b"a b", b"", b"two\nlines", b"\x1b[31m\"", b""]));
    let wrong = as_tiny(|| exec(&tiny, &[b"tiny", b"\xff\xfe", b"ok"]));
    let spoofed = as_tiny(|| exec(&tiny, &[b"[kworker/u4:1]"]));
    // A head of 2976 bytes and a tail of 992 fit to the byte, and one more does not.
    let fits = as_tiny(|| exec(&tiny, &[b"tiny", &[b'f'; 3968 - 5 - 1]]));
    let over = as_tiny(|| exec(&tiny, &[b"tiny", &[b'o'; 3968 - 5]]));
    let padding = vec![b'p'; 100_000];
    let mut huge: Vec<&[u8]> = vec![b"tiny", b"first-argument"];
    huge.resize(2 + 20, &padding);
    huge.push(b"the-payload");
    let long = as_tiny(|| exec(&tiny, &huge));
    let elsewhere = Command::new("/bin/true").arg(&tiny).spawn().unwrap();
    let elsewhere_pid = elsewhere.id();
    elsewhere.wait_with_output().unwrap();

    let alerts = daemon.all(PATIENCE);
    let process = |pid: u32| &one(&alerts, pid)["process"];
    let list = json!(["tiny", "a b", "", "two\nlines", "\u{1b}[31m\"", ""]);
    assert_eq!(process(odd)["args_list"], list);
    assert_eq!(process(odd)["args"], "tiny a b  two\nlines \u{1b}[31m\" ");
    assert_eq!(process(odd)["args_length"], 5 + 4 + 1 + 10 + 7 + 1);
    assert_eq!(process(odd)["args_truncated"], false);
    assert_eq!(process(odd)["args_raw"], Value::Null);
    assert_eq!(process(wrong)["args_list"], json!(["tiny", "\\xff\\xfe", "ok"]));
    assert_eq!(process(wrong)["args_raw"], json!([hex(b"tiny"), "fffe", hex(b"ok")]));
    assert_eq!(process(spoofed)["args_list"], json!(["[kworker/u4:1]"]));
    assert_eq!(process(spoofed)["exe"], place.told("tiny"));
    assert_eq!(process(spoofed)["comm"], "tiny");
    assert_eq!(process(fits)["args_list"], json!(["tiny", "f".repeat(3962)]));
    assert_eq!(process(fits)["args_truncated"], false);
    assert_eq!(process(over)["args_truncated"], true);
    assert_eq!(process(over)["args_length"], 3969);
    let process = process(long);
    assert_eq!(process["args_truncated"], true);
    assert_eq!(process["args_length"], huge.iter().map(|arg| arg.len() + 1).sum::<usize>());
    let args = process["args_list"].as_array().unwrap();
    assert_eq!(args[..2], [json!("tiny"), json!("first-argument")]);
    assert_eq!(args.last().unwrap(), "the-payload");
    assert_eq!(of(&alerts, "run", elsewhere_pid).count(), 0, "a path as an argument is no image");
}

#[test]
fn what_a_process_is_comes_with_it() {
    if let Some(reason) = cannot_run() {
        skip!("what_a_process_is_comes_with_it", reason);
    }
    let Some(place) = Place::new() else { skip!("what_a_process_is_comes_with_it", NO_COMPILER) };
    let tiny = place.at("tiny");
    let folder = place.at("two\nlines");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    let mut daemon = Daemon::with_recipes(&place.recipe());

    let root = as_tiny(|| {
        chdir(&folder);
        ok(unsafe { libc::setsid() });
        exec(&tiny, &[b"root"]);
    });
    let nobody = as_tiny(|| unsafe {
        chdir("/");
        ok(libc::setresgid(65533, 65533, 65533));
        ok(libc::setresuid(65534, 65534, 65534));
        exec(&tiny, &[b"nobody"]);
    });
    let effective = as_tiny(|| unsafe {
        ok(libc::setresgid(0, 65533, 65533));
        ok(libc::setresuid(0, 65534, 65534));
        exec(&tiny, &[b"effective"]);
    });
    let namespaces = place.at("namespaces");
    let apart = as_tiny(|| {
        let all = libc::CLONE_NEWUTS | libc::CLONE_NEWIPC | libc::CLONE_NEWNET;
        let all = all | libc::CLONE_NEWNS | libc::CLONE_NEWCGROUP | libc::CLONE_NEWUSER;
        ok(unsafe { libc::unshare(all) });
        fs::write(&namespaces, own_namespaces().to_string()).unwrap();
        exec(&tiny, &[b"apart"]);
    });
    let terminal = place.at("terminal");
    let on_terminal = as_tiny(|| unsafe {
        let leader = ok(libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY));
        ok(libc::grantpt(leader));
        ok(libc::unlockpt(leader));
        let name = std::ffi::CStr::from_ptr(libc::ptsname(leader)).to_str().unwrap();
        fs::write(&terminal, name).unwrap();
        ok(libc::setsid());
        let side = open(name, libc::O_RDWR | libc::O_NOCTTY);
        ok(libc::ioctl(side, libc::TIOCSCTTY, 0));
        exec(&tiny, &[b"terminal"]);
    });
    let group = Group::new();
    let grouped = group.as_ref().map(|group| {
        as_tiny(|| {
            fs::write(group.at.join("cgroup.procs"), "0").unwrap();
            exec(&tiny, &[b"grouped"]);
        })
    });
    let group_inode = group.as_ref().map(|group| fs::metadata(&group.at).unwrap().ino());
    // The alerts may come while children are counted: a group is removed when it is empty.
    drop(group);

    let alerts = daemon.all(PATIENCE);
    let process = |pid: u32| &one(&alerts, pid)["process"];
    let ids =
        |pid: u32| ["uid", "gid", "euid", "egid"].map(|id| process(pid)[id].as_u64().unwrap());
    assert_eq!(ids(root), [0, 0, 0, 0]);
    assert_eq!(ids(nobody), [65534, 65533, 65534, 65533]);
    assert_eq!(ids(effective), [0, 0, 65534, 65533]);
    let status = fs::read_to_string("/proc/self/status").unwrap();
    for (field, set) in
        [("CapEff:\t", "effective"), ("CapPrm:\t", "permitted"), ("CapInh:\t", "inheritable")]
    {
        let mine = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        assert_eq!(process(root)["capabilities"][set], mine, "{set}");
    }
    assert_ne!(process(root)["capabilities"]["effective"], "0000000000000000");
    for set in ["effective", "permitted", "inheritable"] {
        assert_eq!(process(nobody)["capabilities"][set], "0000000000000000", "{set}");
    }
    assert_eq!(process(root)["cwd"], folder.to_str().unwrap());
    assert_eq!(process(nobody)["cwd"], "/");
    let mine = own_namespaces();
    assert_eq!(process(root)["namespaces"], mine);
    let apart_told = &process(apart)["namespaces"];
    let apart_is: Value = serde_json::from_str(&fs::read_to_string(&namespaces).unwrap()).unwrap();
    assert_eq!(*apart_told, apart_is);
    for (name, inode) in mine.as_object().unwrap() {
        assert_eq!(apart_told[name] == *inode, name == "pid_ns", "{name}");
    }
    assert_eq!(process(apart)["uid"], 0, "in the initial user namespace");
    let name = fs::read_to_string(&terminal).unwrap();
    assert_eq!(process(on_terminal)["tty"], name.replace("/dev/pts/", "pts"));
    assert_eq!(process(root)["tty"], Value::Null);
    match (grouped, group_inode) {
        (Some(pid), Some(inode)) => {
            assert_eq!(process(pid)["cgroup_id"], inode);
            assert_ne!(process(root)["cgroup_id"], inode);
        }
        _ => println!("SKIPPED: cgroup: no cgroup v2 directory can be made here"),
    }
    let loginuid = fs::read_to_string("/proc/self/loginuid").unwrap_or_default();
    match loginuid.trim().parse::<u32>() {
        Ok(u32::MAX) | Err(_) => assert_eq!(process(root)["loginuid"], Value::Null),
        Ok(uid) => assert_eq!(process(root)["loginuid"], uid),
    }
}

/// As alerts tell them.
fn own_namespaces() -> Value {
    let inode = |name: &str| fs::metadata(format!("/proc/self/ns/{name}")).unwrap().ino();
    let all = ["mnt", "pid", "uts", "ipc", "net", "cgroup", "user"];
    all.iter()
        .map(|name| (format!("{name}_ns"), json!(inode(name))))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// A cgroup of a test's own.
struct Group {
    at: PathBuf,
}

impl Group {
    fn new() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let mut lines = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let mount = lines.find(|fields| fields[2] == "cgroup2")?;
        let at = Path::new(mount[1]).join(format!("raqib-test-{}", std::process::id()));
        fs::create_dir(&at).ok()?;
        Some(Self { at })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for _ in 0..100 {
            if fs::remove_dir(&self.at).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn images_without_a_path_and_with_two() {
    if let Some(reason) = cannot_run() {
        skip!("images_without_a_path_and_with_two", reason);
    }
    let Some(place) = Place::new() else {
        skip!("images_without_a_path_and_with_two", NO_COMPILER)
    };
    let (tiny, gone) = (place.at("tiny"), place.at("gone"));
    fs::copy(&tiny, &gone).unwrap();
    symlink(&tiny, place.at("alias")).unwrap();
    let script = place.at("script");
    // Its writer must be gone before it is executed, as must any child that inherited the file.
    fs::write(&script, format!("#!{} -flag\n", place.told("alias"))).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let memfd = exec_recipe("memfd", "^memfd:raqib-test$");
    let mut daemon = Daemon::with_recipes(&(place.recipe() + &memfd));

    let in_memory = as_tiny(|| unsafe {
        let image = fs::read(&tiny).unwrap();
        let fd = ok(libc::memfd_create(c("raqib-test").as_ptr(), libc::MFD_CLOEXEC));
        assert_eq!(libc::write(fd, image.as_ptr().cast(), image.len()), image.len() as isize);
        exec_fd(fd, "in-memory");
    });
    let deleted = as_tiny(|| {
        let fd = open(&gone, libc::O_PATH | libc::O_CLOEXEC);
        fs::remove_file(&gone).unwrap();
        exec_fd(fd, "deleted");
    });
    let aliased = as_tiny(|| exec(place.at("alias"), &[b"aliased"]));
    let scripted = as_tiny(|| exec(&script, &[b"scripted", b"argument"]));
    let plain = as_tiny(|| exec(&tiny, &[b"plain"]));
    let refused = in_child(|| {
        let none = [std::ptr::null::<libc::c_char>()];
        let missing = c(place.at("missing"));
        assert_eq!(unsafe { libc::execve(missing.as_ptr(), none.as_ptr(), none.as_ptr()) }, -1);
    });

    let alerts = daemon.all(PATIENCE);
    let found: Vec<_> = of(&alerts, "memfd", in_memory).collect();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["process"]["exe"], "memfd:raqib-test");
    assert_eq!(found[0]["process"]["memfd"], true);
    assert_eq!(found[0]["file"]["anonymous"], true);
    assert_eq!(found[0]["process"]["args_list"], json!(["in-memory"]));
    assert_eq!(found[0]["process"]["deleted"], Value::Null);
    let process = |pid: u32| &one(&alerts, pid)["process"];
    assert_eq!(process(deleted)["exe"], place.told("gone"));
    assert_eq!(process(deleted)["deleted"], true);
    assert_eq!(one(&alerts, deleted)["file"]["deleted"], true);
    assert_eq!(process(aliased)["exe"], place.told("tiny"));
    let path = |alert: &Value, key: &str| alert["process"][key].clone();
    // The recipe matches both the script and its interpreter: one alert all the same.
    let alert = of(&alerts, "run", scripted).next().unwrap();
    assert_eq!(path(alert, "exe"), place.told("tiny"));
    assert_eq!(path(alert, "script"), place.told("script"));
    assert_eq!(path(alert, "interpreter"), place.told("alias"));
    let args = json!([place.told("alias"), "-flag", place.told("script"), "argument"]);
    assert_eq!(path(alert, "args_list"), args);
    assert_eq!(of(&alerts, "run", scripted).count(), 1);
    for flag in ["memfd", "deleted", "script", "interpreter"] {
        assert_eq!(process(plain)[flag], Value::Null, "{flag}");
    }
    assert_eq!(of(&alerts, "run", refused).count(), 0);
}

fn exec_fd(fd: i32, name: &str) {
    let (name, none, empty) = (c(name), [std::ptr::null::<libc::c_char>()], c(""));
    let args = [name.as_ptr(), std::ptr::null()];
    let call = libc::SYS_execveat;
    let at_empty = libc::AT_EMPTY_PATH;
    ok(unsafe { libc::syscall(call, fd, empty.as_ptr(), args.as_ptr(), none.as_ptr(), at_empty) });
}

#[test]
fn each_image_of_a_chain_is_told_with_the_one_before() {
    if let Some(reason) = cannot_run() {
        skip!("each_image_of_a_chain_is_told_with_the_one_before", reason);
    }
    let test = "each_image_of_a_chain_is_told_with_the_one_before";
    let Some(place) = Place::new() else { skip!(test, NO_COMPILER) };
    let tiny = place.told("tiny");
    for program in ["sh", "env"] {
        fs::copy(format!("/bin/{program}"), place.at(program)).unwrap();
    }
    let mut daemon = Daemon::with_recipes(&place.recipe());
    let script = format!("exec {} {tiny} end", place.told("env"));
    let mut child = Command::new(place.at("sh")).args(["-c", &script]).spawn().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(7));
    // A thread that is not the leader: the process goes on under the leader's pid.
    let threaded = as_tiny(|| {
        let program = tiny.clone();
        let other = std::thread::Builder::new().spawn(move || exec(program, &[b"threaded"]));
        other.unwrap().join().unwrap();
    });
    let me = std::process::id();
    let alerts = daemon.all(PATIENCE);

    let mut chain: Vec<_> = of(&alerts, "run", child.id()).map(|alert| &alert["process"]).collect();
    chain.sort_by_key(|process| process["exec_id"].as_u64());
    let exes: Vec<_> = chain.iter().map(|process| process["exe"].as_str().unwrap()).collect();
    assert_eq!(exes, [place.told("sh"), place.told("env"), tiny.clone()]);
    assert_eq!(chain[2]["args_list"], json!([tiny, "end"]));
    for (at, process) in chain.iter().enumerate().skip(1) {
        assert_eq!(process["prev_exe"], chain[at - 1]["exe"]);
        assert_eq!(process["prev_args"], chain[at - 1]["args"]);
        assert_eq!(process["start"], chain[0]["start"]);
        assert_ne!(process["uuid"], chain[0]["uuid"]);
        assert!(process["exec"].as_str() >= chain[at - 1]["exec"].as_str());
    }
    let mine = fs::read_link("/proc/self/exe").unwrap();
    assert_eq!(chain[0]["prev_exe"], mine.to_str().unwrap(), "the parent's");
    for process in &chain {
        assert_eq!(process["ppid"], me);
    }
    let alert = one(&alerts, threaded);
    assert_eq!(alert["process"]["args_list"], json!(["threaded"]));
    assert_eq!(alert["process"]["ppid"], me);
    let lineage = ancestry(alert);
    assert_eq!(lineage[lineage.len() - 2..], [u64::from(me), u64::from(threaded)]);
    assert_eq!(alert["process"]["retcode"], 7);
}

#[test]
fn the_shortest_processes_are_complete() {
    if let Some(reason) = cannot_run() {
        skip!("the_shortest_processes_are_complete", reason);
    }
    let Some(place) = Place::new() else {
        skip!("the_shortest_processes_are_complete", NO_COMPILER)
    };
    let mut daemon = Daemon::with_recipes(&place.recipe());
    // Seals, so that an epoch lies before us.
    daemon.query(1);
    let mut pids = Vec::new();
    for number in 0..100 {
        let mut child =
            Command::new(place.at("tiny")).arg(format!("number-{number}")).spawn().unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(7));
        pids.push(child.id());
    }
    let alerts = daemon.all(PATIENCE);
    let mut unfinished = 0;
    for (number, pid) in pids.iter().enumerate() {
        let process = &one(&alerts, *pid)["process"];
        assert_eq!(process["args_list"], json!([place.told("tiny"), format!("number-{number}")]));
        let times = ["start", "exec"].map(|time| process[time].as_str().unwrap());
        assert!(times[0] < times[1] && times[0] > "2020", "{times:?}");
        if process["exit"] == ZERO_TIME {
            // Executed in one epoch and ended in the next: the alert is of the first.
            unfinished += 1;
            assert_eq!(daemon.query(*pid)["execution"][0]["ended"], true);
            continue;
        }
        assert!(process["exit"].as_str().unwrap() > times[1], "{process}");
        assert_eq!(process["retcode"], 7);
    }
    assert!(unfinished <= 3, "{unfinished} without an end");
}

#[test]
fn ends_are_told_as_they_were() {
    if let Some(reason) = cannot_run() {
        skip!("ends_are_told_as_they_were", reason);
    }
    let Some(place) = Place::new() else { skip!("ends_are_told_as_they_were", NO_COMPILER) };
    for program in ["sh", "sleep"] {
        fs::copy(format!("/bin/{program}"), place.at(program)).unwrap();
    }
    let mut daemon = Daemon::with_recipes(&place.recipe());
    daemon.query(1);
    let run = |script: &str| {
        let mut child = Command::new(place.at("sh")).args(["-c", script]).spawn().unwrap();
        child.wait().unwrap();
        child.id()
    };
    let (three, killed, fine) = (run("exit 3"), run("kill -9 $$"), run("exit 0"));
    let mut sleeper = Command::new(place.at("sleep")).arg("30").spawn().unwrap();
    let alerts = daemon.all(PATIENCE);
    let running = sleeper.id();
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    let end = |pid: u32| {
        let process = &one(&alerts, pid)["process"];
        (process["retcode"].clone(), process["exit_signal"].clone(), process["exit"] != ZERO_TIME)
    };
    assert_eq!(end(three), (json!(3), Value::Null, true));
    assert_eq!(end(killed), (json!(0), json!(9), true));
    assert_eq!(end(fine), (json!(0), Value::Null, true));
    assert_eq!(end(running), (json!(0), Value::Null, false));
}

#[test]
fn orphans_keep_their_lineage_and_pids_may_come_again() {
    if let Some(reason) = cannot_run() {
        skip!("orphans_keep_their_lineage_and_pids_may_come_again", reason);
    }
    let test = "orphans_keep_their_lineage_and_pids_may_come_again";
    let Some(place) = Place::new() else { skip!(test, NO_COMPILER) };
    let tiny = place.at("tiny");
    let note = place.at("pids");
    let me = u64::from(std::process::id());
    let mut daemon = Daemon::with_recipes(&place.recipe());
    // Launcher, middle, orphan: the two above it end, and their epochs are long read when it acts.
    let launcher = in_child(|| {
        fork(|| {
            let middle = std::process::id();
            let orphan = fork(|| {
                ok(unsafe { libc::setsid() });
                std::thread::sleep(CADENCE + Duration::from_millis(300));
                exec(&tiny, &[b"orphan"]);
            });
            fs::write(&note, format!("{middle} {orphan}")).unwrap();
        });
    });
    let first = as_tiny(|| exec(&tiny, &[b"first"]));
    let second = match fork_as(first) {
        Some(0) => child(|| exec(&tiny, &[b"second"])),
        Some(pid) => {
            assert_eq!((pid, wait(pid)), (first, 7 << 8));
            true
        }
        None => {
            println!("SKIPPED: pids that come again: {}", std::io::Error::last_os_error());
            false
        }
    };

    let orphan = daemon.expect("run", |alert| alert["process"]["args"] == "orphan");
    let alerts = daemon.all(PATIENCE);
    let pids = fs::read_to_string(&note).unwrap();
    let pids: Vec<u64> = pids.split(' ').map(|pid| pid.parse().unwrap()).collect();
    let lineage = ancestry(&orphan);
    let expected = [me, u64::from(launcher), pids[0], pids[1]];
    assert_eq!(lineage[lineage.len() - 4..], expected, "{lineage:?}");
    assert_eq!(lineage[0], 1);
    let told = orphan["background"]["ancestry"].as_array().unwrap();
    for at in [2, 3] {
        let parent = &told[told.len() - at];
        assert_ne!(parent["exit"], ZERO_TIME, "its end is known: {parent}");
    }
    assert_eq!(told[told.len() - 4]["exit"], ZERO_TIME);
    assert_eq!(orphan["process"]["prev_exe"], told[told.len() - 4]["exe"]);

    let mut found: Vec<_> = of(&alerts, "run", first).collect();
    found.sort_by_key(|alert| alert["process"]["start"].as_str());
    assert_eq!(found.len(), if second { 2 } else { 1 });
    for (alert, name) in found.iter().zip(["first", "second"]) {
        assert_eq!(alert["process"]["args_list"], json!([name]));
        assert_eq!(
            alert["process"]["prev_exe"],
            told[told.len() - 4]["exe"],
            "of the parent, not of the pid"
        );
        let lineage = ancestry(alert);
        assert_eq!(lineage[lineage.len() - 2..], [me, u64::from(first)]);
    }
    if let [one, two] = found[..] {
        for key in ["uuid", "process_hash", "start"] {
            assert_ne!(one["process"][key], two["process"][key], "{key}");
        }
    }
}

/// Forks a child of that pid, which must be free; none where that cannot be asked.
fn fork_as(pid: u32) -> Option<u32> {
    let wanted = [pid as i32];
    // struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size
    let args = [0, 0, 0, 0, libc::SIGCHLD as u64, 0, 0, 0, wanted.as_ptr() as u64, 1];
    let returned = unsafe { libc::syscall(libc::SYS_clone3, args.as_ptr(), size_of_val(&args)) };
    u32::try_from(returned).ok()
}

/// The start tells of what was there before: image, arguments, lineage, credentials.
#[test]
fn who_was_there_before_is_known() {
    if let Some(reason) = cannot_run() {
        skip!("who_was_there_before_is_known", reason);
    }
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    for program in ["sh", "outer"] {
        fs::copy("/bin/sh", at(program)).unwrap();
    }
    fs::write(at("needle"), "hay\n").unwrap();
    // The inner shell opens the needle itself, without another image or process.
    let inner = format!("read go; read hay < {}; :", at("needle").display());
    let outer = format!("{} -c \"$1\" 'inner \n' \"$2\"; :", at("sh").display());
    let mut child = Command::new(at("outer"))
        .args(["-c", &outer, "outer", &inner])
        .arg(OsStr::from_bytes(b"\xffodd"))
        .current_dir(place.path())
        .uid(0)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let regex = format!("^{}$", at("needle").display());
    let mut daemon = Daemon::with_recipes(&file_recipe("needle", &regex, "[open]"));
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let alert = daemon.expect("needle", |_| true);
    assert!(child.wait().unwrap().success());
    let process = &alert["process"];
    assert_eq!(process["exe"], at("sh").to_str().unwrap());
    let args = json!([at("sh"), "-c", inner, "inner \n", "\\xffodd"]);
    assert_eq!(process["args_list"], args);
    assert_eq!(process["cwd"], place.path().to_str().unwrap());
    assert_eq!(process["ppid"], child.id());
    assert_eq!(process["uid"], 0);
    assert_eq!(process["namespaces"], own_namespaces());
    let told = alert["background"]["ancestry"].as_array().unwrap();
    let parent = &told[told.len() - 2];
    assert_eq!(parent["pid"], child.id());
    assert_eq!(parent["exe"], at("outer").to_str().unwrap());
    assert_eq!(parent["comm"], "outer");
    let lineage = ancestry(&alert);
    assert_eq!(lineage[0], 1);
    assert_eq!(lineage[lineage.len() - 3], u64::from(std::process::id()));
}
