//! The list of checks, in the order in which they run: those that compile nothing first. One that fails does not stop
//! the others, so one run shows everything there is to mend.

use crate::finding::{Finding, tell};
use crate::{budget, contract, deny, formats, layers, map, program, sizes, tree, words};
use anyhow::{Result, bail};
use std::path::Path;
use std::time::Instant;

/// One check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// Who imports whom.
    Layers,
    /// How long files are.
    Sizes,
    /// Whether ARCHITECTURE.md is a map of what is there.
    Map,
    /// Whether docs/protocol.md says what `proto` says.
    Contract,
    /// Whether each numbered format has a fixture.
    Formats,
    /// How many packages the lock file has.
    Budget,
    /// What no file may name.
    Words,
    /// `cargo fmt`.
    Fmt,
    /// `cargo deny`.
    Deny,
    /// `cargo clippy`.
    Clippy,
    /// `cargo doc`.
    Docs,
}

impl Check {
    const ALL: [Self; 11] = [
        Self::Layers,
        Self::Sizes,
        Self::Map,
        Self::Contract,
        Self::Formats,
        Self::Budget,
        Self::Words,
        Self::Fmt,
        Self::Deny,
        Self::Clippy,
        Self::Docs,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Layers => "layers",
            Self::Sizes => "sizes",
            Self::Map => "map",
            Self::Contract => "contract",
            Self::Formats => "formats",
            Self::Budget => "budget",
            Self::Words => "words",
            Self::Fmt => "fmt",
            Self::Deny => "deny",
            Self::Clippy => "clippy",
            Self::Docs => "docs",
        }
    }

    /// Every name, for the usage line.
    pub(crate) fn names() -> String {
        Self::ALL.map(Self::name).join(" | ")
    }

    /// The checks of these names; all of them when there are none.
    pub(crate) fn chosen(names: &[String]) -> Result<Vec<Self>> {
        if names.is_empty() {
            return Ok(Self::ALL.to_vec());
        }
        let find = |name: &String| match Self::ALL.into_iter().find(|check| check.name() == name) {
            Some(check) => Ok(check),
            None => bail!("no check is called {name:?}; there are: {}", Self::names()),
        };
        names.iter().map(find).collect()
    }

    fn findings(self, root: &Path) -> Result<Vec<Finding>> {
        match self {
            Self::Layers => layers::check(root),
            Self::Sizes => sizes::check(root),
            Self::Map => map::check(root),
            Self::Contract => contract::check(root),
            Self::Formats => formats::check(root),
            Self::Budget => budget::check(root),
            Self::Words => words::check(root),
            Self::Fmt => program::cargo(root, &["fmt", "--all", "--check"], "run `cargo fmt --all`"),
            Self::Deny => deny::check(root),
            Self::Clippy => program::cargo(
                root,
                &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"],
                "mend each, or say why not with #[expect(lint, reason = \"…\")]",
            ),
            Self::Docs => program::cargo_docs(root),
        }
    }
}

/// Runs the checks, prints what each found and how long it took, and says whether all passed.
pub(crate) fn run(checks: &[Check]) -> Result<bool> {
    let root = tree::root()?;
    let mut failed = Vec::new();
    for check in checks {
        let start = Instant::now();
        let findings = check.findings(&root)?;
        findings.iter().for_each(|finding| tell(&format!("  {finding}")));
        let passed = !findings.iter().any(|finding| finding.fails);
        let word = if passed { "ok" } else { "FAILED" };
        tell(&format!("check {:<8} {word:<6} {:6.1} s", check.name(), start.elapsed().as_secs_f64()));
        if !passed {
            failed.push(check.name());
        }
    }
    if !failed.is_empty() {
        tell(&format!("failed: {}; run one alone with `cargo xtask check NAME`", failed.join(", ")));
    }
    Ok(failed.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_check_is_refused_with_the_names_there_are() {
        let error = Check::chosen(&["layer".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("\"layer\"") && error.contains("layers"), "{error}");
    }

    #[test]
    fn no_name_means_every_check_and_a_name_means_that_one() {
        assert_eq!(Check::chosen(&[]).unwrap().len(), Check::ALL.len());
        assert_eq!(Check::chosen(&["map".to_owned()]).unwrap(), [Check::Map]);
    }
}
