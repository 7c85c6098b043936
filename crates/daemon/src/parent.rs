//! Ending with the parent: the system sends SIGTERM when the supervisor dies, however it dies.

use rustix::process::{Pid, getppid};

/// Why a program can't tie its life to its parent's.
#[derive(Debug, thiserror::Error)]
pub enum ParentError {
    /// The parent died before the tie was made, so no signal will ever come.
    #[error("process {expected}, which this program was to end with, is gone")]
    Gone {
        /// The supervisor's process id.
        expected: u32,
    },
    /// The system can't do it.
    #[error("this system can't tie a program to its parent")]
    Unsupported(#[source] rustix::io::Errno),
}

/// From now on SIGTERM comes when the parent dies. With `expected`, the parent's process id as the parent told it, a
/// parent that died before this call is noticed too. A program that changes its user afterwards loses the tie.
///
/// # Errors
/// [`ParentError::Gone`] when the parent is another than expected.
pub fn die_with_parent(expected: Option<u32>) -> Result<(), ParentError> {
    ask_for_signal()?;
    judge(expected, getppid())
}

#[cfg(target_os = "linux")]
fn ask_for_signal() -> Result<(), ParentError> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))
        .map_err(ParentError::Unsupported)
}

#[cfg(not(target_os = "linux"))]
fn ask_for_signal() -> Result<(), ParentError> {
    Err(ParentError::Unsupported(rustix::io::Errno::NOSYS))
}

fn judge(expected: Option<u32>, parent: Option<Pid>) -> Result<(), ParentError> {
    let parent = parent.and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok());
    match expected {
        Some(expected) if parent != Some(expected) => Err(ParentError::Gone { expected }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_parent_than_the_expected_one_is_noticed() {
        let parent = Pid::from_raw(4711);
        assert!(matches!(judge(Some(4712), parent), Err(ParentError::Gone { expected: 4712 })));
        assert!(judge(Some(4711), None).is_err());
        assert!(judge(Some(4711), parent).is_ok());
        assert!(judge(None, parent).is_ok());
    }
}
