//! Releases and a power cut before every operation on the disk: what is named as a release is whole, and what was removed
//! is gone.

use allod_executor::{
    artefacts,
    assemble::{AssembleLimits, assemble},
    isolation::Isolation,
    layout::Layout,
};
use allod_proto::{
    AppRef, Digest,
    manifest::{EntryKind, FORMAT, Manifest, ManifestEntry, ManifestIndex},
    spec::{AppSpec, HealthSpec, ProcessSpec, ResourceSpec, UnitKind, UnitSpec},
};
use allod_store::power_cut::{Story, survives, survives_kills};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

fn app() -> AppRef {
    "shop".parse().unwrap()
}

fn layout(root: &Path) -> Layout {
    Layout::new(root.join("state"), root.join("run"))
}

/// The agent's folder, with what was uploaded.
fn put(root: &Path, bytes: &[u8]) -> Digest {
    let digest = Digest::of(bytes);
    let folder = layout(root).agent().join("chunks/shop/production");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(digest.to_string()), bytes).unwrap();
    digest
}

fn content(version: u8, name: &str) -> Vec<u8> {
    if name == "same" {
        b"the same in both".repeat(20)
    } else {
        format!("{name} {version}\n").repeat(30).into()
    }
}

fn unit() -> UnitSpec {
    let process = ProcessSpec {
        start: vec!["./same".to_owned()],
        instances: 1,
        runtime: None,
        health: HealthSpec::Tcp,
        health_timeout_ms: 1000,
        drain_ms: 1000,
        stop_grace_ms: 200,
        resources: ResourceSpec { memory_bytes: None, open_files: None },
    };
    let limits = allod_proto::routes::RouteLimits::default();
    UnitSpec { kind: UnitKind::Process(process), routes: Vec::new(), strip_prefix: false, limits }
}

fn upload(root: &Path, version: u8) -> Digest {
    let file = |name: &str| {
        let bytes = content(version, name.rsplit('/').next().unwrap());
        let (one, two) = bytes.split_at(bytes.len() / 2);
        let chunks = vec![put(root, one), put(root, two)];
        let size = u64::try_from(bytes.len()).unwrap();
        ManifestEntry { path: name.to_owned(), what: EntryKind::File { executable: false, size, chunks } }
    };
    let folder = ManifestEntry { path: "sub".to_owned(), what: EntryKind::Folder {} };
    let link = ManifestEntry { path: "to".to_owned(), what: EntryKind::Link { to: "same".to_owned() } };
    let spec = AppSpec {
        app: app(),
        units: BTreeMap::from([("web".parse().unwrap(), unit())]),
        vars: BTreeMap::new(),
        secrets: BTreeMap::new(),
        release_command: None,
        keep_releases: 1,
    };
    let manifest = Manifest {
        format: FORMAT,
        spec,
        architecture: None,
        version: None,
        entries: vec![file("same"), folder, file("sub/page"), link],
    };
    let json = serde_json::to_vec(&manifest).unwrap();
    let size = u64::try_from(json.len()).unwrap();
    let index = ManifestIndex { format: FORMAT, size, chunks: vec![put(root, &json)] };
    put(root, &serde_json::to_vec(&index).unwrap())
}

fn prepare(root: &Path) {
    layout(root).create().unwrap();
    upload(root, 1);
    upload(root, 2);
}

/// Which versions stand. Each must be whole.
fn standing(root: &Path) -> Result<Vec<u8>, String> {
    let layout = layout(root);
    artefacts::sweep(&layout).map_err(|fault| fault.message)?;
    let found = artefacts::list(&layout, &app()).map_err(|fault| fault.message)?;
    let all = [1, 2].into_iter().filter(|version| {
        let digest = upload(root, *version);
        found.iter().any(|artefact| artefact.manifest == digest)
    });
    let all: Vec<u8> = all.collect();
    if all.len() != found.len() {
        return Err(format!("{found:?}"));
    }
    for version in &all {
        let files: PathBuf = layout.files(&app(), &upload(root, *version));
        for (path, name) in [("same", "same"), ("sub/page", "page"), ("to", "same")] {
            let there = std::fs::read(files.join(path)).map_err(|error| format!("{path}: {error}"))?;
            if there != content(*version, name) {
                return Err(format!("{path} of {version} is torn"));
            }
        }
    }
    let folder = layout.artefacts(&app());
    let names: Vec<_> =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|it| it.file_name()).collect();
    if names.len() == all.len() { Ok(all) } else { Err(format!("something half made is left: {names:?}")) }
}

#[test]
fn a_release_that_is_named_is_whole_after_a_power_cut_anywhere() {
    let bring = |root: &Path, version: u8| {
        let digest = upload(root, version);
        assemble(&layout(root), &Isolation::SameUser, &app(), &digest, &AssembleLimits::default())
            .map(drop)
            .map_err(|fault| fault.message)?;
        standing(root)
    };
    let tell = |story: &mut Story<Vec<u8>>| {
        story.step(|root| bring(root, 1));
        story.step(|root| bring(root, 2));
        story.step(|root| {
            let gone = upload(root, 1);
            artefacts::remove(&layout(root), &app(), &gone).map_err(|fault| fault.message)?;
            standing(root)
        });
        story.step(|root| {
            artefacts::remove_all(&layout(root), &app()).map_err(|fault| fault.message)?;
            standing(root)
        });
    };
    let settled = |root: &Path| {
        allod_store::settle(&layout(root).executor()).map_err(|error| error.to_string())?;
        standing(root)
    };
    survives(150, prepare, tell, settled).unwrap();
    survives_kills(40, prepare, tell, settled).unwrap();
}
