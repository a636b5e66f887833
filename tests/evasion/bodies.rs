//! What is in files, read and written without read, write or open.

use std::fs;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::ptr::null_mut;

use libc::{O_CREAT, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY};

use crate::common::actor::Actor;
use crate::common::acts::{c, in_child, ok, open, read, write};
use crate::common::{Daemon, PATIENCE, cannot_run};
use crate::place::{Place, acts, if_possible};
use crate::{Findings, skip};

/// Room for one descriptor in a control message.
type Control = [u64; 3];

fn send_descriptor(socket: i32, descriptor: i32) {
    let byte = [1];
    let mut part = IoSlice::new(&byte);
    let mut control: Control = [0; 3];
    unsafe {
        let mut message: libc::msghdr = MaybeUninit::zeroed().assume_init();
        message.msg_iov = (&raw mut part).cast();
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(4) as usize;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(4) as usize;
        libc::CMSG_DATA(header).cast::<i32>().write_unaligned(descriptor);
        ok(libc::sendmsg(socket, &raw const message, 0) as i64);
    }
}

fn receive_descriptor(socket: i32) -> i32 {
    let mut byte = [0];
    let mut part = IoSliceMut::new(&mut byte);
    let mut control: Control = [0; 3];
    unsafe {
        let mut message: libc::msghdr = MaybeUninit::zeroed().assume_init();
        message.msg_iov = (&raw mut part).cast();
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of::<Control>();
        ok(libc::recvmsg(socket, &raw mut message, 0) as i64);
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        assert!(!header.is_null(), "no descriptor came");
        libc::CMSG_DATA(header).cast::<i32>().read_unaligned()
    }
}

#[test]
fn descriptors_that_others_opened() {
    if let Some(reason) = cannot_run() {
        skip!("descriptors_that_others_opened", reason);
    }
    let place = Place::new();
    for name in ["sent", "fetched", "inherited"] {
        place.file(name);
    }
    let mut daemon = Daemon::with_recipes(&place.recipes());
    let (one, other) = UnixStream::pair().unwrap();
    let receiver = Actor::start(|_| {
        read(receive_descriptor(other.as_raw_fd()));
    });
    let sender = in_child(|| send_descriptor(one.as_raw_fd(), open(place.at("sent"), O_RDONLY)));
    let receiver = receiver.wait();
    let mut holder = Actor::start(|stage| {
        stage.say(open(place.at("fetched"), O_RDONLY) as u64);
        stage.wait();
    });
    let descriptor = holder.hear();
    let fetcher = if_possible(|| unsafe {
        let process = ok(libc::syscall(libc::SYS_pidfd_open, holder.pid, 0));
        read(ok(libc::syscall(libc::SYS_pidfd_getfd, process, descriptor, 0)));
    });
    holder.go();
    let holder = holder.wait();
    let parent = in_child(|| {
        open(place.at("inherited"), O_RDONLY);
        // The least free descriptor of a child that has what its parent had.
        let pid = in_child(|| _ = read(ok(unsafe { libc::dup(0) }) - 1));
        fs::write(place.at("heir"), pid.to_string()).unwrap();
    });
    let heir = fs::read_to_string(place.at("heir")).unwrap().parse::<u32>().unwrap();

    let alerts = daemon.all(PATIENCE);
    let mut findings = Findings::default();
    let mut is = |pid: u32, name: &str, truth: &str| {
        findings.seen("descriptors passed", acts(truth), place.counts(&alerts, pid, name));
    };
    is(sender, "sent", "open=1");
    is(receiver, "sent", "receive=1 read=1");
    is(parent, "inherited", "open=1");
    is(heir, "inherited", "read=1");
    is(holder, "fetched", "open=1");
    match fetcher {
        Some(pid) => is(pid, "fetched", "read=1"),
        None => println!("SKIPPED: pidfd_getfd: Linux 5.6 or newer is needed"),
    }
    findings.report();
}

#[test]
fn bytes_without_read_and_write() {
    if let Some(reason) = cannot_run() {
        skip!("bytes_without_read_and_write", reason);
    }
    let place = Place::new();
    for name in ["from", "sent", "copied", "spliced", "gift", "mapped"] {
        place.file(name);
    }
    let mut daemon = Daemon::with_recipes(&place.recipes());
    let pipe = || {
        let mut ends = [0; 2];
        ok(unsafe { libc::pipe(ends.as_mut_ptr()) });
        ends
    };
    let copier = in_child(|| unsafe {
        let from = open(place.at("from"), O_RDONLY);
        let to = ["sent", "copied", "spliced"].map(|name| open(place.at(name), O_WRONLY));
        assert_eq!(libc::sendfile(to[0], from, null_mut(), 28), 28);
        let mut start = 0;
        assert_eq!(libc::copy_file_range(from, &raw mut start, to[1], null_mut(), 28, 0), 28);
        let ends = pipe();
        start = 0;
        assert_eq!(libc::splice(from, &raw mut start, ends[1], null_mut(), 28, 0), 28);
        assert_eq!(libc::splice(ends[0], null_mut(), to[2], null_mut(), 28, 0), 28);
    });
    let giver = in_child(|| unsafe {
        let (to, ends, bytes) = (open(place.at("gift"), O_WRONLY), pipe(), [7u8; 28]);
        let part = IoSlice::new(&bytes);
        assert_eq!(libc::vmsplice(ends[1], (&raw const part).cast(), 1, 0), 28);
        assert_eq!(libc::splice(ends[0], null_mut(), to, null_mut(), 28, 0), 28);
    });
    let mapper = in_child(|| unsafe {
        let fd = open(place.at("mapped"), O_RDWR);
        let both = libc::PROT_READ | libc::PROT_WRITE;
        let at = libc::mmap(null_mut(), 4096, both, libc::MAP_SHARED, fd, 0);
        at.cast::<[u8; 8]>().write(*b"changed!");
        ok(libc::msync(at, 4096, libc::MS_SYNC));
    });
    assert!(fs::read(place.at("mapped")).unwrap().starts_with(b"changed!"));

    let alerts = daemon.all(PATIENCE);
    let counts = |pid: u32, name: &str| place.counts(&alerts, pid, name);
    let mut findings = Findings::default();
    let family = "sendfile, copy_file_range, splice";
    findings.seen(family, acts("open=1 read=3"), counts(copier, "from"));
    for name in ["sent", "copied", "spliced"] {
        findings.seen(family, acts("open=1 write=1"), counts(copier, name));
    }
    findings.seen("vmsplice into a file", acts("open=1 write=1"), counts(giver, "gift"));
    let truth = acts("open=1 mmap=1 mmap_write=1");
    findings.seen("writes through a mapping", truth, counts(mapper, "mapped"));
    findings.report();
}

#[test]
fn files_replaced_emptied_and_rewritten() {
    if let Some(reason) = cannot_run() {
        skip!("files_replaced_emptied_and_rewritten", reason);
    }
    let place = Place::new();
    for name in ["one", "over", "two", "keys", "three", "four", "new-link", "linked"] {
        place.file(name);
    }
    for name in ["log-emptied", "log-cut", "log-gone"] {
        place.file(name);
    }
    for number in 0..40 {
        place.file(format!("paper-{number}"));
    }
    let mut daemon = Daemon::with_recipes(&place.recipes());
    let rename = |from: &str, to: &str, flags: u32| unsafe {
        let (from, to) = (c(place.at(from)), c(place.at(to)));
        ok(libc::syscall(libc::SYS_renameat2, -100, from.as_ptr(), -100, to.as_ptr(), flags));
    };
    let link = |from: &str, to: &str| unsafe {
        let (from, to) = (c(from), c(place.at(to)));
        ok(libc::linkat(-100, from.as_ptr(), -100, to.as_ptr(), libc::AT_SYMLINK_FOLLOW));
    };
    let replacer = in_child(|| {
        rename("one", "over", 0);
        rename("two", "keys", libc::RENAME_EXCHANGE);
        rename("three", "four", libc::RENAME_WHITEOUT);
        fs::remove_file(place.at("linked")).unwrap();
        link(&place.told("new-link"), "linked");
    });
    let unnamed = in_child(|| {
        let fd = open(place.at(""), libc::O_TMPFILE | O_WRONLY);
        write(fd);
        link(&format!("/proc/self/fd/{fd}"), "appeared");
    });
    let tamperer = in_child(|| unsafe {
        open(place.at("log-emptied"), O_WRONLY | O_CREAT | O_TRUNC);
        ok(libc::truncate(c(place.at("log-cut")).as_ptr(), 0));
        ok(libc::unlink(c(place.at("log-gone")).as_ptr()));
    });
    let rewriter = in_child(|| {
        for number in 0..40 {
            let name = format!("paper-{number}");
            let fd = open(place.at(&name), O_WRONLY);
            write(fd);
            ok(unsafe { libc::close(fd) });
            rename(&name, &format!("{name}.locked"), 0);
        }
    });

    let alerts = daemon.all(PATIENCE);
    let counts = |pid: u32, name: &str| place.counts(&alerts, pid, name);
    let mut findings = Findings::default();
    let family = "atomic replacement";
    for name in ["one", "over", "three", "four"] {
        findings.seen(family, acts("rename=1"), counts(replacer, name));
    }
    for name in ["two", "keys"] {
        findings.seen(family, acts("rename=1 exchange=1"), counts(replacer, name));
    }
    findings.seen(family, acts("link=1"), counts(replacer, "new-link"));
    findings.seen(family, acts("link=1 unlink=1"), counts(replacer, "linked"));
    findings.seen(family, acts("link=1"), counts(unnamed, "appeared"));
    let family = "logs emptied and removed";
    findings.seen(family, acts("open=1 truncate=1"), counts(tamperer, "log-emptied"));
    findings.seen(family, acts("truncate=1"), counts(tamperer, "log-cut"));
    findings.seen(family, acts("unlink=1"), counts(tamperer, "log-gone"));
    let family = "mass rewriting";
    for number in 0..40 {
        let name = format!("paper-{number}");
        findings.seen(family, acts("open=1 write=1 rename=1"), counts(rewriter, &name));
        let locked = counts(rewriter, &format!("{name}.locked"));
        findings.seen(family, acts("rename=1"), locked);
    }
    findings.report();
}
