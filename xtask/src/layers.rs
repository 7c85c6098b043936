//! Arrows only point down. `layers.txt` puts each crate on a row; a crate may use the rows below its own, of its own
//! row only what is listed, and support crates only in its tests.

mod plan;
#[cfg(test)]
mod tests;

use crate::finding::Finding;
use crate::manifest::{self, Dependency, Manifest, Purpose};
use crate::tree::{self, LAYERS};
use anyhow::{Context as _, Result};
use plan::{Plan, Row};
use std::path::Path;

/// A package of the project, where its manifest lies and under which name the plan knows it.
struct Package {
    folder: String,
    file: String,
    manifest: Manifest,
}

/// Compares each manifest with the plan.
pub(crate) fn check(root: &Path) -> Result<Vec<Finding>> {
    let text = tree::text(root, LAYERS).with_context(|| format!("can't read {LAYERS}"))?;
    let workspace = tree::text(root, "Cargo.toml").context("can't read Cargo.toml")?;
    let renamed = manifest::renamed(&workspace)?;
    let mut packages = Vec::new();
    for file in tree::files(root)? {
        let Some(folder) = folder_of(&file) else { continue };
        let text = tree::text(root, &file).with_context(|| format!("can't read {file}"))?;
        if let Some(manifest) = manifest::parse(&text, &renamed).with_context(|| file.clone())? {
            packages.push(Package { folder: folder.to_owned(), file, manifest });
        }
    }
    Ok(judge(&Plan::parse(&text), &packages))
}

/// `crates/x/Cargo.toml` and `x/Cargo.toml` are `x`; manifests elsewhere are no packages of the plan.
fn folder_of(file: &str) -> Option<&str> {
    let folder = file.strip_suffix("/Cargo.toml")?;
    let folder = folder.strip_prefix("crates/").unwrap_or(folder);
    (!folder.contains('/')).then_some(folder)
}

fn judge(plan: &Plan, packages: &[Package]) -> Vec<Finding> {
    let mut findings = plan.complaints.clone();
    findings.extend(packages.iter().flat_map(|package| judge_package(plan, packages, package)));
    findings.extend(absent(plan, packages));
    findings.extend(unused(plan, packages));
    findings
}

fn judge_package(plan: &Plan, packages: &[Package], package: &Package) -> Vec<Finding> {
    let Package { folder, file, manifest } = package;
    let refuse = |line: usize, message: String| Finding::failure(file.clone(), line, message);
    let mut findings = Vec::new();
    let wanted = format!("allod-{folder}");
    if manifest.name != wanted && manifest.name != *folder {
        findings.push(refuse(1, format!("is called {}: call it {wanted}, after its folder", manifest.name)));
    }
    let Some(row) = plan.row(folder) else {
        findings.push(refuse(0, format!("{folder} has no row: add a line to {LAYERS}")));
        return findings;
    };
    for dependency in &manifest.dependencies {
        let Some(to) = packages.iter().find(|other| other.manifest.name == dependency.package) else {
            continue;
        };
        // A crate without a row is told so once, under its own name.
        let Some(below) = plan.row(&to.folder) else { continue };
        if let Some(reason) = refusal(plan, (folder, row), (&to.folder, below), dependency) {
            findings.push(refuse(dependency.line, reason));
        }
    }
    findings
}

fn refusal(plan: &Plan, from: (&str, Row), to: (&str, Row), dependency: &Dependency) -> Option<String> {
    let ((from, row), (to, below)) = (from, to);
    match (row, below) {
        (Row::Support, _) => None,
        (Row::Number(_), Row::Support) => (dependency.purpose != Purpose::Dev)
            .then(|| format!("{from} -> {to}: {to} is for tests; only [dev-dependencies] may name it")),
        (Row::Number(row), Row::Number(below)) if below > row => Some(format!(
            "{from} (row {row}) -> {to} (row {below}) points up: move what is shared down, or turn the call around"
        )),
        (Row::Number(row), Row::Number(below)) if below == row => (!plan.lists(from, to)).then(|| {
            format!("{from} -> {to} is within row {row} and not listed: join them one row up, or list it in {LAYERS}")
        }),
        (Row::Number(_), Row::Number(_)) => None,
    }
}

fn absent(plan: &Plan, packages: &[Package]) -> Vec<Finding> {
    let there = |name: &str| packages.iter().any(|package| package.folder == name);
    let mut findings = Vec::new();
    for place in &plan.places {
        match (there(&place.name), place.planned) {
            (false, false) => findings.push(Finding::failure(
                LAYERS,
                place.line,
                format!("there is no crate {}: end the line with `# planned`, or remove it", place.name),
            )),
            (true, true) => findings.push(Finding::warning(
                LAYERS,
                place.line,
                format!("{} is there now: remove `# planned`", place.name),
            )),
            _ => {}
        }
    }
    findings
}

/// A listed edge that nobody uses is a door left open.
fn unused(plan: &Plan, packages: &[Package]) -> Vec<Finding> {
    let package = |name: &str| packages.iter().find(|package| package.folder == name);
    let used = |from: &str, to: &str| match (package(from), package(to)) {
        (Some(from), Some(to)) => from.manifest.dependencies.iter().any(|d| d.package == to.manifest.name),
        _ => true,
    };
    let idle = plan.edges.iter().filter(|edge| !used(&edge.from, &edge.to));
    idle.map(|edge| {
        Finding::warning(LAYERS, edge.line, format!("nothing uses {} -> {}: remove it", edge.from, edge.to))
    })
    .collect()
}
