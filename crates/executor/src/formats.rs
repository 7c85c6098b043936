//! Every file of the executor as it was written under each format number (`tests/fixtures`); `cargo xtask check formats`
//! sees to it that none is left out.

use crate::{
    apps::AppRecord,
    artefacts::ArtefactRecord,
    identity::Rotated,
    instances::InstanceRecord,
    isolation::{CommandUidsRecord, UidsRecord},
    named::{ApprovalsRecord, HistoryRecord, RegistryRecord},
    secrets::SecretsRecord,
};
use allod_store::fixtures::check;
use std::path::Path;

#[test]
fn every_format_is_read_as_it_was_written_and_a_newer_one_is_refused_with_the_version_it_needs() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    check::<AppRecord>(&folder).unwrap();
    check::<ArtefactRecord>(&folder).unwrap();
    check::<Rotated>(&folder).unwrap();
    check::<InstanceRecord>(&folder).unwrap();
    check::<UidsRecord>(&folder).unwrap();
    check::<SecretsRecord>(&folder).unwrap();
    check::<CommandUidsRecord>(&folder).unwrap();
    check::<RegistryRecord>(&folder).unwrap();
    check::<HistoryRecord>(&folder).unwrap();
    check::<ApprovalsRecord>(&folder).unwrap();
}
