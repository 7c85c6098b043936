//! The part of a `Cargo.toml` that the layers need: the package's name and whom it depends on, line by line.

use crate::finding::line_of;
use anyhow::{Context as _, Result};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// For what a dependency is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// For the crate itself.
    Normal,
    /// For its build script.
    Build,
    /// For its tests.
    Dev,
}

const SECTIONS: [(&str, Purpose); 3] = [
    ("dependencies", Purpose::Normal),
    ("build-dependencies", Purpose::Build),
    ("dev-dependencies", Purpose::Dev),
];

/// One dependency of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dependency {
    /// The package's own name, whatever it is called here.
    pub(crate) package: String,
    /// For what it is wanted.
    pub(crate) purpose: Purpose,
    /// The line that asks for it.
    pub(crate) line: usize,
}

/// One package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Its name.
    pub(crate) name: String,
    /// All its dependencies, those for some targets only included.
    pub(crate) dependencies: Vec<Dependency>,
}

/// New name and true name of each renamed entry of `[workspace.dependencies]`.
pub(crate) type Renamed = Vec<(String, String)>;

/// The renamed entries of the workspace's own manifest.
pub(crate) fn renamed(text: &str) -> Result<Renamed> {
    let document = DeTable::parse(text).context("the workspace's manifest is not TOML")?;
    let Some(list) = table(document.get_ref(), "workspace").and_then(|t| table(t, "dependencies")) else {
        return Ok(Vec::new());
    };
    let pairs = list.iter().filter_map(|(key, value)| {
        package_of(value.get_ref()).map(|package| (key.get_ref().clone().into_owned(), package))
    });
    Ok(pairs.collect())
}

/// Reads a manifest; nothing when it has no package.
pub(crate) fn parse(text: &str, renamed: &Renamed) -> Result<Option<Manifest>> {
    let document = DeTable::parse(text).context("not TOML")?;
    let document = document.get_ref();
    let Some(name) =
        table(document, "package").and_then(|t| t.get("name")).and_then(|v| v.get_ref().as_str())
    else {
        return Ok(None);
    };
    let mut dependencies = sections(text, document, renamed);
    for (_, target) in table(document, "target").into_iter().flatten() {
        if let DeValue::Table(target) = target.get_ref() {
            dependencies.extend(sections(text, target, renamed));
        }
    }
    Ok(Some(Manifest { name: name.to_owned(), dependencies }))
}

fn sections(text: &str, holder: &DeTable<'_>, renamed: &Renamed) -> Vec<Dependency> {
    let mut found = Vec::new();
    for (section, purpose) in SECTIONS {
        for (key, value) in table(holder, section).into_iter().flatten() {
            let called = key.get_ref().as_ref();
            let elsewhere =
                || renamed.iter().find(|(new, _)| new == called).map(|(_, package)| package.clone());
            let package = package_of(value.get_ref()).or_else(elsewhere).unwrap_or_else(|| called.to_owned());
            found.push(Dependency { package, purpose, line: line_of(text, key.span().start) });
        }
    }
    found
}

fn package_of(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::Table(table) => table.get("package").and_then(|v| v.get_ref().as_str()).map(str::to_owned),
        _ => None,
    }
}

fn table<'a, 'i>(holder: &'a DeTable<'i>, key: &str) -> Option<&'a DeTable<'i>> {
    match holder.get(key).map(Spanned::get_ref) {
        Some(DeValue::Table(table)) => Some(table),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str, renamed: &Renamed) -> Manifest {
        parse(text, renamed).unwrap().unwrap()
    }

    #[test]
    fn every_way_to_ask_for_a_crate_is_seen_with_its_line() {
        let text = "[package]\nname = \"a\"\n[dependencies]\nb.workspace = true\n[dependencies.c]\npath = \"../c\"\n\
                    [build-dependencies]\nd = \"1\"\n[target.'cfg(unix)'.dependencies]\ne = { path = \"../e\" }\n\
                    [dev-dependencies]\nf = \"1\"\n";
        let found = one(text, &Vec::new()).dependencies;
        let found: Vec<_> = found.iter().map(|d| (d.package.as_str(), d.purpose, d.line)).collect();
        let (normal, build, dev) = (Purpose::Normal, Purpose::Build, Purpose::Dev);
        assert_eq!(
            found,
            [("b", normal, 4), ("c", normal, 5), ("d", build, 8), ("f", dev, 12), ("e", normal, 10)]
        );
    }

    #[test]
    fn a_new_name_does_not_hide_a_crate() {
        let renamed =
            renamed("[workspace.dependencies]\nz = { path = \"crates/b\", package = \"allod-b\" }\n")
                .unwrap();
        let text = "[package]\nname = \"a\"\n[dependencies]\nz.workspace = true\ny = { package = \"allod-c\", path = \"../c\" }\n";
        let mut found: Vec<_> = one(text, &renamed).dependencies.into_iter().map(|d| d.package).collect();
        found.sort();
        assert_eq!(found, ["allod-b", "allod-c"]);
    }

    #[test]
    fn a_manifest_without_package_is_none_and_a_torn_one_an_error() {
        assert_eq!(parse("[workspace]\n", &Vec::new()).unwrap(), None);
        assert!(parse("[package\n", &Vec::new()).is_err());
    }
}
