//! No source file outgrows its bound. Lines are counted as they stand, comments included; tests may be longer.

use crate::finding::Finding;
use crate::tree;
use anyhow::Result;
use std::path::Path;

const LOOK_AGAIN: usize = 400;
const HARD: usize = 600;
const HARD_TESTS: usize = 800;

/// Measures every `.rs` file.
pub(crate) fn check(root: &Path) -> Result<Vec<Finding>> {
    let sources = tree::files(root)?.into_iter().filter(|file| file.ends_with(".rs"));
    Ok(sources
        .filter_map(|file| tree::text(root, &file).and_then(|text| judge(&file, text.lines().count())))
        .collect())
}

fn judge(file: &str, lines: usize) -> Option<Finding> {
    let (soft, hard) = if is_test(file) { (HARD, HARD_TESTS) } else { (LOOK_AGAIN, HARD) };
    if lines > hard {
        return Some(Finding::failure(
            file,
            hard + 1,
            format!("{lines} lines, {hard} at most: split it by idea"),
        ));
    }
    (lines > soft).then(|| Finding::warning(file, soft + 1, format!("{lines} lines: is it still one idea?")))
}

fn is_test(file: &str) -> bool {
    file.ends_with("/tests.rs") || file.contains("/tests/it/") || file.starts_with("tests/it/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_past_its_bound_fails_and_names_the_first_line_too_many() {
        let finding = judge("crates/a/src/b.rs", 601).unwrap();
        assert!(finding.fails);
        assert_eq!(finding.line, 601);
    }

    #[test]
    fn between_the_bounds_is_a_warning_and_below_is_nothing() {
        assert!(!judge("crates/a/src/b.rs", 600).unwrap().fails);
        assert!(!judge("crates/a/src/b.rs", 401).unwrap().fails);
        assert_eq!(judge("crates/a/src/b.rs", 400), None);
    }

    #[test]
    fn tests_may_be_longer_but_not_without_end() {
        for file in ["crates/a/src/b/tests.rs", "crates/a/tests/it/door.rs"] {
            assert_eq!(judge(file, 600), None);
            assert!(!judge(file, 800).unwrap().fails);
            assert!(judge(file, 801).unwrap().fails);
        }
        assert!(judge("crates/a/src/contests.rs", 601).unwrap().fails);
    }
}
