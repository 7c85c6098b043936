//! How long to wait before the next try: twice as long each time up to a bound, and never the same for two nodes, so that a
//! coordinator that comes back is not asked by all of them at once.

use ring::rand::{SecureRandom, SystemRandom};
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, next: first }
    }

    /// What was tried worked.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }

    /// The wait from now: between a half and the whole of what doubling comes to.
    pub(crate) fn next_wait(&mut self) -> Duration {
        let whole = self.next;
        self.next = whole.saturating_mul(2).min(self.most);
        let mut byte = [0; 1];
        // Without random numbers all nodes wait the whole time, which is no harm to any one of them.
        let part = SystemRandom::new().fill(&mut byte).map_or(255, |()| u32::from(byte[0]));
        whole / 2 + whole.saturating_mul(part) / 510
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_bound_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
        for seconds in [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0] {
            let whole = Duration::from_secs_f64(seconds);
            let wait = backoff.next_wait();
            assert!(wait >= whole / 2 && wait <= whole, "{wait:?} of {whole:?}");
        }
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_millis(500));
    }
}
