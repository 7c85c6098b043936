//! Every numbered format has a fixture: a file as the program writes it, kept for ever, that a test of its crate reads.
//! `const FORMAT: u32 = N;` in a crate asks for `tests/fixtures/<name>.format-N.*` there, and for N-1 where there was one;
//! the name is the `NAME` of a `Format`, else that of the source file.

use crate::finding::{Finding, line_of};
use crate::tree;
use anyhow::Result;
use std::path::Path;

const NUMBER: &str = "const FORMAT: u32 = ";
const NAME: &str = "const NAME: &'static str = \"";
/// A crate that measures and is part of no program: nobody reads its files but itself.
const SUPPORT: &str = "crates/bench/";

/// Compares the sources with the fixtures.
pub(crate) fn check(root: &Path) -> Result<Vec<Finding>> {
    let files = tree::files(root)?;
    let is_source = |file: &&String| {
        let in_program = file.starts_with("crates/") && file.contains("/src/") && file.ends_with(".rs");
        in_program && !file.ends_with("/tests.rs") && !file.starts_with(SUPPORT)
    };
    let sources = files.iter().filter(is_source);
    Ok(sources
        .filter_map(|file| tree::text(root, file).map(|text| judge(file, &text, &files)))
        .flatten()
        .collect())
}

fn judge(file: &str, text: &str, files: &[String]) -> Vec<Finding> {
    // What a file's own tests define is no format of a program.
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let numbered = text.match_indices(NUMBER).filter_map(|(at, _)| {
        let number = text.get(at + NUMBER.len()..)?.split(';').next()?.parse::<u32>().ok()?;
        Some((at, number))
    });
    numbered.flat_map(|(at, number)| missing(file, text, at, number, files)).collect()
}

fn missing(file: &str, text: &str, at: usize, number: u32, files: &[String]) -> Vec<Finding> {
    let folder = file.split_once("/src/").map_or(file, |(folder, _)| folder);
    let name = name_of(file, text.get(..at).unwrap_or_default());
    let oldest = number.saturating_sub(1).max(1);
    let wanted = (oldest..=number).map(|number| format!("{folder}/tests/fixtures/{name}.format-{number}."));
    let absent = wanted.filter(|wanted| !files.iter().any(|file| file.starts_with(wanted)));
    absent
        .map(|wanted| {
            let message = format!("its format has no fixture {wanted}*: keep a file as it is written now");
            Finding::failure(file, line_of(text, at), message)
        })
        .collect()
}

/// The `NAME` just before, with `-` for what is no letter or digit; else the name of the source file.
fn name_of(file: &str, before: &str) -> String {
    let last_two: Vec<&str> = before.lines().rev().take(2).collect();
    let given = last_two.iter().find_map(|line| line.trim().strip_prefix(NAME)?.split('"').next());
    let stem = file.rsplit('/').next().and_then(|name| name.strip_suffix(".rs")).unwrap_or(file);
    given.unwrap_or(stem).chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: &str = "impl Format for A {\n    const NAME: &'static str = \"rotated identity\";\n    const FORMAT: u32 = 2;\n}\n";

    fn files(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_new_store_without_a_fixture_fails_and_is_told_which_file_to_keep() {
        let found = judge("crates/a/src/b.rs", &STORE.replace("= 2", "= 1"), &[]);
        assert_eq!(found.len(), 1);
        assert!(found[0].fails && found[0].line == 3, "{found:?}");
        assert!(found[0].message.contains("crates/a/tests/fixtures/rotated-identity.format-1."), "{found:?}");
        let other = files(&["crates/b/tests/fixtures/rotated-identity.format-1.json"]);
        assert_eq!(
            judge("crates/a/src/b.rs", &STORE.replace("= 2", "= 1"), &other).len(),
            1,
            "of another crate"
        );
    }

    #[test]
    fn a_changed_format_needs_the_one_before_too() {
        let new = files(&["crates/a/tests/fixtures/rotated-identity.format-2.json"]);
        let found = judge("crates/a/src/b.rs", STORE, &new);
        assert!(found.len() == 1 && found[0].message.contains("format-1."), "{found:?}");
        let both = files(&[
            "crates/a/tests/fixtures/rotated-identity.format-1.json",
            "crates/a/tests/fixtures/rotated-identity.format-2.json",
        ]);
        assert_eq!(judge("crates/a/src/b.rs", STORE, &both), []);
    }

    #[test]
    fn a_number_without_a_name_is_that_of_its_file_and_a_tests_own_is_none() {
        let plain = "/// The number.\npub const FORMAT: u32 = 1;\n";
        assert!(judge("crates/a/src/routes.rs", plain, &[])[0].message.contains("/routes.format-1."));
        let own = "fn f() {}\n#[cfg(test)]\nmod tests {\n    const FORMAT: u32 = 1;\n}\n";
        assert_eq!(judge("crates/a/src/b.rs", own, &[]), []);
    }
}
