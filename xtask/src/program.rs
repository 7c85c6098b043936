//! Running cargo for the checks that need it. Its output goes straight to the terminal.

use crate::finding::Finding;
use anyhow::{Context as _, Result};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(50);

/// A command in the root of the project, with nothing to read from.
#[expect(clippy::disallowed_methods, reason = "a chore is a list of programs to start")]
pub(crate) fn command(root: &Path, program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root).stdin(std::process::Stdio::null());
    command
}

/// Runs `cargo` with these arguments; a failure becomes one finding with this advice.
pub(crate) fn cargo(root: &Path, arguments: &[&str], advice: &str) -> Result<Vec<Finding>> {
    run(command(root, "cargo").args(arguments), &format!("cargo {}", arguments.join(" ")), advice)
}

/// Builds the documentation with every warning an error.
pub(crate) fn cargo_docs(root: &Path) -> Result<Vec<Finding>> {
    let arguments = ["doc", "--workspace", "--no-deps", "--locked"];
    let mut command = command(root, "cargo");
    command.args(arguments).env("RUSTDOCFLAGS", "-D warnings");
    run(
        &mut command,
        &format!("cargo {}", arguments.join(" ")),
        "mend the links and texts that rustdoc names",
    )
}

/// Whether the program runs and ends with 0 within `limit`; its output is dropped.
pub(crate) fn succeeds(command: &mut Command, limit: Duration) -> bool {
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let Ok(mut child) = command.spawn() else { return false };
    let end = Instant::now() + limit;
    while Instant::now() < end {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) => std::thread::sleep(POLL),
            Err(_) => break,
        }
    }
    // Past its time, or out of reach: either way nothing of it may stay behind.
    let _ = child.kill();
    let _ = child.wait();
    false
}

fn run(command: &mut Command, shown: &str, advice: &str) -> Result<Vec<Finding>> {
    let status = command.status().with_context(|| format!("can't start {shown}"))?;
    if status.success() {
        return Ok(Vec::new());
    }
    Ok(vec![Finding::failure(shown, 0, format!("ended with {status}: {advice}"))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_fails_or_is_not_there_does_not_succeed() {
        let root = Path::new("/");
        assert!(!succeeds(&mut command(root, "false"), Duration::from_secs(60)));
        assert!(!succeeds(&mut command(root, "no-such-program-anywhere"), Duration::from_secs(60)));
        assert!(succeeds(&mut command(root, "true"), Duration::from_secs(60)));
    }

    #[test]
    fn a_program_past_its_time_is_ended() {
        let start = Instant::now();
        assert!(!succeeds(command(Path::new("/"), "sleep").arg("600"), Duration::ZERO));
        assert!(start.elapsed() < Duration::from_secs(300));
    }
}
