//! Carries doorbells from the kernel to the plugins' threads.
//!
//! The only ring buffer of the daemon: at most one record an epoch and journal, without data. A
//! lost bell costs nothing but the wait for the cadence.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::thread::JoinHandle;

use anyhow::{Context, Result, bail};
use crossbeam_channel::Sender;
use libbpf_rs::{MapHandle, RingBufferBuilder};
use plain::Plain;

use crate::kernel::types::bell;
use crate::plugins::driver::Command;

/// The thread that waits at the ring; ends when it is told to.
#[derive(Debug)]
pub struct Doorbell {
    stop: Stop,
    thread: JoinHandle<()>,
}

/// An eventfd: something that poll can wait for beside another descriptor.
#[derive(Debug)]
pub struct Stop(OwnedFd);

impl Stop {
    pub fn new() -> Result<Self> {
        // SAFETY: no pointers are passed.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(std::io::Error::last_os_error()).context("cannot make an eventfd");
        }
        // SAFETY: the descriptor was just made and is nobody else's.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub fn share(&self) -> Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    pub fn now(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight bytes of `one`. It fails only when the counter is full, that is, said.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Blocks until `fd` can be read (true) or it is time to stop (false).
    pub fn wait(&self, fd: i32) -> bool {
        let poll = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let mut fds = [poll(fd), poll(self.0.as_raw_fd())];
        loop {
            // SAFETY: two initialised entries.
            let ready = unsafe { libc::poll(fds.as_mut_ptr(), 2, -1) };
            if ready > 0 {
                return fds[1].revents == 0;
            }
            if ready < 0 && std::io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
                return false;
            }
        }
    }
}

impl Doorbell {
    /// `doors`: the commands of each plugin's thread, by journal.
    pub fn start(ring: MapHandle, doors: Vec<(u32, Sender<Command>)>) -> Result<Self> {
        let stop = Stop::new()?;
        let until = stop.share()?;
        let thread = std::thread::Builder::new()
            .name("raqib-doorbell".into())
            .spawn(move || {
                if let Err(error) = listen(&ring, &doors, &until) {
                    log::error!("doorbells are off, epochs end at their cadence only: {error:#}");
                }
            })
            .context("cannot start the doorbell's thread")?;
        Ok(Self { stop, thread })
    }

    pub fn finish(self) -> Result<()> {
        self.stop.now();
        if self.thread.join().is_err() {
            bail!("the doorbell's thread panicked");
        }
        Ok(())
    }
}

fn listen(ring: &MapHandle, doors: &[(u32, Sender<Command>)], stop: &Stop) -> Result<()> {
    let mut builder = RingBufferBuilder::new();
    builder.add(ring, |bytes| {
        let mut rung = bell::default();
        if rung.copy_from_bytes(bytes).is_ok() {
            let door = doors.iter().find(|(journal, _)| *journal == rung.journal);
            // Full: the plugin has been asked and will seal anyway.
            let _ = door.map(|(_, commands)| commands.try_send(Command::Bell(rung.slot)));
        }
        0
    })?;
    let ring = builder.build()?;
    while stop.wait(ring.epoll_fd()) {
        ring.consume()?;
    }
    Ok(())
}
