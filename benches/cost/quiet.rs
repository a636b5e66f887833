//! Whether this machine can be measured on.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use libbpf_rs::ProgramType;
use libbpf_rs::query::ProgInfoIter;

/// Share of one CPU that others may use.
const BUSY: f64 = 0.05;

/// Refuses where results would mean nothing; with `force` they come with these notes.
pub fn check(force: bool) -> Result<Vec<String>> {
    let mut notes = foreign_programs();
    if std::fs::read_to_string("/proc/sys/kernel/bpf_stats_enabled")
        .is_ok_and(|on| on.trim() != "0")
    {
        notes.push(
            "kernel.bpf_stats_enabled is on: each run of a program reads two clocks more".into(),
        );
    }
    let others = Others::since_now()?;
    std::thread::sleep(Duration::from_secs(1));
    notes.extend(others.note()?);
    if !notes.is_empty() && !force {
        bail!("this machine is not quiet (--force measures anyway):\n  {}", notes.join("\n  "));
    }
    Ok(notes)
}

/// Programs that run on system calls, processes, files or sockets of everybody. Those of
/// systemd on cgroups are harmless.
fn foreign_programs() -> Vec<String> {
    let harmless = [
        ProgramType::CgroupSkb,
        ProgramType::CgroupDevice,
        ProgramType::CgroupSock,
        ProgramType::CgroupSockAddr,
        ProgramType::CgroupSysctl,
    ];
    ProgInfoIter::default()
        .filter(|program| !harmless.contains(&program.ty))
        .map(|program| {
            format!("BPF program {} ({:?}) is loaded: {:?}", program.id, program.ty, program.name)
        })
        .collect()
}

/// What others use of the CPUs: all that is used, less what this process and its children use.
pub struct Others {
    began: Instant,
    all: f64,
    own: f64,
}

impl Others {
    pub fn since_now() -> Result<Self> {
        Ok(Self { began: Instant::now(), all: busy_seconds()?, own: own_seconds()? })
    }

    /// A note if it was too much. Children count once they were waited for.
    pub fn note(&self) -> Result<Option<String>> {
        let used = (busy_seconds()? - self.all) - (own_seconds()? - self.own);
        let share = used / self.began.elapsed().as_secs_f64();
        Ok((share > BUSY).then(|| format!("others used {:.0} % of a CPU", share * 100.0)))
    }
}

fn own_seconds() -> Result<f64> {
    // SAFETY: all-zero bytes are a valid value of this struct of numbers.
    let mut times: libc::tms = unsafe { std::mem::zeroed() };
    // SAFETY: the place is writable and of the right type.
    anyhow::ensure!(unsafe { libc::times(&raw mut times) } != -1, "times");
    let ticks = times.tms_utime + times.tms_stime + times.tms_cutime + times.tms_cstime;
    Ok(ticks as f64 / ticks_per_second())
}

/// All but idle and iowait; with what the host of a virtual machine takes away.
fn busy_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("/proc/stat is empty")?;
    let ticks = line.split_whitespace().skip(1).map_while(|word| word.parse::<f64>().ok());
    // user nice system idle iowait irq softirq steal; guest time is in user already.
    let busy: f64 =
        ticks.take(8).enumerate().filter(|(at, _)| ![3, 4].contains(at)).map(|(_, n)| n).sum();
    Ok(busy / ticks_per_second())
}

pub fn ticks_per_second() -> f64 {
    // SAFETY: takes a number, gives a number.
    unsafe { libc::sysconf(libc::_SC_CLK_TCK) as f64 }
}

pub fn kernel() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "Linux".into(), |release| format!("Linux {}", release.trim()))
}
