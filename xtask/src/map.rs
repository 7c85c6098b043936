//! ARCHITECTURE.md names every crate, and each path that its first table (the one-minute test) gives is there.

use crate::finding::Finding;
use crate::tree;
use anyhow::Result;
use std::path::Path;

const MAP: &str = "ARCHITECTURE.md";

/// Compares the map with the tree.
pub(crate) fn check(root: &Path) -> Result<Vec<Finding>> {
    let Some(text) = tree::text(root, MAP) else {
        return Ok(vec![Finding::failure(
            MAP,
            0,
            "is not there: write it, the map of the project begins there",
        )]);
    };
    let mut findings = unnamed(&text, &tree::crates(root)?);
    let gone = paths(&text).into_iter().filter(|(_, path)| !root.join(path).exists());
    findings.extend(gone.map(|(line, path)| {
        Finding::failure(
            MAP,
            line,
            format!("`{path}` is not there: name the file that answers the question now"),
        )
    }));
    Ok(findings)
}

fn unnamed(text: &str, crates: &[String]) -> Vec<Finding> {
    let missing = crates.iter().filter(|name| !names(text, name));
    missing
        .map(|name| Finding::failure(MAP, 0, format!("does not name crates/{name}: say what it is for")))
        .collect()
}

fn names(text: &str, name: &str) -> bool {
    let ends = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    text.split("crates/").skip(1).any(|rest| rest.strip_prefix(name).is_some_and(ends))
}

/// The paths in backticks in the first table, each with its line.
fn paths(text: &str) -> Vec<(usize, &str)> {
    let is_row = |(_, line): &(usize, &str)| line.trim_start().starts_with('|');
    let table = text.lines().enumerate().skip_while(|line| !is_row(line)).take_while(is_row);
    table
        .flat_map(|(index, line)| line.split('`').skip(1).step_by(2).map(move |code| (index + 1, code)))
        .filter(|(_, code)| looks_like_path(code))
        .collect()
}

fn looks_like_path(code: &str) -> bool {
    let plain = code.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b));
    let file = code.rsplit_once('.').is_some_and(|(stem, end)| {
        !stem.is_empty() && ["rs", "md", "toml", "txt", "sh", "json"].contains(&end) && !stem.ends_with('/')
    });
    plain && !code.starts_with('/') && (file || code.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_is_named_only_by_its_whole_path() {
        let crates = ["mesh".to_owned(), "store".to_owned()];
        let findings = unnamed("`crates/meshnode/src/lib.rs` and the store", &crates);
        assert_eq!(findings.len(), 2);
        assert_eq!(unnamed("`crates/mesh/`, crates/store", &crates), []);
    }

    #[test]
    fn paths_are_taken_from_the_first_table_with_their_lines() {
        let text = "`crates/no/table.rs`\n\n| q | a |\n|---|---|\n| Where? | `crates/a/src/b.rs`, from `deny.toml` |\n\n| `second/table.rs` |\n";
        assert_eq!(paths(text), [(5, "crates/a/src/b.rs"), (5, "deny.toml")]);
    }

    #[test]
    fn what_is_no_path_is_left_alone() {
        for code in [
            "app.deploy",
            "Permit",
            "POST /rpc",
            "/rpc",
            "crates/enroll/src/…",
            "commands::authorize",
            "fn x()",
        ] {
            assert!(!looks_like_path(code), "{code}");
        }
        for code in ["crates/executor/", "layers.txt", "tests/peers/run"] {
            assert!(looks_like_path(code), "{code}");
        }
    }
}
