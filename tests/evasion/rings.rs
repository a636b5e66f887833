//! Files through an io_uring.

use crate::common::acts::{c, in_child, ok, read};
use crate::common::{Daemon, PATIENCE, cannot_run};
use crate::place::{Place, acts};
use crate::ring::{ASYNC, FIXED, Request, Ring, SQPOLL, op};
use crate::{Findings, skip};

/// Opens and reads the one file; creates, writes, renames, links and removes others.
fn through(ring: &Ring, place: &Place, flags: u8) {
    let with = |request: Request| Request { flags, ..request };
    let (needle, new, moved, second) =
        (c(place.at("needle")), c(place.at("new")), c(place.at("moved")), c(place.at("second")));
    let mut byte = [0];
    let fd = ring.ask(with(Request::open(&needle, libc::O_RDONLY)));
    assert_eq!(ring.ask(with(Request::bytes(op::READ, fd, &mut byte))), 1);
    assert_eq!(byte, *b"h");
    let fd = ring.ask(with(Request::open(&new, libc::O_CREAT | libc::O_WRONLY)));
    assert_eq!(ring.ask(with(Request::bytes(op::WRITE, fd, &mut byte))), 1);
    ring.ask(with(Request::at(op::RENAMEAT, &new).and(&moved)));
    ring.ask(with(Request::at(op::LINKAT, &moved).and(&second)));
    ring.ask(with(Request::at(op::UNLINKAT, &moved)));
    ring.ask(with(Request::at(op::UNLINKAT, &second)));
}

#[test]
fn files_through_a_ring() {
    if let Some(reason) = cannot_run() {
        skip!("files_through_a_ring", reason);
    }
    let place = Place::new();
    let (from, to) = (c(place.file("needle")), c(place.at("other")));
    if Ring::new(0).result(Request::at(op::LINKAT, &from).and(&to)) == -libc::EINVAL {
        skip!("files_through_a_ring", "this kernel's io_uring cannot link (Linux 5.15)");
    }
    let mut daemon = Daemon::with_recipes(&place.recipes());
    let plain = in_child(|| through(&Ring::new(0), &place, 0));
    let worker = in_child(|| through(&Ring::new(0), &place, ASYNC));
    let polled = in_child(|| through(&Ring::new(SQPOLL), &place, 0));
    let openat2 = in_child(|| {
        let (needle, how) = (c(place.at("needle")), [libc::O_RDONLY as u64, 0, 0]);
        let open = Request::at(op::OPENAT2, &needle);
        let open = Request { length: 24, offset: how.as_ptr() as u64, ..open };
        Ring::new(0).ask(open);
    });
    let direct = in_child(|| {
        let ring = Ring::new(0).with_slots();
        let needle = c(place.at("needle"));
        let open = Request { slot: 1, ..Request::open(&needle, libc::O_RDONLY) };
        assert_eq!(ring.ask(open), 0);
        let mut bytes = [0; 28];
        let from_slot = Request { flags: FIXED, ..Request::bytes(op::READ, 0, &mut bytes) };
        assert_eq!(ring.ask(from_slot), 28);
        assert!(bytes.ends_with(b"needle"));
    });
    let mixed = in_child(|| {
        let fd = Ring::new(0).ask(Request::open(&c(place.at("needle")), libc::O_RDONLY));
        read(fd);
        assert_eq!(ok(unsafe { libc::lseek(fd, 0, libc::SEEK_END) }), 28);
    });

    let alerts = daemon.all(PATIENCE);
    let mut findings = Findings::default();
    for pid in [plain, worker, polled] {
        for (name, truth) in [
            ("needle", "open=1 read=1"),
            ("new", "create=1 open=1 write=1 rename=1"),
            ("moved", "rename=1 link=1 unlink=1"),
            ("second", "link=1 unlink=1"),
        ] {
            let told = place.counts(&alerts, pid, name);
            findings.seen("io_uring files", acts(truth), told);
        }
    }
    findings.seen("io_uring files", acts("open=1"), place.counts(&alerts, openat2, "needle"));
    let told = place.counts(&alerts, direct, "needle");
    findings.seen("io_uring direct descriptors", acts("open=1 read=1"), told);
    let told = place.counts(&alerts, mixed, "needle");
    findings.seen("io_uring then ordinary calls", acts("open=1 read=1 llseek=1"), told);
    findings.report();
}
