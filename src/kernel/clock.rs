//! Kernel times to wall-clock times.

use std::time::{Duration, SystemTime};

/// A reading of two clocks at once, taken when an epoch is sealed: the wall clock may be set
/// while the daemon runs, and a row's time should be what the clock said around then.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    boot_at: SystemTime,
    tick: Duration,
}

fn read(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime writes one timespec, which `time` is; these clocks always exist.
    unsafe { libc::clock_gettime(clock, &mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// Length of a jiffy: the resolution of the coarse clock is exactly that.
fn tick() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: as above.
    unsafe { libc::clock_getres(libc::CLOCK_MONOTONIC_COARSE, &mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

impl Clock {
    pub fn now() -> Self {
        let since_boot = read(libc::CLOCK_BOOTTIME);
        Self { boot_at: SystemTime::now() - since_boot, tick: tick() }
    }

    /// `ns` since boot, suspend included.
    pub fn at(&self, ns: u64) -> SystemTime {
        self.boot_at + Duration::from_nanos(ns)
    }

    /// The time of a row's last event: its first in nanoseconds, the distance in jiffies.
    pub fn last(&self, first_ns: u64, first_tick: u64, last_tick: u64) -> SystemTime {
        let ticks = u32::try_from(last_tick.saturating_sub(first_tick)).unwrap_or(u32::MAX);
        self.at(first_ns) + self.tick * ticks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn now_is_the_boot_clock_on_the_wall() {
        let clock = Clock::now();
        let now = clock.at(read(libc::CLOCK_BOOTTIME).as_nanos() as u64);
        let apart = SystemTime::now().duration_since(now).unwrap_or_default();
        assert!(apart < Duration::from_millis(100), "{apart:?}");
        assert!(
            clock.tick >= Duration::from_micros(100) && clock.tick <= Duration::from_millis(10)
        );
    }
}
