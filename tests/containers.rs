//! Containers under the runtimes that are installed here, as the running kernel tells of them.
//!
//! Each test starts its own runtime with its own image (busybox alone) and takes everything away again.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
#![allow(clippy::undocumented_unsafe_blocks, reason = "system calls with arguments in sight")]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::actor::act;
use common::{Daemon, cannot_run, exec_recipe, file_recipe};
use serde_json::{Value, json};

fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.into_iter().any(|folder| folder.join(program).is_file())
}

/// Why a test with these programs cannot run here.
fn lacking(programs: &[&str]) -> Option<String> {
    if let Some(reason) = cannot_run() {
        return Some(reason.into());
    }
    let missing = programs.iter().find(|program| !has(program))?;
    Some(format!("{missing} is not installed (deploy/setup.sh test installs it)"))
}

fn run(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let (said, wrong) = (&output.stdout, &output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(said),
        String::from_utf8_lossy(wrong)
    );
    output
}

fn said(command: &mut Command) -> String {
    String::from_utf8(run(command).stdout).unwrap().trim().to_owned()
}

const APPLETS: [&str; 8] = ["sh", "cat", "sleep", "mount", "mkdir", "nsenter", "true", "echo"];

/// A root file system with busybox in it, and the same as a tar file.
fn rootfs(at: &Path) -> (PathBuf, PathBuf) {
    let root = at.join("rootfs");
    for folder in ["bin", "etc", "proc", "sys", "tmp", "dev"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::copy("/usr/bin/busybox", root.join("bin/busybox"))
        .or_else(|_| fs::copy("/bin/busybox", root.join("bin/busybox")))
        .unwrap();
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    fs::write(root.join("etc/raqib-secret"), "s").unwrap();
    let tar = at.join("rootfs.tar");
    run(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&tar).arg("."));
    (root, tar)
}

/// Recipes that fire on what the tests do, on each mechanism.
fn recipes() -> String {
    let life = |name: &str, actions: &str, more: &str| {
        format!(
            "- {{kind: {name}, name: {name}, version: 1.0, description: test, breed: containers, \
             mechanism: containers, tactic: none, technique: none, importance: low, \
             container_actions: {actions}{more}}}\n"
        )
    };
    let inside = file_recipe("inside", "raqib-(secret|inside)", "any").trim_end().to_owned();
    let inside = inside.replace(
        "importance: low,",
        "importance: low, arbitrary: [{how: AND, which: irrelevant, items: [{what: in_container, which: pertinent}]}],",
    );
    life("lives", "any", "")
        + &life("execs", "exec", "")
        + &file_recipe("secret", "raqib-(secret|inside)|release_agent", "any")
        + &inside
        + "\n"
        + &exec_recipe("ran", "/bin/busybox$|nsenter$")
}

/// What is told of a container's life, in the order of its time: an alert may wait for the
/// content of its executable while a later one does not.
fn lives(alerts: &[Value], id: &str) -> Vec<String> {
    let of =
        |alert: &&Value| alert["metadata"]["name"] == "lives" && alert["container"]["id"] == id;
    let mut told: Vec<&Value> = alerts.iter().filter(of).collect();
    told.sort_by_key(|alert| alert["timestamp"].as_str().unwrap());
    let action = |alert: &&Value| alert["container"]["actions"][0].as_str().unwrap().to_owned();
    told.iter().map(action).collect()
}

fn of_recipe<'a>(alerts: &'a [Value], recipe: &'a str) -> impl Iterator<Item = &'a Value> {
    alerts.iter().filter(move |alert| alert["metadata"]["name"] == recipe)
}

/// Every alert that a process in the container caused names it; those that must be there are.
fn expect_named(alerts: &[Value], id: &str, name: &str, image: Option<&str>, runtime: &str) {
    let named: Vec<&Value> = alerts.iter().filter(|alert| alert["container"]["id"] == id).collect();
    assert!(!named.is_empty(), "nothing of {id}");
    let mut recipes: Vec<&str> =
        named.iter().filter_map(|alert| alert["metadata"]["name"].as_str()).collect();
    recipes.sort_unstable();
    recipes.dedup();
    let (count, image_name) = (named.len(), image.unwrap_or("-"));
    println!("CONTAINER {runtime} {id} {name} {image_name}: {count} alerts of {recipes:?}");
    for alert in named {
        let container = &alert["container"];
        assert_eq!(container["name"], name, "{alert}");
        assert_eq!(container["image"], json!(image), "{alert}");
        assert_eq!(container["runtime"], runtime, "{alert}");
    }
}

/// A dockerd of the test's own.
struct Docker {
    folder: tempfile::TempDir,
    daemon: Child,
}

impl Docker {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mut daemon = Command::new("dockerd")
            .arg("--data-root")
            .arg(at("data"))
            .arg("--exec-root")
            .arg(at("exec"))
            .arg("-H")
            .arg(format!("unix://{}", at("sock").display()))
            .arg("--pidfile")
            .arg(at("pid"))
            .args(["--iptables=false", "--bridge=none"])
            .stdout(Stdio::null())
            .stderr(fs::File::create(at("log")).unwrap())
            .spawn()
            .unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let asked = Command::new("docker")
                .env("DOCKER_HOST", format!("unix://{}", at("sock").display()))
                .arg("version")
                .output();
            if asked.is_ok_and(|asked| asked.status.success()) {
                break;
            }
            assert!(Instant::now() < until, "{}", fs::read_to_string(at("log")).unwrap());
            assert!(daemon.try_wait().unwrap().is_none(), "dockerd ended");
            std::thread::sleep(Duration::from_millis(50));
        }
        let (_, tar) = rootfs(folder.path());
        let docker = Self { folder, daemon };
        run(docker.command(&["import"]).arg(tar).arg("raqib-lab:1"));
        docker
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker");
        let socket = self.folder.path().join("sock");
        command.env("DOCKER_HOST", format!("unix://{}", socket.display())).args(args);
        command
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let ids = self.command(&["ps", "-aq"]).output().map(|out| out.stdout).unwrap_or_default();
        for id in String::from_utf8_lossy(&ids).split_whitespace() {
            let _ = self.command(&["rm", "-f", id]).output();
        }
        unsafe { libc::kill(self.daemon.id() as i32, libc::SIGTERM) };
        let _ = self.daemon.wait();
    }
}

#[test]
fn docker_containers_are_named_from_their_first_moment_to_their_last() {
    let name = "docker_containers_are_named_from_their_first_moment_to_their_last";
    if let Some(reason) = lacking(&["dockerd", "docker", "runc", "busybox"]) {
        skip!(name, reason);
    }
    let docker = Docker::start();
    let mut daemon = Daemon::with_recipes(&recipes());
    let base = ["run", "-d", "--network", "none"];
    let start = |more: &[&str]| said(docker.command(&base).args(more));
    let long = start(&["--name", "webby", "raqib-lab:1", "sleep", "60"]);
    run(&mut docker.command(&["exec", "webby", "cat", "/etc/raqib-secret"]));
    // Ends at once, and is removed with its files: what it did took some milliseconds.
    let brief = ["run", "--rm", "--network", "none", "--name", "brief", "--cidfile"];
    let cid = docker.folder.path().join("cid");
    run(docker.command(&brief).arg(&cid).args(["raqib-lab:1", "cat", "/etc/raqib-secret"]));
    let brief = fs::read_to_string(&cid).unwrap();
    // Attempts to get out: the agent of a hierarchy, the host's namespaces, the host's files.
    let host = tempfile::tempdir().unwrap();
    fs::write(host.path().join("raqib-inside"), "x").unwrap();
    let mount = format!("{}:/host", host.path().display());
    let escape = "mkdir /tmp/cg && mount -t cgroup -o pids none /tmp/cg && \
                  cat /tmp/cg/release_agent; cat /host/raqib-inside; nsenter -t 1 -m /usr/bin/true; true";
    let escapee = said(docker.command(&base).args([
        "--cap-add=SYS_ADMIN",
        "--cap-add=SYS_PTRACE",
        "--security-opt=seccomp=unconfined",
        "--pid=host",
        "-v",
        &mount,
        "--name",
        "breaker",
        "raqib-lab:1",
        "sh",
        "-c",
        escape,
    ]));
    run(&mut docker.command(&["wait", "breaker"]));
    run(&mut docker.command(&["rm", "-f", "webby"]));
    // Outside, at the same time.
    let outside = act(|| drop(fs::read(host.path().join("raqib-inside"))));
    let alerts = daemon.all(Duration::from_millis(2500));

    for (id, name) in [(&long, "webby"), (&brief, "brief"), (&escapee, "breaker")] {
        expect_named(&alerts, id, name, Some("raqib-lab:1"), "docker");
    }
    assert_eq!(lives(&alerts, &long), ["create", "start", "exec", "stop"]);
    assert_eq!(lives(&alerts, &brief), ["create", "start", "stop"]);
    let read = |id: &str| {
        of_recipe(&alerts, "inside").any(|alert| alert["process"]["container"]["id"] == id)
    };
    assert!(read(&long) && read(&brief) && read(&escapee), "{alerts:#?}");
    let by = |recipe: &'static str, text: &str| {
        of_recipe(&alerts, recipe)
            .any(|alert| alert["container"]["id"] == *escapee && alert.to_string().contains(text))
    };
    assert!(by("secret", "release_agent"), "the release agent");
    assert!(by("inside", "/host/raqib-inside"), "the host's files");
    let hosts = of_recipe(&alerts, "secret").filter(|alert| alert["process"]["pid"] == outside);
    let hosts: Vec<&Value> = hosts.collect();
    assert!(!hosts.is_empty() && hosts.iter().all(|alert| alert["container"].is_null()));
    assert!(of_recipe(&alerts, "inside").all(|alert| alert["process"]["pid"] != outside));
    let status = daemon.status();
    assert_eq!(status["containers"]["running"], 0, "{}", status["containers"]);
    assert_eq!(daemon.journal("containers")["balanced"], true);
}

#[test]
fn podman_containers_are_named() {
    if let Some(reason) = lacking(&["podman", "runc", "conmon", "busybox"]) {
        skip!("podman_containers_are_named", reason);
    }
    let folder = tempfile::tempdir().unwrap();
    let (_, tar) = rootfs(folder.path());
    let podman = |args: &[&str]| {
        let mut command = Command::new("podman");
        let at = |name: &str| folder.path().join(name);
        command.arg("--root").arg(at("root")).arg("--runroot").arg(at("run"));
        command.arg("--tmpdir").arg(at("tmp"));
        command.args([
            "--cgroup-manager",
            "cgroupfs",
            "--events-backend",
            "file",
            "--runtime",
            "runc",
        ]);
        command.args(args);
        command
    };
    run(podman(&["import"]).arg(&tar).arg("raqib-lab:1"));
    let mut daemon = Daemon::with_recipes(&recipes());
    let limits =
        ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000", "--network", "none"];
    let id = said(podman(&["run", "-d", "--name", "poddy"]).args(limits).args([
        "raqib-lab:1",
        "sleep",
        "60",
    ]));
    run(&mut podman(&["exec", "poddy", "cat", "/etc/raqib-secret"]));
    run(&mut podman(&["rm", "-f", "-t", "0", "poddy"]));
    let alerts = daemon.all(Duration::from_millis(2500));
    let _ = podman(&["rmi", "-f", "raqib-lab:1"]).output();
    // Storage is mounted over itself, to be private.
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let below = folder.path().to_str().unwrap();
    let left =
        mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|at| at.starts_with(below));
    for mount in left.collect::<Vec<_>>().into_iter().rev() {
        let _ = Command::new("umount").arg(mount).output();
    }
    expect_named(&alerts, &id, "poddy", Some("localhost/raqib-lab:1"), "podman");
    assert_eq!(lives(&alerts, &id), ["create", "start", "exec", "stop"]);
    assert!(of_recipe(&alerts, "inside").any(|alert| alert["container"]["id"] == *id));
}

/// A bundle for runc, with what matters to a container and nothing of limits.
fn bundle(at: &Path, root: &Path, args: &[&str], cgroup: Option<&str>, notes: &Value) {
    fs::create_dir_all(at).unwrap();
    run(Command::new("runc").arg("spec").arg("--bundle").arg(at));
    let file = at.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    config["process"]["args"] = json!(args);
    config["process"]["terminal"] = json!(false);
    config["process"].as_object_mut().unwrap().remove("rlimits");
    config["root"] = json!({"path": root, "readonly": true});
    config["annotations"] = notes.clone();
    if let Some(cgroup) = cgroup {
        config["linux"]["cgroupsPath"] = json!(cgroup);
    }
    fs::write(&file, config.to_string()).unwrap();
}

#[test]
fn runc_alone_and_in_a_pods_cgroup_is_named() {
    if let Some(reason) = lacking(&["runc", "busybox"]) {
        skip!("runc_alone_and_in_a_pods_cgroup_is_named", reason);
    }
    let folder = tempfile::tempdir().unwrap();
    let (root, _) = rootfs(folder.path());
    let (plain, pod) = (folder.path().join("plain"), folder.path().join("pod"));
    bundle(&plain, &root, &["cat", "/etc/raqib-secret"], None, &json!({}));
    let id = "5e".repeat(32);
    let uid = "0a1b2c3d-1111-2222-3333-444455556666";
    let notes = json!({
        "io.kubernetes.cri.container-name": "app",
        "io.kubernetes.cri.image-name": "registry.example/app:2",
        "io.kubernetes.cri.sandbox-name": "web-0",
        "io.kubernetes.cri.sandbox-namespace": "shop",
        "io.kubernetes.cri.sandbox-uid": uid,
    });
    let path = format!("/raqib-test/kubepods/burstable/pod{uid}/{id}");
    bundle(&pod, &root, &["cat", "/etc/raqib-secret"], Some(&path), &notes);
    let mut daemon = Daemon::with_recipes(&recipes());
    let name = format!("raqib-plain-{}", std::process::id());
    for (bundle, id) in [(&plain, &name), (&pod, &id)] {
        run(Command::new("runc")
            .arg("--root")
            .arg(folder.path().join("state"))
            .args(["run", "--bundle"])
            .arg(bundle)
            .arg(id));
    }
    let alerts = daemon.all(Duration::from_millis(2500));
    // runc leaves the cgroups above its own.
    for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let path = hierarchy.path().join(format!("raqib-test/kubepods/burstable/pod{uid}"));
        path.ancestors().take(4).for_each(|folder| drop(fs::remove_dir(folder)));
    }
    expect_named(&alerts, &name, &name, None, "runc");
    assert_eq!(lives(&alerts, &name), ["create", "start", "stop"]);
    assert!(of_recipe(&alerts, "inside").any(|alert| alert["container"]["id"] == *name));
    let inside = of_recipe(&alerts, "inside").find(|alert| alert["container"]["id"] == *id);
    let container = &inside.unwrap_or_else(|| panic!("{alerts:#?}"))["container"];
    assert_eq!(container["name"], "app");
    assert_eq!(container["image"], "registry.example/app:2");
    assert_eq!(container["pod"], json!({"name": "web-0", "namespace": "shop", "uid": uid}));
    assert_eq!(container["cgroup"], path);
}

#[test]
fn nothing_outside_containers_is_in_one() {
    if let Some(reason) = cannot_run() {
        skip!("nothing_outside_containers_is_in_one", reason);
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("raqib-secret");
    fs::write(&file, "x").unwrap();
    // A cgroup that is no container's, in each hierarchy.
    let name = format!("raqib-test-{}", std::process::id());
    let roots = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
    let roots: Vec<PathBuf> = roots.chain(["/sys/fs/cgroup".into()]).collect();
    let mut daemon = Daemon::with_recipes(&recipes());
    let made: Vec<PathBuf> = roots
        .iter()
        .filter(|root| root.join("cgroup.procs").exists())
        .map(|root| root.join(&name))
        .filter(|path| fs::create_dir(path).is_ok())
        .collect();
    let pid = act(|| {
        for path in &made {
            let _ = fs::write(path.join("cgroup.procs"), std::process::id().to_string());
        }
        run(Command::new("cat").arg(&file));
        drop(fs::read(&file));
    });
    made.iter().for_each(|path| drop(fs::remove_dir(path)));
    let alerts = daemon.all(Duration::from_millis(2000));
    assert!(!made.is_empty());
    assert!(of_recipe(&alerts, "secret").any(|alert| alert["process"]["pid"] == pid));
    for alert in &alerts {
        assert!(alert["container"].is_null() && alert["process"]["container"].is_null(), "{alert}");
    }
    assert_eq!(of_recipe(&alerts, "lives").count(), 0);
}
