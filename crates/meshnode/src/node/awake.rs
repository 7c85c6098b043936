//! Time as this node lives through it. While the machine sleeps, or the process is halted, the clock goes on and nothing is done: that
//! is no silence of anybody else's.

use allod_proto::Timestamp;
use std::time::Duration;

/// Who looks at the clock several times a second, and did not for so long, slept.
const ASLEEP: Duration = Duration::from_secs(5);

/// When the clock was looked at last, and how much was slept in all.
#[derive(Debug)]
pub(crate) struct Awake {
    last: Timestamp,
    slept: Duration,
}

impl Awake {
    /// Since now.
    pub(crate) const fn since(now: Timestamp) -> Self {
        Self { last: now, slept: Duration::ZERO }
    }

    /// It is `now`. How long was slept until a moment ago, if at all.
    pub(crate) fn look(&mut self, now: Timestamp) -> Option<Duration> {
        let passed = now.since(self.last);
        self.last = self.last.max(now);
        let slept = Some(passed).filter(|passed| *passed >= ASLEEP)?;
        self.slept = self.slept.saturating_add(slept);
        Some(slept)
    }

    /// What time it would be had the clock stood still meanwhile.
    pub(crate) fn lived(&self) -> Timestamp {
        self.last.minus(self.slept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn after(milliseconds: u64) -> Timestamp {
        NOW.plus(Duration::from_millis(milliseconds))
    }

    #[test]
    fn what_a_busy_machine_takes_is_no_sleep() {
        let mut awake = Awake::since(NOW);
        assert_eq!(awake.look(after(4_999)), None);
        assert_eq!(awake.look(after(9_998)), None);
        assert_eq!(awake.look(after(9_000)), None, "nor is a clock that went back");
        assert_eq!(awake.lived(), after(9_998));
    }

    #[test]
    fn a_sleep_is_told_once_and_is_not_lived_through() {
        let mut awake = Awake::since(NOW);
        assert_eq!(awake.look(after(100)), None);
        assert_eq!(awake.look(after(600_100)), Some(Duration::from_secs(600)));
        assert_eq!(awake.lived(), after(100));
        assert_eq!(awake.look(after(600_350)), None);
        assert_eq!(awake.lived(), after(350));
        assert_eq!(awake.look(after(605_350)), Some(Duration::from_secs(5)));
        assert_eq!(awake.lived(), after(350));
    }
}
