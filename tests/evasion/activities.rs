//! What is done to processes, namespaces and the kernel itself.

use std::fs;
use std::ptr::null_mut;

use serde_json::Value;

use crate::common::actor::Actor;
use crate::common::acts::{c, fork, in_child, mount, ok, open, own_mounts, wait};
use crate::common::{Daemon, PATIENCE, cannot_run};
use crate::place::{Place, acts, if_possible};
use crate::ring::{Request, Ring};
use crate::{Findings, skip};

const RECIPE: &str = "- {kind: act, name: act, version: 1.0, description: test, breed: activity, \
     mechanism: activity, tactic: none, technique: none, importance: low}\n";

/// What was told of one process: `name detail` of each activity whose `label` is asked for.
pub fn told(alerts: &[Value], pid: u32, name: &str, label: &str) -> Vec<String> {
    let mine = alerts
        .iter()
        .filter(|alert| alert["process"]["pid"] == pid && alert["activity"]["name"] == name);
    let mut told: Vec<String> = mine
        .map(|alert| match label {
            "target" => alert["activity"]["target"]["pid"].to_string(),
            _ => alert["activity"]["details"][label].to_string().replace('"', ""),
        })
        .collect();
    told.sort_unstable();
    told.dedup();
    told
}

pub fn list(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Someone who sleeps until told, and a word of its memory (the same in us, who forked it).
static WORD: [u8; 8] = *b"raqibraq";

#[test]
fn what_is_done_to_others_and_to_the_kernel() {
    if let Some(reason) = cannot_run() {
        skip!("what_is_done_to_others_and_to_the_kernel", reason);
    }
    let place = Place::new();
    for name in ["suid", "capable", "text", "stamped"] {
        place.file(name);
    }
    place.dir("root/old");
    let mut daemon = Daemon::with_recipes(&(place.recipes() + RECIPE));
    let victim = Actor::start(|stage| _ = stage.wait());
    let target = victim.pid;

    let tracer = in_child(|| unsafe {
        let pid = target as i32;
        let at = WORD.as_ptr() as *mut libc::c_void;
        ok(libc::ptrace(libc::PTRACE_ATTACH, pid, null_mut::<u8>(), null_mut::<u8>()));
        libc::waitpid(pid, null_mut(), libc::__WALL);
        let word = libc::ptrace(libc::PTRACE_PEEKDATA, pid, at, null_mut::<u8>());
        ok(libc::ptrace(libc::PTRACE_POKEDATA, pid, at, word as *mut u8));
        ok(libc::ptrace(libc::PTRACE_DETACH, pid, null_mut::<u8>(), null_mut::<u8>()));
    });
    let writer = in_child(|| unsafe {
        let mut bytes = WORD;
        let mine = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: 1 };
        let theirs = libc::iovec { iov_base: WORD.as_ptr() as *mut _, iov_len: 1 };
        ok(libc::process_vm_readv(target as i32, &mine, 1, &theirs, 1, 0) as i64);
    });
    let stand_in = fork(|| _ = unsafe { libc::pause() });
    let killer = in_child(|| unsafe {
        ok(libc::kill(stand_in as i32, libc::SIGSTOP));
        ok(libc::kill(stand_in as i32, libc::SIGKILL));
    });
    wait(stand_in);
    let renamer = in_child(|| {
        ok(unsafe { libc::prctl(libc::PR_SET_NAME, c"[kworker/7:7]".as_ptr()) });
        fs::write("/proc/self/comm", "other").unwrap();
    });
    let ringer = in_child(|| _ = Ring::new(0).ask(Request::open(&c(place.at("text")), 0)));
    let mover = in_child(|| unsafe {
        let own = open("/proc/self/ns/uts", libc::O_RDONLY);
        ok(libc::unshare(libc::CLONE_NEWUTS));
        ok(libc::setns(own, libc::CLONE_NEWUTS));
        own_mounts();
        mount("tmpfs", place.at("root"), Some("tmpfs"), 0, "");
        fs::create_dir(place.at("root/old")).unwrap();
        let (root, old) = (c(place.at("root")), c(place.at("root/old")));
        ok(libc::syscall(libc::SYS_pivot_root, root.as_ptr(), old.as_ptr()));
    });
    let loader = in_child(|| unsafe {
        let fd = open(place.at("text"), libc::O_RDONLY);
        assert_eq!(libc::syscall(libc::SYS_finit_module, fd, c"".as_ptr(), 0), -1);
    });
    let filter = in_child(|| unsafe {
        let code: [u64; 2] = [0xb7, 0x95];
        let mut attributes = [0u64; 16];
        // A socket filter of two instructions: r0 = 0; exit.
        attributes[0] = 1 | 2 << 32;
        attributes[1] = code.as_ptr() as u64;
        attributes[2] = c"GPL".as_ptr() as u64;
        ok(libc::syscall(libc::SYS_bpf, 5, attributes.as_ptr(), 128));
    });
    let sockets = in_child(|| unsafe {
        ok(libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0));
        ok(libc::socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP));
    });
    let writer_of_messages = in_child(|| unsafe {
        // RTM_NEWLINK of nothing, NLM_F_REQUEST: refused in an answer that nobody reads.
        let request = [32u32, 16 | 1 << 16, 0, 0, 0, 0, 0, 0];
        let fd = ok(libc::socket(libc::AF_NETLINK, libc::SOCK_RAW, 0));
        assert_eq!(libc::write(fd, request.as_ptr().cast(), 32), 32);
    });
    let granter = in_child(|| unsafe {
        let suid = c(place.at("suid"));
        ok(libc::chmod(suid.as_ptr(), 0o4755));
        ok(libc::chmod(suid.as_ptr(), 0o755));
    });
    let capability = if_possible(|| unsafe {
        // Version 2, not effective; cap_net_raw permitted.
        let value: [u32; 5] = [0x0200_0000, 1 << 13, 0, 0, 0];
        let (path, name) = (c(place.at("capable")), c"security.capability");
        ok(libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), 20, 0));
    });
    let stamper = in_child(|| unsafe {
        let times = [libc::timespec { tv_sec: 1, tv_nsec: 0 }; 2];
        ok(libc::utimensat(-100, c(place.at("stamped")).as_ptr(), times.as_ptr(), 0));
    });
    drop(victim);

    let alerts = daemon.all(PATIENCE * 2);
    let told = |pid: u32, name: &str, label: &str| told(&alerts, pid, name, label);
    let mut findings = Findings::default();
    let them = list(&[&target.to_string()]);
    let requests = list(&["attach", "detach", "peekdata", "pokedata"]);
    findings.seen("ptrace", requests, told(tracer, "ptrace", "request"));
    findings.seen("ptrace", them.clone(), told(tracer, "ptrace", "target"));
    let family = "process_vm_readv";
    findings.seen(family, them, told(writer, "process_vm_read", "target"));
    let family = "killing and stopping";
    let stand_in = list(&[&stand_in.to_string()]);
    findings.seen(family, list(&["kill", "stop"]), told(killer, "signal", "signal"));
    findings.seen(family, stand_in, told(killer, "signal", "target"));
    let names = list(&["[kworker/7:7]", "other"]);
    findings.seen("comm renaming itself", names, told(renamer, "comm_change", "comm"));
    let family = "io_uring requests";
    findings.seen(family, 1, told(ringer, "io_uring_setup", "entries").len());
    findings.seen(family, list(&["openat"]), told(ringer, "io_uring_request", "opcode"));
    findings.seen(family, acts("open=1"), place.counts(&alerts, ringer, "text"));
    let family = "setns, unshare, pivot_root";
    findings.seen(family, 2, told(mover, "unshare", "flags").len());
    findings.seen(family, 1, told(mover, "setns", "namespace").len());
    findings.seen(family, 1, told(mover, "pivot_root", "path").len());
    if fs::exists("/proc/modules").unwrap() {
        println!("SKIPPED: kernel modules: asserted where the kernel has none");
    } else {
        findings.unseen("kernel modules", 1, told(loader, "module_load", "path").len());
    }
    findings.seen("bpf() by others", list(&["prog_load"]), told(filter, "bpf", "command"));
    let family = "making raw and packet sockets";
    findings.seen(family, list(&["inet", "packet"]), told(sockets, "socket_create", "family"));
    let messages = told(writer_of_messages, "netlink_config", "message");
    findings.unseen("netlink by write(2)", list(&["newlink"]), messages);
    let family = "SUID, capabilities and time stamps";
    let did = |pid: u32, name: &str| -> Vec<String> {
        place.counts(&alerts, pid, name).into_keys().collect()
    };
    println!("{:?} {:?}", did(granter, "suid"), capability.map(|pid| did(pid, "capable")));
    findings.seen(family, true, did(granter, "suid").contains(&"chmod".to_owned()));
    findings.seen(family, true, did(granter, "suid").contains(&"setid".to_owned()));
    if let Some(pid) = capability {
        findings.seen(family, true, did(pid, "capable").contains(&"setcap".to_owned()));
    }
    findings.seen(family, true, did(stamper, "stamped").contains(&"utimes".to_owned()));
    findings.report();
}
