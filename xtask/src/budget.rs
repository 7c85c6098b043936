//! `Cargo.lock` may not hold more packages than `xtask/budget.txt` says. Raising the number is a decision, in a commit.

use crate::finding::Finding;
use crate::tree;
use anyhow::{Context as _, Result};
use std::path::Path;

const BUDGET: &str = "xtask/budget.txt";
const LOCK: &str = "Cargo.lock";

/// Compares the lock file with the budget.
pub(crate) fn check(root: &Path) -> Result<Vec<Finding>> {
    let lock = tree::text(root, LOCK).with_context(|| format!("can't read {LOCK}"))?;
    let budget = tree::text(root, BUDGET).with_context(|| format!("can't read {BUDGET}"))?;
    Ok(judge(&lock, &budget))
}

fn judge(lock: &str, budget: &str) -> Vec<Finding> {
    let packages = lock.lines().filter(|line| line.trim() == "[[package]]").count();
    let mut numbers = budget.lines().enumerate().filter(|(_, line)| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with('#')
    });
    let (Some((index, number)), None) = (numbers.next(), numbers.next()) else {
        return vec![Finding::failure(BUDGET, 0, "one line with one number is wanted, besides comments")];
    };
    match number.trim().parse::<usize>() {
        Err(_) => vec![Finding::failure(BUDGET, index + 1, format!("{number:?} is not a number"))],
        Ok(limit) if packages > limit => {
            let advice = "do without one (`cargo tree -d` shows duplicates), or raise it and say why";
            vec![Finding::failure(LOCK, 0, format!("{packages} packages, the budget is {limit}: {advice}"))]
        }
        Ok(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: &str =
        "version = 4\n[[package]]\nname = \"a\"\n\n[[package]]\nname = \"b\"\n\n[[package]]\nname = \"c\"\n";

    #[test]
    fn one_package_too_many_fails() {
        let findings = judge(THREE, "# why\n2\n");
        assert_eq!(findings.len(), 1);
        assert!(findings.iter().all(|f| f.fails && f.message.starts_with("3 packages, the budget is 2")));
        assert_eq!(judge(THREE, "3\n"), []);
    }

    #[test]
    fn a_budget_that_says_nothing_or_two_things_fails() {
        for bad in ["", "# only words\n", "3\n4\n", "many\n"] {
            assert!(judge(THREE, bad).iter().any(|f| f.fails), "{bad:?}");
        }
    }
}
