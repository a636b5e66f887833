//! Kernel times to wall-clock times.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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

/// When the host was started, in nanoseconds of the wall clock, as it was last told. One process is
/// met in many epochs: its start must not wander with the readings.
static BOOT_AT: AtomicU64 = AtomicU64::new(0);

/// The wall clock was set, or has been slewed so far: less is how readings differ.
const STEP: Duration = Duration::from_millis(1);

/// The wall clock between two readings of the other; of several the one that was least disturbed.
fn boot_at() -> Duration {
    let sample = |_| {
        let before = read(libc::CLOCK_BOOTTIME);
        let wall = read(libc::CLOCK_REALTIME);
        let within = read(libc::CLOCK_BOOTTIME).saturating_sub(before);
        (within, wall.saturating_sub(before + within / 2))
    };
    let best = (0..3).map(sample).min_by_key(|(within, _)| *within);
    best.map_or(Duration::ZERO, |(_, boot_at)| boot_at)
}

/// What is known, unless what was read now is another time.
fn steady(known: u64, read: u64) -> u64 {
    if u128::from(known.abs_diff(read)) < STEP.as_nanos() { known } else { read }
}

impl Clock {
    pub fn now() -> Self {
        // Two threads that both find a new time may tell one epoch each by either of them.
        let read = boot_at().as_nanos() as u64;
        let boot_at = steady(BOOT_AT.load(Ordering::Relaxed), read);
        BOOT_AT.store(boot_at, Ordering::Relaxed);
        Self { boot_at: UNIX_EPOCH + Duration::from_nanos(boot_at), tick: tick() }
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
    fn readings_that_differ_by_chance_are_one_time_and_a_clock_that_was_set_is_another() {
        assert_eq!(steady(5_000_000, 5_000_900), 5_000_000);
        assert_eq!(steady(5_000_900, 5_000_000), 5_000_900);
        assert_eq!(steady(5_000_000, 9_000_000), 9_000_000);
        assert_eq!(steady(0, 5_000_000), 5_000_000);
        let (first, second) = (Clock::now(), Clock::now());
        assert_eq!(first.at(1), second.at(1));
    }

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
