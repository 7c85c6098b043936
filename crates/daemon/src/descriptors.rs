//! How many descriptors a process may have open. The soft limit of most systems is 1024, for programs that use
//! `select`; a listener needs more.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// More than any of the programs needs.
const ENOUGH: u64 = 65_536;

/// Raises the soft limit to the hard one, or to what is enough, and says what it is now.
pub fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    // `None` is no limit.
    let now = limit.current.unwrap_or(u64::MAX);
    let wanted = limit.maximum.unwrap_or(u64::MAX).min(ENOUGH);
    if wanted <= now {
        return now;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum }) {
        Ok(()) => wanted,
        Err(error) => {
            tracing::warn!(%error, now, "the limit of open descriptors could not be raised");
            now
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_never_lowered_and_is_told_as_it_is() {
        let before = getrlimit(Resource::Nofile);
        let told = raise_descriptor_limit();
        let after = getrlimit(Resource::Nofile);
        assert_eq!(after.current.unwrap_or(u64::MAX), told);
        assert!(told >= before.current.unwrap_or(u64::MAX));
        assert_eq!(after.maximum, before.maximum);
    }
}
