//! The guest's side. Process 1 makes a system out of an initramfs, reaps whoever loses his parent,
//! and ends the machine with a code; its child runs the tests.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

use crate::tests;

/// The argument by which process 1 starts its child.
pub const SECOND: &str = "as-second-process";
/// Where the tests are, in the order of [`crate::TESTS`], and where the kernel's modules.
pub const TESTS: &str = "/tests";
pub const MODULES: &str = "/modules";
/// Left for a test that wants to load one.
pub const SPARE_MODULE: &str = "dummy";
/// The port of QEMU's isa-debug-exit: it ends with (code << 1) | 1, which nothing else does.
pub const EXIT_PORT: u16 = 0xf4;
/// What the code says.
pub const DONE: u32 = 0;
pub const BROKEN: u32 = 1;

/// What is told to the host, free of the kernel's own messages.
const PORT: &str = "/dev/ttyS1";

const MOUNTS: [(&str, &str); 9] = [
    ("devtmpfs", "/dev"),
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("securityfs", "/sys/kernel/security"),
    ("tracefs", "/sys/kernel/tracing"),
    ("bpf", "/sys/fs/bpf"),
    ("cgroup2", "/sys/fs/cgroup"),
    ("tmpfs", "/tmp"),
    ("tmpfs", "/run"),
];

/// As process 1: never returns.
pub fn init() -> ! {
    let code = match second() {
        Ok(()) => DONE,
        Err(error) => {
            // The console: the port may be what is missing.
            eprintln!("init: {error:#}");
            BROKEN
        }
    };
    leave(code)
}

fn second() -> Result<()> {
    for (kind, at) in MOUNTS {
        fs::create_dir_all(at)?;
        mount(kind, at).with_context(|| format!("cannot mount {at}"))?;
    }
    for (kind, at) in [("devpts", "/dev/pts"), ("tmpfs", "/dev/shm")] {
        fs::create_dir_all(at)?;
        mount(kind, at).with_context(|| format!("cannot mount {at}"))?;
    }
    std::os::unix::fs::symlink("/proc/self/fd", "/dev/fd")?;
    // Hard links, so that a program's path is the name it was called by. Those that the image has
    // already are the distribution's own, and stay.
    let busybox = |args: &[&str]| Command::new("/bin/busybox").args(args).output();
    busybox(&["--install", "/bin"]).context("cannot run busybox")?;
    let up = busybox(&["ip", "link", "set", "lo", "up"])?;
    ensure!(up.status.success(), "lo does not come up: {}", String::from_utf8_lossy(&up.stderr));
    load_modules()?;

    let child = Command::new("/proc/self/exe").arg(SECOND).env("PATH", "/bin").spawn()?;
    loop {
        let mut status = 0;
        let pid = unsafe { libc::waitpid(-1, &raw mut status, 0) };
        ensure!(pid > 0, "no child left: {}", std::io::Error::last_os_error());
        if pid == child.id().cast_signed() {
            ensure!(status == 0, "the tests' process ended with wait status {status:#x}");
            return Ok(());
        }
    }
}

fn mount(kind: &str, at: &str) -> Result<()> {
    let (kind, at) = (CString::new(kind)?, CString::new(at)?);
    let (none, pointer) = (c"none".as_ptr(), std::ptr::null());
    let done = unsafe { libc::mount(none, at.as_ptr(), kind.as_ptr(), 0, pointer) };
    ensure!(done == 0, "{}", std::io::Error::last_os_error());
    Ok(())
}

/// In the order of their names, which the host gave them so that each finds what it needs.
fn load_modules() -> Result<()> {
    let mut modules: Vec<PathBuf> = match fs::read_dir(MODULES) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(_) => return Ok(()),
    };
    modules.sort();
    for path in modules {
        if path == spare_module() {
            continue;
        }
        let file = File::open(&path)?;
        let call = libc::SYS_finit_module;
        let done = unsafe { libc::syscall(call, file.as_raw_fd(), c"".as_ptr(), 0) };
        let error = std::io::Error::last_os_error();
        ensure!(done == 0, "cannot load {}: {error}", path.display());
    }
    Ok(())
}

pub fn spare_module() -> PathBuf {
    Path::new(MODULES).join(format!("{SPARE_MODULE}.ko"))
}

/// As its child: runs the tests and tells of them.
pub fn tests() -> ExitCode {
    match tell() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tests: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn tell() -> Result<()> {
    let mut port = File::options().write(true).open(PORT)?;
    writeln!(port, "kernel {}", fs::read_to_string("/proc/sys/kernel/osrelease")?.trim())?;
    let mut environment = vec![
        ("PATH", "/bin".to_owned()),
        ("RAQIB_BIN", "/bin/raqib".to_owned()),
        ("RAQIB_TINY", "/bin/tiny".to_owned()),
    ];
    if spare_module().exists() {
        environment.push(("RAQIB_TEST_MODULE", spare_module().to_string_lossy().into_owned()));
    }
    for test in crate::TESTS {
        let binary = Path::new(TESTS).join(test.name);
        // Not asked for.
        if !binary.exists() {
            continue;
        }
        // All processes but process 1 and this one.
        let after = |_| {
            unsafe { libc::kill(-1, libc::SIGKILL) };
        };
        tests::run(&binary, &test, &environment, &mut port, &after)?;
    }
    writeln!(port, "over")?;
    // The machine must not end before the last byte is out.
    unsafe { libc::tcdrain(port.as_raw_fd()) };
    Ok(())
}

/// Ends the machine.
fn leave(code: u32) -> ! {
    #[cfg(target_arch = "x86_64")]
    unsafe {
        libc::iopl(3);
        std::arch::asm!("out dx, eax", in("dx") EXIT_PORT, in("eax") code);
    }
    // Without the device: a panic of the kernel, which the host takes for no answer.
    std::process::exit(code.cast_signed())
}
