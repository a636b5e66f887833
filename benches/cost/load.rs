//! Loads: what programs do all day, as fast as they can or at a pace.

use std::ffi::CString;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

/// Files to open, by paths made beforehand: nothing but the system calls is measured.
pub struct Files {
    paths: Vec<CString>,
    _folder: TempDir,
}

impl Files {
    pub fn make(count: usize) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("raqib-cost").tempdir()?;
        let mut paths = Vec::with_capacity(count);
        for n in 0..count {
            let path = folder.path().join(format!("file-{n}"));
            std::fs::write(&path, "x")?;
            paths.push(CString::new(path.as_os_str().as_bytes())?);
        }
        Ok(Self { paths, _folder: folder })
    }

    fn open_close(path: &CString) -> Result<()> {
        // SAFETY: the path is a C string that outlives the call.
        let fd = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
        if fd < 0 {
            return Err(std::io::Error::last_os_error()).context("open");
        }
        // SAFETY: opened above, owned by nobody else.
        unsafe { libc::close(fd) };
        Ok(())
    }

    /// CPU nanoseconds of this thread for one open+close: the tenth percentile of batches of
    /// 1,000, which leaves out what interrupts and neighbours add.
    pub fn cpu_ns(&self, batches: usize) -> Result<f64> {
        let _pinned = Pinned::here()?;
        let mut costs = Vec::with_capacity(batches);
        let mut paths = self.paths.iter().cycle();
        // The first tenth warms caches up.
        for batch in 0..batches + batches / 10 {
            let before = thread_cpu_ns()?;
            for path in paths.by_ref().take(1000) {
                Self::open_close(path)?;
            }
            let cost = (thread_cpu_ns()? - before) as f64 / 1000.0;
            if batch >= batches / 10 {
                costs.push(cost);
            }
        }
        costs.sort_by(f64::total_cmp);
        costs.get(batches / 10).copied().context("no batch")
    }

    /// Opens and closes the files in turn at a pace for a time; gives the pace that was reached.
    pub fn paced(&self, per_second: u64, time: Duration) -> Result<f64> {
        let started = Instant::now();
        let mut paths = self.paths.iter().cycle();
        let mut done = 0u64;
        // A millisecond's worth at a time: sleeping has no finer grain.
        let mut tick = Duration::ZERO;
        while tick < time {
            tick += Duration::from_millis(1);
            let due = (per_second as u128 * tick.as_micros() / 1_000_000) as u64;
            for path in paths.by_ref().take((due - done) as usize) {
                Self::open_close(path)?;
            }
            done = due;
            std::thread::sleep(tick.saturating_sub(started.elapsed()));
        }
        Ok(done as f64 / started.elapsed().as_secs_f64())
    }
}

/// Keeps this thread on one CPU while it lives: two CPUs of one machine differ by more than what
/// is measured. Given back afterwards, as children (the daemon) inherit it.
struct Pinned {
    before: libc::cpu_set_t,
}

impl Pinned {
    fn here() -> Result<Self> {
        // SAFETY: all-zero bytes are the empty set.
        let (mut before, mut one): (libc::cpu_set_t, libc::cpu_set_t) =
            unsafe { std::mem::zeroed() };
        let size = size_of::<libc::cpu_set_t>();
        // SAFETY: the sets are writable and of the size given; the highest CPU allowed is in range.
        let done = unsafe {
            libc::sched_getaffinity(0, size, &raw mut before) == 0
                && (0..libc::CPU_SETSIZE as usize)
                    .rev()
                    .find(|cpu| libc::CPU_ISSET(*cpu, &before))
                    .is_some_and(|cpu| {
                        libc::CPU_SET(cpu, &mut one);
                        libc::sched_setaffinity(0, size, &raw const one) == 0
                    })
        };
        anyhow::ensure!(done, "sched_setaffinity: {}", std::io::Error::last_os_error());
        Ok(Self { before })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: the set is the one that the kernel gave. Failing would need a changed cpuset.
        unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const self.before) };
    }
}

fn thread_cpu_ns() -> Result<i64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the place is writable and of the right type.
    if unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) } != 0 {
        bail!("clock_gettime: {}", std::io::Error::last_os_error());
    }
    Ok(time.tv_sec * 1_000_000_000 + time.tv_nsec)
}

/// A loop without a pace.
pub enum Load {
    Open {
        threads: usize,
    },
    Exec,
    Connect,
    /// A connection with one HTTP request, as its first message is looked at.
    Request,
}

impl Load {
    pub const ALL: [Self; 5] = [
        Self::Open { threads: 1 },
        Self::Open { threads: 2 },
        Self::Exec,
        Self::Connect,
        Self::Request,
    ];

    pub fn name(&self) -> &'static str {
        match self {
            Self::Open { threads: 1 } => "open+close, 1 thread",
            Self::Open { .. } => "open+close, 2 threads",
            Self::Exec => "vfork+exec /bin/true",
            Self::Connect => "TCP connect+close, loopback",
            Self::Request => "TCP connect+HTTP request+close",
        }
    }

    /// Operations a second of all threads together.
    pub fn speed(&self, files: &Files, time: Duration) -> Result<f64> {
        match self {
            Self::Open { threads } => opens(files, *threads, time),
            Self::Exec => repeat(time, 1, spawn_true),
            Self::Connect => {
                let listener = TcpListener::bind("127.0.0.1:0")?;
                repeat(time, 16, || connect(&listener, b""))
            }
            Self::Request => {
                let listener = TcpListener::bind("127.0.0.1:0")?;
                repeat(time, 16, || connect(&listener, REQUEST))
            }
        }
    }
}

/// Looks at the clock once in `step` operations.
fn repeat(time: Duration, step: u32, mut operation: impl FnMut() -> Result<()>) -> Result<f64> {
    let started = Instant::now();
    let mut done = 0;
    while started.elapsed() < time {
        for _ in 0..step {
            operation()?;
        }
        done += step;
    }
    Ok(f64::from(done) / started.elapsed().as_secs_f64())
}

fn opens(files: &Files, threads: usize, time: Duration) -> Result<f64> {
    let together = Barrier::new(threads);
    std::thread::scope(|scope| {
        let share = files.paths.len() / threads;
        let workers: Vec<_> = files
            .paths
            .chunks(share)
            .take(threads)
            .map(|own| {
                let together = &together;
                scope.spawn(move || {
                    together.wait();
                    let mut paths = own.iter().cycle();
                    repeat(time, 100, || paths.next().map_or(Ok(()), Files::open_close))
                })
            })
            .collect();
        let speeds = workers.into_iter().map(|worker| match worker.join() {
            Ok(speed) => speed,
            Err(_) => bail!("a load thread panicked"),
        });
        speeds.sum()
    })
}

fn spawn_true() -> Result<()> {
    let arguments = [c"true".as_ptr().cast_mut(), std::ptr::null_mut()];
    let environment = [std::ptr::null_mut()];
    let mut pid = 0;
    // SAFETY: both lists end with a null pointer and outlive the call; glibc's posix_spawn
    // is a vfork followed by execve.
    let error = unsafe {
        libc::posix_spawn(
            &raw mut pid,
            c"/bin/true".as_ptr(),
            std::ptr::null(),
            std::ptr::null(),
            arguments.as_ptr(),
            environment.as_ptr(),
        )
    };
    if error != 0 {
        bail!("posix_spawn: {}", std::io::Error::from_raw_os_error(error));
    }
    let mut status = 0;
    // SAFETY: a child of ours that nobody else waits for.
    if unsafe { libc::waitpid(pid, &raw mut status, 0) } != pid || status != 0 {
        bail!("/bin/true ended with {status}");
    }
    Ok(())
}

const REQUEST: &[u8] =
    b"GET /index.html HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: cost\r\nAccept: */*\r\n\r\n";

fn connect(listener: &TcpListener, says: &[u8]) -> Result<()> {
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    // Closed by a reset: else ports wait a minute each and run out within a second.
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the option's value and its size belong together; the socket is open.
    let result = unsafe {
        libc::setsockopt(
            client.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as libc::socklen_t,
        )
    };
    anyhow::ensure!(result == 0, "SO_LINGER: {}", std::io::Error::last_os_error());
    let (mut server, _) = listener.accept()?;
    if !says.is_empty() {
        client.write_all(says)?;
        server.read_exact(&mut vec![0; says.len()])?;
    }
    Ok(())
}
