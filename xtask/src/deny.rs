//! Licences, sources and banned crates by `cargo deny`, and advisories where their database can be fetched. What could
//! not be checked is said loudly, and in CI the absence of the program is a failure.

use crate::finding::{Finding, tell};
use crate::program::{cargo, command, succeeds};
use anyhow::Result;
use std::path::Path;
use std::time::Duration;

const DENY: &str = "deny.toml";
const START: Duration = Duration::from_secs(60);
const FETCH: Duration = Duration::from_secs(120);

/// Runs `cargo deny`.
pub(crate) fn check(root: &Path) -> Result<Vec<Finding>> {
    if !succeeds(command(root, "cargo").args(["deny", "--version"]), START) {
        return Ok(vec![absent(in_ci())]);
    }
    let mut findings = cargo(
        root,
        &["deny", "--locked", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"],
        "choose another crate, or change deny.toml and say why",
    )?;
    if succeeds(command(root, "cargo").args(["deny", "fetch", "db"]), FETCH) {
        findings.extend(cargo(
            root,
            &["deny", "--locked", "check", "--disable-fetch", "advisories"],
            "update the crate, or ignore the advisory in deny.toml with the reason why it can't happen here",
        )?);
    } else {
        tell("  ############################################################################");
        tell("  # ADVISORIES WERE NOT CHECKED: their database can't be fetched from here.  #");
        tell("  # Run `cargo xtask check deny` once on a machine that reaches it.          #");
        tell("  ############################################################################");
    }
    Ok(findings)
}

fn absent(ci: bool) -> Finding {
    let message = "NOT CHECKED, cargo-deny is not installed: licences, sources, bans and advisories are unknown. \
                   `cargo install --locked cargo-deny`";
    if ci { Finding::failure(DENY, 0, message) } else { Finding::warning(DENY, 0, message) }
}

fn in_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_program_ci_fails_and_a_person_is_told() {
        assert!(absent(true).fails);
        let told = absent(false);
        assert!(!told.fails && told.message.contains("cargo install"));
    }
}
