//! Every file of the node's own as it was written under each format number (`tests/fixtures`).

use allod_node::NetworkRecord;
use allod_store::fixtures::check;
use std::path::Path;

#[test]
fn every_format_is_read_as_it_was_written_and_a_newer_one_is_refused_with_the_version_it_needs() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    check::<NetworkRecord>(&folder).unwrap();
}
