//! The one place that reads the clock: wall time once at start, and from then on what the boot clock adds to it. So time
//! never goes back and includes suspension; a step of the wall clock is told, not followed.

use allod_proto::Timestamp;
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How far the wall clock may drift from ours before it counts as a step.
pub const STEP: Duration = Duration::from_secs(60);

/// A clock that never goes back. Copies of it agree.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Reading,
}

/// What both clocks said at one moment, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reading {
    wall: u64,
    boot: u64,
}

impl Reading {
    fn take() -> Self {
        Self { wall: wall_ms(), boot: boot_clock_ms() }
    }

    /// Wall time at `self` plus what the boot clock has counted since.
    fn time_at(self, boot: u64) -> u64 {
        self.wall.saturating_add(boot.saturating_sub(self.boot))
    }

    /// How far the wall clock lies from where it would be had nobody touched it since `self`.
    fn step_to(self, later: Self) -> Option<Duration> {
        let distance = Duration::from_millis(later.wall.abs_diff(self.time_at(later.boot)));
        (distance > STEP).then_some(distance)
    }
}

impl Clock {
    /// Reads the wall clock, once.
    #[must_use]
    pub fn start() -> Self {
        Self { start: Reading::take() }
    }

    /// The time: wall time at start plus boot time since.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp(self.start.time_at(boot_clock_ms()))
    }

    /// Milliseconds since the machine booted, suspension included.
    #[must_use]
    pub fn boot_ms(&self) -> u64 {
        boot_clock_ms()
    }

    /// How far the wall clock now differs from this clock, if by more than [`STEP`]: somebody set it, or it was wrong
    /// at start and has been corrected. A new [`Clock::start`] takes the wall clock's word again.
    #[must_use]
    pub fn stepped(&self) -> Option<Duration> {
        self.start.step_to(Reading::take())
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that the ban on reading the clock points to"
)]
fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX).saturating_add_signed(test_offset_ms())
}

/// How far a test has set this machine's clock: it stands beside the program's own file, in builds for development only.
#[cfg(debug_assertions)]
fn test_offset_ms() -> i64 {
    let read = || {
        let file = std::env::current_exe().ok()?.with_file_name("clock-offset-ms");
        std::fs::read_to_string(file).ok()?.trim().parse().ok()
    };
    read().unwrap_or(0)
}

#[cfg(not(debug_assertions))]
fn test_offset_ms() -> i64 {
    0
}

fn boot_clock_ms() -> u64 {
    #[cfg(target_os = "linux")]
    let clock = ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = ClockId::Monotonic;
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let millis = u64::try_from(time.tv_nsec / 1_000_000).unwrap_or(0);
    seconds.saturating_mul(1000).saturating_add(millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Reading = Reading { wall: 1_000_000, boot: 5_000 };

    #[test]
    fn a_wall_clock_that_is_set_back_does_not_take_time_back() {
        assert_eq!(START.time_at(5_000), 1_000_000);
        assert_eq!(START.time_at(7_500), 1_002_500);
        assert_eq!(
            START.time_at(0),
            1_000_000,
            "a boot clock that went back would not take time back either"
        );
    }

    #[test]
    fn a_step_is_told_from_the_61st_second_on_in_both_directions() {
        let later = |wall| Reading { wall, boot: 6_000 };
        assert_eq!(START.step_to(later(1_001_000)), None);
        assert_eq!(START.step_to(later(1_061_000)), None);
        assert_eq!(START.step_to(later(1_062_000)), Some(Duration::from_secs(61)));
        assert_eq!(START.step_to(later(940_000)), Some(Duration::from_secs(61)));
    }

    #[test]
    fn the_real_clock_is_past_2020_and_its_copies_agree() {
        let clock = Clock::start();
        let copy = clock;
        assert!(clock.now().0 > 1_577_836_800_000);
        assert!(copy.now() >= clock.now().minus(Duration::from_secs(5)));
        assert_eq!(clock.stepped(), None);
        assert!(clock.boot_ms() > 0);
    }
}
