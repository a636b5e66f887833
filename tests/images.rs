//! What an executable is below its path: identity, content, layer, privileges.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
#![allow(clippy::undocumented_unsafe_blocks, reason = "system calls with arguments in sight")]

mod common;

use std::fs;
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::acts::{c, chdir, exec, fork, mount, of, ok, open, own_mounts, tiny_program, wait};
use common::{Daemon, PATIENCE, cannot_run, exec_recipe, file_recipe};
use serde_json::{Value, json};

const NO_COMPILER: &str = "gcc cannot build a static program here";

/// A directory that anybody may enter, with a program that ends with status 7.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        tiny_program(&folder.path().join("tiny"))?;
        Some(Self(folder))
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Another file with the program and something behind it, which changes nothing but the hash.
    fn variant(&self, name: &str, more: &[u8]) -> PathBuf {
        let mut program = fs::read(self.at("tiny")).unwrap();
        program.extend_from_slice(more);
        fs::write(self.at(name), program).unwrap();
        fs::set_permissions(self.at(name), fs::Permissions::from_mode(0o755)).unwrap();
        self.at(name)
    }

    fn recipe(&self) -> String {
        exec_recipe("run", &format!("^{}/", self.0.path().display()))
    }
}

/// A recipe on whatever is executed in a place, with one item of `arbitrary`.
fn asking(name: &str, place: &Place, item: &str) -> String {
    let recipe = exec_recipe(name, &format!("^({}/|memfd:raqib)", place.0.path().display()));
    let group =
        format!("arbitrary: [{{which: irrelevant, items: [{{which: pertinent, {item}}}]}}]");
    recipe.replace("importance: low", &format!("importance: low, {group}"))
}

macro_rules! place {
    ($name:expr) => {{
        if let Some(reason) = cannot_run() {
            skip!($name, reason);
        }
        let Some(place) = Place::new() else { skip!($name, NO_COMPILER) };
        place
    }};
}

#[track_caller]
fn as_tiny(act: impl FnOnce()) -> u32 {
    let pid = fork(act);
    assert_eq!(wait(pid), 7 << 8);
    pid
}

#[track_caller]
fn process(alerts: &[Value], pid: u32) -> &Value {
    let alert = of(alerts, "run", pid).next();
    &alert.unwrap_or_else(|| panic!("no alert on {pid}"))["process"]
}

fn exec_fd(fd: i32) {
    let (name, none, empty) = (c("tiny"), [std::ptr::null::<libc::c_char>()], c(""));
    let args = [name.as_ptr(), std::ptr::null()];
    let (call, at) = (libc::SYS_execveat, libc::AT_EMPTY_PATH);
    ok(unsafe { libc::syscall(call, fd, empty.as_ptr(), args.as_ptr(), none.as_ptr(), at) });
}

fn as_nobody() {
    unsafe {
        ok(libc::setgroups(0, std::ptr::null()));
        ok(libc::setresgid(65534, 65534, 65534));
        ok(libc::setresuid(65534, 65534, 65534));
    }
}

fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

/// Every trait: one who has it, and a plain execution that has none.
#[test]
fn an_execution_has_the_traits_that_it_has() {
    let place = place!("an_execution_has_the_traits_that_it_has");
    let tiny = place.at("tiny");
    let setuid = place.variant("setuid", b"");
    let setgid = place.variant("setgid", b"");
    let caps = place.variant("caps", b"");
    fs::set_permissions(&setuid, fs::Permissions::from_mode(0o4755)).unwrap();
    fs::set_permissions(&setgid, fs::Permissions::from_mode(0o2755)).unwrap();
    // Revision 2, effective; permitted: CAP_NET_RAW.
    let value: Vec<u8> =
        [0x0200_0001u32, 1 << 13, 0, 0, 0].iter().flat_map(|w| w.to_le_bytes()).collect();
    let name = c("security.capability");
    let set = unsafe {
        libc::setxattr(c(&caps).as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0)
    };
    let gone = place.variant("gone", b"");
    let folder = place.at("folder");
    fs::create_dir(&folder).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let whats = [
        "exe_memfd",
        "exe_tmpfile",
        "exe_deleted",
        "exe_setuid",
        "exe_setgid",
        "exe_file_caps",
        "exe_secure",
        "cwd_deleted",
        "argv0_differs",
        "gained_privileges",
    ];
    let mut recipes = place.recipe() + &exec_recipe("run", "^memfd:raqib");
    for what in whats {
        recipes += &asking(what, &place, &format!("what: {what}"));
    }
    recipes += &asking("stdio", &place, "what: stdio_socket, pattern: '^stdin inet stream 127'");
    recipes += &asking("written", &place, "what: exe_written, pattern: '^boot$'");
    recipes += &asking("unlinked", &place, "what: exe_links, number: 0");
    recipes += &asking("young", &place, "what: exe_ctime, time: 10m, when: smaller");
    recipes += &asking("old", &place, "what: exe_ctime, time: 10m, when: bigger");
    let mut daemon = Daemon::with_recipes(&recipes);

    let plain = as_tiny(|| exec(&tiny, &[b"tiny"]));
    let login = as_tiny(|| exec(&tiny, &[b"-tiny"]));
    let memfd = as_tiny(|| unsafe {
        let image = fs::read(&tiny).unwrap();
        let fd = ok(libc::memfd_create(c("raqib-test").as_ptr(), libc::MFD_CLOEXEC));
        assert_eq!(libc::write(fd, image.as_ptr().cast(), image.len()), image.len() as isize);
        exec_fd(fd);
    });
    let tmpfile = as_tiny(|| unsafe {
        let image = fs::read(&tiny).unwrap();
        let path = c(place.0.path());
        let fd = ok(libc::open(path.as_ptr(), libc::O_TMPFILE | libc::O_RDWR, 0o755));
        assert_eq!(libc::write(fd, image.as_ptr().cast(), image.len()), image.len() as isize);
        // A file that is open for writing is not executed.
        let read = open(format!("/proc/self/fd/{fd}"), libc::O_RDONLY | libc::O_CLOEXEC);
        ok(libc::close(fd));
        exec_fd(read);
    });
    let deleted = as_tiny(|| {
        let fd = open(&gone, libc::O_PATH | libc::O_CLOEXEC);
        fs::remove_file(&gone).unwrap();
        exec_fd(fd);
    });
    let by_user = as_tiny(|| {
        as_nobody();
        exec(&setuid, &[b"setuid"])
    });
    let by_root = as_tiny(|| exec(&setuid, &[b"setuid"]));
    let by_group = as_tiny(|| {
        as_nobody();
        exec(&setgid, &[b"setgid"])
    });
    let with_caps = (set == 0).then(|| {
        as_tiny(|| {
            as_nobody();
            exec(&caps, &[b"caps"])
        })
    });
    let nowhere = as_tiny(|| {
        chdir(&folder);
        fs::remove_dir(&folder).unwrap();
        exec(&tiny, &[b"tiny"]);
    });
    let spoofed = as_tiny(|| exec(&tiny, &[b"[kworker/0:1]"]));
    let remote = as_tiny(|| unsafe {
        let stream = std::net::TcpStream::connect(address).unwrap();
        for fd in 0..3 {
            ok(libc::dup2(stream.as_raw_fd(), fd));
        }
        exec(&tiny, &[b"tiny"]);
    });
    let local = as_tiny(|| unsafe {
        let mut pair = [0; 2];
        ok(libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, pair.as_mut_ptr()));
        ok(libc::dup2(pair[0], 0));
        exec(&tiny, &[b"tiny"]);
    });
    let alerts = daemon.all(PATIENCE);

    let mut expected: Vec<(&str, Vec<u32>)> = vec![
        ("exe_memfd", vec![memfd]),
        ("exe_tmpfile", vec![tmpfile]),
        ("exe_deleted", vec![deleted]),
        ("exe_setuid", vec![by_user]),
        ("exe_setgid", vec![by_group]),
        ("cwd_deleted", vec![nowhere]),
        ("argv0_differs", vec![spoofed]),
        ("stdio", vec![remote]),
        ("old", vec![]),
    ];
    let mut gained = vec![by_user, by_group];
    match with_caps {
        Some(pid) => {
            expected.push(("exe_file_caps", vec![pid]));
            gained.push(pid);
        }
        None => println!("SKIPPED: file capabilities: this file system has none"),
    }
    expected.push(("gained_privileges", gained.clone()));
    expected.push(("exe_secure", gained));
    for (recipe, pids) in expected {
        let told = alerts.iter().filter(|alert| alert["metadata"]["name"] == recipe);
        let mut told: Vec<u64> =
            told.map(|alert| alert["process"]["pid"].as_u64().unwrap()).collect();
        let mut pids: Vec<u64> = pids.into_iter().map(u64::from).collect();
        told.sort_unstable();
        pids.sort_unstable();
        // By descriptor: no name was asked for that argv[0] could be like.
        told.retain(|pid| {
            recipe != "argv0_differs" || ![memfd, tmpfile, deleted].contains(&(*pid as u32))
        });
        assert_eq!(told, pids, "{recipe}");
    }
    for pid in [plain, login, by_root] {
        for trait_ in [
            "memfd",
            "tmpfile",
            "deleted",
            "setuid",
            "setgid",
            "file_caps",
            "secure_exec",
            "cwd_deleted",
            "argv0_differs",
            "overlay",
            "upper_layer",
            "stdio_sockets",
            "detached",
        ] {
            assert_eq!(process(&alerts, pid)[trait_], Value::Null, "{pid} {trait_}");
        }
        assert_eq!(of(&alerts, "young", pid).count(), 1);
        assert_eq!(of(&alerts, "written", pid).count(), 1);
    }
    assert_eq!(of(&alerts, "unlinked", plain).count(), 0);
    for pid in [memfd, tmpfile, deleted] {
        assert_eq!(of(&alerts, "unlinked", pid).count(), 1);
    }
    let sockets = &process(&alerts, remote)["stdio_sockets"];
    assert_eq!(sockets.as_array().unwrap().len(), 3);
    assert_eq!(
        sockets[0],
        json!({"stream": "stdin", "family": "inet", "type": "stream", "remote": address.to_string()})
    );
    assert_eq!(
        process(&alerts, local)["stdio_sockets"],
        json!([{"stream": "stdin", "family": "unix", "type": "stream"}])
    );
    let (told, file) = (process(&alerts, plain), fs::metadata(&tiny).unwrap());
    assert_eq!(told["exe_inode"], file.ino());
    assert_eq!(told["exe_size"], file.size());
    let at = |seconds: i64, ns: i64| {
        let since = std::time::Duration::new(seconds as u64, ns as u32);
        humantime::format_rfc3339_nanos(std::time::UNIX_EPOCH + since).to_string()
    };
    assert_eq!(told["exe_mtime"], at(file.mtime(), file.mtime_nsec()));
    assert_eq!(told["exe_ctime"], at(file.ctime(), file.ctime_nsec()));
}

#[test]
fn the_loader_tells_what_it_runs() {
    let place = place!("the_loader_tells_what_it_runs");
    let loader = Path::new("/lib64/ld-linux-x86-64.so.2");
    if !loader.exists() {
        skip!("the_loader_tells_what_it_runs", "no glibc loader");
    }
    let recipe = exec_recipe("run", "/ld-linux[^/]*$").replace(
        "importance: low",
        "importance: low, arbitrary: [{which: irrelevant, items: [{which: pertinent, what: loader_target, pattern: '^/bin/true$'}]}]",
    );
    let mut daemon = Daemon::with_recipes(&(recipe + &place.recipe()));
    let run = |args: &[&str]| {
        let mut child =
            Command::new(loader).args(args).stdout(std::process::Stdio::null()).spawn().unwrap();
        assert!(child.wait().unwrap().success());
        child.id()
    };
    let ran = run(&["--library-path", "/nowhere", "/bin/true"]);
    let asked = run(&["--list", "/bin/true"]);
    let alerts = daemon.all(PATIENCE);
    assert_eq!(process(&alerts, ran)["loader_target"], "/bin/true");
    assert_eq!(of(&alerts, "run", asked).count(), 0);
}

/// Drift: what lies in an overlay's upper layer is not of the image below it.
#[test]
fn a_file_of_the_upper_layer_is_told_from_one_of_the_image() {
    let place = place!("a_file_of_the_upper_layer_is_told_from_one_of_the_image");
    let recipes = exec_recipe("run", "/merged/")
        + &exec_recipe("drift", "/merged/").replace(
            "importance: low",
            "importance: low, arbitrary: [{which: irrelevant, items: [{which: pertinent, what: exe_upper_layer}]}]",
        );
    let mut daemon = Daemon::with_recipes(&recipes);
    let base = place.at("base");
    fs::create_dir(&base).unwrap();
    let run = |name: &'static str, write: bool| {
        as_tiny(|| {
            own_mounts();
            mount("none", &base, Some("tmpfs"), 0, "");
            for folder in ["lower", "upper", "work", "merged"] {
                fs::create_dir(base.join(folder)).unwrap();
            }
            for name in ["image", "changed"] {
                fs::copy(place.at("tiny"), base.join("lower").join(name)).unwrap();
            }
            let at = base.display();
            let layers = format!("lowerdir={at}/lower,upperdir={at}/upper,workdir={at}/work");
            mount("none", base.join("merged"), Some("overlay"), 0, &layers);
            let program = base.join("merged").join(name);
            if write {
                let copy = fs::read(place.at("tiny")).unwrap();
                fs::write(&program, copy).unwrap();
                fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
            }
            exec(&program, &[name.as_bytes()]);
        })
    };
    let image = run("image", false);
    let changed = run("changed", true);
    let new = run("new", true);
    let alerts = daemon.all(PATIENCE);
    for pid in [image, changed, new] {
        assert_eq!(process(&alerts, pid)["overlay"], true);
    }
    assert_eq!(process(&alerts, image)["upper_layer"], Value::Null);
    assert_eq!(of(&alerts, "drift", image).count(), 0);
    for pid in [changed, new] {
        assert_eq!(process(&alerts, pid)["upper_layer"], true);
        assert_eq!(of(&alerts, "drift", pid).count(), 1);
    }
}

/// In a pid namespace of its own a file is new when it was written after the first process began.
#[test]
fn written_since_the_image_started() {
    let place = place!("written_since_the_image_started");
    let mut daemon = Daemon::with_recipes(&place.recipe());
    let old = place.variant("old", b"");
    std::thread::sleep(std::time::Duration::from_millis(50));
    let inside = |fresh: bool| {
        let status = wait(fork(|| unsafe {
            ok(libc::unshare(libc::CLONE_NEWPID));
            let first = fork(|| {
                std::thread::sleep(std::time::Duration::from_millis(50));
                if fresh {
                    place.variant("fresh", b"");
                    exec(place.at("fresh"), &[b"fresh"]);
                }
                exec(&old, &[b"old"]);
            });
            libc::_exit(i32::from(wait(first) != 7 << 8));
        }));
        assert_eq!(status, 0);
    };
    inside(false);
    inside(true);
    let alerts = daemon.all(PATIENCE);
    let written = |name: &str| {
        let exe = place.at(name).to_str().unwrap().to_owned();
        let alert = alerts.iter().find(|alert| alert["process"]["exe"] == exe.as_str());
        alert.unwrap_or_else(|| panic!("no alert of {name}"))["process"]["exe_written"].clone()
    };
    assert_eq!(written("old"), "no");
    assert_eq!(written("fresh"), "image");
}

#[test]
fn the_content_is_that_of_the_file_that_ran() {
    let place = place!("the_content_is_that_of_the_file_that_ran");
    let (tiny, other) = (place.at("tiny"), place.variant("other", b"other"));
    let (changed, gone) = (place.variant("changed", b"1"), place.variant("gone", b"2"));
    let large = place.variant("large", &vec![0; 2 << 20]);
    let sum = sha256(&tiny);
    let recipes =
        place.recipe() + &asking("known", &place, &format!("what: exe_sha256, pattern: '^{sum}$'"));
    let mut daemon = Daemon::start(&recipes, "  detect: {hash-max-size: 1}\n", false);
    daemon.query(1);
    let first = as_tiny(|| exec(&tiny, &[b"tiny"]));
    let second = as_tiny(|| exec(&other, &[b"other"]));
    let third = as_tiny(|| exec(&changed, &[b"changed"]));
    fs::write(&changed, fs::read(&tiny).unwrap()).unwrap();
    let fourth = as_tiny(|| exec(&gone, &[b"gone"]));
    fs::remove_file(&gone).unwrap();
    let fifth = as_tiny(|| exec(&large, &[b"large"]));
    let mut alerts = daemon.all(PATIENCE);
    let read = daemon.status()["contents"]["read"].as_u64().unwrap();
    let again = as_tiny(|| exec(&tiny, &[b"tiny"]));
    alerts.extend(daemon.all(PATIENCE));

    for (pid, path) in [(first, &tiny), (again, &tiny), (second, &other)] {
        assert_eq!(process(&alerts, pid)["exe_sha256"], sha256(path));
        assert_eq!(process(&alerts, pid)["exe_sha256_missing"], Value::Null);
    }
    for (pid, why) in [(third, "changed"), (fourth, "vanished"), (fifth, "too_large")] {
        assert_eq!(process(&alerts, pid)["exe_sha256"], Value::Null, "{why}");
        assert_eq!(process(&alerts, pid)["exe_sha256_missing"], why);
    }
    let known: Vec<_> = alerts.iter().filter(|a| a["metadata"]["name"] == "known").collect();
    let pids: Vec<_> = known.iter().map(|alert| alert["process"]["pid"].clone()).collect();
    assert_eq!(pids, [json!(first), json!(again)]);
    let contents = &daemon.status()["contents"];
    assert_eq!(contents["read"], read, "what has been read is not read again");
    assert!(contents["from_cache"].as_u64() >= Some(1), "{contents}");
}

#[test]
fn nobody_reads_executables_where_nobody_asks() {
    let place = place!("nobody_reads_executables_where_nobody_asks");
    let recipes = file_recipe("touched", &format!("^{}/", place.0.path().display()), "[open]");
    let mut daemon = Daemon::start(&recipes, "  detect: {hash: false}\n", false);
    let tiny = place.at("tiny");
    as_tiny(|| exec(&tiny, &[b"tiny"]));
    fs::read(&tiny).unwrap();
    let alert = daemon.expect("touched", |_| true);
    assert_eq!(alert["process"]["exe_sha256"], Value::Null);
    assert_eq!(alert["process"]["exe_sha256_missing"], Value::Null);
    assert_eq!(daemon.status()["contents"]["asked"], 0);
}

/// Hard links and renames are names of one file.
#[test]
fn a_file_is_told_with_all_its_names() {
    let place = place!("a_file_is_told_with_all_its_names");
    let names = ["one", "two", "three"].map(|name| place.at(name));
    fs::write(&names[0], "hay").unwrap();
    fs::write(place.at("alone"), "hay").unwrap();
    let recipes = file_recipe("last", "/(three|alone)$", "[open]");
    let asked = file_recipe("asked", "/(three|alone)$", "[open]").replace(
        "importance: low",
        "importance: low, arbitrary: [{which: irrelevant, items: [{which: pertinent, what: file_names, pattern: '/one$'}]}]",
    );
    let mut daemon = Daemon::with_recipes(&(recipes + &asked));
    fs::read(&names[0]).unwrap();
    fs::hard_link(&names[0], &names[1]).unwrap();
    fs::read(&names[1]).unwrap();
    daemon.query(1);
    fs::rename(&names[1], &names[2]).unwrap();
    fs::read(&names[2]).unwrap();
    fs::read(place.at("alone")).unwrap();
    let alerts = daemon.all(PATIENCE);
    let find = |recipe: &str, path: &Path| {
        alerts.iter().find(|alert| {
            alert["metadata"]["name"] == recipe && alert["file"]["path"] == path.to_str().unwrap()
        })
    };
    let mut told: Vec<_> = find("last", &names[2]).unwrap()["file"]["names"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    told.sort_unstable();
    let mut expected = names.each_ref().map(|name| name.to_str().unwrap());
    expected.sort_unstable();
    assert_eq!(told, expected);
    assert!(find("asked", &names[2]).is_some());
    assert_eq!(find("last", &place.at("alone")).unwrap()["file"]["names"], Value::Null);
    assert!(find("asked", &place.at("alone")).is_none());
}
