//! One boot of a virtual machine on emulated CPUs.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::guest::EXIT_PORT;

pub const QEMU: &str = "qemu-system-x86_64";
/// For a boot with all tests, while others are running. A machine that is not over by then hangs.
const LIMIT: Duration = Duration::from_secs(1200);
/// MB. Maps and programs take a tenth of it, the initramfs as much.
const MEMORY: &str = "1024";

/// What came out of a machine.
pub struct Boot {
    /// What the guest gave when it ended; none if the machine ended otherwise or not at all.
    pub code: Option<u32>,
    /// The guest's own port.
    pub told: String,
    /// The kernel's messages.
    pub console: String,
    pub took: Duration,
}

/// Boots and waits for the end, which must come before `until`.
///
/// # Errors
/// QEMU cannot be started. A machine that fails is a [`Boot`] without a code.
pub fn boot(kernel: &Path, initramfs: &[u8], folder: &Path, until: Instant) -> Result<Boot> {
    let file = |name: &str| folder.join(name);
    fs::write(file("initramfs"), initramfs)?;
    let began = Instant::now();
    let mut command = Command::new(QEMU);
    command.args(["-machine", "pc,accel=tcg", "-smp", "2", "-m", MEMORY]);
    // With cmpxchg16b: without it kmalloc_nolock() of newer kernels has nothing to give, and programs
    // no storage in sockets.
    command.args(["-cpu", "max"]);
    command.args(["-nodefaults", "-display", "none", "-no-reboot"]);
    command.arg("-kernel").arg(kernel.join("vmlinuz")).arg("-initrd").arg(file("initramfs"));
    // `lsm`: as most distributions have it by now, with BPF among them; older kernels have not.
    command.args([
        "-append",
        "console=ttyS0 panic=-1 oops=panic quiet rdinit=/init \
         lsm=lockdown,capability,landlock,yama,apparmor,bpf",
    ]);
    for port in ["console", "told"] {
        command.arg("-serial").arg(format!("file:{}", file(port).display()));
    }
    command.arg("-device").arg(format!("isa-debug-exit,iobase={EXIT_PORT:#x},iosize=4"));
    // A machine must not outlive who waits for it.
    let dies_with_us = || match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    };
    unsafe { command.pre_exec(dies_with_us) };
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(file("qemu"))?)
        .spawn()
        .with_context(|| format!("cannot run {QEMU}"))?;
    let status = wait(&mut child, until.min(began + LIMIT))?;
    let read =
        |name| fs::read(file(name)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    // Only the device makes odd codes: a reset, a panic and QEMU's own end do not.
    let code = status.and_then(|code| u32::try_from(code).ok()).filter(|code| code & 1 == 1);
    Ok(Boot {
        code: code.map(|code| code >> 1),
        told: read("told")?,
        console: read("console")? + &read("qemu")?,
        took: began.elapsed(),
    })
}

/// Its exit code; none if it had to be ended.
fn wait(child: &mut Child, until: Instant) -> Result<Option<i32>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.code());
        }
        if Instant::now() > until {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
