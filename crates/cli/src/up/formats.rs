//! The files of `allod up` as they were written under each format number.

use super::{ports::Ports, uid_block::BlockRecord};
use allod_store::fixtures::check;
use std::path::Path;

#[test]
fn every_format_is_read_as_it_was_written_and_a_newer_one_is_refused_with_the_version_it_needs() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    check::<Ports>(&folder).unwrap();
    check::<BlockRecord>(&folder).unwrap();
}
