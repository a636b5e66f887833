//! Programs that have no path, or another one than they say.

use std::ffi::CStr;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::ptr::null;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::acts::{exec, fork, of, ok, open, tiny_program, wait};
use crate::common::{Daemon, PATIENCE, cannot_run, exec_recipe};
use crate::place::Place;
use crate::{Findings, skip};

const NO_COMPILER: &str = "gcc cannot build a static program here";

/// Does `act` in a child that ends as the tiny program.
#[track_caller]
fn as_tiny(act: impl FnOnce()) -> u32 {
    let pid = fork(act);
    assert_eq!(wait(pid), 7 << 8);
    pid
}

fn exec_at(dir: i32, path: &CStr, name: &CStr, flags: i32) {
    let (args, none) = ([name.as_ptr(), null()], [null::<libc::c_char>()]);
    let (call, path) = (libc::SYS_execveat, path.as_ptr());
    ok(unsafe { libc::syscall(call, dir, path, args.as_ptr(), none.as_ptr(), flags) });
}

/// A file in memory with this content, closed at execve or not.
fn in_memory(content: &[u8], flags: u32) -> i32 {
    let fd = ok(unsafe { libc::memfd_create(c"raqib-evasion".as_ptr(), flags) });
    let written = unsafe { libc::write(fd, content.as_ptr().cast(), content.len()) };
    assert_eq!(written, content.len() as isize);
    fd
}

/// Of one process: `key` of its executions, in order.
fn told(alerts: &[Value], pid: u32, key: &str) -> Value {
    let all = alerts.iter().filter(|alert| {
        alert["metadata"]["format"] == "execution" && alert["process"]["pid"] == pid
    });
    let mut processes: Vec<&Value> = all.map(|alert| &alert["process"]).collect();
    processes.sort_by_key(|process| process["exec_id"].as_u64());
    processes.dedup_by_key(|process| process["exec_id"].as_u64());
    match &processes[..] {
        [] => Value::Null,
        [one] => one[key].clone(),
        many => many.iter().map(|process| process[key].clone()).collect(),
    }
}

#[test]
fn images_without_a_path() {
    if let Some(reason) = cannot_run() {
        skip!("images_without_a_path", reason);
    }
    let place = Place::new();
    let tiny = place.at("tiny");
    if tiny_program(&tiny).is_none() {
        skip!("images_without_a_path", NO_COMPILER);
    }
    let gone = place.at("gone");
    fs::copy(&tiny, &gone).unwrap();
    let image = fs::read(&tiny).unwrap();
    let more = exec_recipe("memory", "^memfd:raqib-evasion$") + &exec_recipe("any", "");
    let mut daemon = Daemon::with_recipes(&(place.recipes() + &more));
    let kernel_thread = c"[kworker/u4:1]";

    let empty_path = as_tiny(|| {
        exec_at(in_memory(&image, libc::MFD_CLOEXEC), c"", kernel_thread, libc::AT_EMPTY_PATH);
    });
    let by_link = as_tiny(|| {
        let fd = in_memory(&image, libc::MFD_CLOEXEC);
        exec(format!("/proc/self/fd/{fd}"), &[kernel_thread.to_bytes()]);
    });
    let script = fork(|| {
        let fd = in_memory(b"#!/bin/sh\nexit 7\n", 0);
        exec_at(fd, c"", c"script", libc::AT_EMPTY_PATH);
    });
    assert_eq!(wait(script), 7 << 8);
    let unnamed = as_tiny(|| {
        let fd = open(place.at(""), libc::O_TMPFILE | libc::O_WRONLY);
        assert_eq!(
            unsafe { libc::write(fd, image.as_ptr().cast(), image.len()) },
            image.len() as isize
        );
        ok(unsafe { libc::fchmod(fd, 0o755) });
        let again = open(format!("/proc/self/fd/{fd}"), libc::O_PATH | libc::O_CLOEXEC);
        ok(unsafe { libc::close(fd) });
        exec_at(again, c"", c"unnamed", libc::AT_EMPTY_PATH);
    });
    let by_directory = as_tiny(|| {
        let dir = open(place.at(""), libc::O_DIRECTORY | libc::O_CLOEXEC);
        exec_at(dir, c"tiny", c"tiny", 0);
    });
    let deleted = as_tiny(|| {
        let fd = open(&gone, libc::O_PATH | libc::O_CLOEXEC);
        fs::remove_file(&gone).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        exec_at(fd, c"", c"gone", libc::AT_EMPTY_PATH);
    });

    let alerts = daemon.all(PATIENCE);
    let told = |pid: u32, key: &str| told(&alerts, pid, key);
    let mut findings = Findings::default();
    for pid in [empty_path, by_link] {
        findings.seen("memfd and fexecve", json!("memfd:raqib-evasion"), told(pid, "exe"));
        findings.seen("memfd and fexecve", json!(true), told(pid, "memfd"));
        findings.seen("memfd and fexecve", json!(["[kworker/u4:1]"]), told(pid, "args_list"));
        findings.seen("memfd and fexecve", json!(true), told(pid, "argv0_differs"));
    }
    let family = "script in a memfd";
    assert!(told(script, "interpreter").as_str().unwrap().ends_with("sh"));
    let descriptor = told(script, "script").as_str().unwrap().starts_with("/dev/fd/");
    findings.seen(family, true, descriptor);
    findings.unseen(family, json!(true), told(script, "memfd"));
    findings.seen("O_TMPFILE executed", json!(true), told(unnamed, "tmpfile"));
    let family = "execveat of a directory's descriptor and of a deleted file";
    findings.seen(family, json!(place.told("tiny")), told(by_directory, "exe"));
    findings.seen(family, json!(place.told("gone")), told(deleted, "exe"));
    findings.seen(family, json!(true), told(deleted, "deleted"));
    findings.report();
}

fn loader() -> Option<&'static str> {
    let known = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"];
    known.into_iter().find(|path| Path::new(path).exists())
}

#[test]
fn programs_that_say_they_are_others() {
    if let Some(reason) = cannot_run() {
        skip!("programs_that_say_they_are_others", reason);
    }
    let place = Place::new();
    let tiny = place.at("tiny");
    if tiny_program(&tiny).is_none() {
        skip!("programs_that_say_they_are_others", NO_COMPILER);
    }
    // Writes over all of its arguments, then ends.
    let rewriter = place.at("rewriter");
    let source =
        "int main(int c,char**v){for(int i=0;i<c;i++)for(char*p=v[i];*p;p++)*p='X';return 7;}";
    fs::write(place.at("rewriter.c"), source).unwrap();
    let mut gcc = Command::new("gcc");
    assert!(gcc.arg("-o").arg(&rewriter).arg(place.at("rewriter.c")).status().unwrap().success());
    let preload = place.at("preload.so");
    fs::write(place.at("preload.c"), "int raqib_evasion;").unwrap();
    let built = Command::new("gcc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&preload, &place.at("preload.c")])
        .status();
    assert!(built.unwrap().success());
    let plain = place.at("plain");
    fs::copy("/bin/true", &plain).unwrap();
    let mut mode = fs::metadata(&plain).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o644);
    fs::set_permissions(&plain, mode).unwrap();
    fs::write(place.at("script"), "exit 7\n").unwrap();
    let variables = "- {kind: loaded, name: loaded, version: 1.0, description: test, breed: env_vars, \
         mechanism: env_vars, tactic: none, technique: none, importance: low, \
         env_vars: [LD_PRELOAD, LD_AUDIT]}\n";
    let more = exec_recipe("any", "") + variables;
    let mut daemon = Daemon::with_recipes(&(place.recipes() + &more));

    let spoofed = as_tiny(|| exec(&tiny, &[b"sshd: root@notty"]));
    let rewritten = fork(|| exec(&rewriter, &[b"rewriter", b"--payload", b"secret"]));
    assert_eq!(wait(rewritten), 7 << 8);
    let renamed = as_tiny(|| unsafe {
        ok(libc::prctl(libc::PR_SET_NAME, c"[kworker/1:2]".as_ptr()));
        exec(&tiny, &[b"tiny"]);
    });
    let mut huge: Vec<&[u8]> = vec![b"tiny"];
    let padding = [b'p'; 4096];
    huge.resize(16, &padding);
    huge.push(b"the-marker");
    huge.resize(32, &padding);
    huge.push(b"the-end");
    let huge = as_tiny(|| exec(&tiny, &huge));
    let run = |command: &mut Command| {
        let mut child = command.spawn().unwrap();
        child.wait().unwrap();
        child.id()
    };
    let preloaded = run(Command::new("/bin/true").env("LD_PRELOAD", &preload));
    let audited = run(Command::new("/bin/true").env("LD_AUDIT", &preload));
    let loaded = loader().map(|loader| run(Command::new(loader).arg(&plain)));
    let by_path = run(Command::new("/bin/sh").arg(place.at("script")));
    let by_option = run(Command::new("/bin/sh").args(["-c", "exit 7"]));
    let mut piped = Command::new("/bin/sh").stdin(Stdio::piped()).spawn().unwrap();
    piped.stdin.take().unwrap().write_all(b"exit 7 # from a pipe\n").unwrap();
    piped.wait().unwrap();

    let alerts = daemon.all(PATIENCE);
    let told = |pid: u32, key: &str| told(&alerts, pid, key);
    let mut findings = Findings::default();
    findings.seen("argv spoofing", json!(place.told("tiny")), told(spoofed, "exe"));
    findings.seen("argv spoofing", json!(["sshd: root@notty"]), told(spoofed, "args_list"));
    findings.seen("argv spoofing", json!(true), told(spoofed, "argv0_differs"));
    let arguments = json!(["rewriter", "--payload", "secret"]);
    findings.seen("argv rewriting", arguments, told(rewritten, "args_list"));
    findings.seen("comm renaming", json!(place.told("tiny")), told(renamed, "exe"));
    let family = "huge argv";
    findings.seen(family, json!(true), told(huge, "args_truncated"));
    findings.seen(family, json!(5 + 4097 * 30 + 11 + 8), told(huge, "args_length"));
    let arguments = told(huge, "args_list");
    let holds = |word: &str| arguments.as_array().unwrap().iter().any(|argument| argument == word);
    findings.seen(family, true, holds("the-end"));
    findings.unseen(family, true, holds("the-marker"));
    let opened = |pid: u32, name: &str| place.counts(&alerts, pid, name).contains_key("open");
    for pid in [preloaded, audited] {
        findings.seen("LD_PRELOAD and LD_AUDIT", 1, of(&alerts, "loaded", pid).count());
        findings.seen("LD_PRELOAD and LD_AUDIT", true, opened(pid, "preload.so"));
    }
    if let Some(pid) = loaded {
        let family = "running through ld.so";
        findings.seen(family, json!(place.told("plain")), told(pid, "loader_target"));
        findings.seen(family, true, opened(pid, "plain"));
    }
    let family = "interpreters";
    findings.seen(family, json!(["/bin/sh", place.told("script")]), told(by_path, "args_list"));
    findings.seen(family, true, opened(by_path, "script"));
    findings.seen(family, json!(["/bin/sh", "-c", "exit 7"]), told(by_option, "args_list"));
    findings.seen(family, json!(["/bin/sh"]), told(piped.id(), "args_list"));
    let body = alerts.iter().filter(|alert| alert.to_string().contains("from a pipe")).count();
    findings.unseen(family, 1, body);
    findings.report();
}
