//! Pure: how long a program that ended waits for its next start. 100 ms, doubling to 5 s; a program that lived for 10 s
//! begins anew.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);
const LONG_ENOUGH: Duration = Duration::from_secs(10);

/// How often a program has ended lately.
#[derive(Debug, Clone, Default)]
pub(super) struct Restarts {
    in_a_row: u32,
}

impl Restarts {
    /// The program ended after living for `lived`: how long to wait.
    pub(super) fn wait_after(&mut self, lived: Duration) -> Duration {
        if lived >= LONG_ENOUGH {
            self.in_a_row = 0;
        }
        let factor = 1_u32.checked_shl(self.in_a_row.min(16)).unwrap_or(u32::MAX);
        self.in_a_row = self.in_a_row.saturating_add(1);
        FIRST.saturating_mul(factor).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(lives: &[u64]) -> Vec<u64> {
        let mut restarts = Restarts::default();
        let wait = |lived: &u64| restarts.wait_after(Duration::from_millis(*lived)).as_millis();
        lives.iter().map(wait).map(|wait| u64::try_from(wait).unwrap()).collect()
    }

    #[test]
    fn a_program_that_keeps_ending_is_never_restarted_in_a_hurry() {
        assert_eq!(waits(&[0; 9]), [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
        assert_eq!(waits(&[0; 200]).last(), Some(&5000));
    }

    #[test]
    fn a_program_that_lived_for_ten_seconds_begins_anew() {
        assert_eq!(waits(&[0, 0, 9_999, 10_000, 0]), [100, 200, 400, 100, 200]);
    }
}
