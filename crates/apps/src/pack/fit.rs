//! Whether what the spec names is in what is uploaded: the programs it starts, the folders it serves. Noticed here, it
//! costs no upload.

use super::{
    PackError,
    cut::CutFile,
    elf,
    walk::{Found, What},
};
use allod_proto::spec::{AppSpec, HealthSpec, StaticSpec, UnitKind};
use std::collections::{HashMap, HashSet};

/// The programs a spec starts, each with the key that names it.
pub(crate) fn programs(spec: &AppSpec) -> impl Iterator<Item = (String, &str)> {
    let release = spec.release_command.iter().map(|run| ("release".to_owned(), run));
    let units = spec.processes().flat_map(|(name, process)| {
        let check = match &process.health {
            HealthSpec::Command { run } => Some((format!("units.{name}.health"), run)),
            HealthSpec::Http { .. } | HealthSpec::Tcp | HealthSpec::Ready | HealthSpec::Running { .. } => {
                None
            }
        };
        std::iter::once((format!("units.{name}.start"), &process.start)).chain(check)
    });
    release.chain(units).filter_map(|(what, run)| Some((what, run.first()?.as_str())))
}

/// The path below the folder of a program that is not looked up in `PATH`.
pub(crate) fn in_folder(program: &str) -> Option<String> {
    let parts = program.split('/').filter(|part| !part.is_empty() && *part != ".");
    program.contains('/').then(|| parts.collect::<Vec<_>>().join("/"))
}

/// The programs in the folder that a spec starts.
pub(crate) fn named_programs(spec: &AppSpec) -> HashSet<String> {
    programs(spec).filter_map(|(_, program)| in_folder(program)).collect()
}

pub(crate) fn check(
    spec: &AppSpec,
    found: &[Found],
    files: &HashMap<String, CutFile>,
) -> Result<(), PackError> {
    let known: HashMap<&str, &What> = found.iter().map(|found| (found.path.as_str(), &found.what)).collect();
    for (what, program) in programs(spec) {
        let Some(path) = in_folder(program) else { continue };
        check_program(what, path, &known, files)?;
    }
    for (name, unit) in &spec.units {
        match &unit.kind {
            UnitKind::Static(site) => check_site(&format!("units.{name}"), site, &known)?,
            UnitKind::Process(_) => {}
        }
    }
    Ok(())
}

fn check_program(
    what: String,
    path: String,
    known: &HashMap<&str, &What>,
    files: &HashMap<String, CutFile>,
) -> Result<(), PackError> {
    match known.get(path.as_str()) {
        Some(What::File { executable }) => {
            if let Some(system) = files.get(&path).and_then(|file| elf::foreign_system(&file.head)) {
                return Err(PackError::Foreign { path, what, system });
            }
            // Only where the client's files have such a bit.
            if cfg!(unix) && !executable { Err(PackError::NotExecutable { path, what }) } else { Ok(()) }
        }
        Some(What::Link { .. }) => Ok(()),
        Some(What::Folder) => Err(PackError::NotExecutable { path, what }),
        None if through_link(&path, known) => Ok(()),
        None => Err(PackError::Missing { path, what }),
    }
}

fn check_site(what: &str, site: &StaticSpec, known: &HashMap<&str, &What>) -> Result<(), PackError> {
    let there = |path: &str| known.contains_key(path) || through_link(path, known);
    if !site.root.is_empty() && !there(&site.root) {
        return Err(PackError::Missing { path: site.root.clone(), what: format!("{what}.root") });
    }
    if let Some(fallback) = &site.fallback {
        let path = if site.root.is_empty() { fallback.clone() } else { format!("{}/{fallback}", site.root) };
        if !there(&path) {
            return Err(PackError::Missing { path, what: format!("{what}.fallback") });
        }
    }
    Ok(())
}

/// Whether a link stands in the way of saying what is at `path`.
fn through_link(path: &str, known: &HashMap<&str, &What>) -> bool {
    path.match_indices('/')
        .filter_map(|(at, _)| path.get(..at))
        .any(|above| known.get(above).is_some_and(|what| matches!(what, What::Link { .. })))
}
