//! Every file of the agent as it was written under each format number (`tests/fixtures`). Routes are read by the proxy too:
//! their fixture is `proto`'s.

use crate::{operations::OperationRecord, route_table::RouteTables};
use allod_store::fixtures::check;
use std::path::Path;

#[test]
fn every_format_is_read_as_it_was_written_and_a_newer_one_is_refused_with_the_version_it_needs() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    check::<OperationRecord>(&folder).unwrap();
}

#[test]
fn routes_of_a_newer_format_are_refused_with_the_version_they_need_and_not_written_over() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/tests/fixtures/routes.format-1.json");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("routes.json");
    std::fs::copy(&fixture, &file).unwrap();
    RouteTables::load(&file, Path::new("/nowhere")).unwrap();
    let newer =
        std::fs::read_to_string(&fixture).unwrap().replacen("\"format\": 1", "\"format\": 2, \"new\": 1", 1);
    std::fs::write(&file, &newer).unwrap();
    let refused = RouteTables::load(&file, Path::new("/nowhere")).err().unwrap();
    assert!(refused.contains("format 2") && refused.contains("use a version that reads 2"), "{refused}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), newer);
}
