//! What no file of the project may name: a folder of one machine, the host of a package registry (a mirror is the
//! builder's own setting). The words stand here in two halves so that this file passes its own check.

use crate::finding::Finding;
use crate::tree;
use anyhow::Result;
use std::path::Path;

const FOLDERS: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/")];
const HOSTS: &[&str] = &[
    concat!("crates", ".io"),
    concat!("pypi", ".org"),
    concat!("pythonhosted", ".org"),
    concat!("npmjs", ".org"),
    concat!("npmjs", ".com"),
    concat!("proxy.golang", ".org"),
    concat!("sum.golang", ".org"),
    concat!("maven.apache", ".org"),
    concat!("repo1.maven", ".org"),
    concat!("deb.debian", ".org"),
];
/// Written by tools, which put the registry's name into each entry.
const WRITTEN_BY_TOOLS: &[&str] = &["Cargo.lock"];

/// Reads every text file but the ones that tools write.
pub(crate) fn check(root: &Path) -> Result<Vec<Finding>> {
    let written_by_people = |file: &String| {
        let name = file.rsplit('/').next().unwrap_or(file);
        !WRITTEN_BY_TOOLS.contains(&name)
    };
    let files = tree::files(root)?.into_iter().filter(written_by_people);
    Ok(files
        .flat_map(|file| tree::text(root, &file).map_or_else(Vec::new, |text| judge(&file, &text)))
        .collect())
}

fn judge(file: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let mut refuse = |word: &str, advice: &str| {
            findings.push(Finding::failure(file, index + 1, format!("names {word}: {advice}")));
        };
        for word in FOLDERS.iter().filter(|word| begins_a_path(line, word)) {
            refuse(word, "say it relative to the project, or use a variable or a folder any machine has");
        }
        for word in HOSTS.iter().filter(|word| line.contains(**word)) {
            refuse(word, "which registry is used is the builder's own setting; say \"the registry\"");
        }
    }
    findings
}

/// Whether `folder` stands at the beginning of an absolute path in `line`, and not inside a longer one.
fn begins_a_path(line: &str, folder: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || "_-.}/~".contains(c);
    line.match_indices(folder)
        .any(|(at, _)| !line.get(..at).and_then(|before| before.chars().next_back()).is_some_and(inside))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_one_machine_is_refused_with_its_line() {
        let text = format!("fine\ncd {}main\n", FOLDERS.first().unwrap());
        let findings = judge("docs/a.md", &text);
        assert_eq!(findings.len(), 1);
        assert!(findings.iter().all(|f| f.fails && f.line == 2));
    }

    #[test]
    fn the_same_letters_inside_another_path_are_fine() {
        for before in ["target", "$STATE", "${STATE}", "..", "~"] {
            let text = format!("{before}{}x", FOLDERS.first().unwrap());
            assert_eq!(judge("a.sh", &text), [], "{text}");
        }
    }

    #[test]
    fn a_registry_is_refused_wherever_it_stands() {
        for host in HOSTS {
            assert!(judge("a.md", &format!("see https://static.{host}/x")).iter().any(|f| f.fails), "{host}");
        }
        assert_eq!(judge("a.md", "a crate from the registry, at crates/io"), []);
    }
}
